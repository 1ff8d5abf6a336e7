"""Files and folders that the user names: their content, or what is wrong with them."""

from __future__ import annotations

from pathlib import Path

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote

__all__ = ["make_folder", "read_file"]


def read_file(path: Path) -> bytes:
    """The content of a file. Raises CompileError."""
    try:
        return path.read_bytes()
    except OSError as e:
        code = Code.NO_SUCH_FILE if isinstance(e, FileNotFoundError) else Code.UNREADABLE_FILE
        raise CompileError(code, f"cannot read {quote(path)}: {e.strerror or e}", hint="look at the path") from None


def make_folder(folder: Path) -> None:
    """Make a folder, with those above it, where it is not there. Raises CompileError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise CompileError(
            Code.CANNOT_WRITE, f"cannot make {quote(folder)}: {e.strerror or e}", hint="choose another folder"
        ) from None
