"""Fusion of sums, for native arithmetic: an Add of accumulators needs no pass of its own.

    a = conv(x); b = conv(y); c = a + b      ==>  c = conv(x) + conv(y), one head with both terms
    a = conv(x); c = a + 2^k * y             ==>  c = conv(x), += y: a rescaled tensor lies in the same words

Words have one scale there, so that a rescale copies, and nobody asks at what grid a sum would have been rounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from pefslc.ir.graph import Graph
from pefslc.ir.integer import Rescale
from pefslc.targets.tensil.groups.group import AddTensor, Group, LinearHead
from pefslc.targets.tensil.groups.group_program import GroupProgram
from pefslc.targets.tensil.rewriting.rewrite import LOG, Context

__all__ = ["FuseSums"]


@dataclass(frozen=True, slots=True)
class FuseSums:
    """Convolutions are merged into the sums that alone read them.

    rescaled  the results of Rescale operations that keep the values, and the tensors that they rescale
    """

    rescaled: Mapping[str, str]

    name: ClassVar[str] = "fuse-sums"
    needs: ClassVar[str] = "native arithmetic, where all words have one scale; the last rewrite before placement"
    ensures: ClassVar[str] = "a merged group computes the operations of both"

    @classmethod
    def of(cls, graph: Graph, program: GroupProgram) -> FuseSums:
        rescales = [op for op in graph.of_type(Rescale) if op.keeps_values]
        return cls({op.result.name: program.storage[op.input.name] for op in rescales})

    def run(self, program: GroupProgram, context: Context) -> GroupProgram:  # noqa: ARG002  # one signature for all
        groups = {group.result: group for group in program.groups}
        merges = 0
        for name, group in list(groups.items()):
            readers = Counter(t for g in groups.values() for t in g.tensors)
            match group.steps:
                case (AddTensor(addend), *_) if readers[addend] == 1 and addend not in program.output_tensors:
                    merged = _merged(groups[name], groups.get(addend), self.rescaled)
                case _:
                    continue
            if merged is None:
                LOG.debug("%s: %s and %s stay apart", self.name, name, addend)
                continue
            del groups[addend]
            groups[name] = merged
            merges += 1
        return program.with_groups(groups.values()) if merges else program


def _merged(group: Group, addend: Group | None, rescaled: Mapping[str, str]) -> Group | None:
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


def _copied(group: Group, rescaled: Mapping[str, str]) -> str | None:
    """The tensor that the group's head rescales and does nothing else with: no shuffle, no choice of packed lanes."""
    head = group.head
    if not group.ops or group.ops[0] not in rescaled or not isinstance(head, LinearHead) or np.any(head.bias):
        return None
    (term,) = head.terms
    return rescaled[group.ops[0]] if term.is_copy(int(term.weight.max())) else None
