"""The steps of a group, cut where a tensor is added, and the matrix plans for them."""

from __future__ import annotations

from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.matrix.addition_plan import Addend, matrix_plan_with_addend
from pefslc.targets.tensil.matrix.channel_plan import channel_plan
from pefslc.targets.tensil.matrix.matrix_plan import (
    MatrixPlan,
    matrix_plan,
    plan_of_bare_sums,
)
from pefslc.targets.tensil.words.steps import Accumulate, AddHigh, ChannelAdd, ChannelMultiply, RawStep
from pefslc.targets.tensil.words.word_group import WordGroup

_LEAST_PIXELS = 64  # where a matrix of each block costs less, to read and to load, than a pass of its pixels

__all__ = [
    "added_tensors",
    "addend_plan",
    "bare_plan",
    "leading_channel_plan",
    "leading_plan",
    "leading_steps",
    "steps_before_addend",
    "trailing_channel_plan",
    "trailing_plan",
    "trailing_steps",
]


def added_tensors(group: WordGroup) -> list[Accumulate]:
    return [step for step in group.steps if isinstance(step, Accumulate)]


def leading_steps(group: WordGroup) -> tuple[RawStep, ...]:
    """The steps before the first addition, of a tensor or of high sums."""
    additions = _additions(group)
    return group.steps[: additions[0]] if additions else group.steps


def trailing_steps(group: WordGroup) -> tuple[RawStep, ...]:
    """The steps after the last addition; none without one."""
    additions = _additions(group)
    return group.steps[additions[-1] + 1 :] if additions else ()


def _additions(group: WordGroup) -> list[int]:
    """Where additions stand among the steps."""
    return [i for i, step in enumerate(group.steps) if isinstance(step, Accumulate | AddHigh)]


def leading_plan(group: WordGroup, data_type: DataType) -> MatrixPlan | None:
    """A plan for the leading steps; None for a maximum, too, which has no sums."""
    return matrix_plan(leading_steps(group), *group.words, data_type) if group.terms else None


def bare_plan(group: WordGroup, data_type: DataType) -> MatrixPlan | None:
    """A plan for the leading steps where the sums carry nothing: shorter than `leading_plan`; None where it is not."""
    if not group.terms or (plan := leading_plan(group, data_type)) is None or not plan.carried:
        return None
    bare = plan_of_bare_sums(leading_steps(group), *group.words, data_type)
    return bare if bare is not None and len(bare.alone) < len(plan.alone) else None


def leading_channel_plan(group: WordGroup, data_type: DataType) -> MatrixPlan | None:
    """A plan for leading steps with words for each channel; None where there are none, and for a maximum."""
    low, high = (tuple((sums + group.bias).tolist()) for sums in group.partial)
    return _channel_plan(group, leading_steps(group), low, high, data_type) if group.terms else None


def trailing_channel_plan(group: WordGroup, data_type: DataType) -> MatrixPlan | None:
    """A plan for trailing steps with words for each channel; None where there are none."""
    if group.sums is None:
        return None
    low, high = ((word,) * len(group.bias) for word in group.sums)
    return _channel_plan(group, trailing_steps(group), low, high, data_type)


def _channel_plan(
    group: WordGroup, steps: tuple[RawStep, ...], low: tuple[int, ...], high: tuple[int, ...], data_type: DataType
) -> MatrixPlan | None:
    if group.stationary is not None or not any(isinstance(step, ChannelMultiply | ChannelAdd) for step in steps):
        return None  # where weights move, channels have no lanes of their own
    return channel_plan(steps, low, high, data_type, again=group.layout.pixels >= _LEAST_PIXELS)


def trailing_plan(group: WordGroup, data_type: DataType) -> MatrixPlan | None:
    """A plan for the trailing steps."""
    return matrix_plan(trailing_steps(group), *group.sums, data_type) if group.sums is not None else None


def steps_before_addend(group: WordGroup) -> tuple[RawStep, ...]:
    """The steps before the last addition, behind high sums where there are some."""
    additions = _additions(group)
    first = 0 if group.add_high is None else 1
    return group.steps[first : additions[-1]] if additions else ()


def addend_plan(group: WordGroup, data_type: DataType) -> MatrixPlan | None:
    """A plan for all steps of a group that adds one tensor; of one that adds high sums first, for those that follow,
    of any word.
    """
    added = added_tensors(group)
    if len(added) != 1 or not group.terms:
        return None
    (step,) = added
    words = group.words if group.add_high is None else (data_type.min_code, data_type.max_code)
    addend = Addend(step.low, step.high, step.ceiling, step.word, step.carried)
    return matrix_plan_with_addend(steps_before_addend(group), trailing_steps(group), *words, addend, data_type)
