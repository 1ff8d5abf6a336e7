"""Requantizations that no words compute, exact all the same: an estimate of the code, corrected by its residual.

    y = staircase(sum)    ==>    e = estimate(sum), which is y or y + 1;  y = e - [sum below the step to e]

All in operations of the integer graph, which place as they are: the estimate is a staircase that its words compute, and
so is the finer part of the residual, or that is made digit by digit. What saturates is clamped to a word.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pefslc.analysis.ranges import result_range
from pefslc.geometry.shapes import Window
from pefslc.ir.integer import Clamp, Conv2d, Dense, Requantize, Rescale, Sum
from pefslc.ir.structural import Reshape
from pefslc.ir.value import CodeRange, IntArray, Op, Value
from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.rewriting.rewrite import LOG
from pefslc.targets.tensil.wide.active_range import FAR
from pefslc.targets.tensil.wide.certificate import Certificate, Lower
from pefslc.targets.tensil.wide.digits import derived, rounded_quotient
from pefslc.targets.tensil.wide.estimate import Line, estimated
from pefslc.targets.tensil.wide.fine_words import FineWords, coarseness, find_words
from pefslc.targets.tensil.wide.long_words import LongWords, find_long_words
from pefslc.targets.tensil.wide.residual import Demands, Residual
from pefslc.targets.tensil.wide.shares import MOST_PARTS, Shares, bits_up, divided, scaled_shares, shares
from pefslc.targets.tensil.wide.summed import Summed
from pefslc.targets.tensil.wide.widest_line import widest_line
from pefslc.targets.tensil.words.channel_fits import ChannelFits
from pefslc.targets.tensil.words.channel_requantize import ChannelRequantization

__all__ = ["Corrector", "may_be_corrected"]

Words = NDArray[np.int64]

Pair = tuple[Words, Words]

# What is tried until words compute what is left: whether they divide once more at last, and the factor, from the
# nearest one on.
_TRIES = (False, 0), (False, 1), (False, -1), (False, 2), (True, 0), (True, 1)
_MOST_STEPS = 1 << 12  # of a channel
_LINE = -2.0  # the width of a line, at least: an integer next to one is off by less than 1 on either side
_LEAST_WIDTH = 0.3  # of the line, in what words round by: below, no words were seen


@dataclass(frozen=True, slots=True, eq=False)
class Fine:
    """c(j), stored, and what it is for all codes [channels or 1, codes]."""

    value: Value
    values: Words


def may_be_corrected(op: Requantize) -> bool:
    """Whether a correction is looked for: of what rises, or falls, by ones, on about a line, and not in too many
    steps. A look at the thresholds is enough to say no.
    """
    staircase = op.staircase
    if not 2 <= len(op.result.type.shape) <= 4 or staircase.step != 1 or staircase.steps > _MOST_STEPS:
        return False
    rows = staircase.rows(0, staircase.channels)
    is_taken = (rows + (staircase.direction < 0)[:, None] > staircase.domain_low) & (rows <= staircase.domain_high)
    least, most = np.where(is_taken, rows, -FAR), np.where(is_taken, rows, FAR)
    return bool((widest_line(np.arange(staircase.steps), least, most, FAR).width > _LINE).all())


class Corrector:
    """Appends operations to `ops`; gives `fits` the words that compute their staircases."""

    def __init__(self, ops: list[Op], fits: ChannelFits, data_type: DataType) -> None:
        self.ops, self.fits, self.data_type = ops, fits, data_type

    def requantize(self, op: Requantize, summed: Summed) -> bool:
        """Append what makes the result of `op`; whether it can be made. Nothing is appended where it cannot."""
        falls = op.staircase.direction < 0
        if not may_be_corrected(op) or (falls.any() and not summed.may_be_negated(self.data_type)):
            _not(op.result.name, "its steps are too many, or on no line, or its sum has no other sign")
            return False
        first, name, shape = len(self.ops), op.result.name, op.result.type.shape
        if len(shape) == 3:  # convolutions of pictures make multiples
            summed = summed.with_values(lambda v: self._reshaped(v, f"{name}.{v.name}", (*shape[:2], 1, shape[2])))
        if falls.any():
            signs = np.where(falls, -1, 1)
            none = np.zeros_like(signs)
            summed = summed.with_values(lambda v: self._times(v, signs, none, f"{name}.{v.name}.rising"))
            summed = summed.mirrored(falls)
        made = self._corrected(summed, op)
        if made is None:
            del self.ops[first:]
            return False
        if len(shape) == 3:
            self._reshaped(made, f"{name}.flat", shape)
        self.ops[-1] = replace(self.ops[-1], result=op.result)
        return True

    def _reshaped(self, value: Value, name: str, shape: tuple[int, ...]) -> Value:
        result = Value(name, replace(value.type, shape=shape), value.origin)
        return self._append(Reshape(result=result, input=value))

    # --- one correction ------------------------------------------------------------------------------------------

    def _corrected(self, summed: Summed, op: Requantize) -> Value | None:
        """The codes: `ops` ends with what makes them."""
        name, ends_of_codes = op.result.name, (op.staircase.low, op.staircase.high)
        middle = _middle(summed, ends_of_codes, self.data_type)
        codes = ends_of_codes[0] - middle, ends_of_codes[1] - middle
        ends = summed.value.type.codes.low, summed.value.type.codes.high
        estimate = estimated(summed.asked, codes, ends, self.data_type, summed.inner, summed.passed)
        if estimate is None:
            _not(name, "no two multiplications come near")
            return None
        starts = estimate.computed.rows(0, estimate.computed.channels)
        demands = Demands.of(summed.thresholds, starts, ends, summed.coarser)
        if not demands.close:
            _not(name, "the estimate is off by more than one")
            return None
        e = self._requantized(summed.value, estimate, f"{name}.estimate")
        found = self._residual(e, summed, demands, codes, name)
        if found is None:
            return None
        residual, fine = found
        below = self._difference(e, summed, residual, fine, demands, name)
        if below is None:
            return None
        taken = self._sum(self._excess(below, middle, f"{name}.excess"), e, f"{name}.unclipped")
        low, high = op.result.type.codes.low, op.result.type.codes.high  # those that occur
        return self._append(
            Clamp(result=self._like(taken, f"{name}.corrected", low, high), input=taken, low=low, high=high)
        )

    def _excess(self, below: Value, middle: int, name: str) -> Value:
        """`middle`, less 1 where a value is below 0."""
        result = self._like(below, name, middle - 1, middle)
        if not middle:
            return self._append(Clamp(result=result, input=below, low=-1, high=0))
        codes, one = below.type.codes, np.ones(1, dtype=np.int64)
        staircase = Staircase(codes.low, codes.high, middle - 1, np.zeros((1, 1), dtype=np.int64), one)
        return self._append(Requantize(result=result, input=below, staircase=staircase))

    def _residual(
        self, e: Value, summed: Summed, demands: Demands, codes: tuple[int, int], name: str
    ) -> tuple[Residual, Fine | None] | None:
        """The residual, and what is left of it beside a multiple of the estimate `e`."""
        inner, (least, most) = summed.inner, demands.bounds
        j = codes[0] + np.arange(least.shape[1], dtype=np.int64)
        line = widest_line(j, least, most, FAR)
        words: FineWords | None = None
        factor, offset = (np.zeros(len(inner), dtype=np.int64) for _ in range(2))
        rounds_by = coarseness(_factors(line.slope, 0) - line.slope, j, self.data_type)
        is_wide = (line.width + 1 >= _LEAST_WIDTH * rounds_by).all()
        for at_last, nudge in _TRIES if is_wide else ():
            tried = _factors(line.slope, nudge)
            middle = _middle_of(tried[:, None] * j - most, tried[:, None] * j - least)
            bounds = _left_of(j, least, most, tried, middle)
            found = find_words(j, *bounds, tried - line.slope, self.data_type, divided=at_last)
            if words is not None and words.divided != at_last:
                words = None
            is_new = found.found if words is None else found.found & ~words.found
            factor, offset = np.where(is_new, tried, factor), np.where(is_new, middle, offset)
            words = found if words is None else words.merged(found)
            if words.found.all():
                return self._by_words(e, words, factor, offset, j, name)
            if 2 * np.count_nonzero(words.found) < len(inner):
                break  # of so many codes, other factors will not do, either
        factor, middle = _factors(line.slope, 0), j[len(j) // 2]
        offset = factor * middle - np.rint(line.slope * middle + line.start).astype(np.int64)
        bounds = _left_of(j, least, most, factor, offset)
        long = find_long_words(j, *bounds, self.data_type)
        if long is None:
            _not(name, "what is left of the residual is no line, or too fine")
            return None
        return Residual(factor, offset), self._by_long_words(e, long, j, name)

    def _by_words(
        self, e: Value, words: FineWords, factor: Words, offset: Words, j: Words, name: str
    ) -> tuple[Residual, Fine | None]:
        """c by three words; part of the offset where it is one number."""
        computed = words.computed(int(j[0]), int(j[-1]), self.data_type)
        if not computed.steps:
            return Residual(factor, offset + computed.low), None
        return Residual(factor, offset), self._fine(e, words, computed, j, f"{name}.fine")

    def _fine(self, e: Value, words: FineWords, computed: Staircase, j: Words, name: str) -> Fine:
        steps = words.words().steps(np.ones(len(words.found), dtype=np.int64), self.data_type)
        made = self._requantized(e, ChannelRequantization(steps, computed), name)
        return Fine(made, words.values(j, self.data_type))

    def _by_long_words(self, e: Value, words: LongWords, j: Words, name: str) -> Fine:
        """c digit by digit, from the lowest one on."""
        computed = words.last.computed(int(j[0]), int(j[-1]), self.data_type)
        fine = self._fine(e, words.last, computed, j, f"{name}.carry{len(words.digits)}")
        for i, digit in reversed(list(enumerate(words.digits))):
            ends = fine.value.type.codes.low, fine.value.type.codes.high
            twice = self._like(fine.value, f"{name}.twice{i}", 2 * ends[0], 2 * ends[1])
            carried = self._append(Rescale(result=twice, input=fine.value, factor=2))
            multiple = self._times(e, digit.factor, digit.offset, f"{name}.digit{i}")
            total = self._sum(multiple, carried, f"{name}.with_carry{i}")
            divided = rounded_quotient(total, "quotient", digit.bits + 1)
            ends = divided.staircase.low, divided.staircase.high
            carry = self._append(replace(divided, result=self._like(total, f"{name}.carry{i}", *ends)))
            fine = Fine(carry, words.values(j, self.data_type, i))
        return fine

    # --- operations ----------------------------------------------------------------------------------------------

    def _requantized(self, value: Value, words: ChannelRequantization, name: str) -> Value:
        """The staircase that words compute: placement is given them."""
        codes, staircase = value.type.codes, words.computed
        self.fits.give(words, min(codes.low, 0), max(codes.high, 0))
        result = self._like(value, name, staircase.low, staircase.high)
        return self._append(Requantize(result=result, input=value, staircase=staircase))

    def _difference(
        self, e: Value, summed: Summed, residual: Residual, fine: Fine | None, demands: Demands, name: str
    ) -> Value | None:
        """The residual, saturated: below 0 just where it is."""
        codes, channels = e.type.codes, summed.value.type.channels
        factor, offset = (np.broadcast_to(w, (channels,)) for w in (residual.factor, residual.offset))
        high = summed.words[0]
        whole, rest = divided(factor, high.up), divided(offset, high.up)
        left = None if fine is None else fine.values
        found = self._certified(summed, residual, left, demands, (whole, rest), codes)
        if found is None and high.up:  # the low word about 0
            low = summed.words[1].value.type.codes
            moved = -(low.low + low.high) // 2 >> high.up
            rest = rest[0] - moved, rest[1] + (moved << high.up)
            found = self._certified(summed, residual, left, demands, (whole, rest), codes)
        if found is None:
            _not(name, "a step is too wide, or the residual may saturate to the other side")
            return None
        parts, up = found
        sources = [e] * len(parts)
        if up:
            ends = codes.low << up, codes.high << up
            sources[0] = self._append(Rescale(result=self._like(e, f"{name}.moved", *ends), input=e, factor=1 << up))
        products = [
            self._saturated_product(source, -factor >> (up if i == 0 else 0), offset, f"{name}.multiple{i}")
            for i, (source, (factor, offset)) in enumerate(zip(sources, parts, strict=True))
        ]
        lower = self._times(e, -whole[1], rest[1], f"{name}.rest") if high.up else None
        total = high.value
        for i, product in enumerate(products):
            total = self._saturated_sum(product, total, f"{name}.above{i}")
        if lower is not None:
            ends = total.type.codes.low << high.up, total.type.codes.high << high.up
            total = self._append(
                Rescale(result=self._like(total, f"{name}.risen", *ends), input=total, factor=1 << high.up)
            )
            total = self._saturated(total, f"{name}.risen_word")
            total = self._saturated_sum(total, lower, f"{name}.with_rest")
            total = self._saturated_sum(total, summed.words[1].value, f"{name}.with_low")
        if fine is not None:
            total = self._saturated_sum(total, fine.value, f"{name}.residual")
        return total

    def _certified(
        self,
        summed: Summed,
        residual: Residual,
        left: Words | None,
        demands: Demands,
        divided: tuple[Pair, Pair],
        codes: CodeRange,
    ) -> tuple[Shares, int] | None:
        """What multiples of the estimate for the high word are made of, and by how many bits the codes of the first are
        moved up; None where they are no words, or where the residual may be on the other side.

        divided  the factor and the offset, what belongs to the high word and what to the low one
        """
        (factor, lower), (offset, rest) = divided
        parts = shares(factor, offset, codes.low, codes.high, self.data_type)
        up = 0 if parts is not None else bits_up(factor, codes, self.data_type)
        if up:
            most = factor >> up << up
            parts = scaled_shares(most, factor - most, offset, codes.low, codes.high, self.data_type)
        if parts is None:
            return None
        j = codes.low + np.arange(demands.own.shape[1], dtype=np.int64)
        left = np.zeros((1, len(j)), dtype=np.int64) if left is None else left
        certificate, high = Certificate(j, parts, left, self.data_type), summed.words[0].up
        if high:
            low = summed.words[1].value.type.codes
            is_right = certificate.of_two_words(demands, residual, Lower(high, lower, rest, (low.low, low.high)))
        else:
            is_right = certificate.of_one_word(demands)
        return (parts, up) if is_right else None

    def _times(self, value: Value, factor: Words, bias: Words, name: str) -> Value:
        """value * factor + bias, [channels], or one that all share."""
        factor, bias = (np.broadcast_to(w, (value.type.channels,)) for w in (factor, bias))
        result = self._like(value, name, 0, 0)
        added = IntArray(bias.copy()) if bias.any() else None
        if len(value.type.shape) == 2:
            weight = IntArray(np.diag(factor))
            return self._in_range(Dense(result=result, input=value, weight=weight, bias=added))
        weight, point = IntArray(factor[:, None, None, None].copy()), Window(kernel=(1, 1))
        op = Conv2d(result=result, input=value, weight=weight, bias=added, window=point, groups=len(factor))
        return self._in_range(op)

    def _in_range(self, op: Conv2d | Dense) -> Value:
        low, high = result_range(op)
        return self._append(replace(op, result=self._like(op.result, op.result.name, low, high)))

    def _saturated_product(self, value: Value, factor: Words, bias: Words, name: str) -> Value:
        product = self._times(value, factor, bias, name)
        codes = product.type.codes
        if self.data_type.min_code <= codes.low and codes.high <= self.data_type.max_code:
            return product
        return self._saturated(product, f"{name}_word")

    def _saturated_sum(self, lhs: Value, rhs: Value, name: str) -> Value:
        return self._saturated(self._sum(lhs, rhs, f"{name}.sum"), name)

    def _sum(self, lhs: Value, rhs: Value, name: str) -> Value:
        a, b = lhs.type.codes, rhs.type.codes
        return self._append(Sum(result=self._like(lhs, name, a.low + b.low, a.high + b.high), lhs=lhs, rhs=rhs))

    def _saturated(self, value: Value, name: str) -> Value:
        least, most = self.data_type.min_code, self.data_type.max_code
        low, high = (min(max(end, least), most) for end in (value.type.codes.low, value.type.codes.high))
        return self._append(Clamp(result=self._like(value, name, low, high), input=value, low=least, high=most))

    def _like(self, value: Value, name: str, low: int, high: int) -> Value:
        return Value(name, derived(value, "", low, high).type, value.origin)

    def _append(self, op: Op) -> Value:
        self.ops.append(op)
        return op.result


def _factors(slope: NDArray[np.float64], nudge: int) -> Words:
    """The integer nearest to each slope, or one beside it, first on the side where the slope lies."""
    nearest = np.rint(slope).astype(np.int64)
    return np.asarray(nearest + nudge * np.where(slope > nearest, 1, -1))


def _left_of(j: Words, least: Words, most: Words, factor: Words, offset: Words) -> Pair:
    """Bounds of c, of those of T; none where those of T are none."""
    rest = factor[:, None] * j - offset[:, None]
    return np.where(most >= FAR, -2 * FAR, rest - most), np.where(least <= -FAR, 2 * FAR, rest - least)


def _middle_of(least: Words, most: Words) -> Words:
    """[channels]: the middle of what lies between bounds [channels, codes] where there are both."""
    both = least == most
    low, high = np.where(both, least, FAR).min(axis=1), np.where(both, least, -FAR).max(axis=1)
    return np.asarray(np.where(low <= high, (low + high) >> 1, 0))


def _not(name: str, reason: str) -> None:
    LOG.debug("%s is not corrected: %s", name, reason)


def _middle(summed: Summed, codes: tuple[int, int], data_type: DataType) -> int:
    """The code around which estimates are stored: 0, but where multiples of codes from there on would be no words."""
    slope = Line.through(summed.thresholds, summed.inner).slope
    steepest = float(slope[np.isfinite(slope)].max(initial=0.0)) / (1 << summed.words[0].up)
    furthest = steepest * max(abs(codes[0]), abs(codes[1]))
    # Shares have an offset each, and are around 0; but not those of codes that are moved up.
    span = data_type.max_code - data_type.min_code
    fits = furthest <= data_type.max_code or (
        steepest <= MOST_PARTS * (data_type.max_code // data_type.one) and steepest * (codes[1] - codes[0]) <= span
    )
    return 0 if fits else (codes[0] + codes[1] + 1) // 4 * 2
