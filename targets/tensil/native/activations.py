"""Activations in native arithmetic: the raw steps that come closest to a staircase, and by how much they miss it.

The accumulators already hold what a uniform quantizer would round to, so that of "activation, then Quant" only the
activation is left: a slope below zero, and clips. Which ones is read off the staircase; every step of the staircase
is then compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.format import saturate
from pefslc.numeric.line import BentLine
from pefslc.numeric.rounding import round_fraction, round_ratio
from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.words.steps import LeakyRelu, Maximum, Minimum, RawStep, TwoSlopes, apply_steps

__all__ = ["Activation", "fit_activation", "fit_line", "two_slopes"]

Words = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Activation:
    """Raw steps, the most by which they differ from the staircase or line, in words, and its slope below zero."""

    steps: tuple[RawStep, ...]
    deviation: Fraction
    slope: Fraction


def fit_activation(
    staircase: Staircase, input_unit: Fraction, output_unit: Fraction, data_type: DataType
) -> Activation | None:
    """The steps for a staircase from codes to codes; None where it is none of identity, ReLU, leaky ReLU and a clip,
    or not the same in every channel. Units: words per code, the same of one value on both sides.
    """
    if staircase.channels > 1 or (staircase.direction < 0).any() or staircase.step != 1:
        return None
    points = staircase.critical_codes()[0]
    words = _words(points, input_unit)
    held = (words >= data_type.min_code) & (words <= data_type.max_code)  # beyond, the sum has saturated already
    points, words = points[held], words[held]
    wanted = staircase(points)
    slope = _slope_below_zero(staircase, input_unit, output_unit)
    domain = staircase.domain_low, staircase.domain_high
    steps = _steps(slope, (staircase.low, staircase.high), domain, input_unit, output_unit, data_type)
    found = apply_steps(steps, words, data_type)
    parts = output_unit.denominator  # a word has
    missed = np.abs(found * parts - wanted * output_unit.numerator)
    # What the steps round, the slope's own word among it: nothing else is theirs.
    one, rounding = data_type.one, _rounding(output_unit)
    if steps and isinstance(steps[0], LeakyRelu):
        rounding += Fraction(1, 2)
    if (missed * one > int(rounding * 2 * parts) * one // 2 + np.abs(words) * parts).any():
        return None
    return Activation(steps, Fraction(int(missed.max(initial=0)), parts), slope)


def fit_line(
    line: BentLine, low: int, high: int, input_unit: Fraction, output_unit: Fraction, data_type: DataType
) -> Activation | None:
    """The steps for a line on the codes low ... high; None where it scales values. Units as above."""
    scale = output_unit / input_unit
    if line.above * scale != 1:
        return None
    slope = line.below * scale
    steps = _steps(slope, (line.low, line.high), (low, high), input_unit, output_unit, data_type)
    deviation = (1 + output_unit) / 2
    if steps and isinstance(steps[0], LeakyRelu):
        reached = min(-low * input_unit, Fraction(-data_type.min_code))
        deviation += Fraction(1, 2) + abs(slope - Fraction(steps[0].word, data_type.one)) * reached
    return Activation(steps, deviation, slope)


def two_slopes(activation: Activation, word: int, one: int) -> TwoSlopes | None:
    """Of a leaky ReLU whose result may have any unit: words in its proportion, as nearly as words can be, with the
    largest slope above zero that is at most `word` and more than half of it. None for anything else, and where the
    activation's own slope is nearer.
    """
    match activation.steps:
        case (LeakyRelu() as step,):
            pairs = [TwoSlopes(n, round_fraction(n * activation.slope)) for n in range(word, word // 2, -1)]
            pairs = [pair for pair in pairs if pair.suits(one)]
        case _:
            return None

    def off(pair: TwoSlopes) -> Fraction:
        return abs(Fraction(pair.below, pair.above) - activation.slope)

    best = min(pairs, key=off, default=None)
    nearest = abs(Fraction(step.word, one) - activation.slope)
    return best if best is not None and off(best) <= nearest else None


def _rounding(output_unit: Fraction) -> Fraction:
    """How many words to words before the activation and to codes after it may lie apart: half a word, half a code."""
    return max((1 + output_unit) / 2, Fraction(1))


def _words(codes: Words, unit: Fraction) -> Words:
    """RNE(code * unit)."""
    return round_ratio(codes * unit.numerator, unit.denominator)


def _steps(
    slope_below_zero: Fraction,
    codes: tuple[int, int],
    domain: tuple[int, int],
    input_unit: Fraction,
    output_unit: Fraction,
    data_type: DataType,
) -> tuple[RawStep, ...]:
    """The slope, in words, and clips to `codes`, where accumulators of `domain` reach beyond them."""
    one = data_type.one
    slope = round_fraction(slope_below_zero * one)
    steps: list[RawStep] = [] if slope == one else [LeakyRelu(slope) if slope else Maximum(0)]
    low, high = (round_fraction(code * output_unit) for code in codes)
    reached = saturate(_words(np.array(domain, dtype=np.int64), input_unit), data_type.min_code, data_type.max_code)
    reached = apply_steps(steps, reached, data_type)
    # A clip that the domain does not reach, but for the rounding of the slope, is none.
    granted = _rounding(output_unit)
    if int(reached[0]) < low - granted - (-int(reached[0]) * 2 >> data_type.binary_point if steps else 0):
        steps.append(Maximum(low))
    if int(reached[1]) > high + granted:
        steps.append(Minimum(high))
    return tuple(steps)


def _slope_below_zero(staircase: Staircase, input_unit: Fraction, output_unit: Fraction) -> Fraction:
    """Between the origin and the lowest step, where a staircase through the origin has its slope; 1 without one."""
    if staircase.low >= 0 or not staircase.steps or (first := int(staircase.rows(0, 1)[0, 0])) >= 0:
        return Fraction(1)
    slope = (staircase.low + Fraction(1, 2)) * output_unit / (first * input_unit)
    return min(slope, Fraction(1))
