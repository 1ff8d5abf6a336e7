"""Placement of one group: the lowest accumulator exponent at which everything fits and every staircase certifies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pefslc.analysis.ranges import conv_bounds
from pefslc.diagnostics.errors import CompileError
from pefslc.numeric.accumulate import bits_for_range
from pefslc.targets.tensil.groups.group import (
    AddTensor,
    Group,
    LinearHead,
    MaxHead,
    Requantization,
    Rounding,
    Step,
    TransposeHead,
)
from pefslc.targets.tensil.groups.group import Limit as LimitStep
from pefslc.targets.tensil.groups.group_program import GroupProgram
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.words.channel_fits import ChannelFits
from pefslc.targets.tensil.words.group_requantize import GroupRequantizer
from pefslc.targets.tensil.words.refusals import (
    NO_SHIFT,
    codes_too_wide,
    lack_of_bits,
    no_exact_sequence,
    weights_too_wide,
)
from pefslc.targets.tensil.words.steps import Accumulate, Multiply, StepSequence
from pefslc.targets.tensil.words.word_group import SumHead, WordGroup, WordHead, WordTerm
from pefslc.targets.tensil.words.word_program import Bounded, Outcome
from pefslc.targets.tensil.words.word_range import fits_word, is_clamped_to_word, saturated_bounds, shifted, sums_fit

__all__ = ["Elsewhere", "GroupPlacer"]

Words = NDArray[np.int64]


class Elsewhere(Exception):
    """A tensor must be placed at another exponent; placement starts again with that."""

    def __init__(self, tensor: str, exponent: int) -> None:
        self.tensor, self.exponent = tensor, exponent


@dataclass
class GroupPlacer:
    """One group: finds the lowest accumulator exponent at which everything fits and every staircase certifies."""

    group: Group
    program: GroupProgram
    exponents: dict[str, int]
    data_type: DataType
    allow_overflow: bool
    movable: set[str]  # inputs that no reader has bound to an exponent yet
    needed: int  # the exponent that a reader of the result demands; 0 without one
    fits: ChannelFits  # what was searched before, for placement may start again
    reasons: list[str] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)  # requantizations that could not be done at some exponent
    any_words: bool = False  # whether any that are close will do, and no list of what differs is wanted
    by_channel: bool = False  # whether requantizations may be multiplications per channel, certified or not
    multiplies: bool = False  # whether a result that is not requantized may be multiplied up to where it is wanted

    def place(self) -> tuple[WordGroup, Outcome]:
        """The group in raw words. Its result is placed where `exponents` says, or else where its readers need it: for
        an output the natural placement is a wish, for the host can undo any other.
        """
        wish = self.exponents[self.group.result]
        if self._requantizes() and not self._can_raise(wish):
            wish = self.needed  # at once: what the group adds must not be moved for a wish that nothing fulfils
        by_channel = self._requantizes() and not self._is_transposed
        tries = [(by, False, at) for by in (False, by_channel) for at in (wish, self.needed)]
        if isinstance(self.group.head, LinearHead) and not self._requantizes():  # at last: accumulators may stand there
            tries.append((False, True, self.needed))
        for self.by_channel, self.multiplies, exponent in dict.fromkeys(tries):
            self.exponents[self.group.result] = exponent
            try:
                return self._place()
            except CompileError as error:
                refusal = error
        self.fits.refused |= self.failed
        raise refusal

    @property
    def _is_transposed(self) -> bool:
        """Whether channels have no lanes of their own: then no step may have a word for each."""
        return isinstance(self.group.head, LinearHead) and self.group.head.stationary is not None

    def _place(self) -> tuple[WordGroup, Outcome]:
        if isinstance(self.group.head, LinearHead):
            return self._place_linear(self.group.head)
        return self._place_copies(self.group.head)

    def _place_copies(self, head: MaxHead | TransposeHead) -> tuple[WordGroup, Outcome]:
        """Codes of a tensor as they are: the largest ones, or all of them."""
        exponent = self.exponents[head.tensor]
        bias = np.full(self.group.layout.channels, self.data_type.min_code, dtype=np.int64)  # what no maximum is below
        steps = self._steps(exponent, self.program.tensors[head.tensor].codes, bias, may_bias=False)
        if steps is None:
            raise no_exact_sequence(self.group, self.data_type, self.reasons)
        low, high = (code << exponent for code in self.program.tensors[head.tensor].codes)
        names = self._names("maximum", steps.names)
        partial = np.zeros_like(bias), np.zeros_like(bias)
        return self._placed(head, (), steps, (low, high), partial), self._outcome(names, steps, exact=steps.exact)

    def _place_linear(self, head: LinearHead) -> tuple[WordGroup, Outcome]:
        low, high = self._head_bounds(head)
        if self._saturates_at_last(head):
            low, high = (np.clip(ends, self.data_type.min_code, self.data_type.max_code) for ends in (low, high))
        for exponent in range(self.data_type.width_bits):
            if not self._has_room(head, low, high, exponent):
                self._explain_lack_of_room(head, low, high, exponent)
                break
            bias = head.bias << exponent
            by_channel = low + head.bias, high + head.bias
            codes = int(by_channel[0].min()), int(by_channel[1].max())
            steps = self._steps(exponent, codes, bias, may_bias=True, by_channel=by_channel)
            if steps is None:
                continue
            proved = sums_fit(low << exponent, high << exponent, steps.bias, self.data_type)
            representable = fits_word(int(steps.bias.min()), int(steps.bias.max()), self.data_type)
            if not representable or not (proved or self.allow_overflow):
                self.reasons.append("the bias leaves the accumulator")
                continue
            terms = self._terms(head, exponent)
            if terms is None:
                continue
            names = self._names(f"accumulate at 2^{exponent}" if exponent else "accumulate", steps.names)
            words = int(((low << exponent) + steps.bias).min()), int(((high << exponent) + steps.bias).max())
            words, partial = saturated_bounds(words, self.data_type), (low << exponent, high << exponent)
            placed = self._placed(SumHead(head.stationary), terms, steps, words, partial)
            return placed, self._outcome(names, steps, exact=steps.exact and proved)
        raise no_exact_sequence(self.group, self.data_type, self.reasons)

    def _placed(
        self,
        head: WordHead,
        terms: tuple[WordTerm, ...],
        steps: StepSequence,
        words: tuple[int, int],
        partial: tuple[Words, Words],
    ) -> WordGroup:
        group = self.group
        return WordGroup(
            group.result, group.layout, head, terms, steps.bias, steps.raw, words, partial, steps.sums, group.origin
        )

    def _outcome(self, names: dict[str, str], steps: StepSequence, *, exact: bool) -> Outcome:
        return Outcome(self.group.result, names, exact, self._bounded(steps))

    def _head_bounds(self, head: LinearHead) -> tuple[Words, Words]:
        """Per channel, bounds of every partial sum of the terms, in codes, without the bias."""
        low = np.zeros(len(head.bias), dtype=np.int64)
        high = low.copy()
        for term in head.terms:
            bounds = conv_bounds(term.weight, term.window, *self.program.tensors[term.tensor].codes)
            low, high = low + bounds[0], high + bounds[1]
        return low, high

    def _saturates_at_last(self, head: LinearHead) -> bool:
        """Whether sums are clamped to a word at once, and are of one product each: they saturate to just that."""
        products = sum(np.count_nonzero(t.weight.reshape(len(head.bias), -1), axis=1) for t in head.terms)
        return is_clamped_to_word(self.group.steps, self.data_type) and not head.bias.any() and np.max(products) <= 1

    def _has_room(self, head: LinearHead, low: Words, high: Words, exponent: int) -> bool:
        bias = head.bias << exponent
        if exponent == 0 and self.allow_overflow:
            return True
        return sums_fit(low << exponent, high << exponent, bias, self.data_type)

    def _explain_lack_of_room(self, head: LinearHead, low: Words, high: Words, exponent: int) -> None:
        """Whether the next bit would have made the requantization exact, or no bit ever could."""
        bits = bits_for_range(int((low + head.bias).min()), int((high + head.bias).max())) + exponent
        steps = [s.staircase for s in self.group.steps if isinstance(s, Requantization)]
        shifts = range(self.data_type.binary_point + 1)
        would = not steps or exponent == 0
        would = would or any(self.fits.offset(steps[0], 1 << exponent, s) is not None for s in shifts)
        self.reasons.append(lack_of_bits(bits, self.data_type) if would else NO_SHIFT)

    def _terms(self, head: LinearHead, exponent: int) -> tuple[WordTerm, ...] | None:
        """The weights in raw words, for accumulators at `exponent`; None where an input stands too high for that."""
        placed = []
        for term in head.terms:
            shift = exponent + self.data_type.binary_point - self.exponents[term.tensor]
            if shift < 0:
                self.reasons.append("an input stands too high for its accumulators")
                return None
            largest, smallest = int(term.weight.max(initial=0)), int(term.weight.min(initial=0))
            room = shift
            while room > 0 and not fits_word(smallest << room, largest << room, self.data_type):
                room -= 1
            if not fits_word(smallest << room, largest << room, self.data_type):
                raise weights_too_wide(self.group, smallest, largest, self.data_type)
            if room < shift:
                raise Elsewhere(term.tensor, self.exponents[term.tensor] + shift - room)
            placed.append(WordTerm(term.tensor, shifted(term.weight, shift), term.window))
        return tuple(placed)

    # --- steps ---------------------------------------------------------------------------------------------------

    def _steps(
        self,
        exponent: int,
        codes: tuple[int, int],
        bias: Words,
        *,
        may_bias: bool,
        by_channel: tuple[Words, Words] | None = None,
    ) -> StepSequence | None:
        """The raw steps from accumulators at `exponent`; None, with a reason, where a step cannot be done."""
        steps = StepSequence(exponent, codes, bias, self.data_type, by_channel)
        requantizer = self._requantizer
        for i, step in enumerate(self.group.steps):
            match step:
                case Requantization():
                    # A bounded step may come earlier than the model's: what lies below must be clipped before it.
                    clipped_later = not self.by_channel and self._is_clipped_later(i, steps)
                    way = step, may_bias, clipped_later
                    done = requantizer.shift(steps, *way)
                    if self.by_channel and not done:
                        done = requantizer.multiplications(steps, step, may_bias, exactly=True)
                        done = done or requantizer.shift(steps, *way, may_add=True)
                        done = done or requantizer.multiplications(steps, step, may_bias)
                case Rounding():
                    raise codes_too_wide(self.group, step)
                case LimitStep():
                    steps.limit(step.low, step.high)
                    done = True
                case AddTensor():
                    done = self._add(steps, step, self.group.steps[i + 1 :])
            if not done:
                if self.by_channel and isinstance(step, Requantization):
                    self.failed.add(self.group.ops[len(self.group.ops) - len(self.group.steps) + i])
                return None
            may_bias = False
        wanted = self.exponents[self.group.result]
        if not isinstance(self.group.head, LinearHead) and not self._requantizes():
            if steps.exponent > wanted:
                raise Elsewhere(self.group.result, steps.exponent)  # a maximum stays where its input is
            if steps.exponent < wanted == self.needed:
                raise Elsewhere(self.group.head.tensor, wanted)
        if steps.exponent != wanted and not self._raise_result(steps, wanted):
            self.reasons.append(f"the result is wanted at exponent {wanted}, not {steps.exponent}")
            return None
        low, high = (code << steps.exponent for code in steps.codes)
        if not fits_word(low, high, self.data_type):
            if not self.allow_overflow:
                self.reasons.append(f"its codes need {bits_for_range(low, high)} bits")
                return None
            steps.exact = False
        return steps

    @property
    def _requantizer(self) -> GroupRequantizer:
        per_channel = not self._is_transposed
        return GroupRequantizer(
            self.fits, self.data_type, self.reasons, self.allow_overflow, per_channel, self.any_words
        )

    def _requantizes(self) -> bool:
        return any(isinstance(s, Requantization) for s in self.group.steps)

    def _can_raise(self, up: int) -> bool:
        """Whether one Multiply moves codes up so far."""
        return fits_word(0, 1 << (self.data_type.binary_point + up), self.data_type)

    def _raise_result(self, steps: StepSequence, wanted: int) -> bool:
        """Move codes up to the exponent `wanted`; False where that cannot be."""
        up = wanted - steps.exponent
        if up < 0 or not (self._requantizes() or self.multiplies) or not self._can_raise(up):
            return False
        if not fits_word(steps.codes[0] << wanted, steps.codes[1] << wanted, self.data_type):
            return False
        steps.raw_steps.append(Multiply(1 << (self.data_type.binary_point + up)))
        steps.exponent = wanted
        return True

    def _is_clipped_later(self, index: int, steps: StepSequence) -> bool:
        """Whether the lower clip of a requantization may be left out: a tensor is added next, and the requantization
        after that maps every sum with a code at or below this one's lowest to its own lowest code.

        The ReLU after a residual Add does that to both branches. Interval ranges cannot see it. The lowest code is
        that of the codes that can occur: shifts are found for those, and count on the clip to it.
        """
        match self.group.steps[index : index + 3]:
            case (Requantization(first, _), AddTensor(tensor), Requantization(second, _)):
                highest = self._requantizer.restricted(first, steps).low + self.program.tensors[tensor].codes[1]
                rising = bool((second.direction > 0).all())
                return rising and second.steps > 0 and int(second.between(0, 1, second.low).thresholds.min()) > highest
        return False

    def _add(self, steps: StepSequence, step: AddTensor, following: Sequence[Step]) -> bool:
        tensor = step.tensor
        if steps.exponent and is_clamped_to_word(following, self.data_type):
            return False  # words are as fine as codes then
        if self.exponents[tensor] != steps.exponent:
            self.reasons.append("the addends find no common exponent")
            # Without a requantization the sum stays where it is: nothing is gained by any exponent but the result's.
            useful = self._requantizes() or steps.exponent == self.exponents[self.group.result]
            moves = useful and (tensor in self.movable or self.exponents[tensor] < steps.exponent)
            if moves and self._may_shift(steps, tensor, following):
                raise Elsewhere(tensor, steps.exponent)
            return False
        low, high = self.program.tensors[tensor].codes
        codes = steps.codes[0] + low, steps.codes[1] + high
        if step.within is not None:
            codes = max(codes[0], step.within[0]), min(codes[1], step.within[1])
        words = codes[0] << steps.exponent, codes[1] << steps.exponent
        if not fits_word(*words, self.data_type) and not is_clamped_to_word(following, self.data_type):
            if not self.allow_overflow:
                self.reasons.append("the sum of both addends leaves the accumulator")
                return False
            steps.exact = False
        steps.raw_steps.append(Accumulate(tensor, low << steps.exponent, high << steps.exponent))
        steps.names.append("add")
        steps.codes, steps.by_channel = codes, None
        steps.sums = saturated_bounds(words, self.data_type)
        return True

    def _may_shift(self, steps: StepSequence, tensor: str, following: Sequence[Step]) -> bool:
        """Whether a shift requantizes the sum at this exponent: else the addend is not moved there for nothing."""
        if not following or not isinstance(following[0], Requantization) or self.allow_overflow:
            return True
        ends = zip(steps.codes, self.program.tensors[tensor].codes, strict=True)
        return self.fits.has_shift(following[0].staircase, steps.exponent, *(a + b for a, b in ends))

    # --- the group's operations -----------------------------------------------------------------------------------

    def _names(self, head: str, names: Sequence[str]) -> dict[str, str]:
        ops = self.group.ops
        first = [head] if len(ops) > len(names) else []
        return dict(zip(ops, [*first, *names], strict=False))

    def _bounded(self, steps: StepSequence) -> dict[str, Bounded]:
        """By operation: the steps stand for the last ones of the group."""
        ops = self.group.ops[len(self.group.ops) - len(steps.names) :]
        return {ops[i]: Bounded(*found) for i, found in steps.bounded.items()}
