"""The float64 evaluation of a quantized graph: an oracle for the integer level, never its meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import Window, element_count
from pefslc.ir.interface import Level
from pefslc.ir.quantized import (
    Add,
    Apply,
    AveragePool,
    BatchNorm,
    BiasAdd,
    Clip,
    Constant,
    Conv,
    LeakyRelu,
    Linear,
    Multiply,
    Quantize,
    QuantizedConstant,
    QuantizedOp,
    Relu,
    Scaling,
)
from pefslc.ir.row_batches import batches_of, rows_between
from pefslc.ir.semantics import repeated, windows
from pefslc.ir.structural import Concat, MaxPool, Pad, Reshape, Slice, Structural, Transpose, Upsample
from pefslc.ir.value import Value
from pefslc.numeric.quantize import broadcast_steps, dequantize, quantize_array
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.scale import Scale
from pefslc.numeric.stage_values import quantize_behind, stage_values
from pefslc.numeric.stages import Affine, ClipStage, LeakyReluStage, Stage

if TYPE_CHECKING:
    from pefslc.ir.graph import Graph, QuantizedGraph

__all__ = ["evaluate_op", "evaluate_quantized", "evaluate_values", "in_chunks", "stream_values"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

_BYTES_AT_ONCE = 1 << 27


def evaluate_quantized(
    graph: Graph, inputs: Mapping[str, Floats], done: Callable[[], None] | None = None
) -> dict[str, Floats]:
    """Output name -> float64 values, for inputs [batch, ...] by name; `done` is called after each operation."""
    wanted = {o.value.name for o in graph.outputs}
    given = {i.value.name for i in graph.inputs}
    values = dict[str, Floats]()
    for value, array in stream_values(graph, inputs):
        if value.name in wanted:
            values[value.name] = array
        if done is not None and value.name not in given:
            done()
    return {o.name: values[o.value.name] for o in graph.outputs}


def evaluate_values(graph: Graph, inputs: Mapping[str, Floats]) -> dict[str, Floats]:
    """Value name -> float64 values of every tensor in the graph."""
    return {value.name: array for value, array in stream_values(graph, inputs)}


def stream_values(graph: Graph, inputs: Mapping[str, Floats]) -> Iterator[tuple[Value, Floats]]:
    """Every input and every result with its float64 values, in order; none is kept longer than its readers need it."""
    assert graph.level is Level.QUANTIZED
    quantized = cast("QuantizedGraph", graph)
    last_reader = {value.name: i for i, op in enumerate(graph.ops) for value in op.operands}
    rescaled = _read_by_affine(quantized)
    values: dict[str, Floats] = {}
    given: dict[str, _Given] = {}
    for graph_input in graph.inputs:
        values[graph_input.value.name] = inputs[graph_input.name]
        given[graph_input.value.name] = _Given(inputs[graph_input.name])
        yield graph_input.value, inputs[graph_input.name]
    for i, op in enumerate(quantized.ops):
        operands = [values[v.name] for v in op.operands]
        source = _given(op, [given.get(v.name) for v in op.operands])
        if isinstance(op, Quantize):
            codes = _quantized(op, operands[0], source)
            result = dequantize(codes, op.quantization, op.channel_axis)
            source = _of_codes(codes, op) if op.result.name in rescaled else None
        elif isinstance(op, BiasAdd | Scaling) and source is not None and source.is_line:
            result = source.on_line()
        else:
            result = evaluate_op(op, operands)
            if isinstance(op, Constant | Structural) and source is not None:
                source = _Given(evaluate_op(op, [source.source]), source.stages) if source.stages else _Given(result)
        for value in op.operands:
            if last_reader[value.name] == i:
                values.pop(value.name, None)
                given.pop(value.name, None)
        if op.result.name in last_reader:
            values[op.result.name] = result
            if source is not None:
                given[op.result.name] = source
        yield op.result, result


@dataclass(frozen=True, slots=True)
class _Given:
    """A tensor as stages behind numbers that no arithmetic has rounded: what a quantizer decides exactly."""

    source: Floats
    stages: tuple[Stage, ...] = ()

    @property
    def is_line(self) -> bool:
        """Whether all stages together are one multiplication and one addition."""
        return bool(self.stages) and all(isinstance(s, Affine) and not s.has_root for s in self.stages)

    def on_line(self) -> Floats:
        """The values of a line: float64 rounds its two numbers, not what each stage makes on the way."""
        whole, *others = cast("Sequence[Affine]", self.stages)
        for stage in others:
            whole = whole.then(stage)
        return stage_values(whole, self.source, channel_axis=1)


def _given(op: QuantizedOp, operands: Sequence[_Given | None]) -> _Given | None:
    """What `op` reads (Quantize) or makes, as stages behind given numbers; None where arithmetic may round it."""
    match op, operands:
        case Constant(), _:
            return _Given(op.data.data)
        case Quantize(), [_Given() as x]:
            stages = (*x.stages, *op.stages)
        case ((BatchNorm() | BiasAdd() | Scaling() | Relu() | LeakyRelu() | Clip()), [_Given() as x]):
            stages = (*x.stages, op.stage)
        case _:
            if isinstance(op, Transpose | Reshape) and operands[0] is not None:  # stages of one channel move along
                return (
                    operands[0] if all(isinstance(s, Affine) and s.channels == 1 for s in operands[0].stages) else None
                )
            found = [x for x in operands if x is not None and not x.stages]
            return found[0] if isinstance(op, Structural) and len(found) == len(operands) else None
    decidable = all(isinstance(s, Affine | LeakyReluStage | ClipStage) for s in stages)
    roots = sum(isinstance(s, Affine) and s.has_root for s in stages)
    return _Given(x.source, stages) if decidable and roots <= 1 else None


def _quantized(op: Quantize, x: Floats, given: _Given | None) -> Codes:
    if given is not None:
        return quantize_behind(given.stages, op.quantizer, given.source, op.channel_axis)
    return _quantize_rounded(op.quantizer, _apply(op.stages, x, op.channel_axis), op.channel_axis)


def _read_by_affine(graph: QuantizedGraph) -> set[str]:
    """The names of what an affine operation reads, perhaps moved: codes times a step, divided by it, are codes."""
    found = set[str]()
    for op in reversed(graph.ops):
        if isinstance(op, BiasAdd | Scaling) or (isinstance(op, Transpose | Reshape) and op.result.name in found):
            found.add(op.input.name)
    return found


def _of_codes(codes: Codes, op: Quantize) -> _Given | None:
    """What a quantizer made, as its codes and their scale; None where the scale goes along another axis."""
    q = op.quantization
    if q.scale.per_channel and op.channel_axis != 1:
        return None
    return _Given((codes - q.zero_point).astype(np.float64), (Affine.product(q.scale.steps),))


def in_chunks(graph: Graph, inputs: Mapping[str, Floats]) -> Iterator[dict[str, Floats]]:
    """The inputs in pieces of whole batches: on one piece, all values of the graph together take about 128 MB."""
    at_once = max(1, _BYTES_AT_ONCE // _bytes_per_batch(graph))
    rows = {i.name: i.value.type.shape[0] for i in graph.inputs}  # of one batch: inputs may differ
    first = graph.inputs[0].name
    batches = ceil(batches_of(len(inputs[first]), rows[first]))  # of every input
    for start in range(0, batches, at_once):
        yield {name: rows_between(inputs[name], n, start, start + at_once) for name, n in rows.items()}


def _bytes_per_batch(graph: Graph) -> int:
    """Of all values, and of the widest matrix that a convolution is multiplied as (`semantics.convolve`)."""
    values = sum(
        element_count(v.type.shape) for v in (*(i.value for i in graph.inputs), *(o.result for o in graph.ops))
    )
    taps = (
        element_count(op.result.type.shape) // op.weight.type.shape[0] * element_count(op.weight.type.shape[1:])
        for op in graph.of_type(Conv)
    )
    return 8 * (values + max(taps, default=0))


def evaluate_op(op: QuantizedOp, operands: list[Floats]) -> Floats:
    """One operation on the values of its operands, which float64 arithmetic may have rounded."""
    match op:
        case Constant():
            return op.data.data
        case QuantizedConstant():
            return dequantize(op.codes.data, op.quantization, channel_axis=0)
        case Quantize():
            return dequantize(_quantized(op, operands[0], None), op.quantization, op.channel_axis)
        case Conv():
            bias = operands[2] if op.bias is not None else None
            return _conv(operands[0], operands[1], bias, op.window, op.groups)
        case Linear():
            product = operands[0] @ operands[1].T
            return product + operands[2] if op.bias is not None else product
        case AveragePool():
            sums = np.asarray(windows(operands[0], op.window).sum(axis=(4, 5)), dtype=np.float64)
            return sums / (op.window.taps if op.counts is None else op.counts.data)
        case Add():
            return operands[0] + operands[1]
        case Multiply():
            return operands[0] * operands[1]
        case BatchNorm() | BiasAdd() | Scaling() | Relu() | LeakyRelu() | Clip() | Apply():
            return _apply((op.stage,), operands[0], channel_axis=1)
        case MaxPool():
            return np.asarray(windows(operands[0], op.window, fill=-np.inf).max(axis=(4, 5)), dtype=np.float64)
        case Reshape():
            constant = op.input.type.shape == operands[0].shape
            return operands[0].reshape(
                op.result.type.shape if constant else (len(operands[0]), *op.result.type.shape[1:])
            )
        case Transpose():
            return operands[0].transpose(op.permutation)
        case Upsample():
            return repeated(operands[0], op.factors)
        case Slice():
            return operands[0][op.index]
        case Pad():
            return np.pad(operands[0], list(zip(op.before, op.after, strict=True)))
        case Concat():
            return np.concatenate(operands, axis=op.axis)


def _quantize_rounded(quantizer: Quantizer, x: Floats, channel_axis: int) -> Codes:
    """The codes of values that float64 arithmetic may have rounded: the quotient by the scale is one more such value.

    It heals what it can: where code * scale is no float64, the number next to it may lie below, and its floor, which
    is exact, would be one code less. The quotient in float64 is the code again.
    """
    q = quantizer.quantization
    with np.errstate(over="ignore"):  # infinity saturates
        quotients = x / broadcast_steps(q.scale, x.ndim, channel_axis)
    units = replace(q, scale=Scale.power_of_two(0))
    return quantize_array(replace(quantizer, quantization=units), quotients, channel_axis)


def _conv(x: Floats, weight: Floats, bias: Floats | None, window: Window, groups: int) -> Floats:
    """x [N, C_in, H, W], weight [C_out, C_in/groups, KH, KW]. In another order the sums would round otherwise."""
    taps = windows(x, window)
    n, channels, rows, columns = taps.shape[:4]
    outputs = len(weight)
    result = np.empty((n, outputs, rows, columns))
    for g in range(groups):
        inside = slice(g * channels // groups, (g + 1) * channels // groups)
        chosen = slice(g * outputs // groups, (g + 1) * outputs // groups)
        lhs = taps[:, inside].transpose(0, 2, 3, 1, 4, 5).reshape(n * rows * columns, -1)
        product = lhs @ weight[chosen].reshape(outputs // groups, -1).T
        result[:, chosen] = product.reshape(n, rows, columns, -1).transpose(0, 3, 1, 2)
    return result if bias is None else result + bias[:, None, None]


def _apply(stages: Sequence[Stage], x: Floats, channel_axis: int) -> Floats:
    for stage in stages:
        x = stage_values(stage, x, channel_axis)
    return x
