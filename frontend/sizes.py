"""How large a tensor may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Origin
from pefslc.geometry.shapes import Shape, element_count

__all__ = ["LARGEST_TENSOR", "check_size", "is_possible"]

LARGEST_TENSOR = 1 << 24  # elements: targets index each of them, and no small device holds as many


def is_possible(shape: Sequence[int | str | None] | None) -> TypeGuard[Sequence[int]]:
    """Whether a tensor can have that shape: known, not empty, not too large."""
    if shape is None:
        return False
    sizes = tuple(size for size in shape if isinstance(size, int) and size >= 1)
    return len(sizes) == len(shape) and element_count(sizes) <= LARGEST_TENSOR


def check_size(shape: Shape, origin: Origin) -> None:
    """Raise CompileError for a shape that no device could hold."""
    if element_count(shape) > LARGEST_TENSOR:
        raise CompileError(
            Code.TENSOR_TOO_LARGE,
            f"a tensor of shape {list(shape)} is too large",
            at=origin,
            hint=f"at most 2^{LARGEST_TENSOR.bit_length() - 1} elements are supported",
        )
