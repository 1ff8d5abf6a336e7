"""Staircases: the exact meaning of "BatchNorm, activation, Quant" as a step function of the accumulator code.

Per channel a staircase is monotone: non-decreasing, or non-increasing where BatchNorm's gamma is negative; constant is
the case without steps. It is thresholds over the proven accumulator range, so that two implementations can be compared
integer for integer. Where those are millions they are not listed: `rows` computes those of some channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.chain import Chains, blocks, is_uniform
from pefslc.numeric.format import saturate
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Stage

__all__ = [
    "MOST_STEPS",
    "Implementation",
    "Staircase",
    "agrees_everywhere",
    "agrees_in_blocks",
    "is_uniform",
    "staircase_of",
]

Codes = NDArray[np.int64]
Flags = NDArray[np.bool_]

MOST_STEPS = 1 << 20  # a staircase lists its steps; beyond this it is no longer a sensible object
_MOST_LISTED = 1 << 20  # thresholds of all channels together: 8 MB
_SEARCHED = 1 << 10  # of a channel: fewer thresholds are compared, of all channels together
_HASHED = 64  # steps of one channel


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Staircase:
    """code(a) = low + number of steps taken at accumulator code a, for a in [domain_low, domain_high].

    thresholds  [channels or 1, steps] int64, non-decreasing along the steps where direction is 1 (a step is taken at
                a >= threshold), non-increasing where it is -1 (taken at a <= threshold)
    direction   [channels or 1], 1 or -1
    step        what one step adds to the code: 1, or 2 for bipolar codes -1, 1
    chains      what its thresholds were computed from, where that is known: where an implementation may be looked for

    Without a list of thresholds (`unlisted`) they are those of `chains`, and listed when they are asked for.
    """

    domain_low: int
    domain_high: int
    low: int
    thresholds: Codes
    direction: Codes
    step: int = 1
    chains: Chains | None = None

    @classmethod
    def unlisted(cls, chains: Chains) -> Self:
        """The staircase of the chains, its lowest code that of their first level, less 1."""
        made = cls.__new__(cls)
        directions = chains.directions
        directions.setflags(write=False)
        low = chains.levels.start - 1
        fields = ("domain_low", chains.domain_low), ("domain_high", chains.domain_high), ("low", low)
        for name, value in (*fields, ("direction", directions), ("step", 1), ("chains", chains)):
            object.__setattr__(made, name, value)
        return made

    if not TYPE_CHECKING:  # it would take any name

        def __getattr__(self, name):
            """The thresholds at their first use."""
            if name != "thresholds":
                raise AttributeError(name)
            object.__setattr__(self, name, self.rows(0, self.channels))
            self.__post_init__()
            return self.thresholds

    @property
    def is_listed(self) -> bool:
        """Whether all thresholds are in memory."""
        try:
            object.__getattribute__(self, "thresholds")
        except AttributeError:
            return False
        return True

    def rows(self, first: int, last: int) -> Codes:
        """The thresholds of channels first .. last - 1; not kept where they were not listed."""
        if self.is_listed:
            return self.thresholds[first:last]
        assert self.chains is not None
        parts = [self.chains.thresholds(first + a, first + b) for a, b in blocks(last - first, self.steps)]
        return np.concatenate(parts)

    @property
    def steps(self) -> int:
        """How many thresholds a channel has."""
        if self.is_listed or self.chains is None:
            return int(self.thresholds.shape[1])
        return len(self.chains.levels)

    @property
    def has_many_steps(self) -> bool:
        """Whether the thresholds are too many to hold, or to look at, all at once."""
        return self.channels * self.steps > _MOST_LISTED

    def of_channels(self, first: int, last: int) -> Staircase:
        """The staircase of channels first .. last - 1, listed."""
        rows, direction = self.rows(first, last), self.direction[first:last]
        return Staircase(self.domain_low, self.domain_high, self.low, rows, direction, self.step)

    def lowered(self, by: int) -> Staircase:
        """The same steps to codes that are less by so much."""
        if self.is_listed:
            return replace(self, low=self.low - by)
        made = Staircase.unlisted(self.chains)  # type: ignore[arg-type]  # what is not listed has them
        object.__setattr__(made, "low", self.low - by)
        return made

    def moved(self, by: int) -> Staircase:
        """The same codes for accumulators that are less by so much."""
        chains = None if self.chains is None else self.chains.moved(by)
        low, high = self.domain_low - by, self.domain_high - by
        if self.is_listed:
            thresholds, direction = self.thresholds - by, self.direction.copy()
            return Staircase(low, high, self.low, thresholds, direction, self.step, chains)
        made = Staircase.unlisted(chains)  # type: ignore[arg-type]
        object.__setattr__(made, "low", self.low)
        return made

    def between(self, first: int, last: int, low: int) -> Staircase:
        """The staircase of steps first .. last - 1 alone, its lowest code `low`."""
        chains = None if self.chains is None else replace(self.chains, levels=self.chains.levels[first:last])
        if self.is_listed:
            kept, direction = self.thresholds[:, first:last].copy(), self.direction.copy()
            return Staircase(self.domain_low, self.domain_high, low, kept, direction, self.step, chains)
        made = Staircase.unlisted(chains)  # type: ignore[arg-type]
        object.__setattr__(made, "low", low)
        return made

    def __post_init__(self) -> None:
        assert self.domain_low <= self.domain_high, "an empty domain"
        assert self.thresholds.ndim == 2, "thresholds are a table: [channels, steps]"
        assert self.direction.shape == self.thresholds.shape[:1], "one direction for each row of thresholds"
        assert _in_order(self.thresholds, self.direction), "thresholds out of order"
        self.thresholds.setflags(write=False)
        self.direction.setflags(write=False)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Staircase) or self._numbers != other._numbers:
            return False
        if not (self.is_listed or other.is_listed) and self.chains == other.chains:
            return True
        return np.array_equal(self.direction, other.direction) and all(
            np.array_equal(self.rows(first, last), other.rows(first, last))
            for first, last in blocks(self.channels, self.steps)
        )

    def __repr__(self) -> str:
        """In short: there may be millions of thresholds."""
        return (
            f"Staircase({self.domain_low}..{self.domain_high} -> {self.low}..{self.high}, channels={self.channels}, "
            f"steps={self.steps})"
        )

    def __hash__(self) -> int:
        some = self.rows(0, 1)[:, :: -(-self.steps // _HASHED) or 1]  # of millions, some are enough to tell them apart
        return hash((*self._numbers, some.tobytes()))

    @property
    def _numbers(self) -> tuple[int, ...]:
        return self.domain_low, self.domain_high, self.low, self.step, self.channels, self.steps

    @property
    def channels(self) -> int:
        """Number of channels told apart; 1 when all have the same staircase."""
        return len(self.direction)

    @property
    def high(self) -> int:
        """The highest code that any channel reaches."""
        return self.low + self.step * self.steps

    @property
    def is_identity(self) -> bool:
        """Whether every accumulator code of the domain is its own output code."""
        if self.low != self.domain_low or self.step != 1:
            return False
        # Before any table of the domain: it may hold billions of codes where the thresholds are few.
        if (self.channels, self.steps) != (1, self.domain_high - self.domain_low) or self.direction[0] != 1:
            return False
        return bool((self.thresholds[0] == np.arange(self.domain_low + 1, self.domain_high + 1, dtype=np.int64)).all())

    def __call__(self, codes: Codes, channel_axis: int = 0) -> Codes:
        """The output codes of accumulator `codes`; channels lie along `channel_axis`."""
        if self.channels == 1:
            return self._channel(0, codes)
        moved = np.moveaxis(codes, channel_axis, 0)
        assert moved.shape[0] == self.channels
        result = np.stack([self._channel(c, moved[c]) for c in range(self.channels)])
        return np.moveaxis(result, 0, channel_axis)

    def _channel(self, c: int, codes: Codes) -> Codes:
        thresholds = self.rows(c, c + 1)[0]
        if self.direction[c] > 0:
            taken = np.searchsorted(thresholds, codes, side="right")
        else:
            taken = len(thresholds) - np.searchsorted(thresholds[::-1], codes, side="left")
        return np.asarray(self.low + self.step * taken, dtype=np.int64)

    def critical_codes(self) -> Codes:
        """[channels, points]: both sides of every step, and the ends of the domain.

        A monotone function that agrees with the staircase there agrees on the whole domain: between two steps the
        staircase is flat, and the function has the same value at both ends of the flat.
        """
        other_side = self.thresholds - self.direction[:, None]
        points = np.concatenate([self.thresholds, other_side, self._ends(self.domain_low, self.domain_high)], axis=1)
        return saturate(points, self.domain_low, self.domain_high)

    def _ends(self, low: int, high: int) -> Codes:
        """[channels, 2]: the codes `low` and `high` in each channel."""
        return np.array([[low, high]] * self.channels, dtype=np.int64)

    def _codes_at(self, low: int, high: int) -> Codes:
        """[channels, 2]: the output codes of `low` and `high`."""
        if self.steps > _SEARCHED:
            return self(self._ends(low, high))
        rises = self.direction[:, None] > 0
        taken = [np.where(rises, self.thresholds <= a, self.thresholds >= a).sum(axis=1) for a in (low, high)]
        return self.low + self.step * np.stack(taken, axis=1)

    def range_on(self, low: int, high: int) -> tuple[int, int]:
        """The lowest and the highest code of any channel on the codes [low, high]."""
        assert self.domain_low <= low <= high <= self.domain_high
        if self.is_listed:
            ends = self._codes_at(low, high)
            return int(ends.min()), int(ends.max())
        if (low, high) == (self.domain_low, self.domain_high):
            return self.low, self.high
        assert self.chains is not None
        ends, levels = self.chains.codes(low, high), self.chains.levels
        taken = saturate(ends - levels.start + 1, 0, len(levels))
        return self.low + int(taken.min()), self.low + int(taken.max())

    def restricted(self, low: int, high: int) -> Staircase:
        """The same function on the smaller domain [low, high]. Thresholds inside of it are not copied."""
        if not self.is_listed and (low, high) == (self.domain_low, self.domain_high):
            return self
        lowest, highest = self.range_on(low, high)
        first, last = (lowest - self.low) // self.step, (highest - self.low) // self.step
        chains = self.chains
        if chains is not None:
            chains = replace(chains, domain_low=low, domain_high=high, levels=chains.levels[first:last])
            if not self.is_listed:
                return _smallest(chains).lowered(chains.levels.start - 1 - lowest)
        kept = self.thresholds[:, first:last]
        beyond = (self.direction > 0).astype(np.int64)  # where a step is never taken: past the high end, or the low one
        least, most = low - 1 + beyond, high + beyond
        if (kept.min(axis=1, initial=high) < least).any() or (kept.max(axis=1, initial=low) > most).any():
            kept = np.clip(kept, least[:, None], most[:, None])
        return _collapsed(Staircase(low, high, lowest, kept, self.direction.copy(), self.step, chains))


def agrees_everywhere(staircase: Staircase, implementation: Callable[[Codes], Codes]) -> bool:
    """The certificate: whether a *monotone* implementation equals the staircase on its whole domain.

    implementation  accumulator codes [channels, points] -> output codes, monotone in each channel
    """
    s = staircase
    ends = s._ends(s.domain_low, s.domain_high)
    if not (implementation(ends) == s._codes_at(s.domain_low, s.domain_high)).all():
        return False
    # Where a step is taken the code is its level at least, on the other side that of the step before at most: between
    # two steps that leaves one code.
    before = s.low + s.step * np.arange(s.steps, dtype=np.int64)

    def codes_at(points: Codes) -> tuple[Codes, Flags]:
        inside = (points >= s.domain_low) & (points <= s.domain_high)
        return implementation(saturate(points, s.domain_low, s.domain_high)), inside

    codes, inside = codes_at(s.thresholds)
    if ((codes < before + s.step) & inside).any():
        return False
    codes, inside = codes_at(s.thresholds - s.direction[:, None])
    return not ((codes > before) & inside).any()


class Implementation(Protocol):
    """What a monotone implementation of several channels offers, to be certified some channels at a time."""

    def __call__(self, codes: Codes, /) -> Codes: ...

    def of_channels(self, first: int, last: int) -> Callable[[Codes], Codes]:
        """That of channels first .. last - 1."""


def agrees_in_blocks(staircase: Staircase, implementation: Implementation) -> bool:
    """`agrees_everywhere`, for some channels at a time: all thresholds at once may take much memory."""
    return all(
        agrees_everywhere(staircase.of_channels(first, last), implementation.of_channels(first, last))
        for first, last in blocks(staircase.channels, staircase.steps)
    )


def staircase_of(
    scale: Scale, stages: Sequence[Stage], quantizer: Quantizer, domain_low: int, domain_high: int, channels: int
) -> Staircase:
    """The staircase of `quantizer(stages(scale * a))` for accumulator codes a in [domain_low, domain_high].

    channels  of the tensor; scale, stages and quantizer are per tensor or have that many entries
    Raises OverflowError beyond MOST_STEPS steps.
    """
    chains = Chains(
        scale=scale,
        stages=tuple(stages),
        quantizer=quantizer,
        domain_low=domain_low,
        domain_high=domain_high,
        channels=1 if is_uniform(scale, stages, quantizer) else channels,
        levels=range(0),
    )
    ends = chains.codes(domain_low, domain_high)
    low, high = int(ends.min()), int(ends.max())
    if high - low > MOST_STEPS:
        raise OverflowError(f"a staircase of {high - low} steps")
    return _smallest(replace(chains, levels=range(low + 1, high + 1)))


def _smallest(chains: Chains) -> Staircase:
    """Listed where the thresholds are few, one channel where all are equal."""
    found = Staircase.unlisted(chains)
    if found.has_many_steps:
        first = found.rows(0, 1)
        same_rows = ((found.rows(a, b) == first).all() for a, b in blocks(found.channels, found.steps))
        if not ((found.direction == found.direction[0]).all() and all(same_rows)):
            return found
        found = Staircase.unlisted(replace(chains, channels=1))
    rows, direction = found.rows(0, found.channels), found.direction.copy()
    return _collapsed(Staircase(found.domain_low, found.domain_high, found.low, rows, direction, 1, found.chains))


def _collapsed(staircase: Staircase) -> Staircase:
    """One channel instead of many equal ones."""
    if staircase.channels == 1:
        return staircase
    first = staircase.thresholds[0]
    same = (staircase.direction == staircase.direction[0]).all()
    if not same or not all(np.array_equal(row, first) for row in staircase.thresholds):
        return staircase
    return Staircase(
        staircase.domain_low,
        staircase.domain_high,
        staircase.low,
        staircase.thresholds[:1].copy(),
        staircase.direction[:1].copy(),
        staircase.step,
        None if staircase.chains is None else replace(staircase.chains, channels=1),
    )


def _in_order(thresholds: Codes, direction: Codes) -> bool:
    """Whether the thresholds of each channel do not fall along its steps, or do not rise where it falls."""
    before, after = thresholds[:, :-1], thresholds[:, 1:]
    return bool(np.where(direction[:, None] > 0, before <= after, before >= after).all())
