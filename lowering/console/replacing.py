"""Files that a command is told to write: whether they can be written, before work begins."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote

__all__ = ["require_writable"]


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
