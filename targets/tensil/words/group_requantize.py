"""The requantizations of one group: by a shift, or by multiplications per channel, each certified."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.accumulate import bits_for_range
from pefslc.numeric.deviation import Deviations, ended_search
from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.groups.group import Requantization
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.words.channel_fits import ChannelFits
from pefslc.targets.tensil.words.refusals import NO_SHIFT, NOT_STRAIGHT
from pefslc.targets.tensil.words.steps import StepSequence, of_pixels
from pefslc.targets.tensil.words.word_range import fits_word, sums_fit

__all__ = ["GroupRequantizer"]

Words = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class GroupRequantizer:
    """Appends the raw steps of a requantization to a sequence; where none is found, says so in `reasons`.

    per_channel  whether a step may have a word for each channel
    any_words    whether any words that are close will do, and no list of what differs is wanted
    """

    fits: ChannelFits
    data_type: DataType
    reasons: list[str]
    allow_overflow: bool
    per_channel: bool
    any_words: bool

    def shift(
        self, steps: StepSequence, step: Requantization, may_bias: bool, clipped_later: bool, *, may_add: bool = False
    ) -> bool:
        """By a shift. `may_bias`: an offset may join the bias; `may_add`: it may be added after the shift."""
        if (step.staircase.direction < 0).any() or step.staircase.step != 1:
            self.reasons.append("a channel's BatchNorm has a negative factor")
            return False
        staircase = self.restricted(step.staircase, steps)
        if not fits_word(staircase.low, staircase.high, self.data_type):
            self.reasons.append(f"its codes need {bits_for_range(staircase.low, staircase.high)} bits")
            return False
        point, width = self.data_type.binary_point, self.data_type.width_bits
        for shift in (*range(point + 1), *range(-1, point + 1 - width, -1)):
            fitted = self.fits.offset(staircase, 1 << (steps.exponent + max(-shift, 0)), max(shift, 0))
            if fitted is None or (fitted.offset.any() and (shift < 0 or not (may_bias or may_add))):
                continue
            wanted = of_pixels(fitted.offset, step.pixels)
            offset, after = self._split_offset(steps, wanted, shift)
            if not may_bias and wanted.any():
                # An even number of codes, or any without a shift.
                if (wanted & ((2 << shift) - 1 if shift else 0)).any():
                    continue
                offset, after = np.zeros_like(wanted), wanted >> shift
            if not fits_word(int(after.min()), int(after.max()), self.data_type):
                continue  # a channel whose every code is the highest one, for example
            steps.requantize(staircase, shift, offset, after, lower_clip=not clipped_later)
            return True
        if not may_bias:
            self.reasons.append(NO_SHIFT)
        return False

    def _split_offset(self, steps: StepSequence, offset: Words, shift: int) -> tuple[Words, Words]:
        """What of an offset the bias takes, and what codes take after the shift: all they can, where the sums have no
        room for it. An even number of codes: an odd one would change which of two codes a tie goes to.
        """
        if offset.any() and shift >= 0 and steps.by_channel is not None and self.per_channel:
            low, high = ((end << steps.exponent) - steps.bias for end in steps.by_channel)
            if not sums_fit(low, high, steps.bias + offset, self.data_type):
                after = (offset >> (shift + 1)) << 1
                return offset - (after << shift), after
        return offset, np.zeros_like(offset)

    def multiplications(
        self, steps: StepSequence, requantization: Requantization, may_bias: bool, *, exactly: bool = False
    ) -> bool:
        """By multiplications per channel: `exactly`, or off by one on codes that are listed. `may_bias`: what they need
        may join the bias.
        """
        staircase = self.restricted(requantization.staircase, steps)
        low, high = steps.ranges(staircase.channels, requantization.pixels)
        near, close = self.fits.is_straight(staircase, low, high), None
        if near and self.any_words:
            near, close = self.fits.short_look(staircase, low, high, steps.exponent)
        elif near:
            near = self.fits.may_be_near(staircase, low, high, steps.exponent)
        if not near:
            self.reasons.append(NOT_STRAIGHT)
            return False
        if close is not None:
            steps.requantize_channels(close.steps, close.computed, requantization.pixels)
            steps.bounded[len(steps.names) - 1] = close.computed, Deviations((), 0, 0)
            return True
        room = steps.room(staircase.channels, requantization.pixels) if may_bias else None
        where = staircase, low, high, steps.exponent
        found = self.fits.fit(*where) if room is None else self.fits.fit_biased(*where, room)
        if found is None:
            self.reasons.append(f"multiplications per channel find no room in {self.data_type.width_bits} bits")
            return False
        ranges = steps.ranges(requantization.channels, requantization.pixels)
        if not self.fits.is_close(staircase, found, *ranges):
            if not exactly:
                self.reasons.append(NOT_STRAIGHT + ended_search(found.searched))
            return False
        deviations = replace(self.fits.deviations(staircase, found, *ranges), searched=found.searched)
        if exactly and deviations.found:
            return False
        steps.requantize_channels(found.steps, found.computed, requantization.pixels, found.bias)
        if deviations.found:
            steps.bounded[len(steps.names) - 1] = found.computed, deviations
            steps.exact = False
        return True

    def restricted(self, staircase: Staircase, steps: StepSequence) -> Staircase:
        """The staircase on the codes that can occur; on all where sums may overflow."""
        if self.allow_overflow:
            return staircase
        low, high = max(staircase.domain_low, steps.codes[0]), min(staircase.domain_high, steps.codes[1])
        return self.fits.restricted(staircase, low, high)
