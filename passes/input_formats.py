"""The formats that the user gave to inputs, by --input-fmt: one for all, or one by the name of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from pefslc.numeric.format import FixedPoint

__all__ = ["InputFormats", "format_of_input"]

InputFormats: TypeAlias = FixedPoint | Mapping[str, FixedPoint] | None


def format_of_input(formats: InputFormats, name: str) -> FixedPoint | None:
    """The format of an input; None where nothing was said about it."""
    return formats.get(name) if isinstance(formats, Mapping) else formats
