"""Native arithmetic: a float model, quantized to the data type's own format, in the TCU's own fixed-point numbers.

A tensor is its values times 2^(p+d) (p: the binary point), the sums that read it are times 2^(p+a), and a weight is its
value times 2^(p+a-d), rounded (`exponents`). The MAC rounds each product and saturates each sum. A Multiply brings
sums to the exponent of the result, where that is another. With all exponents 0 that is what Tensil's own compiler makes
of a float model. It is *bounded*, not exact: of a sum of n products each is off by at most half a unit 2^-(p+a), and
what saturates is off by more. Only for graphs that say so
(`Graph.uniform_format`): a network that was trained with its quantizers means them, and `placement` refuses it where it
cannot be exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import floor

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem
from pefslc.geometry.dilation_phases import taps_together
from pefslc.geometry.shapes import Window
from pefslc.ir.graph import Graph
from pefslc.numeric.format import saturate
from pefslc.numeric.rounding import round_fraction, round_ratio
from pefslc.passes.round_weights import round_weights
from pefslc.targets.tensil.groups.group import AddTensor, Group, LinearHead, Requantization, Rounding, Term
from pefslc.targets.tensil.groups.group import Limit as LimitStep
from pefslc.targets.tensil.groups.group_program import GroupProgram, StoredTensor
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.native.activations import Activation, fit_activation, fit_line, two_slopes
from pefslc.targets.tensil.native.exponents import Exponents, additions, copied_tensor
from pefslc.targets.tensil.native.native_scales import NativeScales
from pefslc.targets.tensil.native.native_units import NativeUnits, free_tensors
from pefslc.targets.tensil.native.native_words import native_format
from pefslc.targets.tensil.words.steps import Accumulate, LeakyRelu, Maximum, Minimum, Multiply, RawStep, TwoSlopes
from pefslc.targets.tensil.words.word_group import SumHead, WordGroup, WordHead, WordTerm
from pefslc.targets.tensil.words.word_program import Outcome, WordProgram, WordTensor

__all__ = ["NativePlacement", "is_native", "most_products", "place_natively"]

Words = NDArray[np.int64]

_POINT = Window(kernel=(1, 1))


def is_native(graph: Graph, data_type: DataType) -> bool:
    """Whether the graph is a float model that was quantized to the data type's own format, and asks for no more."""
    return graph.uniform_format == native_format(data_type)


def place_natively(
    program: GroupProgram, scales: NativeScales, data_type: DataType, exponents: Exponents, *, measured: bool
) -> NativePlacement:
    """Every group in raw words. Raises CompileError with every fault.

    program   after its sums were fused
    scales    of the program before that
    measured  exponents are those of calibration inputs: multiplications are worth their cycles
    """
    free = free_tensors(program) if measured else frozenset[str]()
    units = NativeUnits(scales, exponents, data_type, free)
    groups: list[WordGroup] = []
    outcomes: list[Outcome] = []
    problems: list[Problem] = []
    for group in program.groups:
        try:
            placed, outcome = _Placer(group, program.tensors, units, data_type).place()
            groups.append(placed)
            outcomes.append(outcome)
        except CompileError as e:
            problems.extend(e.problems)
    if problems:
        raise CompileError.of(problems)
    tensors = {
        name: WordTensor(stored, unit.numerator.bit_length() - 1, unit.denominator)
        for name, stored in program.tensors.items()
        if (unit := units.tensor(name))
    }
    sums = [e for name, e in exponents.accumulators.items() if name not in exponents.copies]
    native = native_format(data_type, min(sums, default=0))
    words = WordProgram(program.inputs, program.outputs, tuple(groups), tensors, tuple(outcomes), native)
    return NativePlacement(words, units)


@dataclass(frozen=True, slots=True)
class NativePlacement:
    """A program in words, and what the words are worth."""

    words: WordProgram
    units: NativeUnits


@dataclass
class _Placer:
    """One group."""

    group: Group
    tensors: Mapping[str, StoredTensor]
    units: NativeUnits
    data_type: DataType

    def place(self) -> tuple[WordGroup, Outcome]:
        if (source := copied_tensor(self.tensors, self.group)) in self.units.factors:
            self.units.factors[self.group.result] = self.units.factors[source]
        head, whole = self.group.head, (self.data_type.min_code, self.data_type.max_code)
        steps: list[RawStep] = []
        if not isinstance(head, LinearHead):
            terms: tuple[WordTerm, ...] = ()
            placed_head: WordHead = head
            bias = np.full(self.group.layout.channels, self.data_type.min_code, dtype=np.int64)
            first = "maximum"
        else:
            terms, bias = self._terms(head, steps), self._words(head.bias, self.unit)
            placed_head = SumHead()
            first = f"native, {max(map(most_products, terms))} products rounded"
        names = self._steps(steps)
        sums = whole if any(isinstance(s, Accumulate) for s in steps) else None
        ops = self.group.ops
        implementation = dict(zip(ops, [first] * (len(ops) - len(names)) + names, strict=True))
        partial = np.full_like(bias, whole[0]), np.full_like(bias, whole[1])  # any: the sums saturate
        exact = not isinstance(head, LinearHead) and not steps
        placed = WordGroup(
            self.group.result, self.group.layout, placed_head, terms, bias, tuple(steps), whole, partial, sums,
            self.group.origin,
        )  # fmt: skip
        return placed, Outcome(self.group.result, implementation, exact)

    @property
    def unit(self) -> Fraction:
        return self.units.accumulators(self.group.result)

    def _words(self, codes: Words, unit: Fraction) -> Words:
        """RNE(codes * unit), saturated."""
        words = round_ratio(codes * unit.numerator, unit.denominator)
        return saturate(words, self.data_type.min_code, self.data_type.max_code)

    def _terms(self, head: LinearHead, steps: list[RawStep]) -> tuple[WordTerm, ...]:
        """The weights, rounded; of a mean, so that a multiplication after it makes up for their rounding."""
        placed = []
        for term in head.terms:
            scale = self.unit / self.units.tensor(term.tensor)
            if len(head.terms) == 1 and term.weight.min() >= 0 and term.weight.max() == 1:
                weight, factor = _mean_words(scale, self.data_type)
                words = term.weight * weight
                steps += [Multiply(factor)] if factor != self.data_type.one else []
            else:
                words = _weight_words(term, scale * self.data_type.one, self.data_type)
            placed.append(WordTerm(term.tensor, words, term.window))
        identity = np.eye(len(head.bias), dtype=np.int64)[:, :, None, None]
        for tensor in self._shifted_additions():
            up = self.units.exponents.accumulators[self.group.result] - self.units.exponents.tensors[tensor]
            placed.append(WordTerm(tensor, identity * (1 << (self.data_type.binary_point + up)), _POINT))
        return tuple(placed)

    def _shifted_additions(self) -> tuple[str, ...]:
        """The tensors that are added at another exponent than the sums': each is a term."""
        exponents = self.units.exponents
        own = exponents.accumulators[self.group.result]
        return tuple(tensor for tensor in additions(self.group)[0] if exponents.tensors[tensor] != own)

    def _steps(self, steps: list[RawStep]) -> list[str]:
        """Append the raw steps; what is done for each of the last operations of the group.

        Before a step, or at the end, the accumulators are brought to the exponent at which the next tensor is added, or
        the result is stored.
        """
        names, exponents = [], self.units.exponents
        terms = self._shifted_additions()
        unit, exponent = self.unit, exponents.accumulators[self.group.result]
        ops = self.group.ops[len(self.group.ops) - len(self.group.steps) :]
        for i, (name, wanted) in enumerate(zip(ops, self.group.steps, strict=True)):
            if isinstance(wanted, AddTensor) and wanted.tensor in terms:
                names.append("add")
                unit = self.units.at(name, exponent)
                continue
            added = (step.tensor for step in self.group.steps[i:] if isinstance(step, AddTensor))
            to = exponents.tensors[next((tensor for tensor in added if tensor not in terms), self.group.result)]
            moved = self._moved(exponent, to)
            unit, exponent = unit * Fraction(2) ** (to - exponent), to
            match wanted:
                case Requantization() | Rounding():
                    found = self._activation(wanted, unit, self.units.at(name, exponent))
                    self.units.slopes[self.group.result] = found.slope
                    slopes = self._slopes(found, moved) if name == self.group.result else None
                    steps += [*moved, *found.steps] if slopes is None else [slopes]
                    names.append(f"activation within {float(found.deviation):.3g} words" if found.steps else "")
                case LimitStep():
                    steps += moved
                    names.append(self._limit(wanted, unit, steps))
                case AddTensor():
                    low, high = self.data_type.min_code, self.data_type.max_code
                    steps += [*moved, Accumulate(wanted.tensor, low, high)]
                    names.append("add")
            unit = self.units.at(name, exponent)
        steps += self._moved(exponent, exponents.tensors[self.group.result])
        return names

    def _moved(self, exponent: int, to: int) -> list[Multiply]:
        """The multiplication that brings words from one exponent to another."""
        point = self.data_type.binary_point
        return [] if to == exponent else [Multiply(1 << (point + to - exponent))]

    def _slopes(self, found: Activation, moved: list[Multiply]) -> TwoSlopes | None:
        """A leaky ReLU that multiplies anyway, with a slope above zero that suits the one below, where that is no power
        of two and all that read the result can do with its unit.
        """
        if self.group.result not in self.units.free:
            return None
        word = moved[0].word if moved else self.data_type.one
        slopes = two_slopes(found, word, self.data_type.one)
        if slopes is None or (not moved and _is_as_steep(slopes, found, self.data_type)):
            return None
        self.units.factors[self.group.result] = Fraction(slopes.above, word)
        return slopes

    def _activation(self, wanted: Requantization | Rounding, before: Fraction, after: Fraction) -> Activation:
        if isinstance(wanted, Rounding):
            found = fit_line(wanted.line, wanted.low, wanted.high, before, after, self.data_type)
        else:
            found = fit_activation(wanted.staircase, before, after, self.data_type)
        if found is None:
            raise CompileError(
                Code.TCU_UNSUPPORTED,
                f"native arithmetic on {self.data_type.value} knows ReLU, LeakyReLU and clips, the same in every "
                "channel; what stands before the next layer here is something else",
                at=self.group.origin,
                hint="fold BatchNorm into a convolution, use ReLU or LeakyReLU with one slope; or quantize in training",
            )
        return found

    def _limit(self, wanted: LimitStep, unit: Fraction, steps: list[RawStep]) -> str:
        ends = self._words(np.array([wanted.low, wanted.high], dtype=np.int64), unit)
        if ends[0] > self.data_type.min_code:
            steps.append(Maximum(int(ends[0])))
        if ends[1] < self.data_type.max_code:
            steps.append(Minimum(int(ends[1])))
        return "clip"


def _is_as_steep(slopes: TwoSlopes, found: Activation, data_type: DataType) -> bool:
    """Whether the one word of a leaky ReLU has the proportion of both: it does so in fewer steps."""
    return found.steps == (LeakyRelu(round_fraction(Fraction(slopes.below, slopes.above) * data_type.one)),) and not (
        slopes.below * data_type.one % slopes.above
    )


def _weight_words(term: Term, scale: Fraction, data_type: DataType) -> Words:
    """weight * scale, rounded so that the errors of what is summed together cancel, saturated."""
    codes = np.asarray(term.weight * float(scale), dtype=np.float64)
    words = np.empty_like(codes)
    for taps in taps_together(term.window):
        words[:, :, *taps] = round_weights(codes[:, :, *taps], np.array(1.0), data_type.min_code, data_type.max_code)
    return saturate(words.astype(np.int64), data_type.min_code, data_type.max_code)


def most_products(term: WordTerm) -> int:
    """How many products one sum is made of, at most."""
    parts = (term.weight[:, :, rows, columns] for rows, columns in taps_together(term.window))
    return max(int(np.count_nonzero(part.reshape(len(part), -1), axis=1).max()) for part in parts)


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
