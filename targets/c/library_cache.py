"""Compiled libraries, kept beside the sources that they were made of: the second command does not compile again.

A library's file is named <key>-<digest>.so: the key is of everything that it was made from, the digest of its content.
One file, so it is there or not; what is damaged does not have the digest of its name, and is not loaded. Whoever may
write there may as well change the sources.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from pefslc.diagnostics.errors import CompileError
from pefslc.files.staging import write_file

__all__ = ["LibraryCache"]

_KEPT = 4  # libraries in one folder: of some machines that share it, not of every state that its sources had


class LibraryCache:
    """The libraries in a folder, which is made when the first is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def library(self, command: Sequence[str], sources: Iterable[bytes], build: Callable[[], Path]) -> Path:
        """The path of a library made by `command` of `sources`: the one that was kept, or what `build` makes.

        build  compiles, into a file that may vanish when its caller is done

        A folder that cannot be written is no error: then the library is only not kept.
        """
        key = _key(command, sources)
        for path in self._found(f"{key}-*.so"):
            with suppress(OSError):
                if path.name == f"{key}-{_digest(path.read_bytes())}.so":
                    return path
        made = build()
        content = made.read_bytes()
        kept = self.folder / f"{key}-{_digest(content)}.so"
        try:
            self.folder.mkdir(exist_ok=True)
            write_file(kept, content)
        except (OSError, CompileError):
            return made
        self._leave_out_the_oldest()
        return kept

    def _found(self, pattern: str) -> list[Path]:
        try:
            return sorted(self.folder.glob(pattern))
        except OSError:
            return []

    def _leave_out_the_oldest(self) -> None:
        with suppress(OSError):  # another process may do the same
            oldest_last = sorted(self._found("*.so"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
            for path in oldest_last[_KEPT:]:
                path.unlink()


def _key(command: Sequence[str], sources: Iterable[bytes]) -> str:
    """Of the compiler's command and file, the machine, and the sources with their headers."""
    parts = [*(argument.encode() for argument in command), platform.machine().encode(), os.name.encode()]
    compiler = shutil.which(command[0])
    if compiler is not None:
        facts = os.stat(compiler)  # of what a link leads to: an update changes it
        parts.append(f"{Path(compiler).resolve()} {facts.st_size} {facts.st_mtime_ns}".encode())
    lengths = sha256()
    for part in (*parts, *sources):
        lengths.update(len(part).to_bytes(8, "little"))
        lengths.update(part)
    return lengths.hexdigest()[:32]


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()[:32]
