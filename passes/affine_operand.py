"""Tensors that are an affine function of their codes, per channel: what sums of products can read beside plain codes.

    value[c] = step[c] * code[c] + offset[c],  exact rationals

A constant factor is another scale, a scale per channel goes into the weights, and an offset adds a constant to each
output of a layer that pads nothing. Only a square root (a BatchNorm that is kept) is no such function.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from itertools import chain

import numpy as np

from pefslc.ir.value import IntArray, Value
from pefslc.numeric.accumulate import fits_int64, largest_magnitude
from pefslc.numeric.scale import Scale, common_grid
from pefslc.numeric.stages import Affine

__all__ = [
    "AffineOperand", "added", "affine_operand", "factors_on_grids", "joined_tails", "offset_tail", "products_offset",
    "weights_on_one_grid",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class AffineOperand:
    """value = step * code + offset.

    codes    with zero point 0
    steps    [channels or 1], none of them 0; a negative one falls
    offsets  [channels or 1]
    """

    codes: Value
    steps: tuple[Fraction, ...]
    offsets: tuple[Fraction, ...]

    @property
    def has_offset(self) -> bool:
        return any(self.offsets)

    @property
    def shifts(self) -> tuple[int, ...] | None:
        """[channels or 1]: what to add to the codes so that no offset is left; None where that is no integer."""
        count = max(len(self.steps), len(self.offsets))
        found = [_at(self.offsets, c) / _at(self.steps, c) for c in range(count)]
        return tuple(int(f) for f in found) if all(f.denominator == 1 for f in found) else None


def affine_operand(codes: Value, tail: Sequence[Affine]) -> AffineOperand | None:
    """What stands behind `codes`, of zero point 0, as one affine function; None where it has a root or is constant."""
    if any(stage.has_root for stage in tail):
        return None
    whole = reduce(Affine.then, tail, Affine.product(codes.type.codes.scale.steps))
    if not all(whole.factor):
        return None
    return AffineOperand(codes, _collapsed(whole.factor), _collapsed(whole.offset))


def factors_on_grids(steps: Sequence[Sequence[Fraction]]) -> tuple[list[list[int]], list[Fraction]]:
    """Steps of several tensors as integer multiples of one grid, or of one for each channel where a tensor has several.

    steps   of each tensor [channels or 1]
    result  (the factors of each tensor, the grids), each [channels] or, where all tensors have one step, [1]
    """
    count = max(map(len, steps))
    grids = [common_grid([abs(_at(own, c)) for own in steps]) for c in range(count)]
    return [[int(_at(own, c) / grid) for c, grid in enumerate(grids)] for own in steps], grids


def weights_on_one_grid(
    weight: IntArray, steps: tuple[Fraction, ...], groups: int
) -> tuple[IntArray, tuple[Fraction, ...]] | None:
    """The weights with each input channel's step taken in, as far as the channels of a group do not share it.

    weight  [C_out, C_in/groups, ...] codes
    steps   [C_in], or one for all
    result  the weights, and [C_out or 1] what one code of a product is worth, less the weights' own scale. None where
            the weights would need more than 64 bits.
    In a depthwise convolution a group is one channel: its step is the products' own, and no weight changes.
    """
    outputs, fan_in = weight.data.shape[:2]
    grids, factors = list[Fraction](), list[list[int]]()
    for group in range(groups if len(steps) > 1 else 1):
        own = steps[group * fan_in : (group + 1) * fan_in] if len(steps) > 1 else steps
        grid = common_grid([abs(s) for s in own])
        grids.append(grid)
        factors.append([int(s / grid) for s in own])
    worth = tuple(grid for grid in grids for _ in range(outputs // len(grids))) if len(grids) > 1 else tuple(grids)
    if all(f == 1 for row in factors for f in row):
        return weight, worth  # as they are: those of a large network take hundreds of megabytes
    largest = max(abs(f) for row in factors for f in row)
    if not fits_int64(largest * largest_magnitude(weight.data)):
        return None
    per_output = outputs // len(grids)
    table = np.repeat(np.array(factors, dtype=np.int64), per_output, axis=0)  # [C_out, C_in/groups or 1]
    made = weight.data * table.reshape(*table.shape, *[1] * (weight.data.ndim - 2))
    return IntArray(made), worth


def products_offset(weight: IntArray, scale: Scale, offsets: tuple[Fraction, ...], groups: int) -> tuple[Fraction, ...]:
    """[C_out]: what offsets of the input channels add to each output, where every tap lies inside of the input.

    weight   [C_out, C_in/groups, ...] codes, `scale` theirs
    offsets  [C_in], or one for all
    """
    outputs, fan_in = weight.data.shape[:2]
    taps = weight.data.reshape(outputs, fan_in, -1).sum(axis=2).tolist()
    found = []
    for o, row in enumerate(taps):
        first = o // (outputs // groups) * fan_in
        total = sum((t * _at(offsets, first + i) for i, t in enumerate(row)), Fraction(0))
        found.append(total * scale.channel(o))
    return tuple(found)


def added(lhs: tuple[Fraction, ...], rhs: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
    """The sums of two offsets, each per channel or (length 1) per tensor."""
    return tuple(_at(lhs, c) + _at(rhs, c) for c in range(max(len(lhs), len(rhs))))


def offset_tail(offsets: tuple[Fraction, ...]) -> tuple[Affine, ...]:
    """The tail of a tensor to which these are added; none where all are 0."""
    return (Affine.bias(_collapsed(offsets)),) if any(offsets) else ()


def joined_tails(tails: Sequence[tuple[Affine, ...]], channels: Sequence[int]) -> tuple[Affine, ...]:
    """The tail of tensors that stand side by side along the channels, of which each has `channels`."""
    idle = Affine.bias((Fraction(0),))
    padded = [(*tail, *[idle] * (max(map(len, tails)) - len(tail))) for tail in tails]
    return tuple(_side_by_side(stages, channels) for stages in zip(*padded, strict=True))


def _side_by_side(stages: Iterable[Affine], channels: Sequence[int]) -> Affine:
    parts = (stage.for_channels(count) for stage, count in zip(stages, channels, strict=True))
    return Affine(*(tuple(chain.from_iterable(part)) for part in zip(*parts, strict=True)))


def _at(values: Sequence[Fraction], channel: int) -> Fraction:
    return values[channel] if len(values) > 1 else values[0]


def _collapsed(values: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
    return values[:1] if len(set(values)) == 1 else values
