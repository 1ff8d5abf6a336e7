"""Staircases of a sum S, asked of what is made in its place: T = (S + offset) / 2^coarser, rounded half to even."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.chain import blocks
from pefslc.numeric.requantize import fit_offset
from pefslc.numeric.rounding import lowest_numerators
from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.wide.active_range import FAR, ActiveRange

__all__ = ["Stand", "shift_offset"]

Words = NDArray[np.int64]

_BEYOND = 1 << 24  # codes beyond the domain on either side that are looked at


@dataclass(frozen=True, slots=True, eq=False)
class Stand:
    """Where T stands. With `coarser` = 0 nothing is lost of S.

    offset  [channels]
    sticky  T is twice the sum / 2^(coarser + 1), rounded, and the sign of the remainder: nothing is lost for steps
            that are taken at a multiple of 2^(coarser + 1), or next to one (`tells_apart`)
    """

    offset: Words
    coarser: int = 0
    sticky: bool = False

    @property
    def is_near(self) -> bool:
        """Whether T may be too coarse to tell the steps apart."""
        return self.coarser > 0 and not self.sticky

    def tells_apart(self, staircase: Staircase) -> bool:
        """Whether T has every step of the staircase: with `sticky` each must be where the sign of the remainder is."""
        if not self.sticky:
            return not self.coarser
        beyond = _without_ends(staircase) + (staircase.direction < 0)[:, None] + self._offset(staircase)
        return bool(((beyond & (2 << self.coarser) - 1) <= 1).all())

    def asked_of(self, staircase: Staircase, low: int, high: int) -> Staircase:
        """The same codes of T in [low, high]: all of them, or with `coarser` the nearest that T tells apart."""
        falls = (staircase.direction < 0)[:, None]
        beyond = _without_ends(staircase) + falls
        thresholds = np.clip(self._nearest(beyond + self._offset(staircase)), low, high + 1) - falls
        return Staircase(low, high, staircase.low, thresholds, staircase.direction.copy(), staircase.step)

    def of_active(self, active: ActiveRange) -> ActiveRange:
        """Where T matters, of where S does."""
        apart = active.is_told_apart
        bottom, top = (np.where(apart, end, 0) + self.offset for end in (active.bottom + 1, active.top))
        return ActiveRange(
            np.where(apart, self._nearest(bottom) - 1, active.bottom), np.where(apart, self._nearest(top), active.top)
        )

    def _nearest(self, beyond: Words) -> Words:
        """The first code of T beyond a step, of the first of S + offset: where T steps next to there.

        But for ties, T steps to t where S + offset is 2^coarser * (t - 1/2): of what is half a step more, t is the
        nearest.
        """
        if self.sticky:
            quotient = beyond >> self.coarser + 1
            return 2 * quotient + (beyond > quotient << self.coarser + 1)
        half = (1 << self.coarser) // 2
        return (beyond + half + half) >> self.coarser

    def answered(self, staircase: Staircase, computed: Staircase) -> Staircase:
        """`computed`, of T, as a staircase of S with the codes of `staircase`: the way back."""
        channels, falls = staircase.channels, (staircase.direction < 0)[:, None]
        rows = np.broadcast_to(computed.thresholds, (channels, computed.steps)) + falls
        low, high = computed.domain_low, computed.domain_high
        beyond = self._first(rows) - self._offset(staircase)
        # What T never tells apart on its way from end to end, S does not, either.
        beyond = np.where(rows <= low, staircase.domain_low, beyond)
        beyond = np.where(rows > high, staircase.domain_high + 1, beyond)
        before, after = computed.low - staircase.low, staircase.high - computed.high
        assert before % staircase.step == 0 == after % staircase.step
        # Codes below those of `computed` are passed everywhere, those above nowhere; falling, the other way around.
        rising = ~falls[:, 0]
        ends = np.where(rising, staircase.domain_low, staircase.domain_high + 1)
        others = np.where(rising, staircase.domain_high + 1, staircase.domain_low)
        thresholds = np.concatenate(
            [
                np.repeat(ends[:, None], before // staircase.step, axis=1),
                np.clip(beyond, staircase.domain_low, staircase.domain_high + 1),
                np.repeat(others[:, None], after // staircase.step, axis=1),
            ],
            axis=1,
        )
        return replace(staircase, thresholds=thresholds - falls, chains=None)

    def _first(self, codes: Words) -> Words:
        """The first S + offset of which T is a code at least."""
        if self.sticky:
            return (codes >> 1 << self.coarser + 1) + (codes & 1)
        return lowest_numerators(codes, self.coarser)

    def _offset(self, staircase: Staircase) -> Words:
        """[channels of the staircase, 1]. One that all channels share needs one offset."""
        if staircase.channels == 1:
            assert (self.offset == self.offset[0]).all()
            return self.offset[:1, None]
        return self.offset[:, None]


def _without_ends(staircase: Staircase) -> Words:
    """The thresholds, also where S never comes: a channel that ended there would be no straight line in T."""
    if staircase.chains is None:
        rows, up = staircase.rows(0, staircase.channels), staircase.direction[:, None] > 0
        rows = np.where(rows < staircase.domain_low + up, -FAR, rows)
        return np.where(rows >= staircase.domain_high + up, FAR, rows)
    wider = replace(
        staircase.chains, domain_low=staircase.domain_low - _BEYOND, domain_high=staircase.domain_high + _BEYOND
    )
    return np.concatenate([wider.thresholds(a, b) for a, b in blocks(staircase.channels, staircase.steps)])


def shift_offset(staircase: Staircase, most: int) -> Words | None:
    """What to add [channels of the staircase] so that a shift, by at most so many bits, requantizes; None without."""
    if staircase.step != 1 or not staircase.steps:
        return None
    for shift in range(most + 1):
        found = fit_offset(staircase, 1, shift)
        if found is not None:
            return np.broadcast_to(found.offset, (staircase.channels,))
    return None
