"""Whether local memory holds what a rewrite adds to it: asked before anything is placed or scheduled."""

from __future__ import annotations

from collections import Counter

from pefslc.targets.tensil.groups.group import AddTensor, Limit, LinearHead
from pefslc.targets.tensil.groups.group_program import GroupProgram
from pefslc.targets.tensil.machine.architecture import Architecture

__all__ = ["clamped_addends", "has_room"]

_WEIGHTS_SHARE = 8  # this part of local memory stays free for weights


def has_room(program: GroupProgram, helper: str, architecture: Architecture) -> bool:
    """Whether local memory holds all that is live, and weights, wherever the helper is."""
    made: dict[str, int] = {}
    last: dict[str, int] = {}
    clamped, together = clamped_addends(program), summed_together(program)
    place = {group.result: i for i, group in enumerate(program.groups)}
    for i, group in enumerate(program.groups):
        if group.result in clamped:
            continue
        if group.result in together:  # what it reads is there until the sum is made
            last |= {tensor: place[together[group.result]] for tensor in group.tensors}
            continue
        made[group.result] = i
        last[group.result] = max(last.get(group.result, i), i)
        for tensor in group.tensors:
            if tensor not in together:
                last[clamped.get(tensor, tensor)] = max(i, last.get(tensor, i))
    room = architecture.local_depth - architecture.local_depth // _WEIGHTS_SHARE
    if helper in clamped:
        return True
    for i in range(made[helper], last[helper] + 1):
        live = [t for t, end in last.items() if made.get(t, 0) <= i <= end]
        if sum(program.layout(t).vectors(architecture.array_size) for t in live) > room:
            return False
    return True


def summed_together(program: GroupProgram) -> dict[str, str]:
    """Sums over both digits of a tensor, which nobody stores (`word_rewrites.both_digits`), and what adds them."""
    reads = Counter(tensor for group in program.groups for tensor in group.tensors)
    bare = {g.result for g in program.groups if isinstance(g.head, LinearHead) and not g.steps and reads[g.result] == 1}
    found: dict[str, str] = {}
    for group in program.groups:
        match group.head, group.steps:
            case LinearHead(terms=(term,)), (Limit(), AddTensor(low), *_) if {term.tensor, low} <= bare:
                if term.is_copy(int(term.weight.max())):
                    found |= dict.fromkeys((term.tensor, low), group.result)
    return found


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
