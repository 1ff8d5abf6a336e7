"""Clips of addends that the addition does itself, or makes idle.

Where a network quantizes both branches of a residual Add, the branch without a layer is a group of its own: the tensor,
clipped from above. A MatMul by the identity adds the tensor with a bias that puts the clip at the rail, so the group is
not needed, nor the memory for its result. Done where a certified plan exists for the whole group that adds.

A lower clip of an addend is idle where whatever it would lift ends at the sum's own lower clip, such as a ReLU, with
the clip or without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Set
from dataclasses import replace
from functools import partial

import numpy as np

from pefslc.targets.tensil.groups.group import AddTensor, LinearHead, Selection
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.matrix.group_steps import added_tensors, addend_plan, leading_steps, trailing_steps
from pefslc.targets.tensil.schedule.weights import is_copy
from pefslc.targets.tensil.words.placed_group import Placed, PlacedGroup
from pefslc.targets.tensil.words.steps import Accumulate, Maximum, Minimum, Multiply, RawStep, apply_steps

__all__ = ["clamped_addends", "drop_idle_clips", "fold_addends", "rewrite_addends"]

# (a group, the group of what it adds) -> both as they should be, None in place of an addend that is left out; None
# where they stay.
Rewrite = Callable[[PlacedGroup, PlacedGroup], tuple[PlacedGroup, PlacedGroup | None] | None]


def rewrite_addends(placed: Placed, outputs: Set[str], rewrite: Rewrite) -> Placed:
    """The groups; each that adds one tensor is rewritten with the group of that tensor, if nobody else reads it."""
    groups = {group.group.result: group for group in placed.groups}
    reads = Counter(tensor for group in placed.groups for tensor in group.tensors)
    for group in placed.groups:
        added = added_tensors(group)
        addend = groups.get(added[0].tensor) if len(added) == 1 else None
        if addend is None or addend.group.result in outputs or reads[addend.group.result] != 1:
            continue
        if any(term.tensor == addend.group.result for term in group.terms):
            continue
        pair = rewrite(group, addend)
        if pair is None:
            continue
        groups[group.group.result], changed = pair
        if changed is None:
            del groups[addend.group.result]
        else:
            groups[addend.group.result] = changed
    return replace(placed, groups=tuple(groups.values()))


def drop_idle_clips(placed: Placed, outputs: Set[str], data_type: DataType) -> Placed:
    """The groups without lower clips of what is only added, once, where the sum's own lower clip does their work."""
    return rewrite_addends(placed, outputs, partial(_without_idle_clip, data_type=data_type))


def _without_idle_clip(
    group: PlacedGroup, addend: PlacedGroup, data_type: DataType
) -> tuple[PlacedGroup, PlacedGroup] | None:
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


def fold_addends(placed: Placed, outputs: Set[str], data_type: DataType) -> Placed:
    """The groups without those that only clip, from above, what one other group adds."""
    return rewrite_addends(placed, outputs, partial(_folded, data_type=data_type))


def _folded(group: PlacedGroup, clamp: PlacedGroup, data_type: DataType) -> tuple[PlacedGroup, None] | None:
    """The group with the clip in its addition; None where it cannot do it: below 0, the way to the rail is no word."""
    if not _only_clips_from_above(clamp, data_type):
        return None
    (added,), (limit,) = added_tensors(group), clamp.steps
    assert isinstance(limit, Minimum)
    low, high = clamp.words
    folded = replace(added, tensor=clamp.terms[0].tensor, low=low, high=high, ceiling=limit.word)
    candidate = replace(group, steps=tuple(folded if step is added else step for step in group.steps))
    return None if addend_plan(candidate, data_type) is None else (candidate, None)


def _only_clips_from_above(group: PlacedGroup, data_type: DataType) -> bool:
    if len(group.terms) != 1 or len(group.steps) != 1 or not isinstance(group.steps[0], Minimum):
        return False
    (term,) = group.terms
    return not group.bias.any() and is_copy(term.weight, term.window, data_type.one)


def clamped_addends(selection: Selection) -> dict[str, str]:
    """Groups that `fold_addends` may leave out, before anything is placed: their results, and what they clamp."""
    reads = Counter(tensor for group in selection.groups for tensor in group.tensors)
    added = {s.tensor for group in selection.groups for s in group.steps if isinstance(s, AddTensor)}
    found: dict[str, str] = {}
    for group in selection.groups:
        head = group.head
        if not isinstance(head, LinearHead) or len(head.terms) != 1 or len(group.steps) != 1:
            continue
        if group.result in added and reads[group.result] == 1 and is_copy(head.terms[0].weight, head.terms[0].window):
            found[group.result] = head.terms[0].tensor
    return found
