"""Native arithmetic: a float model, quantized to the data type's own format, in the TCU's own fixed-point numbers.

Every tensor is its values times 2^p (p: the binary point), every weight its value rounded to p fraction bits. The MAC
rounds each product and saturates each sum; no step requantizes. That is what Tensil's own compiler makes of a float
model. It is *bounded*, not exact: of a sum of n products each is off by at most half a unit 2^-p, and what saturates is
off by more. Only for graphs that say so (`Graph.uniform_format`): a network that was trained with its quantizers means
them, and `placement` refuses it where it cannot be exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor

import numpy as np
from numpy.typing import NDArray

from pefslc.codes import Code
from pefslc.diagnostics import CompileError, Problem
from pefslc.ir.graph import Graph
from pefslc.ir.value import Codes
from pefslc.numeric.format import FixedPoint, saturate
from pefslc.numeric.rounding import round_fraction, round_ratio
from pefslc.numeric.scale import power_of_two_exponent
from pefslc.targets.tensil.activations import fit_activation
from pefslc.targets.tensil.architecture import DataType
from pefslc.targets.tensil.fusion import fuse_sums
from pefslc.targets.tensil.leftovers import PACKED, PARTIAL
from pefslc.targets.tensil.placed import Placed, PlacedGroup, PlacedTerm
from pefslc.targets.tensil.raw_steps import Accumulate, Maximum, Minimum, Multiply, RawStep
from pefslc.targets.tensil.selection import AddTensor, Group, LinearHead, MaxHead, Requantization, Selection
from pefslc.targets.tensil.selection import Limit as LimitStep

__all__ = ["is_native", "native_format", "place_natively"]

Words = NDArray[np.int64]


def native_format(data_type: DataType) -> FixedPoint:
    """The format of the TCU's own numbers: Q8.8 for FP16BP8."""
    return FixedPoint(data_type.width_bits - data_type.binary_point, data_type.binary_point)


def is_native(graph: Graph, data_type: DataType) -> bool:
    """Whether the graph is a float model that was quantized to the data type's own format, and asks for no more."""
    return graph.uniform_format == native_format(data_type)


def place_natively(graph: Graph, selection: Selection, data_type: DataType) -> tuple[Selection, Placed]:
    """The selection with its sums fused, and every group in raw words 2^-p. Raises CompileError with every fault."""
    scales = _Scales.of(graph, selection)
    selection = fuse_sums(graph, selection)
    placed: list[PlacedGroup] = []
    problems: list[Problem] = []
    for group in selection.groups:
        try:
            placed.append(_Placer(group, scales, data_type).place())
        except CompileError as e:
            problems.extend(e.problems)
    if problems:
        raise CompileError.of(problems)
    steps = {name: scales.tensors[name] * data_type.one for name in selection.layouts}  # of the codes, in words
    exponents = {name: max(power_of_two_exponent(step) or 0, 0) for name, step in steps.items()}
    finer = {name: (1 / step).numerator for name, step in steps.items() if step < 1}
    return selection, Placed(tuple(placed), exponents, finer)


@dataclass(frozen=True, slots=True)
class _Scales:
    """The step of the codes of each value, helper tensors included, and of the accumulators of each group."""

    tensors: dict[str, Fraction]
    accumulators: dict[str, Fraction]

    @classmethod
    def of(cls, graph: Graph, selection: Selection) -> _Scales:
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


def _step(codes: Codes) -> Fraction:
    assert not codes.scale.per_channel, "a uniform format has one scale"
    assert not codes.zero_point, "a uniform format has no zero point"
    return codes.scale.step


def _accumulator_step(group: Group, tensors: dict[str, Fraction]) -> Fraction:
    """Of the group's head: its first operation's, or of what it copies."""
    return tensors[group.ops[0] if len(group.ops) > len(group.steps) else _source(group)]


def _source(group: Group) -> str:
    return group.head.tensor if isinstance(group.head, MaxHead) else group.head.terms[0].tensor


def _taps(group: Group) -> int:
    assert isinstance(group.head, LinearHead)
    return group.head.terms[0].window.taps


@dataclass
class _Placer:
    """One group."""

    group: Group
    scales: _Scales
    data_type: DataType

    def place(self) -> PlacedGroup:
        head, whole = self.group.head, (self.data_type.min_code, self.data_type.max_code)
        steps: list[RawStep] = []
        if isinstance(head, MaxHead):
            terms: tuple[PlacedTerm, ...] = ()
            bias = np.full(self.group.layout.channels, self.data_type.min_code, dtype=np.int64)
            first = "maximum"
        else:
            terms, bias = self._terms(head, steps), self._words(head.bias, self.step)
            products = max(int(np.count_nonzero(t.weight.reshape(len(t.weight), -1), axis=1).max()) for t in terms)
            first = f"native, {products} products rounded"
        names = self._steps(steps)
        sums = whole if any(isinstance(s, Accumulate) for s in steps) else None
        ops = self.group.ops
        implementation = dict(zip(ops, [first] * (len(ops) - len(names)) + names, strict=True))
        partial = np.full_like(bias, whole[0]), np.full_like(bias, whole[1])  # any: the sums saturate
        exact = isinstance(head, MaxHead) and not steps
        return PlacedGroup(self.group, terms, bias, tuple(steps), whole, partial, sums, implementation, exact)

    @property
    def step(self) -> Fraction:
        return self.scales.accumulators[self.group.result]

    def _words(self, codes: Words, step: Fraction) -> Words:
        """RNE(codes * step * 2^p), saturated."""
        unit = step * self.data_type.one
        words = round_ratio(codes * unit.numerator, unit.denominator)
        return saturate(words, self.data_type.min_code, self.data_type.max_code)

    def _terms(self, head: LinearHead, steps: list[RawStep]) -> tuple[PlacedTerm, ...]:
        """The weights, rounded; of a mean, so that a multiplication after it makes up for their rounding."""
        placed = []
        for term in head.terms:
            scale = self.step / self.scales.tensors[term.tensor]
            words = self._words(term.weight, scale)
            if len(head.terms) == 1 and term.weight.min() >= 0 and term.weight.max() == 1:
                weight, factor = _mean_words(scale, self.data_type)
                words = term.weight * weight
                steps += [Multiply(factor)] if factor != self.data_type.one else []
            placed.append(PlacedTerm(term.tensor, words, term.window))
        return tuple(placed)

    def _steps(self, steps: list[RawStep]) -> list[str]:
        """Append the raw steps; what is done for each of the last operations of the group."""
        names, step = [], self.step
        ops = self.group.ops[len(self.group.ops) - len(self.group.steps) :]
        for name, wanted in zip(ops, self.group.steps, strict=True):
            match wanted:
                case Requantization():
                    names.append(self._activation(wanted, step, self.scales.tensors[name], steps))
                case LimitStep():
                    names.append(self._limit(wanted, step, steps))
                case AddTensor():
                    steps.append(Accumulate(wanted.tensor, self.data_type.min_code, self.data_type.max_code))
                    names.append("add")
            step = self.scales.tensors[name]
        return names

    def _activation(self, wanted: Requantization, before: Fraction, after: Fraction, steps: list[RawStep]) -> str:
        found = fit_activation(wanted.staircase, before, after, self.data_type)
        if found is None:
            raise CompileError(
                Code.TCU_UNSUPPORTED,
                f"native arithmetic on {self.data_type.value} knows ReLU, LeakyReLU and clips, the same in every "
                "channel; this is something else",
                at=self.group.origin,
                hint="fold BatchNorm into a convolution",
            )
        steps.extend(found.steps)
        if not found.steps:
            return ""
        return f"activation within {float(found.deviation):.3g} units of 2^-{self.data_type.binary_point}"

    def _limit(self, wanted: LimitStep, step: Fraction, steps: list[RawStep]) -> str:
        ends = self._words(np.array([wanted.low, wanted.high], dtype=np.int64), step)
        if ends[0] > self.data_type.min_code:
            steps.append(Maximum(int(ends[0])))
        if ends[1] < self.data_type.max_code:
            steps.append(Minimum(int(ends[1])))
        return "clip"


def _mean_words(scale: Fraction, data_type: DataType) -> tuple[int, int]:
    """(weight, factor) with weight * factor / 4^p closest to `scale`, at most 1.

    The weight alone is not above it: a mean must not saturate.
    """
    wanted = scale * data_type.one
    highest = max(floor(wanted), 1)
    weights = range(highest, max(highest * 3 // 4, 1) - 1, -1)  # a small weight loses more in every product

    def factor(weight: int) -> int:
        return round_fraction(wanted * data_type.one / weight)

    best = min(weights, key=lambda weight: abs(Fraction(weight * factor(weight)) - wanted * data_type.one))
    return best, factor(best)
