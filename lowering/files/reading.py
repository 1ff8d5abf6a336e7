"""Files and folders of the user, and what to do when they cannot be read or made."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote

__all__ = ["make_folder", "read_file", "unreadable"]


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
        return CompileError(Code.NO_SUCH_FILE, f"no such {what}: {quote(path)}", hint=hint or _nearby(path))
    message = f"cannot read {quote(path)}: {error.strerror or error}"
    return CompileError(Code.UNREADABLE_FILE, message, hint=hint or "look at the path and its permissions")


def _nearby(path: Path) -> str:
    """What may have been meant by a path that leads nowhere."""
    try:
        names = sorted(p.name for p in path.parent.iterdir())
    except OSError:
        return f"there is no folder {quote(path.parent)}"
    close = get_close_matches(path.name, names, n=1)
    return f"did you mean {quote(path.with_name(close[0]))}?" if close else "look at the path"


def make_folder(folder: Path) -> None:
    """Make a folder, with those above it, where it is not there. Raises CompileError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise CompileError(
            Code.CANNOT_WRITE, f"cannot make {quote(folder)}: {e.strerror or e}", hint="choose another folder"
        ) from None
