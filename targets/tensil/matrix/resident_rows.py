"""The rows of matrix steps that stay in local memory for the whole program."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.matrix.group_steps import addend_plan, bare_plan, leading_plan, trailing_plan
from pefslc.targets.tensil.matrix.matrix_steps import Diagonal, MatrixStep
from pefslc.targets.tensil.words.steps import AddHigh, AddOffset
from pefslc.targets.tensil.words.word_group import WordGroup

__all__ = ["resident_rows", "scale_of"]

_SHARE = 16  # of local memory, at most one part in so many


def scale_of(step: AddHigh) -> Diagonal:
    """The matrix by which high sums are multiplied, as they are added."""
    return Diagonal(step.word, 0)


def _may_be_bare(group: WordGroup, architecture: Architecture) -> bool:
    """Whether the sums of a group may carry no constant: where weights move, where one tile makes them, where local
    memory is too small for what is read and made, or where the steps of bare sums are fewer (`schedule.pass_steps`).
    """
    a = architecture.array_size
    one_tile = sum(-(-term.weight.shape[1] // a) * term.window.taps for term in group.terms) == 1
    is_offset = any(isinstance(step, AddOffset) for step in group.steps)
    too_large = 2 * group.layout.vectors(a) > architecture.local_depth
    return group.stationary is not None or one_tile or is_offset or too_large


def resident_rows(groups: Sequence[WordGroup], architecture: Architecture) -> dict[MatrixStep, NDArray[np.int64]]:
    """The rows [.., A] of each matrix step that is the same in every channel; none where they are too many."""
    data_type = architecture.data_type
    plans = [plan(group, data_type) for group in groups for plan in (leading_plan, trailing_plan, addend_plan)]
    plans += [bare_plan(group, data_type) for group in groups if _may_be_bare(group, architecture)]
    steps: dict[MatrixStep, None] = dict.fromkeys(step for plan in plans if plan is not None for step in plan.alone)
    steps |= dict.fromkeys(scale_of(g.add_high) for g in groups if g.add_high is not None)
    rows = {step: step.rows(architecture.array_size, data_type.one) for step in steps}
    return rows if sum(map(len, rows.values())) <= architecture.local_depth // _SHARE else {}
