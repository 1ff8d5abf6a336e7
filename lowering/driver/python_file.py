"""A Python file of the user's - of passes, of a target - as a module."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import invalidate_caches
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.diagnostics.user_code import exception_text, place_in

__all__ = ["classes_of", "import_file"]


def import_file(path: Path, what: str, hint: str) -> ModuleType:
    """The module that the file makes; it may import what lies beside it, as a script does. Raises CompileError.

    what  "plugin", for the messages
    hint  where a sound one can be seen
    """
    if not os.path.isfile(path):  # not the method: it raises for a name that is too long
        raise CompileError(Code.NO_SUCH_PLUGIN, f"no such {what} file: {quote(path)}")
    name = f"_pefslc_plugin_{len([m for m in sys.modules if m.startswith('_pefslc_plugin_')])}"
    spec = spec_from_file_location(name, path)
    if spec is None:
        raise CompileError(
            Code.PLUGIN_UNUSABLE, f"{what} {quote(path)} is not a Python file", hint="its name ends in .py"
        )
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        # Not the loader: it may take an earlier version from its cache, and leaves one beside the user's file.
        with _importing_from(path.resolve().parent):
            exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as e:
        del sys.modules[name]
        raise CompileError(
            Code.PLUGIN_UNUSABLE,
            f"{what} {quote(path)} cannot be imported: {exception_text(e)}",
            at=place_in(str(path), e),
            hint=hint,
        ) from e
    return module


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Imports look into the folder first; afterwards neither the path nor the modules know of it.

    So that a file that is loaded again finds its helpers as they are now, and another file its own of the same name.
    """
    known, writes_none = set(sys.modules), sys.dont_write_bytecode
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    invalidate_caches()
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes_none
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
        made = {name: module for name, module in sys.modules.items() if name not in known}
        beside = {name for name, module in made.items() if "." not in name and _lies_in(folder, module)}
        for name in made:
            if name.partition(".")[0] in beside:
                del sys.modules[name]


def _lies_in(folder: Path, module: ModuleType) -> bool:
    """Whether it is a file or a package of the folder itself, not of one that is installed somewhere below it."""
    file = getattr(module, "__file__", None)
    packages = [Path(place) for place in getattr(module, "__path__", ())]
    return any(place.parent == folder for place in (packages or ([Path(file)] if file else [])))


def classes_of(module: ModuleType) -> list[type]:
    """The classes that the file itself defines, in order."""
    return [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__]
