"""Results in a folder, under the hash of what decides them: written whole or not at all, and checked when read."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.files.reading import make_folder
from pefslc.files.staging import write_file

__all__ = ["Store"]

_HASH_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Store:
    """A file of each result: the SHA-256 of the content in hex, a line end, the content.

    Two processes may share a folder: equal keys have equal contents, and the later file replaces the earlier as one.
    """

    folder: Path

    def get(self, key: str) -> bytes | None:
        """The content; None where there is none, or a damaged one, which is to be computed again."""
        try:
            written = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as e:
            raise CompileError(
                Code.UNREADABLE_FILE, f"cannot read {quote(self._path(key))}: {e.strerror or e}", hint="or remove it"
            ) from None
        digest, content = written[:_HASH_CHARACTERS], written[_HASH_CHARACTERS + 1 :]
        return content if sha256(content).hexdigest().encode() == digest else None

    def put(self, key: str, content: bytes) -> None:
        """Raises CompileError where it cannot be written."""
        path = self._path(key)
        make_folder(path.parent)
        write_file(path, sha256(content).hexdigest().encode() + b"\n" + content)

    def place(self, name: str) -> Path:
        """A folder beside the results, made where it is not there."""
        make_folder(self.folder / name)
        return self.folder / name

    def _path(self, key: str) -> Path:
        return self.folder / "results" / key[:2] / key
