"""The steps of all codes of a float model's integer graph: of each stored tensor, and of each group's accumulators."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from pefslc.ir.graph import Graph
from pefslc.ir.value import CodeRange
from pefslc.targets.tensil.groups.group import Group, LinearHead, Selection
from pefslc.targets.tensil.rewrite.leftover_channels import PACKED, PARTIAL

__all__ = ["NativeScales"]


@dataclass(frozen=True, slots=True)
class NativeScales:
    """The step of the codes of each value, helper tensors included, and of the accumulators of each group."""

    tensors: dict[str, Fraction]
    accumulators: dict[str, Fraction]

    @classmethod
    def of(cls, graph: Graph, selection: Selection) -> NativeScales:
        values = [i.value for i in graph.inputs] + [op.result for op in graph.ops]
        tensors = {v.name: _step(v.type.codes) for v in values}
        accumulators: dict[str, Fraction] = {}
        bases = {g.result: g for g in selection.groups if g.ops}
        for group in selection.groups:
            base = bases.get(group.result.removesuffix(PARTIAL))
            if base is None:  # a helper that packs a tensor, or sums a part of one
                source = _source(group)
                step = tensors[source] / (1 if group.result.endswith(PACKED) else _taps(group))
            else:
                step = _accumulator_step(base, tensors)
            accumulators[group.result] = step
            tensors.setdefault(group.result, step)
        return cls(tensors, accumulators)


def _step(codes: CodeRange) -> Fraction:
    assert not codes.scale.per_channel, "a uniform format has one scale"
    assert not codes.zero_point, "a uniform format has no zero point"
    return codes.scale.step


def _accumulator_step(group: Group, tensors: dict[str, Fraction]) -> Fraction:
    """Of the group's head: its first operation's, or of what it copies."""
    return tensors[group.ops[0] if len(group.ops) > len(group.steps) else _source(group)]


def _source(group: Group) -> str:
    return group.head.terms[0].tensor if isinstance(group.head, LinearHead) else group.head.tensor


def _taps(group: Group) -> int:
    assert isinstance(group.head, LinearHead)
    return group.head.terms[0].window.taps
