"""Files that a command is told to write: what they may replace and whether they can be written, before work begins."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pefslc.codes import Code
from pefslc.diagnostics import CompileError, quote

__all__ = ["refuse_in_the_way", "require_replaceable", "require_writable"]


def require_replaceable(path: Path, option: str, kind: str, is_kind: Callable[[Path], bool]) -> None:
    """Demand that nothing lies at `path`, or a plain file that `is_kind` says is one of the kind that replaces it.

    option  the command line's, for the help
    kind    ".npz file", for the message

    Raises CompileError.
    """
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_file():
        raise refuse_in_the_way(path, option, "is in the way and is no plain file")
    try:
        replaceable = is_kind(path)
    except OSError:
        replaceable = False  # nobody knows what an unreadable file is
    if not replaceable:
        raise refuse_in_the_way(path, option, f"exists and is no {kind}")


def refuse_in_the_way(path: Path, option: str, why: str) -> CompileError:
    """The error that says what lies at `path`."""
    return CompileError(Code.IN_THE_WAY, f"{quote(path)} {why}", hint=f"give another path with {option}")


def require_writable(path: Path, option: str, made: Path | None = None) -> None:
    """Demand that a file can be made at `path`; `made` is a folder that will be there, with its parents. CompileError.

    A temporary file in the folder is the one test that knows permissions, read-only disks and quotas alike.
    """
    folder = path.parent
    if made is not None and made.resolve().is_relative_to(folder.resolve()):
        folder = folder.absolute()
        while not os.path.lexists(folder):
            folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
        with suppress(FileNotFoundError):
            os.lstat(folder / path.name)  # a name may be too long
    except OSError as e:
        raise CompileError(
            Code.CANNOT_WRITE, f"cannot write {quote(path)}: {e.strerror or e}", hint=f"give another path with {option}"
        ) from None
