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

Every plan is compared with the SIMD steps for all words that can occur: a certificate, not an argument.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.machine.architecture import DataType
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
    "MatrixPlan",
    "in_words",
    "is_certified_chain",
    "matrix_plan",
    "plan_of_bare_sums",
    "rails",
    "representable",
    "shift_of",
    "without_offset",
    "words_between",
]

Words = NDArray[np.int64]
Indices = NDArray[np.intp]

LARGEST_CHECK = 1 << 17  # words that are tried one by one; wider data types keep their SIMD steps


@dataclass(frozen=True, slots=True)
class MatrixPlan:
    """Matrix steps for sums that carry a constant: added by their last addition, which may saturate. 0 for none."""

    carried: int
    steps: tuple[MatrixStep, ...]

    @property
    def alone(self) -> tuple[MatrixStep, ...]:
        """The steps for sums that carry nothing."""
        return (AddWord(self.carried), *self.steps) if self.carried else self.steps


@lru_cache(maxsize=512)
def matrix_plan(steps: tuple[RawStep, ...], low: int, high: int, data_type: DataType) -> MatrixPlan | None:
    """The same function as the SIMD `steps` on words in [low, high], certified word by word; None if there is none."""
    if high - low >= LARGEST_CHECK:
        return None
    words = words_between(low, high)
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
                    *in_words(upper + 1 + end, data_type),
                ),
            )
        case _:
            return None
    return plan if _computes(plan, steps, words_between(low, high), data_type) else None


def is_certified_chain(
    plan: MatrixPlan, words: tuple[int, ...], steps: tuple[RawStep, ...], low: int, high: int, data_type: DataType
) -> bool:
    """Whether the plan is still the steps where its shift has no bias and `words` are added after it, one by one."""
    shift = plan.steps[0]
    assert isinstance(shift, Diagonal)
    chain = *MatrixPlan(plan.carried, (replace(shift, bias=0),)).alone, *(AddWord(word) for word in words)
    inputs = words_between(low, high)
    return np.array_equal(apply_matrix_steps(chain, inputs, data_type), apply_steps(steps, inputs, data_type))


def without_offset(steps: tuple[RawStep, ...]) -> tuple[tuple[RawStep, ...], int]:
    """The steps before the offset that the result is stored with, and that offset; 0 where there is none."""
    last = steps[-1] if steps else None
    return (steps[:-1], last.word) if isinstance(last, AddOffset) else (steps, 0)


def words_between(low: int, high: int) -> Words:
    """Every word that may occur."""
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
    yield MatrixPlan(carried, (diagonal, *up, *in_words(end - rail, data_type)))
    match sorted(clips, key=lambda clip: isinstance(clip, Minimum)):
        case (Maximum(lower), Minimum(upper)):
            undone = max(upper + upper % 2, 0)
            yield MatrixPlan(
                -undone << shift,
                (
                    Diagonal(multiply.word, undone + data_type.min_code - lower),
                    DiagonalAgain(-multiply.word, data_type.max_code + upper - undone),
                    *in_words(lower + 1 + end, data_type),
                ),
            )


def _slopes(step: TwoSlopes, data_type: DataType) -> MatrixPlan:
    return MatrixPlan(0, (SlopesByMatrix(step.above, step.below, data_type.min_code),))


def rails(clips: Sequence[RawStep], offset: int, data_type: DataType, end: int = 0) -> tuple[MatrixStep, ...]:
    """Clips of values that stand at value + offset: to the rails and back to value + end."""
    steps: list[MatrixStep] = []
    for clip in clips:
        if isinstance(clip, Maximum):
            steps += in_words(data_type.min_code - clip.word - offset, data_type)
            offset = data_type.min_code - clip.word
        elif isinstance(clip, Minimum):
            steps += in_words(data_type.max_code - clip.word - offset, data_type)
            offset = data_type.max_code - clip.word
    return *steps, *in_words(end - offset, data_type)


def in_words(word: int, data_type: DataType) -> list[MatrixStep]:
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
