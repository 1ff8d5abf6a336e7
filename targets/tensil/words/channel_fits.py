"""The requantizations of one placement: those per channel are searched once, in one budget for each staircase.

Placement tries one exponent of the accumulators after the other, and starts again where a tensor must be moved. What
was searched is kept, and what a search took is not given again to the next one of the same operation.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pefslc.ir.value import Value
from pefslc.numeric.affine_shift import AffineShift
from pefslc.numeric.deviation import Deviations, deviations_of, largest_deviation
from pefslc.numeric.requantize import fit_offset, line_corners
from pefslc.numeric.staircase import Staircase
from pefslc.numeric.steps import Steps
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.words.channel_requantize import (
    LARGEST_DEVIATION,
    ChannelRequantization,
    fit_channels,
    fit_whole_grid,
    may_be_straight,
)
from pefslc.targets.tensil.words.search_effort import Effort
from pefslc.targets.tensil.words.short_look import Channels
from pefslc.targets.tensil.words.slope_bound import has_near_slope
from pefslc.targets.tensil.words.steps import of_channels

__all__ = ["ChannelFits"]

Words = NDArray[np.int64]

_FEW_STEPS = 32  # of a staircase for which words are likely to be found


@dataclass(eq=False)
class ChannelFits:
    """What was searched before.

    efforts  by staircase: what is left of its budget
    refused  the requantizations for which placement found nothing
    """

    data_type: DataType
    efforts: dict[Staircase, Effort] = field(default_factory=dict)
    smaller: dict[tuple[Staircase, int, int], Staircase] = field(default_factory=dict)
    corners: dict[tuple[Staircase, bytes, bytes], Steps | None] = field(default_factory=dict)
    near: dict[tuple[Staircase, bytes, bytes, int], bool] = field(default_factory=dict)
    straight: dict[tuple[Staircase, bytes, bytes], bool] = field(default_factory=dict)
    found: dict[tuple[Staircase, bytes, bytes, int], ChannelRequantization | None] = field(default_factory=dict)
    short: dict[tuple[Staircase, bytes, bytes, int], tuple[bool, ChannelRequantization | None]] = field(
        default_factory=dict
    )
    whole: dict[tuple[Staircase, bytes, bytes, int, bytes, bytes], ChannelRequantization | None] = field(
        default_factory=dict
    )
    offsets: dict[tuple[Staircase, int, int], AffineShift | None] = field(default_factory=dict)
    furthest: dict[tuple[ChannelRequantization, bytes, bytes], int] = field(default_factory=dict)
    differing: dict[tuple[ChannelRequantization, bytes, bytes], Deviations] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)

    def again(self) -> ChannelFits:
        """For another attempt at the same network: with what was found, and with new budgets."""
        return replace(self, efforts={}, refused=set())

    def restricted(self, staircase: Staircase, low: int, high: int) -> Staircase:
        """`Staircase.restricted`, the same object again each time: what is asked of it is found at once."""
        key = staircase, low, high
        if key not in self.smaller:
            self.smaller[key] = staircase.restricted(low, high)
        return self.smaller[key]

    def is_straight(self, staircase: Staircase, low: Words, high: Words) -> bool:
        """Whether any words might compute the staircase and be off by 1 at most: no search is needed to say no."""
        key = staircase, low.tobytes(), high.tobytes()
        if (*key, 0) in self.found:
            return True
        if key not in self.straight:
            corners = self._corners(staircase, low, high)
            self.straight[key] = may_be_straight(staircase, low, high, self.data_type, corners)
        return self.straight[key]

    def may_be_near(self, staircase: Staircase, low: Words, high: Words, exponent: int) -> bool:
        """Whether `fit` may be off by 1 at most: a look at a few channels is enough to say no."""
        key = staircase, low.tobytes(), high.tobytes(), exponent
        if key in self.found:
            return True
        if key not in self.near:
            self.near[key] = self._is_near(staircase, low, high, exponent)
        return self.near[key]

    def _is_near(self, staircase: Staircase, low: Words, high: Words, exponent: int) -> bool:
        if not self._has_near_slope(staircase, low, high, exponent):
            return False
        effort = self.efforts.setdefault(staircase, Effort.of(staircase.channels))
        return Channels(staircase, low, high, exponent, self.data_type).may_be_close(effort)

    def _has_near_slope(self, staircase: Staircase, low: Words, high: Words, exponent: int) -> bool:
        corners = self._corners(staircase, low, high)
        steps = Steps.of(staircase, low, high) if corners is None else corners
        return has_near_slope(steps, exponent, self.data_type, LARGEST_DEVIATION)

    def fit_biased(
        self, staircase: Staircase, low: Words, high: Words, exponent: int, room: tuple[Words, Words]
    ) -> ChannelRequantization | None:
        """The better one of `fit` and `fit_whole_grid`: that with fewer steps missed, and of equal ones the latter. But
        the latter only where it is off by 1 at most.
        """
        ends = room[0].tobytes(), room[1].tobytes()
        key = staircase, low.tobytes(), high.tobytes(), exponent, *ends
        if key not in self.whole:
            found = fit_whole_grid(staircase, low, high, exponent, self.data_type, room)
            is_close = found is not None and self.is_close(staircase, found, low, high)
            self.whole[key] = found if is_close else None
        whole = self.whole[key]
        if whole is not None and not whole.missed:
            return whole
        found = self.fit(staircase, low, high, exponent)
        return whole if whole is not None and (found is None or whole.missed <= found.missed) else found

    def fit(self, staircase: Staircase, low: Words, high: Words, exponent: int) -> ChannelRequantization | None:
        """`fit_channels`, within what is left of the staircase's budget."""
        key = staircase, low.tobytes(), high.tobytes(), exponent
        if key not in self.found:
            effort = self.efforts.setdefault(staircase, Effort.of(staircase.channels))
            corners = self._corners(staircase, low, high)
            self.found[key] = fit_channels(staircase, low, high, exponent, self.data_type, effort, corners)
        return self.found[key]

    def has_words(self, staircase: Staircase, value: Value) -> bool:
        """Whether a shift, or words that are found soon, compute the staircase of a value at exponent 0."""
        codes = value.type.codes
        if self.has_shift(staircase, 0, codes.low, codes.high):
            return True
        if staircase.steps > _FEW_STEPS:
            return False
        low, high = (np.full(staircase.channels, end, dtype=np.int64) for end in (codes.low, codes.high))
        if not self.is_straight(staircase, low, high) or not self.may_be_near(staircase, low, high, 0):
            return False
        found = self.fit(staircase, low, high, 0)
        return found is not None and not self.deviations(staircase, found, low, high).found

    def give(self, made: ChannelRequantization, low: int, high: int) -> None:
        """Steps for the staircase that they compute, of codes in [low, high] at exponent 0: nothing is searched for it.

        It is given as placement will ask for it: without the codes that do not occur.
        """
        computed, steps = made.computed, made.steps
        asked = computed.restricted(computed.domain_low, computed.domain_high)
        if asked.channels < computed.channels:
            steps = tuple(of_channels(step, np.zeros(1, dtype=np.int64)) for step in steps)
        least, most = (np.full(asked.channels, end, dtype=np.int64).tobytes() for end in (low, high))
        self.found[asked, least, most, 0] = ChannelRequantization(steps, asked)

    def short_look(
        self, staircase: Staircase, low: Words, high: Words, exponent: int
    ) -> tuple[bool, ChannelRequantization | None]:
        """Whether `fit` may be off by 1 at most, and what is so, where a short look finds it: it is not the best."""
        key = staircase, low.tobytes(), high.tobytes(), exponent
        if key in self.found:
            return True, None
        if key not in self.short:
            near = self._has_near_slope(staircase, low, high, exponent)
            channels = Channels(staircase, low, high, exponent, self.data_type)
            self.short[key] = channels.short_look() if near else (False, None)
        return self.short[key]

    def _corners(self, staircase: Staircase, low: Words, high: Words) -> Steps | None:
        """The steps to look at, where all are too many."""
        key = staircase, low.tobytes(), high.tobytes()
        if key not in self.corners:
            self.corners[key] = line_corners(staircase, low, high)
        return self.corners[key]

    def offset(self, staircase: Staircase, multiplier: int, shift: int) -> AffineShift | None:
        """`fit_offset`, once for each question: placement asks again wherever a tensor is moved."""
        key = staircase, multiplier, shift
        if key not in self.offsets:
            self.offsets[key] = self._offset(staircase, multiplier, shift)
        return self.offsets[key]

    def is_close(self, staircase: Staircase, found: ChannelRequantization, low: Words, high: Words) -> bool:
        """Whether what was found is off by 1 at most."""
        key = found, low.tobytes(), high.tobytes()
        if key not in self.furthest:
            self.furthest[key] = largest_deviation(staircase, found.computed, low, high)
        return self.furthest[key] <= LARGEST_DEVIATION

    def deviations(self, staircase: Staircase, found: ChannelRequantization, low: Words, high: Words) -> Deviations:
        """`deviations_of` what was found, once."""
        key = found, low.tobytes(), high.tobytes()
        if key not in self.differing:
            self.differing[key] = deviations_of(staircase, found.computed, low, high)
        return self.differing[key]

    def _offset(self, staircase: Staircase, multiplier: int, shift: int) -> AffineShift | None:
        if (staircase.direction < 0).any():
            return None
        whole = np.full(staircase.channels, staircase.domain_low), np.full(staircase.channels, staircase.domain_high)
        return fit_offset(staircase, multiplier, shift, self._corners(staircase, *whole))

    def has_shift(self, staircase: Staircase, exponent: int, low: int, high: int) -> bool:
        """Whether, for sums at `exponent` in [low, high], an addition and a shift to either side are the staircase."""
        staircase = staircase.restricted(max(staircase.domain_low, low), min(staircase.domain_high, high))
        point, width = self.data_type.binary_point, self.data_type.width_bits
        shifts = range(point + 2 - width, point + 1)
        return any(self.offset(staircase, 1 << (exponent + max(-s, 0)), max(s, 0)) is not None for s in shifts)
