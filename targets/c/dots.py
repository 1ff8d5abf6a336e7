"""Dot loops: the tiles that they run over, the types of their products and sums, and weights laid out for them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pefslc.analysis.ranges import partial_sums
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.integer import Conv2d, Dense
from pefslc.targets.c.storage import INT64, CType, Tensor, sum_type

__all__ = ["OUTPUT_TILE", "PIXEL_TILE", "TAP_ALIGNMENT", "accumulator_type", "packed_rows", "product_type"]

Codes = NDArray[np.int64]

OUTPUT_TILE = 4  # weights' rows per dot loop
PIXEL_TILE = 4
TAP_ALIGNMENT = 32  # bytes of one AVX2 vector of 8-bit taps: no remainder loop


def accumulator_type(op: Conv2d | Dense) -> CType:
    """The type of the sums. Raises CompileError beyond 64 bits: signed overflow is undefined in C."""
    low, high = partial_sums(op)
    if not INT64.holds(low, high):
        raise CompileError(
            Code.BEYOND_64_BITS,
            "the sums of products need more than 64 bits",
            at=op.result.origin,
            hint="use fewer bits for the weights or the activations",
        )
    return sum_type(low, high)


def product_type(source: Tensor, weight: Codes, sums: CType) -> CType:
    """int32_t where each product fits: always where their sums do."""
    largest = max(abs(source.low), abs(source.high)) * int(np.abs(weight).max(initial=0))
    return min(sums, sum_type(-largest, largest))


def packed_rows(weight: Codes, groups: int, padded: int, kind: CType) -> NDArray[np.integer]:
    """[groups * rows, padded]: each group's outputs filled up to whole tiles, each row to `padded`, with zeros.

    kind  of the result's elements: a network has many
    """
    outputs, taps = weight.shape
    per_group = outputs // groups
    rows = -(-per_group // OUTPUT_TILE) * OUTPUT_TILE
    packed = np.zeros((groups, rows, padded), dtype=kind.dtype)
    packed[:, :per_group, :taps] = weight.reshape(groups, per_group, taps)
    return packed.reshape(groups * rows, padded)
