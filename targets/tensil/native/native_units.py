"""What the words of a float model are worth: by exponents, and by factors that placement finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from pefslc.targets.tensil.groups.group import AddTensor, LinearHead
from pefslc.targets.tensil.groups.group_program import GroupProgram
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.native.exponents import Exponents, copied_tensor
from pefslc.targets.tensil.native.native_scales import NativeScales

__all__ = ["NativeUnits", "free_tensors"]


@dataclass(frozen=True, slots=True)
class NativeUnits:
    """Words per code, and words per value.

    free     tensors whose words may be any multiple of their values
    factors  of some of these, when they are placed: what their words are times those of their exponent
    slopes   of the leaky ReLU that makes a tensor, below zero, when it is placed
    """

    scales: NativeScales
    exponents: Exponents
    data_type: DataType
    free: frozenset[str]
    factors: dict[str, Fraction] = field(default_factory=dict)
    slopes: dict[str, Fraction] = field(default_factory=dict)

    def at(self, value: str, exponent: int) -> Fraction:
        """Words per code of a value, in words of this exponent."""
        return self.scales.tensors[value] * self.data_type.one * Fraction(2) ** exponent

    def tensor(self, name: str) -> Fraction:
        """Words per code of a stored tensor."""
        return self.scales.tensors[name] * self.per_value(name)

    def per_value(self, name: str) -> Fraction:
        """Words per value of a stored tensor."""
        return self.data_type.one * Fraction(2) ** self.exponents.tensors[name] * self.factors.get(name, 1)

    def accumulators(self, group: str) -> Fraction:
        """Words per code of the accumulators of a group, before its steps; of one that copies, of what it copies."""
        one = self.data_type.one * Fraction(2) ** self.exponents.accumulators[group]
        return self.scales.accumulators[group] * one * self.factors.get(group, 1)


def free_tensors(program: GroupProgram) -> frozenset[str]:
    """The tensors that only convolutions read, directly or packed, none of which is a sum or a choice of pixels."""
    bound = set(program.output_tensors)
    for group in reversed(program.groups):
        bound |= {step.tensor for step in group.steps if isinstance(step, AddTensor)}
        if copied_tensor(program.tensors, group) is not None:
            bound |= set(group.tensors) if group.result in bound else set()
        elif isinstance(group.head, LinearHead):
            bound |= {term.tensor for term in group.head.terms if not (term.weight & ~1).any()}
        else:
            bound |= set(group.tensors)
    return frozenset(group.result for group in program.groups if group.result not in bound)
