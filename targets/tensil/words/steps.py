"""The raw steps that change accumulators in place, what they compute, and the sequence of them under construction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, assert_never

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.deviation import Deviations
from pefslc.numeric.format import saturate
from pefslc.numeric.rounding import round_shift
from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.machine.arithmetic import simd
from pefslc.targets.tensil.machine.instructions import SimdOperation

__all__ = [
    "Accumulate",
    "AddOffset",
    "ChannelAdd",
    "ChannelMultiply",
    "LeakyRelu",
    "Maximum",
    "Minimum",
    "Multiply",
    "RawStep",
    "SimdStep",
    "StepSequence",
    "TwoSlopes",
    "apply_steps",
    "block_words",
    "of_channels",
    "of_pixels",
]

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
class AddOffset:
    """accumulators += word, saturating: the last step, where the result is stored with an offset."""

    word: int


@dataclass(frozen=True, slots=True)
class ChannelMultiply:
    """accumulators = round_half_even(accumulators * word / 2^p), a word for each channel."""

    words: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ChannelAdd:
    """accumulators += word, saturating, a word for each channel."""

    words: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Accumulate:
    """accumulators += a stored tensor, whose words lie in [low, high]; `ceiling` clips them from above before.

    word     where sums are stored: what multiplies them, before they are clipped; else None
    carried  what the tensor is stored with, beyond [low, high]: its offset; or where sums are stored, a constant that
             made those saturate that end above `ceiling`
    """

    tensor: str
    low: int
    high: int
    ceiling: int | None = None
    word: int | None = None
    carried: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class AddHigh:
    """accumulators += saturate(high * word / 2^p), where `high` are sums like the group's own, of other tensors.

    tensors    what they are of: for each term of the group, with its weights
    bias       [channels], their own
    low, high  [channels]: bounds of their partial sums, without the bias
    """

    tensors: tuple[str, ...]
    word: int
    bias: Words
    low: Words
    high: Words


@dataclass(frozen=True, slots=True)
class LeakyRelu:
    """accumulators = x where x >= 0, else round_half_even(x * word / 2^p): x + min(x, 0) * (word - 2^p) / 2^p.

    0 < word < 2^p: with word 0 the lowest x would become -1, for its negative saturates.
    """

    word: int

    def complement(self, data_type: DataType) -> int:
        """What the negative part is multiplied with, to be added."""
        return self.word - data_type.one


@dataclass(frozen=True, slots=True)
class TwoSlopes:
    """accumulators = round_half_even(x * below / 2^p) + round_half_even(max(x, 0) * (above - below) / 2^p).

    0 <= below < above < 2^p: nothing saturates.
    """

    above: int
    below: int

    def suits(self, one: int) -> bool:
        """Whether these are two slopes of words with 1 = `one`."""
        return 0 <= self.below < self.above < one


SimdStep: TypeAlias = Multiply | Maximum | Minimum | LeakyRelu | TwoSlopes | ChannelMultiply | ChannelAdd | AddOffset
RawStep: TypeAlias = SimdStep | Accumulate | AddHigh


def apply_steps(steps: Sequence[RawStep], words: Words, data_type: DataType) -> Words:
    """What the machine makes of raw words [channels, points] (any shape, without steps per channel)."""
    for step in steps:
        match step:
            case Multiply(word):
                operation, other = SimdOperation.MULTIPLY, np.full_like(words, word)
            case Maximum(word):
                operation, other = SimdOperation.MAX, np.full_like(words, word)
            case Minimum(word):
                operation, other = SimdOperation.MIN, np.full_like(words, word)
            case AddOffset(word):
                operation, other = SimdOperation.ADD, np.full_like(words, word)
            case LeakyRelu():
                factor = np.full_like(words, step.complement(data_type))
                other, _ = simd(SimdOperation.MULTIPLY, np.minimum(words, 0), factor, data_type)
                operation = SimdOperation.ADD
            case TwoSlopes(above, below):
                factor = np.full_like(words, above - below)
                other, _ = simd(SimdOperation.MULTIPLY, np.maximum(words, 0), factor, data_type)
                words, _ = simd(SimdOperation.MULTIPLY, words, np.full_like(words, below), data_type)
                operation = SimdOperation.ADD
            case ChannelMultiply(by_channel):
                operation, other = SimdOperation.MULTIPLY, np.array(by_channel, dtype=np.int64)[:, None]
            case ChannelAdd(by_channel):
                operation, other = SimdOperation.ADD, np.array(by_channel, dtype=np.int64)[:, None]
            case Accumulate() | AddHigh():
                raise AssertionError("a stored tensor is not known here")
            case _:
                assert_never(step)
        words, _ = simd(operation, words, other, data_type)
    return words


def of_channels(step: RawStep, channels: Words) -> RawStep:
    """The step on these channels alone, or on some repeatedly."""
    if isinstance(step, ChannelMultiply | ChannelAdd):
        return replace(step, words=tuple(np.array(step.words, dtype=np.int64)[channels].tolist()))
    return step


def of_pixels(by_channel: Words, pixels: int) -> Words:
    """What channels have, for those of so many pixels that share a vector; one for all channels is one for all."""
    return np.tile(by_channel, pixels) if len(by_channel) > 1 else by_channel


@dataclass
class StepSequence:
    """Raw steps under construction: where the accumulators stand, and what range of codes they hold.

    by_channel  the ranges of codes, low and high [channels], before the first step; None where they are not known
    """

    exponent: int
    codes: tuple[int, int]
    bias: Words
    data_type: DataType
    by_channel: tuple[Words, Words] | None = None
    raw_steps: list[RawStep] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    sums: tuple[int, int] | None = None
    exact: bool = True
    bounded: dict[int, tuple[Staircase, Deviations]] = field(default_factory=dict)  # by index of `names`

    @property
    def raw(self) -> tuple[RawStep, ...]:
        return tuple(self.raw_steps)

    def limit(self, low: int, high: int) -> None:
        """Clip the codes, leaving out what cannot happen."""
        self.names.append("clip" if self._clip(low, high) else "nothing to do")

    def _clip(self, low: int, high: int) -> bool:
        """`limit`, without a name; whether any code was clipped."""
        before = self.codes
        lowest, highest = low << self.exponent, high << self.exponent
        # Beyond the data type a clip cannot act: what it would clip has saturated before.
        if self.codes[0] < low and lowest > self.data_type.min_code:
            self.raw_steps.append(Maximum(min(lowest, self.data_type.max_code)))
        if self.codes[1] > high and highest < self.data_type.max_code:
            self.raw_steps.append(Minimum(max(highest, self.data_type.min_code)))
        self.codes = saturate(before[0], low, high), saturate(before[1], low, high)
        self.by_channel = None
        return self.codes != before

    def requantize(self, staircase: Staircase, shift: int, offset: Words, after: Words, *, lower_clip: bool) -> None:
        """RNE((code * 2^exponent + offset) / 2^shift) + after, clipped; the offset joins the head's bias.

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
        if after.any():
            self.raw_steps.append(_for_channels(ChannelAdd(tuple(after.tolist())), len(self.bias)))
            low, high = low + int(after.min()), high + int(after.max())
        self.codes = max(low, self.data_type.min_code), min(high, self.data_type.max_code)
        self.exponent = 0
        clip = ", clip" if self._clip(staircase.low if lower_clip else self.codes[0], staircase.high) else ""
        how = f"round-shift {shift}" if shift > 0 else f"multiply by {1 << -shift}" if shift else "keep"
        self.names.append(how + clip)

    def ranges(self, channels: int, pixels: int = 1) -> tuple[Words, Words]:
        """The lowest and highest codes [channels]: of each channel, or of all where they are not known apart: channels
        that share a staircase (1), or features of a tensor that was an image, which has fewer channels.

        pixels  that share a vector: their channels follow each other, and those of one name are as one
        """
        if self.by_channel is not None and len(self.by_channel[0]) == channels * pixels:
            of_pixels = [ends.reshape(pixels, channels) for ends in self.by_channel]
            return of_pixels[0].min(axis=0), of_pixels[1].max(axis=0)
        low, high = (np.full(channels, code, dtype=np.int64) for code in self.codes)
        return low, high

    def room(self, channels: int, pixels: int = 1) -> tuple[Words, Words] | None:
        """The least and the most [channels] that may join the bias while no sum on its way leaves the data type: of
        each channel, or one number for all where they share a staircase. None where the sums are not known apart.
        """
        lanes = len(self.bias)
        if self.raw_steps or self.by_channel is None or len(self.by_channel[0]) != lanes:
            return None
        if channels > 1 and lanes != channels * pixels:
            return None
        low, high = ((ends << self.exponent) - self.bias for ends in self.by_channel)
        least = self.data_type.min_code - np.minimum(low, 0) - self.bias
        most = self.data_type.max_code - np.maximum(high, 0) - self.bias
        return least.reshape(-1, channels).max(axis=0), most.reshape(-1, channels).min(axis=0)

    def requantize_channels(
        self, steps: Sequence[RawStep], computed: Staircase, pixels: int = 1, bias: Words | None = None
    ) -> None:
        """The codes of `computed`: by `steps`, with words for its channels, and a clip. `pixels`: see `ranges`.

        bias  [channels of `computed`]: what joins the head's, and the steps count on
        """
        ends = np.stack(self.ranges(computed.channels, pixels), axis=1) << self.exponent
        if bias is not None:
            ends += bias[:, None]
            self.bias = self.bias + of_pixels(bias, pixels)
        ends = saturate(ends, self.data_type.min_code, self.data_type.max_code)
        reached = apply_steps(steps, ends, self.data_type)
        repeated = of_pixels(np.arange(computed.channels), pixels)
        self.raw_steps += [_for_channels(of_channels(step, repeated), len(self.bias)) for step in steps]
        self.codes, self.exponent = (int(reached.min()), int(reached.max())), 0
        clip = ", clip" if self._clip(computed.low, computed.high) else ""
        count = sum(isinstance(step, Multiply | ChannelMultiply) for step in steps)
        self.names.append(f"multiply{f' {count} times' if count > 1 else ''} per channel{clip}")


def _for_channels(step: RawStep, channels: int) -> RawStep:
    """An addend for all channels becomes one for each: lanes without a channel must keep their 0."""
    if isinstance(step, ChannelAdd) and len(step.words) < channels:
        return ChannelAdd(step.words * channels)
    return step


def block_words(step: ChannelMultiply | ChannelAdd, block: int, array_size: int) -> tuple[int, ...]:
    """The words of one channel block, a lane each; 0 in lanes without a channel."""
    words = step.words[block * array_size : (block + 1) * array_size]
    return (*words, *(0,) * (array_size - len(words)))
