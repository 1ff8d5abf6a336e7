"""Clips of addends that the addition does itself, or makes idle.

Where a network quantizes both branches of a residual Add, the branch without a layer is a group of its own: the tensor,
clipped from above. A MatMul by the identity adds the tensor with a bias that puts the clip at the rail, so the group is
not needed, nor the memory for its result. Done where a certified plan exists for the whole group that adds.

A lower clip of an addend is idle where whatever it would lift ends at the sum's own lower clip, such as a ReLU, with
the clip or without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import ClassVar

import numpy as np

from pefslc.targets.tensil.groups.group import is_copy
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.matrix.group_steps import added_tensors, addend_plan, leading_steps, trailing_steps
from pefslc.targets.tensil.rewriting.rewrite import LOG, Context
from pefslc.targets.tensil.words.steps import Accumulate, Maximum, Minimum, Multiply, RawStep, apply_steps
from pefslc.targets.tensil.words.word_group import WordGroup
from pefslc.targets.tensil.words.word_program import WordProgram

__all__ = ["DropIdleClips", "FoldAddends", "only_clips_from_above", "rewrite_addends"]

# (a group, the group of what it adds) -> both as they should be, None in place of an addend that is left out; None
# where they stay.
RewritePair = Callable[[WordGroup, WordGroup], tuple[WordGroup, WordGroup | None] | None]


def rewrite_addends(program: WordProgram, rewrite: RewritePair) -> WordProgram:
    """Each group that adds one tensor is rewritten with the group of that tensor, if nobody else reads it."""
    groups = {group.result: group for group in program.groups}
    reads = Counter(tensor for group in program.groups for tensor in group.tensors)
    rewrites = 0
    for group in program.groups:
        added = added_tensors(group)
        addend = groups.get(added[0].tensor) if len(added) == 1 else None
        if addend is None or addend.result in program.output_tensors or reads[addend.result] != 1:
            continue
        if any(term.tensor == addend.result for term in group.terms):
            continue
        pair = rewrite(group, addend)
        if pair is None:
            LOG.debug("%s and its addend %s stay as they are", group.result, addend.result)
            continue
        rewrites += 1
        groups[group.result], changed = pair
        if changed is None:
            del groups[addend.result]
        else:
            groups[addend.result] = changed
    return program.with_groups(groups.values()) if rewrites else program


class DropIdleClips:
    """Lower clips of what is only added, once, go where the sum's own lower clip does their work."""

    name: ClassVar[str] = "drop-idle-clips"
    needs: ClassVar[str] = "bounds of sums that hold: no overflow is allowed"
    ensures: ClassVar[str] = "what is added may lie lower than its codes do; the sum's clip lifts it"

    def run(self, program: WordProgram, context: Context) -> WordProgram:
        if context.allow_overflow:
            LOG.debug("%s: sums may overflow", self.name)
            return program
        return rewrite_addends(program, partial(_without_idle_clip, data_type=context.data_type))


def _without_idle_clip(group: WordGroup, addend: WordGroup, data_type: DataType) -> tuple[WordGroup, WordGroup] | None:
    """Both groups, the second without its lower clip; None where it has none that is idle."""
    shift, clips = addend.steps[:1], addend.steps[1:]
    trailing = trailing_steps(group)
    if (
        not addend.terms
        or not shift
        or not isinstance(shift[0], Multiply)
        or not trailing
        or not isinstance(trailing[0], Maximum)
    ):
        return None
    lower = [clip for clip in clips if isinstance(clip, Maximum)]
    rest = tuple(clip for clip in clips if isinstance(clip, Minimum))
    if len(lower) != 1 or len(lower) + len(rest) != len(clips) or any(clip.word < lower[0].word for clip in rest):
        return None
    (added,) = added_tensors(group)
    before = _ends(leading_steps(group), group.words, data_type)
    if before is None or added.ceiling is not None or lower[0].word + before[1] > trailing[0].word:
        return None
    low, high = _ends((*shift, *rest), addend.words, data_type) or addend.words
    if before[0] + low < data_type.min_code or group.sums is None:
        return None
    wider: Accumulate = replace(added, low=low, high=high)
    steps: tuple[RawStep, ...] = tuple(wider if step is added else step for step in group.steps)
    sums = min(group.sums[0], before[0] + low), group.sums[1]
    return replace(group, steps=steps, sums=sums), replace(addend, steps=(*shift, *rest))


def _ends(steps: tuple[RawStep, ...], words: tuple[int, int], data_type: DataType) -> tuple[int, int] | None:
    """What rising steps make of the lowest and the highest word; None for steps that may fall."""
    if not all(isinstance(step, Maximum | Minimum) or (isinstance(step, Multiply) and step.word > 0) for step in steps):
        return None
    low, high = apply_steps(steps, np.array(words, dtype=np.int64), data_type).tolist()
    return low, high


class FoldAddends:
    """Groups that only clip, from above, what one other group adds are left out: the addition does it."""

    name: ClassVar[str] = "fold-addends"
    needs: ClassVar[str] = "room for the rows of matrix steps (`word_rewrites.additions`)"
    ensures: ClassVar[str] = "an addition with a ceiling has a certified plan for the whole group"

    def run(self, program: WordProgram, context: Context) -> WordProgram:
        return rewrite_addends(program, partial(_folded, data_type=context.data_type))


def _folded(group: WordGroup, clamp: WordGroup, data_type: DataType) -> tuple[WordGroup, None] | None:
    """The group with the clip in its addition; None where it cannot do it: below 0, the way to the rail is no word."""
    if not only_clips_from_above(clamp, data_type):
        return None
    (added,), (limit,) = added_tensors(group), clamp.steps
    assert isinstance(limit, Minimum)
    low, high = clamp.words
    folded = replace(added, tensor=clamp.terms[0].tensor, low=low, high=high, ceiling=limit.word)
    candidate = replace(group, steps=tuple(folded if step is added else step for step in group.steps))
    return None if addend_plan(candidate, data_type) is None else (candidate, None)


def only_clips_from_above(group: WordGroup, data_type: DataType) -> bool:
    """Whether a group is a tensor as it lies, clipped from above."""
    if len(group.terms) != 1 or len(group.steps) != 1 or not isinstance(group.steps[0], Minimum):
        return False
    (term,) = group.terms
    return not group.bias.any() and is_copy(term.weight, term.window, data_type.one)
