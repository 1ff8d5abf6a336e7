"""--fmt auto:B: the binary point of each weight and activation of a float model, from data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.progress import Progress
from pefslc.evaluation.calibration_data import calibration_batches
from pefslc.ir.graph import Graph
from pefslc.ir.quantized import Add, AveragePool, Clip, Constant, Conv, LeakyRelu, Linear, Relu
from pefslc.ir.reference import in_chunks, stream_values
from pefslc.ir.structural import Concat, Structural
from pefslc.ir.value import Value
from pefslc.numeric.choose_format import FEWEST_BITS, AutoFormat, Calibration, Candidate, candidates, choose
from pefslc.numeric.format import FixedPoint, Quantization
from pefslc.numeric.quantize import dequantize, quantize_array, round_floats
from pefslc.numeric.quantizer import Quantizer
from pefslc.passes.input_formats import InputFormats
from pefslc.passes.integer_builder import constant_operand
from pefslc.passes.quantization_sites import quantization_sites, stored_sources
from pefslc.passes.quantize_after_training import FormatPlan, computed_parameter

__all__ = [
    "CalibratedFormats",
    "Calibrator",
    "Widths",
    "count_clipped",
    "format_groups",
    "never_negative",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Widths:
    """Bits by tensor and, for weights, by the name of their layer's result; the others have the width asked for."""

    activations: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)


_AS_ASKED = Widths()
_NOTHING_NAMED = FormatPlan({}, {})


@dataclass(frozen=True, slots=True, eq=False)
class CalibratedFormats:
    """One power-of-two step per tensor, from the float model's own values on `inputs`.

    Tensors that are proven not to be negative (what follows a ReLU), and inputs that never are on `inputs`, become
    unsigned: one bit more of fraction. What a Concat joins shares one format.

    auto   the width of all of which nothing else is said
    asked  fewer bits than that, of some
    named  formats of the user's, which are not chosen
    """

    auto: AutoFormat
    inputs: Mapping[str, NDArray[np.generic]]
    method: Calibration = Calibration.MSE
    progress: Progress | None = None
    input_fmt: InputFormats = None  # of inputs that have formats of their own
    asked: Widths = _AS_ASKED
    named: FormatPlan = _NOTHING_NAMED

    def plan(self, graph: Graph) -> FormatPlan:
        return Calibrator(self, graph).plan(self.auto.bits)


class Calibrator:
    """What the sweeps over the inputs have shown so far: one for the ranges, one for formats of the width asked for.

    Where a narrower one is wanted, one more sweep measures all widths below at once.
    """

    def __init__(self, formats: CalibratedFormats, graph: Graph) -> None:
        self.formats, self.graph = formats, graph
        _refuse_constants(graph)
        self.weights = {name: _Tensor.of(data) for name, data in _weights(graph)}
        self.arrays, _ = calibration_batches(graph, formats.inputs)
        sites = quantization_sites(graph)
        self.groups = format_groups(graph, sites)
        unsigned, inputs = never_negative(graph), {i.value.name for i in graph.inputs}
        self.tensors = {leader: _Tensor() for leader in self.groups.values()}
        self._sweep("ranges", lambda tensor, x: tensor.widen(x))
        for leader, tensor in self.tensors.items():
            members = {name for name in self.groups if self.groups[name] == leader}
            tensor.signed = not (members <= unsigned or (members <= inputs and tensor.low >= 0))

    def plan(self, bits: int, widths: Widths = _AS_ASKED) -> FormatPlan:
        """The best formats of `bits` bits, or of the fewer that were asked for; where `widths` names fewer, of those.

        Weights with fewer than asked for keep their range: their codes get smaller only with a coarser step.
        """
        method, asked = self.formats.method, self.formats.asked
        chosen = {
            name: widths.activations.get(name, min(bits, asked.activations.get(name, bits))) for name in self.groups
        }
        for name, leader in self.groups.items():
            chosen[leader] = min(chosen[leader], chosen[name])
        weights = {name: min(bits, asked.weights.get(name, bits)) for name in self.weights}
        self._measure({bits, *chosen.values(), *weights.values()})
        return (
            FormatPlan(
                {
                    name: self.tensors[leader].best(chosen[leader], method).quantization
                    for name, leader in self.groups.items()
                },
                {
                    name: _coarser(tensor.best(weights[name], method), widths.weights.get(name, weights[name]))
                    for name, tensor in self.weights.items()
                },
            )
            .with_named(self.formats.named)
            .with_inputs(self.graph, self.formats.input_fmt)
        )

    def _measure(self, wanted: set[int]) -> None:
        """Measure formats of these widths. As soon as one is narrower than asked for, others will follow."""
        asked = self.formats.auto.bits
        measured = next(iter(self.tensors.values())).measured.keys()
        new = [asked] if asked not in measured else [] if wanted <= measured else [*range(FEWEST_BITS, asked)]
        for tensor in (*self.tensors.values(), *self.weights.values()):
            tensor.propose(new)
        if self.formats.method is not Calibration.MINMAX and new:
            self._sweep("formats", lambda tensor, x: tensor.measure(x, new))
            for name, data in _weights(self.graph):
                self.weights[name].measure(data, new)
        if not wanted <= measured:
            self._measure(wanted)

    def _sweep(self, what: str, see: Callable[[_Tensor, Floats], None]) -> None:
        total, done = max(len(a) for a in self.arrays.values()), 0
        for chunk in in_chunks(self.graph, self.arrays):
            for value, x in stream_values(self.graph, chunk):
                if value.name in self.groups:
                    see(self.tensors[self.groups[value.name]], x)
            done += max(len(a) for a in chunk.values())
            if self.formats.progress is not None:
                self.formats.progress(done, total, f"calibrating {what}")


@dataclass(slots=True)
class _Tensor:
    """What is known of values that share a format. `measured`: formats by their width, the covering one first."""

    low: float = np.inf
    high: float = -np.inf
    signed: bool = True
    count: int = 0
    measured: dict[int, tuple[Candidate, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Floats) -> _Tensor:
        tensor = cls()
        tensor.widen(data)
        return tensor

    def widen(self, x: Floats) -> None:
        self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))
        self.count += x.size

    def propose(self, widths: Iterable[int]) -> None:
        for bits in widths:
            self.measured[bits] = candidates(self.low, self.high, bits, signed=self.signed)

    def measure(self, x: Floats, widths: Iterable[int]) -> None:
        for bits in widths:
            self.measured[bits] = tuple(_with(c, x) for c in self.measured[bits])

    def best(self, bits: int, method: Calibration) -> FixedPoint:
        return choose(self.measured[bits], self.count, method)


def _with(candidate: Candidate, x: Floats) -> Candidate:
    q = candidate.fmt.quantization
    error = dequantize(quantize_array(Quantizer(q), x, 1), q, 1) - x
    return Candidate(
        candidate.fmt,
        candidate.clipped + count_clipped(q, x),
        candidate.squared_error + float(np.square(error).sum()),
    )


def _coarser(fmt: FixedPoint, bits: int) -> Quantization:
    """`fmt` with its range and that many bits."""
    return FixedPoint(fmt.integer_bits, bits - fmt.integer_bits, fmt.signed).quantization


def _weights(graph: Graph) -> Iterator[tuple[str, Floats]]:
    """Name of each layer's result -> the layer's weights. Raises CompileError for weights that are computed."""
    constants = {op.result.name: op for op in graph.of_type(Constant)}
    for op in graph.ops:
        if isinstance(op, Conv | Linear):
            raw = constants.get(op.weight.name)
            if raw is None:
                raise computed_parameter("weights", op)
            yield op.result.name, raw.data.data


def _refuse_constants(graph: Graph) -> None:
    """Raise CompileError where an operation reads a constant beside an activation: it has too few rows for the data.

    Lowering refuses that, too, but only what could be calibrated gets there.
    """
    constant: set[str] = set()
    for op in graph.ops:
        if all(v.name in constant for v in op.operands):
            constant.add(op.result.name)
        elif not isinstance(op, Conv | Linear) and any(v.name in constant for v in op.operands):
            raise constant_operand(op)


def count_clipped(q: Quantization, x: Floats) -> int:
    """How many values round to a code outside of the format. One scale, no zero point."""
    codes = round_floats(x / float(q.scale.step), Quantizer(q).rounding)
    return int(np.count_nonzero((codes < q.low) | (codes > q.high)))


def never_negative(graph: Graph) -> frozenset[str]:
    """The tensors whose values are proven to be 0 or more, for every input."""
    proven: set[str] = set()
    for op in graph.ops:
        match op:
            case Relu():
                holds = True
            case Clip():
                above = op.low is not None and op.low >= 0
                holds = (above or op.input.name in proven) and (op.high is None or op.high >= 0)
            case _ if isinstance(op, LeakyRelu | AveragePool | Add | Structural):
                holds = all(v.name in proven for v in op.operands)
            case _:
                holds = False
        if holds:
            proven.add(op.result.name)
    return frozenset(proven)


def format_groups(graph: Graph, sites: Sequence[Value]) -> dict[str, str]:
    """Site -> the first of the sites with which it must share a format."""
    group = {site.name: site.name for site in sites}
    producers = graph.producers()
    for op in graph.of_type(Concat):
        joined = [group[name] for value in op.inputs for name in stored_sources(value, group, producers)]
        group = {name: joined[0] if leader in joined else leader for name, leader in group.items()}
    return group
