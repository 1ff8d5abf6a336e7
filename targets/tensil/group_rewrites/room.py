"""Whether local memory holds what a rewrite adds to it: asked before anything is placed or scheduled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from pefslc.targets.tensil.groups.group import AddTensor, Limit, LinearHead
from pefslc.targets.tensil.groups.group_program import GroupProgram
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.timing import vector_beats

__all__ = ["clamped_addends", "has_room", "moved_cycles"]

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


def moved_cycles(program: GroupProgram, architecture: Architecture) -> int:
    """About the cycles of moving tensors to DRAM0 and back where local memory cannot hold all that is live: those
    first, the largest first, that a group neither reads nor makes.
    """
    clamped, together = clamped_addends(program), summed_together(program)
    groups = [group for group in program.groups if group.result not in clamped and group.result not in together]
    reads: dict[str, set[str]] = {}
    for group in program.groups:
        read = {clamped.get(tensor, tensor) for tensor in group.tensors if tensor not in together}
        reads.setdefault(together.get(group.result, group.result), set()).update(read)
    last = {tensor: i for i, group in enumerate(groups) for tensor in (group.result, *reads[group.result])}
    vectors = {name: tensor.layout.vectors(architecture.array_size) for name, tensor in program.tensors.items()}
    room = architecture.local_depth - architecture.local_depth // _WEIGHTS_SHARE
    local: set[str] = set()
    moved = 0
    for i, group in enumerate(groups):
        used = {group.result, *reads[group.result]}
        lent = {step.tensor for step in group.steps if isinstance(step, AddTensor) and _is_overwritten(step, i, last)}
        local |= used
        idle = sorted((vectors[name], name) for name in local - used)
        while idle and sum(vectors[name] for name in local - lent) > room:
            size, name = idle.pop()
            local.remove(name)
            moved += 2 * size
        local = {name for name in local if last[name] > i}
    return moved * vector_beats(architecture)


def _is_overwritten(step: AddTensor, place: int, last: Mapping[str, int]) -> bool:
    """Whether the result lies where the tensor lies that is added: a low digit, where it is of."""
    return step.within is not None and last[step.tensor] == place


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
