"""How far a program in native arithmetic is off its float model at most: interval arithmetic, layer by layer.

Every error is carried on as large as it can be, with every sign for the worst, through the magnitudes of all weights.
What a weight is off by counts times the largest value that its input had on the calibration inputs. So this is a bound
for inputs with which no layer of the float model goes beyond these measured ranges, and no sum saturates; and of deep
networks it says nothing, for it cannot know which errors cancel.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pefslc.ir.graph import Graph
from pefslc.ir.integer import Conv2d, Dense
from pefslc.targets.tensil.groups.group import Group, LinearHead
from pefslc.targets.tensil.groups.group_program import GroupProgram, Role
from pefslc.targets.tensil.native.magnitudes import Magnitudes
from pefslc.targets.tensil.native.native_units import NativeUnits
from pefslc.targets.tensil.words.steps import Accumulate, LeakyRelu, Maximum, Minimum, Multiply, RawStep, TwoSlopes
from pefslc.targets.tensil.words.word_group import WordGroup

__all__ = ["output_errors"]

Floats = NDArray[np.float64]


def output_errors(
    graph: Graph, program: GroupProgram, placed: Sequence[WordGroup], units: NativeUnits, magnitudes: Magnitudes
) -> dict[str, float]:
    """By output: by how much any of its values is off at most; none of those on whose way weights may have saturated.

    graph   what `program` was made of
    placed  the groups of `program`, in its order
    """
    bound = _Bound(graph, program, units, magnitudes)
    for group, words in zip(program.groups, placed, strict=True):
        bound.add(group, words)
    # The host rounds a value to a code.
    steps = units.scales.tensors
    known = (port for port in program.outputs if port.tensor not in bound.unknown)
    return {p.name: float(bound.errors[p.tensor].max()) + float(steps[p.tensor]) / 2 for p in known}


class _Bound:
    """`errors` are those of each stored tensor's values, by channel. `unknown`: the tensors of which there are none."""

    def __init__(self, graph: Graph, program: GroupProgram, units: NativeUnits, magnitudes: Magnitudes) -> None:
        self.unknown: set[str] = set()
        # How many weights make one result: all other places of a group's weights are structural zeros.
        self.taps = {op.result.name: op.weight.data[0].size for op in graph.ops if isinstance(op, Conv2d | Dense)}
        self.makers = {group.result: group for group in program.groups}
        self.program, self.units, self.magnitudes = program, units, magnitudes
        self.one = units.data_type.one
        steps = units.scales.tensors
        self.errors = {  # the host rounds them to codes
            port.tensor: np.full(program.layout(port.tensor).channels, float(steps[port.tensor]) / 2)
            for port in program.inputs
        }

    def add(self, group: Group, words: WordGroup) -> None:
        if not self.unknown.isdisjoint(group.tensors):
            self.unknown.add(group.result)
        per_value = self.units.per_value(group.result)  # words, from the last step back to the first
        for step in reversed(words.steps):
            per_value /= self._gain(step)
        error = self._sums(group, words, per_value)
        for step in words.steps:
            per_value *= self._gain(step)
            error = self._stepped(group, step, error, 1 / float(per_value))
        self.errors[group.result] = error

    def _gain(self, step: RawStep) -> Fraction:
        match step:
            case Multiply(word):
                return Fraction(word, self.one)
            case TwoSlopes(above, _):
                return Fraction(above, self.one)
            case _:
                return Fraction(1)

    def _sums(self, group: Group, words: WordGroup, per_value: Fraction) -> Floats:
        head = group.head
        if not isinstance(head, LinearHead):
            return self.errors[head.tensor]
        step, unit = self.units.scales.accumulators[group.result], 1 / float(per_value)
        error = np.abs(words.bias * unit - head.bias * float(step)) + float(step)
        for i, term in enumerate(words.terms):
            scale = self.units.per_value(term.tensor) / self.one / per_value
            found = term.weight * float(scale)
            wanted, least = term.weight != 0, 0.0  # a tensor that is added: its weights are ones
            if i < len(head.terms):
                grid = step / self.units.scales.tensors[term.tensor]
                wanted = head.terms[i].weight * float(grid)
                least = 0.0 if self._helps(group, term.tensor) else float(grid)  # the float model's weights lie off it
                if least and np.abs(wanted).max() + least >= -self.units.data_type.min_code / self.one:
                    self.unknown.add(group.result)  # those at the end of their format may have been any
            largest = float(self.magnitudes.largest_of(self.program, term.tensor))
            rounded = np.maximum(np.count_nonzero(found, axis=(1, 2, 3)), min(self._taps(group), found[0].size))
            off = (np.abs(found - wanted).sum(axis=(1, 2, 3)) + least * rounded) * largest
            carried = np.abs(found).sum(axis=(2, 3)) @ self.errors[term.tensor]
            products = np.count_nonzero(term.weight.reshape(len(term.weight), -1), axis=1)
            error = error + off + carried + products * unit / 2
        return np.asarray(error, dtype=np.float64)

    def _taps(self, group: Group) -> int:
        """How many weights make one result of the layers of a group, or of the group of which it makes a part: those
        that were rounded to 0 as well.
        """
        name = group.result
        while not self.makers[name].ops and self.program.tensors[name].of in self.makers:
            name = self.program.tensors[name].of
        return sum(self.taps.get(op, 0) for op in self.makers[name].ops)

    def _helps(self, group: Group, tensor: str) -> bool:
        """Whether the weights are those of no layer, but ones that copy, or sum what was made for that."""
        roles = self.program.tensors[group.result].role, self.program.tensors[tensor].role
        return Role.PACKED in roles[:1] or roles[1] is Role.PARTIAL or Role.MEAN in roles

    def _stepped(self, group: Group, step: RawStep, error: Floats, unit: float) -> Floats:
        """After a step, whose result has words of this unit."""
        if isinstance(step, LeakyRelu | TwoSlopes):
            slope = self.units.slopes[group.result]
            found = Fraction(step.word, self.one) if isinstance(step, LeakyRelu) else Fraction(step.below, step.above)
            largest = max(self.magnitudes.largest_of(self.program, name) for name in (*group.ops, group.result))
            error = error + float(abs(found - slope) * largest)
        match step:
            case Accumulate(tensor):
                return np.asarray(error + self.errors[tensor], dtype=np.float64)
            case Maximum(word) | Minimum(word):
                return error if word == 0 else error + unit / 2
            case TwoSlopes():
                return error + unit
            case _:
                return error + unit / 2
