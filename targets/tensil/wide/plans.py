"""How a sum may be made of words: which parts, in which order, certified, and about what each way takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.rounding import round_shift
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.wide.active_range import ActiveRange, saturates_harmlessly
from pefslc.targets.tensil.wide.digits import digit_ranges
from pefslc.targets.tensil.wide.fan_in import MOST_PARTS, FanIn, Part

__all__ = ["DigitPlan", "PartsPlan", "Plan", "Saturation", "apart_plans", "holds_whole", "plans_of"]

Words = NDArray[np.int64]

_MOST_WORDS = MOST_PARTS  # of an output

# Cycles of an output vector, about: a part is stored and added; of both sums one is stored, multiplied and added, and
# both are stored where they are not made together, with weights loaded twice; with carries, the quotient and the
# remainder are made and stored, too. What two parts saturate by takes their sum, and two differences.
_PART_CYCLES = 2
_KEEPING_CYCLES = 13
_DIGIT_CYCLES = 4
_CARRY_CYCLES = 8
_ROUNDING_CYCLES = 6
_STICKY_CYCLES = 8


@dataclass(frozen=True, slots=True, eq=False)
class PartsPlan:
    """The fan-in in parts that fit, added one after the other; or by the host, where nobody else wants the sum.

    keeps  the first three are added as if there were room: by how much the sum of two saturates goes to the third
    """

    parts: tuple[Part, ...]
    cycles: int
    by_host: bool = False
    keeps: bool = False

    def __str__(self) -> str:
        how = " by the host" if self.by_host else ", with what saturates" if self.keeps else ""
        return f"{len(self.parts)} sums of words, added{how}"


@dataclass(frozen=True, slots=True, eq=False)
class DigitPlan:
    """The input in two digits: high * 2^bits + low.

    high     the sum over the high digit, in parts that are added one after the other
    low      that over the low digit; in several parts only with carries
    coarser  what is made is the sum / 2^coarser, rounded
    carries  a low sum is split into 2^bits * its quotient and a remainder first, and the quotient goes to the high sum
    sticky   the sum / 2^(coarser + 1) is rounded, doubled, and the sign of the remainder is added
    """

    bits: int
    high: tuple[Part, ...]
    low: tuple[Part, ...]
    coarser: int
    carries: bool
    cycles: int
    by_host: bool = False
    sticky: bool = False

    def __str__(self) -> str:
        halved = f" / {1 << self.coarser}" if self.coarser else ""
        halved += " and the sign of the remainder" if self.sticky else ""
        how = ", with carries" if self.carries else ", added by the host" if self.by_host else ""
        return f"sums of both digits, {1 << self.bits} high + low{halved}{how}"


@dataclass(frozen=True, slots=True)
class Saturation:
    """A sum of two tensors as it is: it saturates at its end."""

    cycles: int = 0

    def __str__(self) -> str:
        return "saturates where no code changes"


Plan = PartsPlan | DigitPlan | Saturation


def plans_of(
    fan_in: FanIn,
    low: int,
    high: int,
    bias: Words,
    active: ActiveRange,
    coarser: int,
    data_type: DataType,
    *,
    sticky: bool = False,
) -> Iterator[Plan]:
    """Every certified way to make (sum + bias) / 2^coarser, saturated, for inputs in [low, high].

    bias    [outputs], the operation's own and what the result's stand adds
    active  where the result matters
    sticky  the sum is rounded by a bit more, doubled, and the sign of the remainder is added
    """
    least, most = data_type.min_code, data_type.max_code
    parts = None if coarser else fan_in.parts(low, high, bias, least, most)
    if parts and saturates_harmlessly([(p.low, p.high) for p in parts], active, least, most):
        yield PartsPlan(tuple(parts), _PART_CYCLES * (len(parts) - 1))
    elif not coarser:
        yield from _in_order(fan_in, (low, high), bias, active, least, most)
    for bits in _low_bits(coarser + sticky, data_type):
        yield from _with_digits(fan_in, (low, high), bias, active, bits, coarser, data_type, sticky=sticky)


def _in_order(
    fan_in: FanIn, codes: tuple[int, int], bias: Words, active: ActiveRange, least: int, most: int
) -> Iterator[PartsPlan]:
    """Two words, or three; and another part so small that it brings nothing back from where their sum saturates."""
    word, apart = (np.full_like(bias, least), np.full_like(bias, most)), active.is_told_apart
    odd = word[0] + 1, word[1]  # what is taken from a word is one, too
    small = np.where(apart, active.top - most, least), np.where(apart, active.bottom - least, most)
    for rooms, first in (([word] * 2, 2), ([word] * 2 + [small], 2), ([odd] * 3, 3), ([odd] * 3 + [small], 3)):
        parts = fan_in.parts_within(*codes, bias, rooms)
        if parts is None:
            continue
        whole = np.sum([p.low for p in parts[:first]], axis=0), np.sum([p.high for p in parts[:first]], axis=0)
        if saturates_harmlessly([whole, *((p.low, p.high) for p in parts[first:])], active, least, most):
            cycles = _PART_CYCLES * (len(parts) - first) + (_PART_CYCLES if first == 2 else _KEEPING_CYCLES)
            yield PartsPlan(tuple(parts), cycles, keeps=first == 3)
            return


def holds_whole(plan: DigitPlan, active: ActiveRange, least: int, most: int) -> bool:
    """Whether 2^bits * the high sum, saturated, + the low sum, or the remainders, means what the whole sum means."""
    addends, rest, half = [(p.low, p.high) for p in plan.high], (plan.low[0].low, plan.low[0].high), 1 << plan.bits - 1
    if plan.carries:
        addends += [(round_shift(p.low, plan.bits), round_shift(p.high, plan.bits)) for p in plan.low]
        rest = np.full_like(active.top, -half * len(plan.low)), np.full_like(active.top, half * len(plan.low))
    return saturates_harmlessly(addends, _of_high(active, rest, plan.bits), least, most)


def apart_plans(fan_in: FanIn, low: int, high: int, bias: Words, data_type: DataType) -> Iterator[Plan]:
    """Every way to have the sum in parts that nobody adds on the machine: there is nothing to certify."""
    ends = data_type.min_code, data_type.max_code
    parts = fan_in.parts(low, high, bias, *ends)
    if parts is not None and len(parts) <= _MOST_WORDS:
        yield PartsPlan(tuple(parts), len(parts), by_host=True)
    for bits in _low_bits(0, data_type):
        for highs, lows in _sums_of_digits(fan_in, (low, high), bias, bits, *ends):
            if len(highs) + len(lows) <= _MOST_WORDS:
                cycles = fan_in.tiles + _DIGIT_CYCLES + len(highs) + len(lows)
                yield DigitPlan(bits, tuple(highs), tuple(lows), 0, False, cycles, by_host=True)


def _sums_of_digits(
    fan_in: FanIn, codes: tuple[int, int], bias: Words, bits: int, least: int, most: int
) -> Iterator[tuple[list[Part], list[Part]]]:
    """The parts of both sums: with the bias in the low one; and with what is less than a high code there."""
    of_high, of_low = digit_ranges(*codes, bits)
    quotient = round_shift(bias, bits)
    biases = [np.zeros_like(bias), quotient] if quotient.any() else [np.zeros_like(bias)]
    for own in biases:
        highs = fan_in.parts(*of_high, own, least, most)
        lows = fan_in.parts(*of_low, bias - (own << bits), least, most)
        if highs is not None and lows is not None:
            yield highs, lows


def _low_bits(coarser: int, data_type: DataType) -> range:
    """What the low digit may have: 2^bits at the binary point is a word, and what is left of them is even."""
    return range(coarser + 1, data_type.width_bits - 1 - data_type.binary_point)


def _with_digits(
    fan_in: FanIn,
    codes: tuple[int, int],
    bias: Words,
    active: ActiveRange,
    bits: int,
    coarser: int,
    data_type: DataType,
    *,
    sticky: bool,
) -> Iterator[DigitPlan]:
    least, most = data_type.min_code, data_type.max_code
    for highs, lows in _sums_of_digits(fan_in, codes, bias, bits, least, most):
        yield from _added_digits(fan_in, highs, lows, active, bits, coarser, least, most, sticky=sticky)


def _added_digits(
    fan_in: FanIn,
    highs: list[Part],
    lows: list[Part],
    active: ActiveRange,
    bits: int,
    coarser: int,
    least: int,
    most: int,
    *,
    sticky: bool,
) -> Iterator[DigitPlan]:
    up, half = bits - coarser, 1 << bits - 1
    sums = [(part.low, part.high) for part in highs]
    cycles = fan_in.tiles + _DIGIT_CYCLES
    apart = fan_in.tiles // 2 + _DIGIT_CYCLES + _PART_CYCLES * (len(highs) - 1) + (_ROUNDING_CYCLES if coarser else 0)
    apart += _STICKY_CYCLES if sticky else 0
    together = len(highs) == len(lows) == 1 and not coarser
    if len(lows) == 1:
        rest = _left(lows[0].low, lows[0].high, coarser, sticky=sticky)
        if _is_certified(sums, rest, up, active, least, most):
            yield DigitPlan(
                bits, tuple(highs), tuple(lows), coarser, False, cycles if together else cycles + apart, sticky=sticky
            )
    # The quotient times -2^bits is a word, and the remainder is made without saturation.
    if all((low.low > least + half).all() and (low.high < most - half).all() for low in lows):
        carries = [(round_shift(low.low, bits), round_shift(low.high, bits)) for low in lows]
        ends = np.full_like(active.top, -half * len(lows)), np.full_like(active.top, half * len(lows))
        rest = _left(*ends, coarser, sticky=sticky)
        if _is_certified([*sums, *carries], rest, up, active, least, most):
            cycles += apart + _CARRY_CYCLES * len(lows)
            yield DigitPlan(bits, tuple(highs), tuple(lows), coarser, True, cycles, sticky=sticky)


def _left(low: Words, high: Words, coarser: int, *, sticky: bool) -> tuple[Words, Words]:
    """Bounds of what becomes of the low sum."""
    if sticky:
        return 2 * round_shift(low, coarser + 1) - 1, 2 * round_shift(high, coarser + 1) + 1
    return round_shift(low, coarser), round_shift(high, coarser)


def _is_certified(
    addends: list[tuple[Words, Words]], rest: tuple[Words, Words], up: int, active: ActiveRange, least: int, most: int
) -> bool:
    """Whether 2^up * (the sum of the addends) + rest means what it should, where each sum and product saturates."""
    if not saturates_harmlessly(addends, _of_high(active, rest, up), least, most):
        return False
    low, high = (np.clip(sum(ends), least, most) << up for ends in zip(*addends, strict=True))
    return saturates_harmlessly([(low, high), rest], active, least, most)


def _of_high(active: ActiveRange, rest: tuple[Words, Words], up: int) -> ActiveRange:
    """From where on, and down to where, the high sum alone says that the whole is on the flat."""
    apart = active.is_told_apart
    top = np.where(apart, -((rest[0] - active.top) >> up), active.top)
    return ActiveRange(np.where(apart, (active.bottom - rest[1]) >> up, active.bottom), top)
