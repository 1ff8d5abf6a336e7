"""The steps of a group, cut where a tensor is added, and the matrix plans for them."""

from __future__ import annotations

from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.matrix.channel_plan import channel_plan
from pefslc.targets.tensil.matrix.matrix_plan import Addend, MatrixPlan, matrix_plan, matrix_plan_with_addend
from pefslc.targets.tensil.words.placed_group import PlacedGroup
from pefslc.targets.tensil.words.steps import Accumulate, ChannelAdd, ChannelMultiply, RawStep

__all__ = [
    "added_tensors",
    "addend_plan",
    "leading_channel_plan",
    "leading_plan",
    "leading_steps",
    "trailing_channel_plan",
    "trailing_plan",
    "trailing_steps",
]


def added_tensors(placed: PlacedGroup) -> list[Accumulate]:
    return [step for step in placed.steps if isinstance(step, Accumulate)]


def leading_steps(placed: PlacedGroup) -> tuple[RawStep, ...]:
    """The steps before the first tensor is added."""
    added = added_tensors(placed)
    return placed.steps[: placed.steps.index(added[0])] if added else placed.steps


def trailing_steps(placed: PlacedGroup) -> tuple[RawStep, ...]:
    """The steps after the last added tensor; none without one."""
    added = added_tensors(placed)
    return placed.steps[placed.steps.index(added[-1]) + 1 :] if added else ()


def leading_plan(placed: PlacedGroup, data_type: DataType) -> MatrixPlan | None:
    """A plan for the leading steps; None for a maximum, too, which has no sums."""
    return matrix_plan(leading_steps(placed), *placed.words, data_type) if placed.terms else None


def leading_channel_plan(placed: PlacedGroup, data_type: DataType) -> MatrixPlan | None:
    """A plan for leading steps with words for each channel; None where there are none, and for a maximum."""
    low, high = (tuple((sums + placed.bias).tolist()) for sums in placed.partial)
    return _channel_plan(placed, leading_steps(placed), low, high, data_type) if placed.terms else None


def trailing_channel_plan(placed: PlacedGroup, data_type: DataType) -> MatrixPlan | None:
    """A plan for trailing steps with words for each channel; None where there are none."""
    if placed.sums is None:
        return None
    low, high = ((word,) * len(placed.bias) for word in placed.sums)
    return _channel_plan(placed, trailing_steps(placed), low, high, data_type)


def _channel_plan(
    placed: PlacedGroup, steps: tuple[RawStep, ...], low: tuple[int, ...], high: tuple[int, ...], data_type: DataType
) -> MatrixPlan | None:
    if placed.weights_move or not any(isinstance(step, ChannelMultiply | ChannelAdd) for step in steps):
        return None  # where weights move, channels have no lanes of their own
    return channel_plan(steps, low, high, data_type)


def trailing_plan(placed: PlacedGroup, data_type: DataType) -> MatrixPlan | None:
    """A plan for the trailing steps."""
    return matrix_plan(trailing_steps(placed), *placed.sums, data_type) if placed.sums is not None else None


def addend_plan(placed: PlacedGroup, data_type: DataType) -> MatrixPlan | None:
    """A plan for all steps of a group that adds one tensor."""
    added = added_tensors(placed)
    if len(added) != 1 or not placed.terms:
        return None
    (step,) = added
    addend = Addend(step.low, step.high, step.ceiling, step.word, step.carried)
    return matrix_plan_with_addend(leading_steps(placed), trailing_steps(placed), *placed.words, addend, data_type)
