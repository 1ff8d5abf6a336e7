"""--fmt auto:B: the binary point of each weight and activation of a float model, from data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pefslc.interpret import as_batches, quantize_array, round_floats
from pefslc.ir.graph import Graph
from pefslc.ir.quantized import Add, AveragePool, Clip, Constant, Conv, LeakyRelu, Linear, Relu
from pefslc.ir.structural import Concat, MaxPool, Pad, Reshape, Transpose
from pefslc.ir.value import Value
from pefslc.numeric.choose_format import AutoFormat, Calibration, Candidate, candidates, choose
from pefslc.numeric.format import FixedPoint, Quantization
from pefslc.numeric.staircase import Quantizer
from pefslc.passes.quantization_sites import quantization_sites, stored_sources
from pefslc.passes.quantize_after_training import FormatPlan, computed_parameter
from pefslc.reference import dequantize, in_chunks, stream_values

__all__ = ["CalibratedFormats", "Calibrator", "Widths", "count_clipped"]

Floats = NDArray[np.float64]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Widths:
    """Bits by tensor and, for weights, by the name of their layer's result; the others have the width asked for."""

    activations: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)


_AS_ASKED = Widths()


@dataclass(frozen=True, slots=True, eq=False)
class CalibratedFormats:
    """One power-of-two step per tensor, from the float model's own values on `inputs`.

    Tensors that are proven not to be negative (what follows a ReLU), and inputs that never are on `inputs`, become
    unsigned: one bit more of fraction. What a Concat joins shares one format.
    """

    auto: AutoFormat
    inputs: Mapping[str, NDArray[np.generic]]
    method: Calibration = Calibration.MSE
    progress: Progress | None = None

    def plan(self, graph: Graph) -> FormatPlan:
        return Calibrator(self, graph).plan(self.auto.bits)


class Calibrator:
    """What the sweeps over the inputs have shown so far. One for the ranges, then one for each new set of widths."""

    def __init__(self, formats: CalibratedFormats, graph: Graph) -> None:
        self.formats, self.graph = formats, graph
        self.arrays, _ = as_batches(graph, formats.inputs)  # type: ignore[arg-type]  # it checks what they hold
        sites = quantization_sites(graph)
        self.groups = _groups(graph, sites)
        unsigned, inputs = _never_negative(graph), {i.value.name for i in graph.inputs}
        self.tensors = {leader: _Tensor() for leader in self.groups.values()}
        self._sweep("ranges", lambda value, x: self.tensors[self.groups[value.name]].widen(x))
        for leader, tensor in self.tensors.items():
            members = {name for name in self.groups if self.groups[name] == leader}
            tensor.signed = not (members <= unsigned or (members <= inputs and tensor.low >= 0))
        self.weights: dict[int, dict[str, FixedPoint]] = {}

    def plan(self, bits: int, widths: Widths = _AS_ASKED) -> FormatPlan:
        """The best formats of `bits` bits, or where `widths` names fewer, of those."""
        method = self.formats.method
        for leader, tensor in self.tensors.items():
            members = (name for name in self.groups if self.groups[name] == leader)
            tensor.propose(min(widths.activations.get(name, bits) for name in members))
        if method is not Calibration.MINMAX and any(not t.measured for t in self.tensors.values()):
            self._sweep("formats", self._measure)
        for tensor in self.tensors.values():
            tensor.measured = True
        if bits not in self.weights:
            self.weights[bits] = {name: self._weight_format(data, bits) for name, data in _weights(self.graph)}
        return FormatPlan(
            {name: self.tensors[leader].chosen(method).quantization for name, leader in self.groups.items()},
            {name: _coarser(fmt, widths.weights.get(name, bits)) for name, fmt in self.weights[bits].items()},
        )

    def _weight_format(self, data: Floats, bits: int) -> FixedPoint:
        tensor = _Tensor()
        tensor.widen(data)
        tensor.propose(bits)
        tensor.measure(data)
        return tensor.chosen(self.formats.method)

    def _measure(self, value: Value, x: Floats) -> None:
        tensor = self.tensors[self.groups[value.name]]
        if not tensor.measured:
            tensor.measure(x)

    def _sweep(self, what: str, see: Callable[[Value, Floats], None]) -> None:
        total, done = max(len(a) for a in self.arrays.values()), 0
        for chunk in in_chunks(self.graph, self.arrays):
            for value, x in stream_values(self.graph, chunk):
                if value.name in self.groups:
                    see(value, x)
            done += max(len(a) for a in chunk.values())
            if self.formats.progress is not None:
                self.formats.progress(done, total, f"calibrating {what}")


@dataclass(slots=True)
class _Tensor:
    """What is known of the values that share a format.

    measured  whether every value went into `clipped` and `squared_errors`, for the formats there are
    """

    low: float = np.inf
    high: float = -np.inf
    signed: bool = True
    count: int = 0
    formats: tuple[Quantization, ...] = ()
    clipped: list[int] = field(default_factory=list)
    squared_errors: list[float] = field(default_factory=list)
    measured: bool = False

    def widen(self, x: Floats) -> None:
        self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))

    def propose(self, bits: int) -> None:
        """Formats of that width; what was measured of the same ones stays."""
        formats = candidates(self.low, self.high, bits, signed=self.signed)
        if formats != self.formats:
            self.formats, self.count, self.measured = formats, 0, False
            self.clipped, self.squared_errors = [0] * len(formats), [0.0] * len(formats)

    def measure(self, x: Floats) -> None:
        self.count += x.size
        for i, q in enumerate(self.formats):
            error = dequantize(quantize_array(Quantizer(q), x, 1), q, 1) - x
            self.clipped[i] += count_clipped(q, x)
            self.squared_errors[i] += float(np.square(error).sum())

    def chosen(self, method: Calibration) -> FixedPoint:
        fixed = [q.fixed_point for q in self.formats]
        measured = [
            Candidate(fmt, clipped, squared_error)
            for fmt, clipped, squared_error in zip(fixed, self.clipped, self.squared_errors, strict=True)
            if fmt is not None
        ]
        return choose(measured, self.count, method)


def _coarser(fmt: FixedPoint, bits: int) -> Quantization:
    """`fmt` with its range and that many bits. Fewer bits of a finer step would leave large weights' codes as large."""
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


def count_clipped(q: Quantization, x: Floats) -> int:
    """How many values round to a code outside of the format. One scale, no zero point."""
    codes = round_floats(x / float(q.scale.step), Quantizer(q).rounding)
    return int(np.count_nonzero((codes < q.low) | (codes > q.high)))


def _never_negative(graph: Graph) -> frozenset[str]:
    """The tensors whose values are proven to be 0 or more, for every input."""
    proven: set[str] = set()
    for op in graph.ops:
        match op:
            case Relu():
                holds = True
            case Clip() if op.low is not None:
                holds = op.low >= 0
            case Clip() | LeakyRelu() | MaxPool() | Pad() | AveragePool() | Reshape() | Transpose() | Add() | Concat():
                holds = all(v.name in proven for v in op.operands)
            case _:
                holds = False
        if holds:
            proven.add(op.result.name)
    return frozenset(proven)


def _groups(graph: Graph, sites: Sequence[Value]) -> dict[str, str]:
    """Site -> the first of the sites with which it must share a format."""
    group = {site.name: site.name for site in sites}
    producers = graph.producers()
    for op in graph.of_type(Concat):
        joined = [group[name] for value in op.inputs for name in stored_sources(value, group, producers)]
        group = {name: joined[0] if leader in joined else leader for name, leader in group.items()}
    return group
