"""JSON files that vouch for themselves and for the files beside them: what was changed is never read.

The last key holds the SHA-256 of everything before it; a table of names holds that of each file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote

__all__ = ["Json", "JsonObject", "SignedJson"]

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
JsonObject: TypeAlias = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class SignedJson:
    """One kind of such files.

    key      of the SHA-256
    version  of the format, under the key "format"
    maker    what writes them: "compile"
    again    what to do where one does not hold: "compile the model again"
    """

    key: str
    version: int
    maker: str
    again: str

    def to_bytes(self, content: JsonObject) -> bytes:
        """The text of a file; the same content gives the same bytes."""
        return (json.dumps({**content, self.key: _digest(content)}, indent=1, ensure_ascii=True) + "\n").encode()

    def read(self, path: Path) -> dict[str, Any]:
        """The content of a file, without its SHA-256.

        Raises CompileError for another format and a changed file; KeyError, TypeError, ValueError, AttributeError or
        RecursionError for what is none of these files; OSError.
        """
        content = json.loads(path.read_bytes())
        if content["format"] != self.version:
            raise CompileError(
                Code.ARTIFACT_VERSION,
                f"{quote(path.name)} has format {quote(str(content['format']))}, this pefslc reads {self.version}",
                hint=self.again,
            )
        if content.pop(self.key, None) != _digest(content):
            raise CompileError(
                Code.ARTIFACT_CHANGED, f"{quote(path.name)} was changed after the {self.maker}", hint=self.again
            )
        found: dict[str, Any] = content
        return found

    def require_files(self, path: Path, files: Mapping[str, str]) -> None:
        """Demand that the files (name -> SHA-256) beside `path`, which names them, are there and as they were.

        Raises CompileError and OSError.
        """
        for name, digest in files.items():
            file = path.parent / name
            if Path(name).name != name or not file.is_file():
                raise CompileError(
                    Code.ARTIFACT_CHANGED, f"{quote(name)} is missing beside {quote(path.name)}", hint=self.again
                )
            if sha256(file.read_bytes()).hexdigest() != digest:
                raise CompileError(
                    Code.ARTIFACT_CHANGED,
                    f"{quote(name)} is not the file that {quote(path.name)} describes",
                    hint=self.again,
                )


def _digest(content: JsonObject) -> str:
    """The SHA-256 of the content in its order, however the JSON is laid out."""
    return sha256(json.dumps(content, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()
