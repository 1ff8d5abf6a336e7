"""What makes a graph legal. Every pass must leave it so."""

from __future__ import annotations

from typing import assert_never

from pefslc.analysis.channels import channel_faults, input_faults, output_faults, scale_faults
from pefslc.analysis.ranges import result_range
from pefslc.geometry.shapes import Shape, conv_shape, element_count, gate_shape, pool_shape
from pefslc.ir.graph import Graph, Level
from pefslc.ir.integer import Clamp, Conv2d, Dense, IntegerOp, Lookup, Product, Requantize, Rescale, Round, Sum, SumPool
from pefslc.ir.quantized import (
    Add,
    AveragePool,
    Constant,
    Conv,
    Elementwise,
    Linear,
    Multiply,
    Quantize,
    QuantizedConstant,
    QuantizedOp,
)
from pefslc.ir.structural import Concat, MaxPool, Pad, Reshape, Slice, Structural, Transpose, Upsample
from pefslc.ir.value import CodeRange, Op, Value
from pefslc.numeric.format import Quantization
from pefslc.numeric.scale import Scale

__all__ = ["verify"]

AnyOp = QuantizedOp | IntegerOp
# What computes each element of its result from those that stand at the same place.
SameShape = (
    Quantize | Add | Multiply | Elementwise | Requantize | Round | Lookup | Clamp | Rescale | Sum | Product
)  # fmt: skip


def verify(graph: Graph, legal: Graph | None = None) -> list[str]:
    """The faults of a graph, in order; empty when it is legal.

    legal  a graph without faults: operations that it has, too, are not looked into again
    """
    known = set() if legal is None or legal.level is not graph.level else {id(op) for op in legal.ops}
    faults: list[str] = []
    defined: dict[str, Value] = {}

    def define(value: Value) -> None:
        if value.name in defined:
            faults.append(f"%{value.name} is defined twice")
        if not _is_filled(value):
            faults.append(f"%{value.name} has the shape {list(value.type.shape)}, and the least size is 1")
        faults.extend(f"%{value.name}: {fault}" for fault in scale_faults(value))
        defined[value.name] = value

    for graph_input in graph.inputs:
        define(graph_input.value)
        if (graph.level is Level.INTEGER) != (graph_input.quantizer is not None):
            faults.append(f"input {graph_input.name!r}: a quantizer belongs to the integer level, and only there")
        faults.extend(f"input {graph_input.name!r}: {fault}" for fault in input_faults(graph_input))
    for op in graph.ops:
        for operand in op.operands:
            if (before := defined.get(operand.name)) != operand:
                faults.append(f"{op.mnemonic} %{op.result.name} reads {_stale(operand, before, 'before it')}")
        define(op.result)
        if id(op) not in known and all(map(_is_filled, (*op.operands, op.result))):
            faults.extend(f"{op.mnemonic} %{op.result.name}: {fault}" for fault in _op_faults(graph.level, op))
    if not graph.outputs:
        faults.append("the graph has no outputs")
    for output in graph.outputs:
        before = defined.get(output.value.name)
        if before is None:
            faults.append(f"output {output.name!r} is not defined")
        elif before != output.value:
            faults.append(f"output {output.name!r} is {_stale(output.value, before)}")
        if (graph.level is Level.INTEGER) != (output.map is not None):
            faults.append(f"output {output.name!r}: a map belongs to the integer level, and only there")
        faults.extend(f"output {output.name!r}: {fault}" for fault in output_faults(output))
    return faults


def _is_filled(value: Value) -> bool:
    return min(value.type.shape, default=1) >= 1


def _stale(read: Value, made: Value | None, where: str = "") -> str:
    """What is read, and in what it differs from the value of that name that was defined."""
    if made is None:
        return f"%{read.name}, which is not defined {where}".rstrip()
    here, there = read.type.element, made.type.element
    parts: list[tuple[str, object, object]] = [("shape", list(read.type.shape), list(made.type.shape))]
    if isinstance(here, CodeRange) and isinstance(there, CodeRange):
        parts += [
            ("range", [here.low, here.high], [there.low, there.high]),
            ("scale", here.scale, there.scale),
            ("zero point", here.zero_point, there.zero_point),
        ]
    else:
        parts.append(("type", here, there))
    parts.append(("origin", read.origin, made.origin))
    differing = [f"{what} {str(one)[:80]}, not {str(other)[:80]}" for what, one, other in parts if one != other]
    return f"%{read.name} with another type or origin than it is defined with: {'; '.join(differing)}"


def _op_faults(level: Level, op: Op) -> list[str]:
    # Each check may rely on the ones before it.
    if level is Level.QUANTIZED and isinstance(op, QuantizedOp):
        faults = _rank_faults(op) or _window_faults(op) or _shape_faults(op) or _parameter_faults(op)
        faults += channel_faults(op)
        if isinstance(op, Quantize | QuantizedConstant) and not isinstance(op.result.type.element, Quantization):
            faults.append("the result has no Quantization")
        return faults
    if level is Level.INTEGER and isinstance(op, IntegerOp):
        structure = _rank_faults(op) or _window_faults(op) or _shape_faults(op)
        return structure or _parameter_faults(op) or _range_faults(op)
    return [f"the operation does not belong to the {level.value} level"]


def _rank_faults(op: AnyOp) -> list[str]:
    match op:
        case Conv() | Conv2d() | MaxPool() | SumPool() | AveragePool():
            rank = 4
        case Linear() | Dense():
            rank = 2
        case Pad():
            rank = len(op.input.type.shape)
            bad = len(op.before) != rank or len(op.after) != rank
            return [f"padding of {len(op.before)} and {len(op.after)} axes on {rank}"] if bad else []
        case Upsample():
            bad = len(op.factors) != len(op.input.type.shape)
            return [f"{len(op.factors)} factors for {len(op.input.type.shape)} axes"] if bad else []
        case Slice():
            rank = len(op.input.type.shape)
            bad = {len(op.begins), len(op.steps), len(op.result.type.shape)} != {rank} or 0 in op.steps
            return [f"slice from {list(op.begins)} by {list(op.steps)} on {rank} axes"] if bad else []
        case Transpose():
            rank = len(op.input.type.shape)
            bad = sorted(op.permutation) != list(range(rank))
            return [f"the permutation {list(op.permutation)} of {rank} axes"] if bad else []
        case Concat():
            ranks = {len(v.type.shape) for v in op.inputs}
            bad = len(ranks) != 1 or not 0 <= op.axis < min(ranks)
            return [f"{len(op.inputs)} inputs side by side along axis {op.axis} of {sorted(ranks)} axes"] if bad else []
        case Reshape() | Constant() | QuantizedConstant():
            return []
        case _ if isinstance(op, SameShape):
            return []
        case _:
            assert_never(op)
    shapes = [op.input.type.shape]
    if not isinstance(op, MaxPool | SumPool | AveragePool):
        shapes.append(_weight_shape(op))
    return [f"a tensor of shape {list(s)} where {rank} axes are needed" for s in shapes if len(s) != rank]


def _window_faults(op: AnyOp) -> list[str]:
    if not isinstance(op, Conv | Conv2d | MaxPool | SumPool | AveragePool):
        return []
    window = op.window
    parts = ("kernel", window.kernel), ("strides", window.strides), ("dilations", window.dilations)
    least = (*parts, ("input_dilations", window.input_dilations))
    faults = [f"{name} of {list(sizes)}, and the least is 1" for name, sizes in least if min(sizes) < 1]
    if isinstance(op, Conv | Conv2d) and _weight_shape(op)[2:] != window.kernel:
        faults.append(f"a window of {list(window.kernel)} over weights of {list(_weight_shape(op)[2:])}")
    return faults


def _weight_shape(op: Conv | Conv2d | Linear | Dense) -> Shape:
    return op.weight.type.shape if isinstance(op.weight, Value) else op.weight.shape


def _shape_faults(op: AnyOp) -> list[str]:
    expected = _expected_shape(op)
    if expected == op.result.type.shape:
        return []
    return [f"the shape is {list(op.result.type.shape)}, should be {list(expected)}"]


def _expected_shape(op: AnyOp) -> Shape:
    """The shape that follows from the operands."""
    match op:
        case Conv() | Conv2d():
            return conv_shape(op.input.type.shape, _weight_shape(op), op.window)
        case Linear() | Dense():
            return op.input.type.shape[0], _weight_shape(op)[0]
        case MaxPool() | SumPool() | AveragePool():
            return pool_shape(op.input.type.shape, op.window)
        case Reshape():
            same = element_count(op.input.type.shape) == element_count(op.result.type.shape)
            return op.result.type.shape if same else op.input.type.shape
        case Transpose():
            return tuple(op.input.type.shape[i] for i in op.permutation)
        case Upsample():
            return tuple(size * factor for size, factor in zip(op.input.type.shape, op.factors, strict=True))
        case Pad():
            shape = op.input.type.shape
            return tuple(b + size + a for b, size, a in zip(op.before, shape, op.after, strict=True))
        case Slice():
            return op.result.type.shape  # any part may be taken: see _parameter_faults
        case Concat():
            first = op.inputs[0].type.shape
            total = sum(v.type.shape[op.axis] for v in op.inputs)
            return (*first[: op.axis], total, *first[op.axis + 1 :])
        case Constant():
            return op.data.shape
        case QuantizedConstant():
            return op.codes.shape
        case _ if isinstance(op, SameShape):
            return op.operands[0].type.shape
        case _:
            assert_never(op)


def _parameter_faults(op: AnyOp) -> list[str]:
    """Fields that contradict each other or the operands."""
    faults = []
    match op:
        case Conv() | Conv2d() | Linear() | Dense():
            outputs, inputs = _weight_shape(op)[:2]
            groups = 1 if isinstance(op, Linear | Dense) else op.groups
            if groups < 1 or outputs % groups or inputs * groups != op.input.type.shape[1]:
                faults.append(f"weights of {inputs} inputs in {groups} groups on {op.input.type.shape[1]} channels")
            bias = () if op.bias is None else op.bias.type.shape if isinstance(op.bias, Value) else op.bias.shape
            if bias not in ((), (outputs,)):
                faults.append(f"a bias of shape {list(bias)} for {outputs} output channels")
            if isinstance(op, Conv | Conv2d) and op.window.dilates_input and op.window.strides != (1, 1):
                faults.append(f"strides of {list(op.window.strides)} over a dilated input")
        case AveragePool() | SumPool() | MaxPool() if op.window.dilates_input:
            faults.append("a pool over a dilated input")
        case Requantize() if op.staircase.channels not in (1, op.input.type.channels):
            faults.append(f"a staircase of {op.staircase.channels} channels on {op.input.type.channels} channels")
        case Clamp() if op.low > op.high:
            faults.append(f"the limits [{op.low}, {op.high}] are empty")
        case Rescale() if op.factor == 0:
            faults.append(f"the factor is {op.factor}")
        case Multiply() | Product() if op.rhs.type.shape not in (op.lhs.type.shape, gate_shape(op.lhs.type.shape)):
            faults.append(f"shapes {list(op.lhs.type.shape)} and {list(op.rhs.type.shape)} are multiplied")
        case Lookup() if op.table.shape[:1] not in ((1,), (op.input.type.channels,)) or len(op.table.shape) != 2:
            faults.append(f"a table of shape {list(op.table.shape)} on {op.input.type.channels} channels")
        case Sum() | Add() if op.lhs.type.shape != op.rhs.type.shape:
            faults.append(f"shapes {list(op.lhs.type.shape)} and {list(op.rhs.type.shape)} are added")
        case Reshape() if op.input.type.shape[:1] != op.result.type.shape[:1]:
            faults.append(f"the batch axis {list(op.input.type.shape[:1])} becomes {list(op.result.type.shape[:1])}")
        case Upsample() if min(op.factors) < 1 or set(op.factors[:2]) != {1}:
            faults.append(f"factors {list(op.factors)}")
        case Pad() if min(op.before + op.after) < 0 or op.before[0] or op.after[0]:
            faults.append(f"{list(op.before)} elements before and {list(op.after)} after")
        case Slice():
            inside = all(
                0 <= r[0] < size and 0 <= r[-1] < size for r, size in zip(op.ranges, op.input.type.shape, strict=True)
            )
            if not inside or (op.begins[0], op.steps[0], op.result.type.shape[0]) != (0, 1, op.input.type.shape[0]):
                faults.append(f"slice from {list(op.begins)} by {list(op.steps)} of {list(op.input.type.shape)}")
        case AveragePool() | SumPool():
            parts = op.counts if isinstance(op, AveragePool) else op.factors
            if parts is not None and (parts.shape != op.result.type.shape[2:] or int(parts.data.min()) < 1):
                faults.append(f"counts or factors of shape {list(parts.shape)} for {list(op.result.type.shape)} sums")
        case MaxPool() if not op.window.always_sees(*op.input.type.shape[2:]):
            faults.append("some windows see no input")
        case Concat():
            others = {(*s[: op.axis], *s[op.axis + 1 :]) for s in (v.type.shape for v in op.inputs)}
            if len(others) > 1:
                faults.append("the inputs differ in more than the axis")
    return faults


def _scale_side_by_side(op: Concat) -> Scale | None:
    """The scale of a concatenation: along the channels that of each, else the one that all operands have."""
    scales = [v.type.codes.scale for v in op.inputs]
    if op.axis != 1:
        return scales[0] if len(set(scales)) == 1 else None
    counts = [v.type.shape[1] for v in op.inputs]
    return Scale.of(step for scale, n in zip(scales, counts, strict=True) for step in scale.channels(n))


def _range_faults(op: IntegerOp) -> list[str]:
    if not all(isinstance(v.type.element, CodeRange) for v in (*op.operands, op.result)):
        return ["a tensor without codes"]
    faults = []
    if isinstance(op, Requantize):
        inputs = op.input.type.codes
        if not (op.staircase.domain_low <= inputs.low and inputs.high <= op.staircase.domain_high):
            return ["the input leaves the staircase's domain"]
    if isinstance(op, Lookup):
        inputs = op.input.type.codes
        if not op.low <= inputs.low <= inputs.high < op.low + op.table.shape[1]:
            return ["the input leaves the table"]
    low, high = result_range(op)
    codes = op.result.type.codes
    if not codes.low <= low <= high <= codes.high:
        faults.append(f"the codes reach [{low}, {high}], the type says [{codes.low}, {codes.high}]")
    if isinstance(op, Sum) and op.lhs.type.codes.scale != op.rhs.type.codes.scale:
        faults.append("the operands have different scales")
    if isinstance(op, Concat) and codes.scale != _scale_side_by_side(op):
        faults.append("the scales are not those of the operands")
    if isinstance(op, Conv2d | Dense | SumPool | Sum | Product | Rescale) and any(
        v.type.codes.zero_point for v in op.operands
    ):
        faults.append("sums need zero points of 0")
    if isinstance(op, Clamp | Structural):
        faults += [
            f"the zero point changes from {v.type.codes.zero_point} to {codes.zero_point}"
            for v in op.operands
            if v.type.codes.zero_point != codes.zero_point
        ]
    return faults
