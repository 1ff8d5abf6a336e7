"""The raw steps that change accumulators in place, and the sequence of them under construction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.format import saturate
from pefslc.numeric.rounding import round_shift
from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.architecture import DataType

__all__ = ["Accumulate", "Maximum", "Minimum", "Multiply", "RawStep", "StepSequence"]

Words = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Multiply:
    """accumulators = round_half_even(accumulators * word / 2^p)."""

    word: int


@dataclass(frozen=True, slots=True)
class Maximum:
    """accumulators = max(accumulators, word)."""

    word: int


@dataclass(frozen=True, slots=True)
class Minimum:
    """accumulators = min(accumulators, word)."""

    word: int


@dataclass(frozen=True, slots=True)
class Accumulate:
    """accumulators += a stored tensor, whose words lie in [low, high]; `ceiling` clips them from above before."""

    tensor: str
    low: int
    high: int
    ceiling: int | None = None


RawStep: TypeAlias = Multiply | Maximum | Minimum | Accumulate


@dataclass
class StepSequence:
    """Raw steps under construction: where the accumulators stand, and what range of codes they hold."""

    exponent: int
    codes: tuple[int, int]
    bias: Words
    data_type: DataType
    raw_steps: list[RawStep] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    sums: tuple[int, int] | None = None
    exact: bool = True

    @property
    def raw(self) -> tuple[RawStep, ...]:
        return tuple(self.raw_steps)

    def limit(self, low: int, high: int, name: str = "clip") -> None:
        """Clip the codes, leaving out what cannot happen."""
        before = self.codes
        lowest, highest = low << self.exponent, high << self.exponent
        # Beyond the data type a clip cannot act: what it would clip has saturated before.
        if self.codes[0] < low and lowest > self.data_type.min_code:
            self.raw_steps.append(Maximum(min(lowest, self.data_type.max_code)))
        if self.codes[1] > high and highest < self.data_type.max_code:
            self.raw_steps.append(Minimum(max(highest, self.data_type.min_code)))
        self.codes = saturate(before[0], low, high), saturate(before[1], low, high)
        self.names.append(name if self.codes != before else "nothing to do")

    def requantize(self, staircase: Staircase, shift: int, offset: Words, *, lower_clip: bool) -> None:
        """RNE((code * 2^exponent + offset) / 2^shift), clipped; the offset joins the head's bias.

        A negative shift multiplies. Should that saturate, the clip after it gives the same: it is the tighter one, for
        the staircase's own codes fit the data type.
        """
        if offset.any():
            self.bias = self.bias + offset
        if shift:
            self.raw_steps.append(Multiply(1 << (self.data_type.binary_point - shift)))
        up, down = max(-shift, 0), max(shift, 0)
        # Codes may lie below the domain where a lower clip was left out: they round and clip to the lowest code, too.
        lowest = min(staircase.domain_low, self.codes[0])
        low, high = lowest << self.exponent << up, staircase.domain_high << self.exponent << up
        low, high = round_shift(low + int(offset.min()), down), round_shift(high + int(offset.max()), down)
        self.codes = max(low, self.data_type.min_code), min(high, self.data_type.max_code)
        self.exponent = 0
        self.limit(staircase.low if lower_clip else self.codes[0], staircase.high)
        clip = "" if self.names.pop() != "clip" else ", clip"
        how = f"round-shift {shift}" if shift > 0 else f"multiply by {1 << -shift}" if shift else "keep"
        self.names.append(how + clip)
