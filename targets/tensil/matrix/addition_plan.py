"""Matrix plans over an addition: the requantization before it and the one after it, planned together.

The way to and from the rails (`matrix_plan`) is planned over the addition: its MatMul by the identity has a bias, too,
and may clip the tensor from above by saturation. Every plan is compared with the SIMD steps for all pairs of a word and
an addend: a certificate, not an argument.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.machine.arithmetic import saturate
from pefslc.targets.tensil.matrix.matrix_plan import (
    LARGEST_CHECK,
    MatrixPlan,
    in_words,
    rails,
    representable,
    shift_of,
    without_offset,
    words_between,
)  # fmt: skip
from pefslc.targets.tensil.matrix.matrix_steps import AddByMatrix, Diagonal, DiagonalAgain, apply_matrix_steps
from pefslc.targets.tensil.words.steps import Maximum, Minimum, Multiply, RawStep, apply_steps

__all__ = ["Addend", "matrix_plan_with_addend"]

Words = NDArray[np.int64]
Indices = NDArray[np.intp]

_LARGEST_GRID = 1 << 23  # pairs of a word and an addend


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
        return saturate(words_between(self.low, self.high) + self.carried, data_type)[0]

    def added(self, data_type: DataType) -> Words:
        """What is to be added for each of them."""
        steps: list[RawStep] = [] if self.word is None else [Multiply(self.word)]
        steps += [] if self.ceiling is None else [Minimum(self.ceiling)]
        return apply_steps(steps, words_between(self.low, self.high), data_type)


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
        if _is_certified(plan, leading, trailing, words_between(low, high), addend, data_type):
            return plan
    return None


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
        yield MatrixPlan(carried, (diagonal, *in_words(offset - first, data_type), *after))
        # The clip by the diagonal's saturation.
        rail = high - upper
        yield MatrixPlan(0, (Diagonal(multiply.word, rail), *in_words(offset - rail, data_type), *after))
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
            *in_words(low - lower, data_type),
            DiagonalAgain(-word, high + upper - undone),
            *in_words(1 + lower + end, data_type),
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
