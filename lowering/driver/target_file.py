"""A target in a Python file of the user's: `--target mac.py:MacTarget`.

Only what a user names is loaded, never what a sidecar holds: an artifact must not be able to run a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.diagnostics.user_code import exception_text, place_in
from pefslc.driver.python_file import classes_of, import_file
from pefslc.driver.user_target import MEMBERS
from pefslc.targets.protocol import Target

__all__ = ["is_target_file", "target_of_file"]

_HINT = "`pefslc explain adding-a-target` has one to copy"


def is_target_file(name: str) -> bool:
    """Whether a target's name is that of a file: FILE.py:Class, or FILE.py."""
    return name.endswith(".py") or ".py:" in name


def target_of_file(name: str) -> Target:
    """An object of the class, made without arguments; of a file that is named alone, of its one target.

    Raises CompileError.
    """
    file, _, wanted = (name, "", "") if name.endswith(".py") else name.rpartition(":")
    classes = {c.__name__: c for c in classes_of(import_file(Path(file), "target", _HINT))}
    targets = [n for n, c in classes.items() if all(hasattr(c, member) for member in MEMBERS)]
    if not wanted and len(targets) == 1:
        (wanted,) = targets
    if wanted not in classes:
        said = f"no class {quote(wanted)}" if wanted else f"{len(targets)} targets"
        named = ", ".join(f"{file}:{n}" for n in targets)
        hint = f"name one: {named}" if targets else f"a class with {', '.join(MEMBERS)}; {_HINT}"
        raise CompileError(Code.PLUGIN_UNUSABLE, f"target file {quote(Path(file))} has {said}", hint=hint)
    try:
        made: object = classes[wanted]()
    except (Exception, SystemExit) as e:
        raise CompileError(
            Code.PLUGIN_UNUSABLE,
            f"target class {wanted} cannot be made: {exception_text(e)}",
            at=place_in(file, e),
            hint="it is made without arguments: its options have defaults",
        ) from e
    return cast(Target, made)  # what it lacks, `chosen_target` tells
