"""Clamps of addends that the addition does itself.

Where a network quantizes both branches of a residual Add, the branch without a layer is a group of its own: the tensor,
clipped from above. A MatMul by the identity adds the tensor with a bias that puts the clip at the rail, so the group is
not needed, nor the memory for its result. Done where a certified plan exists for the whole group that adds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from dataclasses import replace

from pefslc.targets.tensil.architecture import DataType
from pefslc.targets.tensil.group_steps import added_tensors, addend_plan
from pefslc.targets.tensil.groups import AddTensor, LinearHead, Selection
from pefslc.targets.tensil.placed import Placed, PlacedGroup
from pefslc.targets.tensil.raw_steps import Minimum
from pefslc.targets.tensil.weights import is_copy

__all__ = ["clamped_addends", "fold_addends"]


def fold_addends(placed: Placed, outputs: Set[str], data_type: DataType) -> Placed:
    """The groups without those that only clip, from above, what one other group adds."""
    groups = {group.group.result: group for group in placed.groups}
    reads = Counter(tensor for group in placed.groups for tensor in group.tensors)
    for group in placed.groups:
        added = added_tensors(group)
        clamp = groups.get(added[0].tensor) if len(added) == 1 else None
        if clamp is None or clamp.group.result in outputs or reads[clamp.group.result] != 1:
            continue
        if any(term.tensor == clamp.group.result for term in group.terms):
            continue
        if not _only_clips_from_above(clamp, data_type):
            continue
        (limit,) = clamp.steps
        assert isinstance(limit, Minimum)
        if limit.word < 0:
            continue  # lanes without a channel, which hold 0, would no longer
        low, high = clamp.words
        folded = replace(added[0], tensor=clamp.terms[0].tensor, low=low, high=high, ceiling=limit.word)
        steps = tuple(folded if step is added[0] else step for step in group.steps)
        candidate = replace(group, steps=steps)
        if addend_plan(candidate, data_type) is not None:
            groups[group.group.result] = candidate
            del groups[clamp.group.result]
    return replace(placed, groups=tuple(groups.values()))


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
