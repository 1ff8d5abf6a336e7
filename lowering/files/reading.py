"""Files and folders of the user, and what to do when they cannot be read or made."""

from __future__ import annotations

import os
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote

__all__ = ["alike_name", "make_folder", "read_file", "unreadable"]

_MOST_NAMES = 2000  # of a folder are compared with the one that is not there
_ALIKE = 0.75  # difflib's ratio


def read_file(path: Path) -> bytes:
    """The content of a file. Raises CompileError."""
    try:
        return path.read_bytes()
    except OSError as e:
        raise unreadable(path, e) from None


def unreadable(path: Path, error: OSError, what: str = "file", *, hint: str | None = None) -> CompileError:
    """What is to be raised where the system answered with `error`.

    path  what was read, or a folder of what was read: the name that the error has is the one told
    what  "file" or "folder", which was expected at `path`
    hint  instead of the usual one: a name like it in the same folder, or where to look
    """
    named = Path(error.filename) if isinstance(error.filename, str) else path
    path, what = named, what if named == path else "file"
    if isinstance(error, FileNotFoundError):
        return CompileError(
            Code.NO_SUCH_FILE, f"no such {what}: {quote(path)}", hint=hint or _nearby(path, folder=what == "folder")
        )
    message = f"cannot read {quote(path)}: {error.strerror or error}"
    return CompileError(Code.UNREADABLE_FILE, message, hint=hint or "look at the path and its permissions")


def _nearby(path: Path, *, folder: bool) -> str:
    """Where to look for what is not at a path, or what may have been meant by it."""
    if path.is_symlink():
        return f"it is a link to {quote(os.readlink(path))}, which is not there"
    try:
        meant = alike_name(path, folder=folder)
    except OSError:
        return f"there is no folder {quote(path.parent)}"
    return f"did you mean {quote(meant)}?" if meant else "look at the path"


def alike_name(path: Path, *, folder: bool = False) -> Path | None:
    """The entry of the same folder, kind and suffix whose name is most like that of a path. Raises OSError."""
    with os.scandir(path.parent) as entries:
        kind = [Path(entry.name) for entry in islice(entries, _MOST_NAMES) if entry.is_dir() == folder]
    alike = {p.stem: p for p in sorted(kind, reverse=True) if p.suffix == path.suffix and p.name != path.name}
    close = get_close_matches(path.stem, alike, n=1, cutoff=_ALIKE)
    return path.with_name(alike[close[0]].name) if close else None


def make_folder(folder: Path) -> None:
    """Make a folder, with those above it, where it is not there. Raises CompileError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise CompileError(
            Code.CANNOT_WRITE, f"cannot make {quote(folder)}: {e.strerror or e}", hint="choose another folder"
        ) from None
