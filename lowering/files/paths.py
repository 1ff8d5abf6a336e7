"""Paths as users give them."""

from __future__ import annotations

import os
from pathlib import Path

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote_given

__all__ = ["ModelPath", "as_path"]

ModelPath = str | os.PathLike[str]


def as_path(given: ModelPath, code: Code, wanted: str, hint: str) -> Path:
    """A path as the user gave it; CompileError with this code where it is none, or none that a file can have."""
    name = os.fspath(given) if isinstance(given, str | os.PathLike) else given
    if isinstance(name, str) and _can_be_a_name(name):
        return Path(name)
    raise CompileError(code, f"{quote_given(name)} is not {wanted}", hint=hint)


def _can_be_a_name(name: str) -> bool:
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
