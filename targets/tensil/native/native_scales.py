"""The steps of all codes of a float model's integer graph: of each stored tensor, and of each group's accumulators."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from pefslc.ir.graph import Graph
from pefslc.ir.value import CodeRange, Value
from pefslc.targets.tensil.groups.group import Group, LinearHead
from pefslc.targets.tensil.groups.group_program import GroupProgram, Role

__all__ = ["NativeScales", "values_of"]


@dataclass(frozen=True, slots=True)
class NativeScales:
    """The step of the codes of each value, helper tensors included, and of the accumulators of each group."""

    tensors: dict[str, Fraction]
    accumulators: dict[str, Fraction]

    @classmethod
    def of(cls, graph: Graph, program: GroupProgram) -> NativeScales:
        """Of a program before its sums are fused."""
        tensors = {v.name: _step(v.type.codes) for v in values_of(graph)}
        given = (program.tensors[port.tensor] for port in program.inputs)
        tensors |= {stored.name: tensors[stored.of] for stored in given if stored.role is Role.PIXELS}
        accumulators: dict[str, Fraction] = {}
        groups = {g.result: g for g in program.groups}
        for group in program.groups:
            stored = program.tensors[group.result]
            match stored.role:
                case Role.PACKED | Role.TRANSPOSED:
                    step = tensors[_source(group)]
                case Role.MEAN:
                    step = tensors[_source(group)] / _taps(group)
                case Role.PARTIAL:  # sums of the group that it is a part of
                    step = _accumulator_step(groups[stored.of], tensors)
                case Role.VALUE | Role.LEFTOVERS | Role.SUMS | Role.PIXELS:
                    step = _accumulator_step(group, tensors)
            accumulators[group.result] = step
            tensors.setdefault(group.result, step)
        return cls(tensors, accumulators)


def values_of(graph: Graph) -> list[Value]:
    """The inputs, and the results of all operations."""
    return [i.value for i in graph.inputs] + [op.result for op in graph.ops]


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
