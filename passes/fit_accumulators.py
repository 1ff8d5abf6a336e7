"""Formats with room in the target's accumulator: fewer bits than calibration chose, or a sign that says nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from pefslc.analysis.limits import TargetLimits
from pefslc.evaluation.noise import measure_noise
from pefslc.ir.graph import Graph
from pefslc.ir.integer import Conv2d, Dense, Rescale, Sum, SumPool
from pefslc.ir.quantized import Add, AveragePool, Conv, Linear
from pefslc.ir.value import Op
from pefslc.numeric.choose_format import FEWEST_BITS
from pefslc.numeric.format import FixedPoint
from pefslc.passes.calibrate import (
    CalibratedFormats,
    Calibrator,
    Widths,
    format_groups,
    never_negative,
)
from pefslc.passes.check_accumulators import accumulator_bits
from pefslc.passes.input_formats import InputFormats
from pefslc.passes.manager import Pass, run_passes
from pefslc.passes.quantization_sites import quantization_sites, stored_sources
from pefslc.passes.quantize_after_training import FormatPlan, UniformFormat, quantized_by

__all__ = ["FittedFormats", "FittedUniformFormat", "fit_signs", "never_negative_sites"]

_COMPARED_BATCHES = 64  # of the inputs: on them plans are compared


@dataclass(frozen=True, slots=True, eq=False)
class FittedFormats:
    """The best formats of the width asked for, or narrower ones where the target's accumulator forces them.

    A layer that does not fit gives up a bit of its weights or of its input, of what has more bits, until it does. What
    still does not fit with 2 bits each is left for the accumulator check to refuse. Where bits had to go, narrower
    formats to begin with may leave less noise, because their ranges were chosen for that width: those with the least
    noise at the outputs are taken.

    to_integer  the passes that lower a quantized graph
    """

    formats: CalibratedFormats
    limits: TargetLimits
    to_integer: Sequence[Pass]

    def plan(self, graph: Graph) -> FormatPlan:
        calibrator = Calibrator(self.formats, graph)
        plans: list[_Fitted] = []
        for bits in range(self.formats.auto.bits, FEWEST_BITS - 1, -1):
            plans.append(self._fitted(calibrator, bits))
            if plans[-1].as_asked:
                break
        fitting = [p.plan for p in plans if not p.excess] or [plans[-1].plan]
        if len(fitting) == 1:
            return fitting[0]
        return min(fitting, key=lambda plan: self._output_noise(calibrator, plan))

    def _fitted(self, calibrator: Calibrator, bits: int) -> _Fitted:
        widths = Widths()
        while True:
            plan = calibrator.plan(bits, widths)
            excess = _excess(plan, calibrator.graph, self.limits, self.to_integer)
            fewer = _Layers(calibrator.graph, plan).narrowed(widths, excess)
            if fewer == widths:
                return _Fitted(plan, widths == Widths(), bool(excess))
            widths = fewer

    def _output_noise(self, calibrator: Calibrator, plan: FormatPlan) -> float:
        graph = calibrator.graph
        quantized = quantized_by(plan, graph)
        pairs = {a.value.name: b.value.name for a, b in zip(graph.outputs, quantized.outputs, strict=True)}
        few = {i.name: calibrator.arrays[i.name][: _COMPARED_BATCHES * i.value.type.shape[0]] for i in graph.inputs}
        noise = measure_noise(graph, quantized, few, pairs, progress=self.formats.progress)
        return sum(n.ratio for n in noise.values())


@dataclass(frozen=True, slots=True)
class FittedUniformFormat:
    """Qm.n everywhere, and UQm.n, the same bits without a sign, for what is proven not to be negative.

    After a ReLU the sign would be a bit that says nothing, and the range half of what it can be. Where the sum of a
    layer that reads such codes does not fit the target's accumulator, or the codes no word of it, they keep the sign.

    to_integer  the passes that lower a quantized graph
    """

    fmt: FixedPoint
    limits: TargetLimits
    to_integer: Sequence[Pass]
    input_fmt: InputFormats = None

    def plan(self, graph: Graph) -> FormatPlan:
        def plan_with(unsigned: frozenset[str]) -> FormatPlan:
            return UniformFormat(self.fmt, unsigned, self.input_fmt, weights).plan(graph)

        weights = self.limits.native_weights if self.fmt == self.limits.native_format else None

        words_are_signed = self.fmt.bits >= self.limits.accumulator_bits
        unsigned = frozenset[str]() if words_are_signed else never_negative_sites(graph)
        return plan_with(fit_signs(plan_with, graph, unsigned, self.limits, self.to_integer))


def never_negative_sites(graph: Graph) -> frozenset[str]:
    """The tensors to store that are proven not to be negative, and with them all that must share their formats."""
    groups = format_groups(graph, quantization_sites(graph))
    return frozenset(groups) - _with_their_groups(groups.keys() - never_negative(graph), groups)


def fit_signs(
    plan_with: Callable[[frozenset[str]], FormatPlan],
    graph: Graph,
    unsigned: frozenset[str],
    limits: TargetLimits,
    to_integer: Sequence[Pass],
) -> frozenset[str]:
    """Those of `unsigned` that can be so: the others keep their sign, as the sum of a layer that reads them would not
    fit the accumulator.

    plan_with  the plan in which these tensors have no sign
    """
    producers = graph.producers()
    while unsigned:
        plan = plan_with(unsigned)
        excess = _excess(plan, graph, limits, to_integer)
        layers = _Layers(graph, plan)
        read = {
            name
            for result in excess
            for op in layers.terms_of(result)
            for value in op.operands
            for name in stored_sources(value, plan.activations, producers)
        }
        signed = _with_their_groups(read & unsigned, format_groups(graph, quantization_sites(graph)))
        if not signed:
            break
        unsigned -= signed
    return unsigned


def _with_their_groups(names: Set[str], groups: Mapping[str, str]) -> frozenset[str]:
    """`names` and all that must share a format with one of them."""
    leaders = {groups[name] for name in names}
    return frozenset(name for name, leader in groups.items() if leader in leaders)


def _excess(plan: FormatPlan, graph: Graph, limits: TargetLimits, to_integer: Sequence[Pass]) -> dict[str, int]:
    """Result name of each sum that exceeds the accumulator -> by how many bits."""
    integer, _ = run_passes(quantized_by(plan, graph), to_integer)
    over = (
        (op.result.name, accumulator_bits(op) - limits.accumulator_bits)
        for op in integer.ops
        if isinstance(op, Conv2d | Dense | Sum | SumPool | Rescale)
    )
    return {name: bits for name, bits in over if bits > 0}


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A plan, whether nothing had to be narrowed for it, and whether something still does not fit."""

    plan: FormatPlan
    as_asked: bool
    excess: bool


class _Layers:
    """Which widths the sums of a float graph depend on."""

    def __init__(self, graph: Graph, plan: FormatPlan) -> None:
        self.producers, self.plan = graph.producers(), plan

    def narrowed(self, widths: Widths, excess: Mapping[str, int]) -> Widths:
        """`widths` with fewer bits for what takes part in each sum; equal to `widths` where no bit can go."""
        weights, activations = dict(widths.weights), dict(widths.activations)
        for name, bits in excess.items():
            for op in self.terms_of(name):
                layer = None if op.result.name in self.plan.pinned_weights else self.plan.weights.get(op.result.name)
                summed = op.operands if isinstance(op, Add) else op.operands[:1]
                stored = (i for v in summed for i in stored_sources(v, self.plan.activations, self.producers))
                inputs = [i for i in stored if i not in self.plan.pinned]
                weight_bits = FEWEST_BITS if layer is None else layer.bits
                input_bits = max((self.plan.activations[i].bits for i in inputs), default=FEWEST_BITS)
                fewer = _give_up(weight_bits, input_bits, bits)
                if fewer[0] < weight_bits:
                    weights[op.result.name] = min(fewer[0], weights.get(op.result.name, weight_bits))
                if fewer[1] < input_bits:
                    activations.update({i: min(fewer[1], activations.get(i, input_bits)) for i in inputs})
        return Widths(activations, weights)

    def terms_of(self, name: str) -> Iterator[Op]:
        """The layers of a sum, by its name on the integer level."""
        return self._terms(self.producers.get(_before_lowering(name)))

    def _terms(self, op: Op | None) -> Iterator[Op]:
        """The layers whose sums `op` adds up: itself, or those behind an addition; an addition of codes alone."""
        match op:
            case Conv() | Linear() | AveragePool():
                yield op
            case Add():
                open_terms = [self.producers.get(v.name) for v in op.operands if v.name not in self.plan.activations]
                layers = [layer for term in open_terms for layer in self._terms(term)]
                yield from layers or [op]
            case _:
                pass


def _before_lowering(name: str) -> str:
    """The float graph's name of a sum: separate-bias and the alignment of addends add to it."""
    return name.removesuffix(".products").split(".aligned")[0]


def _give_up(weight_bits: int, input_bits: int, bits: int) -> tuple[int, int]:
    """Both widths after `bits` bits went, each from the wider of the two, from the weights where they are equal."""
    for _ in range(bits):
        if weight_bits >= max(input_bits, FEWEST_BITS + 1):
            weight_bits -= 1
        elif input_bits > FEWEST_BITS:
            input_bits -= 1
    return weight_bits, input_bits
