"""Requantization without SIMD: constants added by MatMuls of zeroes, clips by saturation on purpose.

With lo, hi the clip and s the shift, in this order:

    add -(lo * 2^s + 32768) to the accumulators     what lay below lo saturates, so it is lo now
    move to local memory, multiply by the diagonal matrix 2^(p-s), bias (lo * 2^s + 32768) / 2^s
                                                    the shift, rounded half to even, with the constant undone
    add 32767 - hi, then subtract it again          what lay above hi saturates, so it is hi now

(numbers for 16 bits; without a shift, the same constants bring the words to the rails and back). Each takes a cycle a
vector and some; the first one takes none where the sums *carry* its constant already (`weights.with_carried`), and the
way up to the rail none where the diagonal's bias has room for it.

Where the sums cannot carry it, one clip is at the rail in the shift itself, and the other is a second product, which
saturates up to there and then falls by as much as the first one rises:

    multiply by 2^(p-s), bias 32767 - hi            min(q, hi) + 32767 - hi, with q the shifted sum
    add them again times -2^(p-s), bias lo - 32768  max(lo - q, 0) - 32768
    add hi + 1

Then values stand at value - hi - 1: where the result may be stored so (`word_rewrites.offsets`), the last step goes.
Where the sums carry a constant -c * 2^s that makes room for it, c an even hi at least, both clips change places:

    multiply by 2^(p-s), bias c - lo - 32768        max(q, lo) - lo - 32768
    add them again times -2^(p-s), bias 32767 + hi - c    32767 - max(q - hi, 0)
    add lo + 1

and values stand at value - lo - 1 before the last step: near 0, as what adds them with a clip needs it.

Where a tensor is added between two requantizations, the way to and from the rails is planned over the addition: its
MatMul by the identity has a bias, too, and may clip the tensor from above by saturation.

Every plan is compared with the SIMD steps for all words that can occur: a certificate, not an argument.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.machine.arithmetic import saturate
from pefslc.targets.tensil.matrix.matrix_steps import (
    AddByMatrix,
    AddWord,
    ChannelAddWord,
    ChannelDiagonal,
    ChannelDiagonalAgain,
    Diagonal,
    DiagonalAgain,
    MatrixStep,
    SlopesByMatrix,
    apply_matrix_steps,
)
from pefslc.targets.tensil.words.steps import AddOffset, Maximum, Minimum, Multiply, RawStep, TwoSlopes, apply_steps

__all__ = [
    "LARGEST_CHECK",
    "Addend",
    "MatrixPlan",
    "is_certified_chain",
    "matrix_plan",
    "matrix_plan_with_addend",
    "plan_of_bare_sums",
    "rails",
    "representable",
    "shift_of",
    "without_offset",
]

Words = NDArray[np.int64]
Indices = NDArray[np.intp]

LARGEST_CHECK = 1 << 17  # words that are tried one by one; wider data types keep their SIMD steps
_LARGEST_GRID = 1 << 23  # pairs of a word and an addend


@dataclass(frozen=True, slots=True)
class MatrixPlan:
    """Matrix steps for sums that carry a constant: added by their last addition, which may saturate. 0 for none."""

    carried: int
    steps: tuple[MatrixStep, ...]

    @property
    def alone(self) -> tuple[MatrixStep, ...]:
        """The steps for sums that carry nothing."""
        return (AddWord(self.carried), *self.steps) if self.carried else self.steps


@dataclass(frozen=True, slots=True)
class Addend:
    """The words of an added tensor, as those of `raw_steps.Accumulate`."""

    low: int
    high: int
    ceiling: int | None = None
    word: int | None = None
    carried: int = 0

    def stored(self, data_type: DataType) -> Words:
        """Every word in [low, high], as it is stored."""
        return saturate(_words(self.low, self.high) + self.carried, data_type)[0]

    def added(self, data_type: DataType) -> Words:
        """What is to be added for each of them."""
        steps: list[RawStep] = [] if self.word is None else [Multiply(self.word)]
        steps += [] if self.ceiling is None else [Minimum(self.ceiling)]
        return apply_steps(steps, _words(self.low, self.high), data_type)


@lru_cache(maxsize=512)
def matrix_plan(steps: tuple[RawStep, ...], low: int, high: int, data_type: DataType) -> MatrixPlan | None:
    """The same function as the SIMD `steps` on words in [low, high], certified word by word; None if there is none."""
    if high - low >= LARGEST_CHECK:
        return None
    words = _words(low, high)
    for plan in sorted(_plans(steps, data_type), key=lambda plan: len(plan.steps)):
        if _computes(plan, steps, words, data_type):
            return plan
    return None


def _plans(steps: tuple[RawStep, ...], data_type: DataType) -> Iterator[MatrixPlan]:
    """Plans for the steps, certified or not."""
    first = steps[0] if steps else None
    if isinstance(first, TwoSlopes):
        if not steps[1:]:
            yield _slopes(first, data_type)
        return
    clips, end = without_offset(steps[1:] if isinstance(first, Multiply) else steps)
    if not all(isinstance(step, Maximum | Minimum) for step in clips):
        return
    if isinstance(first, Multiply):
        yield from _shift_and_clips(first, clips, end, data_type)
    elif after := rails(clips, 0, data_type, end):
        yield MatrixPlan(0, after)


def _computes(plan: MatrixPlan, steps: tuple[RawStep, ...], words: Words, data_type: DataType) -> bool:
    """The certificate: whether the plan's rows are words, and it makes of all words what the steps make."""
    if not all(representable(step, data_type) for step in plan.alone):
        return False
    by_matrix = apply_matrix_steps(plan.alone, words, data_type)
    return np.array_equal(by_matrix, apply_steps(steps, words, data_type))


@lru_cache(maxsize=512)
def plan_of_bare_sums(steps: tuple[RawStep, ...], low: int, high: int, data_type: DataType) -> MatrixPlan | None:
    """A plan for a shift and both clips that takes a step less where the sums carry nothing; certified likewise."""
    bare, end = without_offset(steps)
    match bare:
        case (Multiply() as multiply, Maximum(lower), Minimum(upper)) | (
            Multiply() as multiply,
            Minimum(upper),
            Maximum(lower),
        ) if high - low < LARGEST_CHECK and shift_of(multiply, data_type) is not None:
            plan = MatrixPlan(
                0,
                (
                    Diagonal(multiply.word, data_type.max_code - upper),
                    DiagonalAgain(-multiply.word, data_type.min_code + lower),
                    *_split(upper + 1 + end, data_type),
                ),
            )
        case _:
            return None
    return plan if _computes(plan, steps, _words(low, high), data_type) else None


@lru_cache(maxsize=512)
def matrix_plan_with_addend(
    leading: tuple[RawStep, ...],
    trailing: tuple[RawStep, ...],
    low: int,
    high: int,
    addend: Addend,
    data_type: DataType,
) -> MatrixPlan | None:
    """The shortest plan for the leading steps on words in [low, high], the addition, and the trailing steps."""
    if max(high - low, addend.high - addend.low) >= LARGEST_CHECK:
        return None
    clips, end = without_offset(trailing)
    if not all(isinstance(step, Multiply | Maximum | Minimum) for step in (*leading, *clips)):
        return None
    plans = [
        plan
        for plan in _plans_with_addend(leading, clips, end, addend, data_type)
        if all(representable(step, data_type) for step in plan.alone)
    ]
    for plan in sorted(plans, key=lambda plan: len(plan.steps)):
        if _is_certified(plan, leading, trailing, _words(low, high), addend, data_type):
            return plan
    return None


def is_certified_chain(
    plan: MatrixPlan, words: tuple[int, ...], steps: tuple[RawStep, ...], low: int, high: int, data_type: DataType
) -> bool:
    """Whether the plan is still the steps where its shift has no bias and `words` are added after it, one by one."""
    shift = plan.steps[0]
    assert isinstance(shift, Diagonal)
    chain = *MatrixPlan(plan.carried, (replace(shift, bias=0),)).alone, *(AddWord(word) for word in words)
    inputs = _words(low, high)
    return np.array_equal(apply_matrix_steps(chain, inputs, data_type), apply_steps(steps, inputs, data_type))


def without_offset(steps: tuple[RawStep, ...]) -> tuple[tuple[RawStep, ...], int]:
    """The steps before the offset that the result is stored with, and that offset; 0 where there is none."""
    last = steps[-1] if steps else None
    return (steps[:-1], last.word) if isinstance(last, AddOffset) else (steps, 0)


def _words(low: int, high: int) -> Words:
    return np.arange(min(low, 0), max(high, 0) + 1, dtype=np.int64)  # 0: what lanes without a channel hold


# --- plans -----------------------------------------------------------------------------------------------------------


def shift_of(multiply: Multiply, data_type: DataType) -> int | None:
    """The shift that a multiplication is, down by a bit at least; None where it is none."""
    shift = data_type.binary_point - multiply.word.bit_length() + 1
    return shift if shift >= 1 and multiply.word == 1 << (data_type.binary_point - shift) else None


def _shift_and_clips(
    multiply: Multiply, clips: Sequence[RawStep], end: int, data_type: DataType
) -> Iterator[MatrixPlan]:
    shift = shift_of(multiply, data_type)
    if shift is None:
        return
    carried = rail = 0
    for clip in clips:
        if isinstance(clip, Maximum):
            carried = data_type.min_code - (clip.word << shift)
        elif isinstance(clip, Minimum):
            rail = data_type.max_code - clip.word
    undone = -carried >> shift
    together = undone + rail <= data_type.max_code
    diagonal = Diagonal(multiply.word, undone + (rail if together else 0))
    up = (AddWord(rail),) if rail and not together else ()
    yield MatrixPlan(carried, (diagonal, *up, *_split(end - rail, data_type)))
    match sorted(clips, key=lambda clip: isinstance(clip, Minimum)):
        case (Maximum(lower), Minimum(upper)):
            undone = max(upper + upper % 2, 0)
            yield MatrixPlan(
                -undone << shift,
                (
                    Diagonal(multiply.word, undone + data_type.min_code - lower),
                    DiagonalAgain(-multiply.word, data_type.max_code + upper - undone),
                    *_split(lower + 1 + end, data_type),
                ),
            )


def _slopes(step: TwoSlopes, data_type: DataType) -> MatrixPlan:
    return MatrixPlan(0, (SlopesByMatrix(step.above, step.below, data_type.min_code),))


def rails(clips: Sequence[RawStep], offset: int, data_type: DataType, end: int = 0) -> tuple[MatrixStep, ...]:
    """Clips of values that stand at value + offset: to the rails and back to value + end."""
    steps: list[MatrixStep] = []
    for clip in clips:
        if isinstance(clip, Maximum):
            steps += _split(data_type.min_code - clip.word - offset, data_type)
            offset = data_type.min_code - clip.word
        elif isinstance(clip, Minimum):
            steps += _split(data_type.max_code - clip.word - offset, data_type)
            offset = data_type.max_code - clip.word
    return *steps, *_split(end - offset, data_type)


def _plans_with_addend(
    leading: Sequence[RawStep], trailing: Sequence[RawStep], end: int, addend: Addend, data_type: DataType
) -> Iterator[MatrixPlan]:
    """Values stand at value + offset on their way: the offsets are chosen so that a rail is where a clip is.

    The offset that the shift leaves is even: an odd one would change which of two codes a tie goes to, the even sum.
    """
    multiply, *rest = leading or (None,)
    if not isinstance(multiply, Multiply) or (shift := shift_of(multiply, data_type)) is None:
        return
    if any(not isinstance(step, Minimum) for step in rest) or len(rest) > 1:
        return
    low, high = data_type.min_code, data_type.max_code
    upper = rest[0].word if rest and isinstance(rest[0], Minimum) else None
    lower = next((step.word for step in trailing if isinstance(step, Maximum)), None)
    undone = addend.carried if addend.word is None else addend.carried * addend.word >> data_type.binary_point
    for offset, bias in _offsets(lower, addend, data_type):
        after = AddByMatrix(bias - undone, addend.word), *rails(trailing, offset + bias, data_type, end)
        if upper is None:
            yield MatrixPlan(0, (Diagonal(multiply.word, offset), *after))
            continue
        # The clip by the sums' last addition: what lies above upper - 2^-s saturates, and rounds to upper.
        carried = -low - (upper << shift)
        lowest = low + (carried >> shift)  # that the diagonal's bias can reach
        first = max(offset, lowest + lowest % 2)
        diagonal = Diagonal(multiply.word, first - (carried >> shift))
        yield MatrixPlan(carried, (diagonal, *_split(offset - first, data_type), *after))
        # The clip by the diagonal's saturation.
        rail = high - upper
        yield MatrixPlan(0, (Diagonal(multiply.word, rail), *_split(offset - rail, data_type), *after))
    if upper is not None and lower is not None and len(trailing) == 1 and addend.ceiling is not None:
        yield from _with_upper_clip_after(multiply.word, shift, upper, lower, end, addend, data_type)


def _with_upper_clip_after(
    word: int, shift: int, upper: int, lower: int, end: int, addend: Addend, data_type: DataType
) -> Iterator[MatrixPlan]:
    """The addend is clamped at the upper rail, the sum at the lower one, and only then what the value is above `upper`
    is taken off again, on the way back. The value itself is clipped from below where no addend lifts it to `lower`: at
    the rail, by the sums' last addition.
    """
    low, high = data_type.min_code, data_type.max_code
    if addend.ceiling is None or addend.word is not None:
        return
    bias = high - addend.ceiling
    carried = low - ((low + bias) << shift)
    undone = -carried >> shift
    yield MatrixPlan(
        carried,
        (
            Diagonal(word, undone - bias),
            AddByMatrix(bias - addend.carried),
            *_split(low - lower, data_type),
            DiagonalAgain(-word, high + upper - undone),
            *_split(1 + lower + end, data_type),
        ),
    )


def _offsets(lower: int | None, addend: Addend, data_type: DataType) -> Iterator[tuple[int, int]]:
    """Where the value stands before the addition, and the bias that the tensor is added with."""
    low, high = data_type.min_code, data_type.max_code
    if addend.ceiling is not None and addend.word is None:
        yield addend.ceiling - high, high - addend.ceiling
        return
    yield 0, 0
    if lower is not None:
        # The sum's lower clip by the addition itself: half of the way to the rail on either side; or all of it before
        # it, where values so low that no addend lifts them saturate.
        half = low // 4 * 2
        yield half, low - lower - half
        room = max(addend.high - lower, 0)
        room += room % 2
        yield low + room, -lower - room


def _split(word: int, data_type: DataType) -> list[MatrixStep]:
    """A way longer than a word goes in two steps."""
    first = min(max(word, data_type.min_code), data_type.max_code)
    return [AddWord(part) for part in (first, word - first) if part]


def representable(step: MatrixStep, data_type: DataType) -> bool:
    """Whether all that the step's rows hold are words."""
    match step:
        case AddWord():
            values: tuple[int, ...] = (step.word,)
        case Diagonal() | DiagonalAgain():
            values = (step.word, step.bias)
        case AddByMatrix():
            values = (step.bias, step.word or 0)
        case SlopesByMatrix():
            values = (step.lowest, step.constant(data_type.one), step.below, step.above - step.below)
        case ChannelAddWord():
            values = step.words
        case ChannelDiagonal() | ChannelDiagonalAgain():
            values = (*step.words, *step.biases)
    return all(data_type.min_code <= v <= data_type.max_code for v in values)


# --- certificates ----------------------------------------------------------------------------------------------------


def _is_certified(
    plan: MatrixPlan,
    leading: Sequence[RawStep],
    trailing: Sequence[RawStep],
    words: Words,
    addend: Addend,
    data_type: DataType,
) -> bool:
    """Every word with every addend: both ways give the same. Words that both ways treat alike are tried once."""
    split = next(i for i, step in enumerate(plan.alone) if isinstance(step, AddByMatrix))
    shift = next(i for i, step in enumerate(plan.alone) if isinstance(step, Diagonal))
    before = apply_matrix_steps(plan.alone[:split], words, data_type), apply_steps(leading, words, data_type)
    read = apply_matrix_steps(plan.alone[:shift], words, data_type)
    again = [step for step in plan.alone[split:] if isinstance(step, DiagonalAgain)]
    told_apart = _first_of_each_pair(*before)
    if again:  # they tell words apart, too
        products = [apply_matrix_steps([step], np.zeros_like(read), data_type, read=read) for step in again]
        told_apart = np.unique(np.stack([*before, *products]), axis=1, return_index=True)[1]
    of_matrix, of_simd, read = before[0][told_apart], before[1][told_apart], read[told_apart]
    step = plan.alone[split]
    stored, added = addend.stored(data_type), addend.added(data_type)
    told_apart = _first_of_each_pair(added, apply_matrix_steps([step], np.zeros_like(stored), data_type, stored))
    stored, added = stored[told_apart], added[told_apart]
    if len(of_simd) * len(added) > _LARGEST_GRID:
        return False
    sums, _ = saturate(of_simd[:, None] + added, data_type)
    expected = apply_steps(trailing, sums, data_type)
    start = np.broadcast_to(of_matrix[:, None], sums.shape)
    found = apply_matrix_steps(plan.alone[split:], start, data_type, stored, read[:, None])
    return np.array_equal(found, expected)


def _first_of_each_pair(a: Words, b: Words) -> Indices:
    """Where each pair (a[i], b[i]) occurs first. Words have 32 bits at most, so that a pair is one integer."""
    first: Indices = np.unique((a << 32) + b, return_index=True)[1]
    return first
