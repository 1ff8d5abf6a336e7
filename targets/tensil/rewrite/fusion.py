"""Fusion of sums, for native arithmetic: an Add of accumulators needs no pass of its own.

    a = conv(x); b = conv(y); c = a + b      ==>  c = conv(x) + conv(y), one head with both terms
    a = conv(x); c = a + 2^k * y             ==>  c = conv(x), += y: a rescaled tensor lies in the same words

Words have one scale there, so that a rescale copies, and nobody asks at what grid a sum would have been rounded.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from pefslc.ir.graph import Graph
from pefslc.ir.integer import Rescale
from pefslc.targets.tensil.groups.group import AddTensor, Group, LinearHead, Selection
from pefslc.targets.tensil.schedule.weights import is_copy

__all__ = ["fuse_sums"]


def fuse_sums(graph: Graph, selection: Selection) -> Selection:
    """The selection with convolutions merged into the sums that alone read them."""
    rescaled = {op.result.name: selection.storage[op.input.name] for op in graph.of_type(Rescale) if op.keeps_values}
    outputs = {selection.storage[o.value.name] for o in graph.outputs}
    groups = {group.result: group for group in selection.groups}
    for name, group in list(groups.items()):
        readers = Counter(t for g in groups.values() for t in _reads(g))
        match group.steps:
            case (AddTensor(addend), *_) if readers[addend] == 1 and addend not in outputs:
                merged = _merged(groups[name], groups.get(addend), rescaled)
            case _:
                merged = None
        if merged is not None:
            del groups[addend]
            groups[name] = merged
    kept = tuple(groups.values())
    return selection if kept == selection.groups else replace(selection, groups=kept)


def _merged(group: Group, addend: Group | None, rescaled: dict[str, str]) -> Group | None:
    """`group`, whose first step adds the result of `addend`, without that step; None where that cannot be."""
    if addend is None or not isinstance(group.head, LinearHead) or not isinstance(addend.head, LinearHead):
        return None
    ops, rest = addend.ops + group.ops, group.steps[1:]
    source = _copied(group, rescaled)
    if source is not None and all(isinstance(s, AddTensor) for s in addend.steps):
        return replace(group, head=addend.head, steps=(*addend.steps, AddTensor(source), *rest), ops=ops)
    if addend.steps or _copied(addend, rescaled) is not None:
        return None
    head = LinearHead(addend.head.terms + group.head.terms, addend.head.bias + group.head.bias)
    return replace(group, head=head, steps=rest, ops=ops)


def _copied(group: Group, rescaled: dict[str, str]) -> str | None:
    """The tensor that the group's head rescales and does nothing else with: no shuffle, no choice of packed lanes."""
    head = group.head
    if not group.ops or group.ops[0] not in rescaled or not isinstance(head, LinearHead) or np.any(head.bias):
        return None
    (term,) = head.terms
    return rescaled[group.ops[0]] if is_copy(term.weight, term.window, int(term.weight.max())) else None


def _reads(group: Group) -> list[str]:
    head = [t.tensor for t in group.head.terms] if isinstance(group.head, LinearHead) else [group.head.tensor]
    return head + [s.tensor for s in group.steps if isinstance(s, AddTensor)]
