"""Whether local memory holds what a rewrite adds to it: asked before anything is placed or scheduled."""

from __future__ import annotations

from collections import Counter

from pefslc.targets.tensil.groups.group import AddTensor, LinearHead
from pefslc.targets.tensil.groups.group_program import GroupProgram
from pefslc.targets.tensil.machine.architecture import Architecture

__all__ = ["clamped_addends", "has_room"]

_WEIGHTS_SHARE = 8  # this part of local memory stays free for weights


def has_room(program: GroupProgram, helper: str, architecture: Architecture) -> bool:
    """Whether local memory holds all that is live, and weights, wherever the helper is."""
    made: dict[str, int] = {}
    last: dict[str, int] = {}
    clamped = clamped_addends(program)
    for i, group in enumerate(program.groups):
        if group.result in clamped:
            continue
        made[group.result] = i
        last[group.result] = max(last.get(group.result, i), i)
        for tensor in group.tensors:
            last[clamped.get(tensor, tensor)] = i
    room = architecture.local_depth - architecture.local_depth // _WEIGHTS_SHARE
    if helper in clamped:
        return True
    for i in range(made[helper], last[helper] + 1):
        live = [t for t, end in last.items() if made.get(t, 0) <= i <= end]
        if sum(program.layout(t).vectors(architecture.array_size) for t in live) > room:
            return False
    return True


def clamped_addends(program: GroupProgram) -> dict[str, str]:
    """Groups that only clamp a tensor for one addition, and which the addition may do without
    (`word_rewrites.addends`): their results, and what they clamp.
    """
    reads = Counter(tensor for group in program.groups for tensor in group.tensors)
    added = {s.tensor for group in program.groups for s in group.steps if isinstance(s, AddTensor)}
    clamped: dict[str, str] = {}
    for group in program.groups:
        head = group.head
        if not isinstance(head, LinearHead) or len(head.terms) != 1 or len(group.steps) != 1:
            continue
        if group.result in added and reads[group.result] == 1 and head.terms[0].is_copy():
            clamped[group.result] = head.terms[0].tensor
    return clamped
