"""A sum of products in parts of its fan-in, each of which fits a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pefslc.ir.integer import Conv2d, Dense, SumPool
from pefslc.ir.structural import Reshape
from pefslc.ir.value import IntArray, Op, Value

__all__ = ["MOST_PARTS", "FanIn", "Part", "linear_form"]

MOST_PARTS = 12
_EXCHANGES, _MOST_WORK = 60, 1 << 27  # of units between parts; numbers that are looked at for one

Words = NDArray[np.int64]
Floats = NDArray[np.float64]
Linear = Conv2d | Dense


def linear_form(op: Op) -> Linear | None:
    """The operation as a convolution or dense layer; None where it is none, or one over a dilated input."""
    if isinstance(op, SumPool) and op.factors is None:
        channels = op.input.type.channels
        ones = IntArray(np.ones((channels, 1, *op.window.kernel), dtype=np.int64))
        return Conv2d(result=op.result, input=op.input, weight=ones, bias=None, window=op.window, groups=channels)
    if isinstance(op, Conv2d) and not op.window.dilates_input:
        return op
    return op if isinstance(op, Dense) else None


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some of the products, and the bias or none of it.

    chosen     [weights of one output]: whether a product is in the part
    bias       [outputs], all of it or zeros
    low, high  [outputs]: bounds of the part, its bias included
    """

    chosen: NDArray[np.bool_]
    bias: Words
    low: Words
    high: Words

    def of(self, op: Linear, source: Value, result: Value) -> Linear:
        """The operation that sums this part: with weight 0 where a product is not in it."""
        weight = np.where(self.chosen, op.weight.data.reshape(len(self.bias), -1), 0).reshape(op.weight.data.shape)
        bias = IntArray(self.bias) if self.bias.any() else None
        return replace(op, input=source, weight=IntArray(weight), bias=bias, result=result)


@dataclass(frozen=True, eq=False)
class FanIn:
    """The products of one operation, in units that the array loads as one tile of weights: a tap, and as many channels
    as it has rows.

    units  [weights of one output]: the unit of each
    """

    op: Linear
    units: Words

    @classmethod
    def of(cls, op: Linear, array_size: int, producer: Op | None) -> FanIn:
        """`producer`: of the input."""
        if isinstance(op, Conv2d):
            channels, taps = op.weight.shape[1], op.weight.data[0, 0].size
            blocks = np.arange(channels, dtype=np.int64) // array_size if op.groups == 1 else np.zeros(channels, int)
            return cls(op, (np.arange(taps)[None, :] * (int(blocks.max()) + 1) + blocks[:, None]).reshape(-1))
        pixels = 1
        if isinstance(producer, Reshape) and len(producer.input.type.shape) == 4:
            pixels = producer.input.type.shape[2] * producer.input.type.shape[3]
        channel, pixel = np.divmod(np.arange(op.weight.shape[1], dtype=np.int64), pixels)
        blocks = channel // array_size
        return cls(op, pixel * (int(blocks.max()) + 1) + blocks)

    @property
    def tiles(self) -> int:
        """How many units have a weight that is not 0."""
        _, rises, falls = self._by_unit
        return int(np.count_nonzero((rises - falls).any(axis=0)))

    @cached_property
    def _by_unit(self) -> tuple[Words, Words, Words]:
        """The numbers of the units; of each, [outputs, units], the sum of the weights above 0, and of those below."""
        weight = self.op.weight.data.reshape(len(self.op.weight.data), -1)
        order = np.argsort(self.units, kind="stable")
        starts = np.flatnonzero(np.diff(self.units[order], prepend=-1))
        ordered = weight[:, order]
        rises = np.add.reduceat(np.maximum(ordered, 0), starts, axis=1)
        falls = np.add.reduceat(np.minimum(ordered, 0), starts, axis=1)
        return self.units[order][starts], rises, falls

    def parts(self, low: int, high: int, bias: Words, least: int, most: int) -> list[Part] | None:
        """As few parts as fit [least, most] one by one, for inputs in [low, high]; the first has the bias.

        None where the bias, or one unit alone, does not fit, or more than MOST_PARTS are needed.
        """
        numbers, rises, falls = self._by_unit
        lows = rises * min(low, 0) + falls * max(high, 0)
        highs = rises * max(high, 0) + falls * min(low, 0)
        first, own, parts = 0, bias, list[Part]()
        while first < len(numbers):
            below = lows[:, first:].cumsum(axis=1) + np.minimum(own, 0)[:, None]  # whether the bias comes first or last
            above = highs[:, first:].cumsum(axis=1) + np.maximum(own, 0)[:, None]
            fits = (below.min(axis=0) >= least) & (above.max(axis=0) <= most)
            count = len(fits) if fits.all() else int(fits.argmin())
            if not count or len(parts) == MOST_PARTS:
                return None
            chosen, taken = np.isin(self.units, numbers[first : first + count]), slice(first, first + count)
            parts.append(Part(chosen, own, lows[:, taken].sum(axis=1) + own, highs[:, taken].sum(axis=1) + own))
            first, own = first + count, np.zeros_like(bias)
        return parts

    def parts_within(self, low: int, high: int, bias: Words, rooms: Sequence[tuple[Words, Words]]) -> list[Part] | None:
        """One part for each room, the range (least, most) [outputs] that it has; the first has the bias.

        None where none were found: units go, the largest first, to where they fill the fullest output least, and are
        exchanged while that helps. What is found fits.
        """
        numbers, rises, falls = self._by_unit
        lows = rises * min(low, 0) + falls * max(high, 0)
        highs = rises * max(high, 0) + falls * min(low, 0)
        room = np.stack([np.concatenate([-least, most]) for least, most in rooms]).astype(np.float64)  # [parts, ends]
        own = np.concatenate([-np.minimum(bias, 0), np.maximum(bias, 0)])
        room[0] -= own
        if (room <= 0).any():
            return None
        needs = np.concatenate([-lows, highs]).T.astype(np.float64)  # [units, ends]
        where = _shared(needs, room)
        if where is None:
            return None
        zeros = np.zeros_like(bias)
        return [
            Part(
                np.isin(self.units, numbers[where == i]),
                bias if i == 0 else zeros,
                lows[:, where == i].sum(axis=1) + (0 if i else bias),
                highs[:, where == i].sum(axis=1) + (0 if i else bias),
            )
            for i in range(len(rooms))
        ]


def _shared(needs: Floats, room: Floats) -> NDArray[np.int64] | None:
    """Where each unit goes [units], of needs [units, ends], so that no room [parts, ends] is exceeded; None where that
    was not found.
    """
    if (needs.sum(axis=0) > room.sum(axis=0)).any():
        return None
    where = np.zeros(len(needs), dtype=np.int64)
    taken = np.zeros_like(room)
    for unit in np.argsort(-needs.max(axis=1), kind="stable"):
        part = int(((taken + needs[unit]) / room).max(axis=1).argmin())
        where[unit] = part
        taken[part] += needs[unit]
    for _ in range(min(_EXCHANGES, _MOST_WORK // (needs.size * len(needs)))):
        if (taken <= room).all():
            break
        source = int((taken / room).max(axis=1).argmax())
        best, step = _excess(taken, room), None
        for unit in np.flatnonzero(where == source):
            for part in range(len(room)):
                if part == source:
                    continue
                others = np.flatnonzero(where == part)
                moved = needs[unit] - np.concatenate([np.zeros_like(needs[:1]), needs[others]])  # alone, or exchanged
                elsewhere = _excess(np.delete(taken, [source, part], axis=0), np.delete(room, [source, part], axis=0))
                excess = elsewhere + sum(
                    np.maximum(taken[i] + sign * moved - room[i], 0).sum(axis=1)
                    for i, sign in ((source, -1), (part, 1))
                )
                if excess.min() < best:
                    i = int(excess.argmin())
                    best, step = excess[i], (unit, others[max(i - 1, 0) : i], part, moved[i])
        if step is None:
            break
        unit, other, part, change = step
        where[unit], where[other] = part, source
        taken[source] -= change
        taken[part] += change
    return where if (taken <= room).all() else None


def _excess(taken: Floats, room: Floats) -> float:
    """How far rooms are exceeded, all ends together."""
    return float(np.maximum(taken - room, 0).sum())
