"""Requantization per channel without SIMD: the multiplications by diagonal matrices, with a word in each lane.

With M1, A, M2 the words of a channel (`channel_requantize`), and lo, hi the clip, in this order:

    diagonal M1, bias A                  onto the fine grid
    add -(lo * 2^p / M2 + 2^15)          what lay below lo saturates, so it is lo now
    diagonal M2                          the codes; its bias undoes the constant
    add 2^15 - 1 - hi, then subtract it  what lay above hi saturates, so it is hi now

Or, where images are large enough for another matrix to pay, as `matrix_plan` clips sums that carry nothing:

    diagonal M2, bias 2^15 - 1 - hi      min(q, hi) + 2^15 - 1 - hi, with q the code before the clips
    the same again, times -M2            + max(lo - q, 0) - 2^15
    add hi + 1                           nothing, where the result is stored with that offset

(2^15: for 16 bits.) Constants join a diagonal's bias where they are words together with it, and a second diagonal that
is the same for all channels is one matrix. A MAC rounds its *sum* half
to even, a SIMD multiplication its product: ties go the same way where the bias is even. So an odd A is added in two
parts, unless the plan with an odd bias is certified, too.

Every plan is compared with the SIMD steps for all words that can occur in each channel, as those of `matrix_plan` are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.machine.arithmetic import multiply_accumulate, saturate
from pefslc.targets.tensil.matrix.matrix_plan import LARGEST_CHECK, MatrixPlan, rails, representable, without_offset
from pefslc.targets.tensil.matrix.matrix_steps import (
    AddWord,
    ChannelAddWord,
    ChannelDiagonal,
    ChannelDiagonalAgain,
    Diagonal,
    MatrixStep,
    apply_matrix_steps,
)
from pefslc.targets.tensil.words.steps import (
    ChannelAdd,
    ChannelMultiply,
    Maximum,
    Minimum,
    Multiply,
    RawStep,
    apply_steps,
    of_channels,
)

__all__ = ["channel_plan"]

Words = NDArray[np.int64]

_APART = 16  # words between those that are tried first
_TOGETHER = 32  # channels that are tried together


@lru_cache(maxsize=512)
def channel_plan(
    steps: tuple[RawStep, ...],
    low: tuple[int, ...],
    high: tuple[int, ...],
    data_type: DataType,
    *,
    again: bool = False,
) -> MatrixPlan | None:
    """The same function as the SIMD `steps`, on words in [low, high] of each channel; None if none is certified.

    again  whether a matrix more for each block is worth a vector's pass less
    """
    bare, end = without_offset(steps)
    stages, clips = _Stage.of(bare, len(low))
    if not stages or max(high) - min(low) >= LARGEST_CHECK:
        return None
    for plan in sorted(_plans(stages, clips, data_type, again=again), key=lambda plan: _length(plan, end)):
        whole = _ending_at(plan, end)
        fits = all(representable(step, data_type) for step in (*plan, *whole))
        if fits and _is_certified_plan(plan, bare, low, high, data_type):
            return MatrixPlan(0, whole)
    return None


def _length(plan: tuple[MatrixStep, ...], end: int) -> tuple[int, bool]:
    """How many steps a plan has when it ends at value + end; and whether one of them loads a matrix more."""
    return len(_ending_at(plan, end)), any(isinstance(step, ChannelDiagonalAgain) for step in plan)


def _ending_at(plan: tuple[MatrixStep, ...], end: int) -> tuple[MatrixStep, ...]:
    """The plan, which ends at the value itself, so that it ends at value + end. Nothing saturates on that last way."""
    if not end:
        return plan
    last = plan[-1]
    before, word = (plan[:-1], last.word) if isinstance(last, AddWord) else (plan, 0)
    return (*before, AddWord(word + end)) if word + end else before


@lru_cache(maxsize=512)
def _is_certified_plan(
    plan: tuple[MatrixStep, ...],
    steps: tuple[RawStep, ...],
    low: tuple[int, ...],
    high: tuple[int, ...],
    data_type: DataType,
) -> bool:
    """Whether the plan is the steps, without an offset, on the words of each channel and of lanes without one."""
    ends = (np.array([*bound, 0], dtype=np.int64) for bound in (low, high))
    first, last = (np.clip(words, data_type.min_code, data_type.max_code) for words in ends)
    return _is_certified(plan, [_with_idle(step) for step in steps], first, last, data_type)


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """A multiplication and what is added after it: a word for each channel, and last, 0 for lanes without one."""

    factors: Words
    addends: Words

    @classmethod
    def of(cls, steps: Sequence[RawStep], channels: int) -> tuple[list[_Stage], list[Maximum | Minimum]]:
        """The stages of the steps and the clips that follow; no stages where the steps are anything else."""
        stages: list[_Stage] = []
        clips: list[Maximum | Minimum] = []
        for step in steps:
            match step:
                case Maximum() | Minimum():
                    clips.append(step)
                case Multiply() | ChannelMultiply() if not clips:
                    words = (step.word,) * channels if isinstance(step, Multiply) else step.words
                    factors = np.array([*words, 0], dtype=np.int64)
                    stages.append(cls(factors, np.zeros_like(factors)))
                case ChannelAdd() if stages and not clips:
                    stages[-1] = replace(stages[-1], addends=stages[-1].addends + np.array([*step.words, 0]))
                case _:
                    return [], []
        return stages, clips


def _with_idle(step: RawStep) -> RawStep:
    """The step on one channel more: a lane without a channel, whose words are 0."""
    return replace(step, words=(*step.words, 0)) if isinstance(step, ChannelMultiply | ChannelAdd) else step


# --- plans -----------------------------------------------------------------------------------------------------------


def _plans(
    stages: Sequence[_Stage], clips: Sequence[Maximum | Minimum], data_type: DataType, *, again: bool
) -> Iterator[tuple[MatrixStep, ...]]:
    """Values stand at value + offset between the last two stages, so that the lower clip is at the rail there."""
    none = np.zeros_like(stages[-1].factors)
    ways = [(none, none, clips)]
    lower = next((clip for clip in clips if isinstance(clip, Maximum)), None)
    if lower is not None and len(stages) > 1:
        last = stages[-1].factors
        lowest = (lower.word << data_type.binary_point) // np.maximum(last, 1)
        offset = np.where(last > 0, data_type.min_code - lowest, 0)
        undone = -offset * last >> data_type.binary_point  # rounded, perhaps: then the plan is not certified
        ways.append((offset, undone, [clip for clip in clips if clip is not lower]))
    for offset, undone, left in ways:
        for even in (False, True):
            plan = _plan(stages, offset, undone, left, data_type, even=even)
            if (shared := _with_one_matrix(plan, data_type)) is not None:
                yield shared
            yield plan
            if again and left is clips:
                yield from _clipped_again(stages, clips, data_type, even=even)


def _with_one_matrix(plan: tuple[MatrixStep, ...], data_type: DataType) -> tuple[MatrixStep, ...] | None:
    """The plan whose second diagonal is one for all channels, and so is loaded once, where its words are the same; the
    first one's bias leads lanes without a channel to where they would have been. None where that is not so.
    """
    match plan:
        case (ChannelDiagonal() as first, ChannelDiagonal(words, biases), *rest) if (
            len({*words[:-1]}) == len({*biases[:-1]}) == 1 and words[0]
        ):
            idle, _ = saturate(
                multiply_accumulate(np.array(first.biases[-1]), np.array(words[-1]), biases[-1], data_type), data_type
            )
            before, left = divmod((int(idle) - biases[0]) << data_type.binary_point, words[0])
            if left:
                return None
            return replace(first, biases=(*first.biases[:-1], before)), Diagonal(words[0], biases[0]), *rest
        case _:
            return None


def _clipped_again(
    stages: Sequence[_Stage], clips: Sequence[Maximum | Minimum], data_type: DataType, *, even: bool
) -> Iterator[tuple[MatrixStep, ...]]:
    """Both biases of the last product are even: so the second one falls exactly where the first one rises, and their
    sum rises, which the certificate counts on.
    """
    match sorted(clips, key=lambda clip: isinstance(clip, Minimum)):
        case (Maximum(lower), Minimum(upper)):
            *before, last = stages
            rail = last.addends + data_type.max_code - upper
            down = data_type.min_code + lower - last.addends
        case _:
            return
    if not (rail & 1).any() and not (down & 1).any():
        again = ChannelDiagonalAgain(tuple((-last.factors).tolist()), tuple(down.tolist()))
        first = _before_the_last(before, np.zeros_like(last.factors), data_type, even=even)
        yield *first, _diagonal(last.factors, rail), again, *rails((), -upper - 1, data_type)


def _plan(
    stages: Sequence[_Stage],
    offset: Words,
    undone: Words,
    clips: Sequence[Maximum | Minimum],
    data_type: DataType,
    *,
    even: bool,
) -> tuple[MatrixStep, ...]:
    """even: no bias of a diagonal is odd."""
    *before, last = stages
    steps = _before_the_last(before, offset, data_type, even=even)
    bias = last.addends + undone
    after = rails(clips, 0, data_type)
    if after and isinstance(after[0], AddWord) and _may_be_bias(bias + after[0].word, data_type, even=even):
        return *steps, _diagonal(last.factors, bias + after[0].word), *after[1:]
    odd = int(bias[0]) & 1 if even else 0
    return *steps, _diagonal(last.factors, bias - odd), *rails(clips, -odd, data_type)


def _before_the_last(before: Sequence[_Stage], offset: Words, data_type: DataType, *, even: bool) -> list[MatrixStep]:
    """The stages before the last one, after which values stand at value + offset."""
    steps: list[MatrixStep] = []
    for i, stage in enumerate(before):
        bias = stage.addends + offset if i == len(before) - 1 else stage.addends
        if not _may_be_bias(bias, data_type, even=even):
            first = stage.addends & ~1 if even else stage.addends
            steps += [_diagonal(stage.factors, first), _add(bias - first)]
        else:
            steps.append(_diagonal(stage.factors, bias))
    return steps


def _may_be_bias(bias: Words, data_type: DataType, *, even: bool) -> bool:
    fits = data_type.min_code <= bias.min() and bias.max() <= data_type.max_code
    return bool(fits and not (even and (bias & 1).any()))


def _diagonal(factors: Words, bias: Words) -> ChannelDiagonal:
    return ChannelDiagonal(tuple(factors.tolist()), tuple(bias.tolist()))


def _add(words: Words) -> AddWord | ChannelAddWord:
    if (words == words[0]).all():
        return AddWord(int(words[0]))
    return ChannelAddWord(tuple(words.tolist()))


# --- certificates ----------------------------------------------------------------------------------------------------


def _is_certified(
    plan: Sequence[MatrixStep], steps: Sequence[RawStep], low: Words, high: Words, data_type: DataType
) -> bool:
    """Whether both ways give the same for all words in [low, high] of each channel: some channels at a time, for the
    memory that it takes.
    """
    for first in range(0, len(low), _TOGETHER):
        some = np.arange(first, min(first + _TOGETHER, len(low)))
        by_matrix, by_simd = [_of_channels(s, some) for s in plan], [of_channels(s, some) for s in steps]
        if not _agree(by_matrix, by_simd, low[some], high[some], data_type):
            return False
    return True


def _agree(plan: Sequence[MatrixStep], steps: Sequence[RawStep], low: Words, high: Words, data_type: DataType) -> bool:
    """Whether both ways give the same.

    Both rise or fall: so does each step, but for a product of the same again, whose sum with the first one does
    (`_clipped_again`). So between two words that both take to one code there is nothing to try; between the others, all
    words are tried.
    """
    points = low[:, None] + np.arange(0, int((high - low).max()) + _APART, _APART)
    points = np.minimum(points, high[:, None])
    expected = apply_steps(steps, points, data_type)
    if not np.array_equal(apply_matrix_steps(plan, points, data_type), expected):
        return False
    rows, columns = np.nonzero(expected[:, 1:] != expected[:, :-1])
    inner = np.minimum(points[rows, columns][:, None] + np.arange(1, _APART), high[rows][:, None])
    by_simd = apply_steps([of_channels(step, rows) for step in steps], inner, data_type)
    by_matrix = apply_matrix_steps([_of_channels(step, rows) for step in plan], inner, data_type)
    return np.array_equal(by_matrix, by_simd)


def _of_channels(step: MatrixStep, channels: Words) -> MatrixStep:
    """The step with the words of these channels."""
    match step:
        case ChannelAddWord():
            return replace(step, words=_taken(step.words, channels))
        case ChannelDiagonal() | ChannelDiagonalAgain():
            return replace(step, words=_taken(step.words, channels), biases=_taken(step.biases, channels))
        case _:
            return step


def _taken(words: tuple[int, ...], channels: Words) -> tuple[int, ...]:
    return tuple(np.array(words, dtype=np.int64)[channels].tolist())
