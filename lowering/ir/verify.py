"""What makes a graph legal. Every pass must leave it so."""

from __future__ import annotations

from typing import get_args

from pefslc.ir.graph import Graph, Level
from pefslc.ir.integer import Conv2d, Dense, IntegerOp, Requantize, Sum
from pefslc.ir.quantized import Conv, Linear, Quantize, QuantizedConstant, QuantizedOp
from pefslc.ir.structural import Concat, MaxPool, Reshape
from pefslc.ir.value import Codes, Op, Value
from pefslc.numeric.format import Quantization
from pefslc.ranges import result_range
from pefslc.shapes import conv_shape, element_count, pool_shape

__all__ = ["verify"]

_ALLOWED = {Level.QUANTIZED: get_args(QuantizedOp), Level.INTEGER: get_args(IntegerOp)}


def verify(graph: Graph) -> list[str]:
    """The faults of a graph, in order; empty when it is legal."""
    faults: list[str] = []
    defined: dict[str, Value] = {}

    def define(value: Value) -> None:
        if value.name in defined:
            faults.append(f"%{value.name} is defined twice")
        defined[value.name] = value

    for graph_input in graph.inputs:
        define(graph_input.value)
        if (graph.level is Level.INTEGER) != (graph_input.quantizer is not None):
            faults.append(f"input {graph_input.name!r}: a quantizer belongs to the integer level, and only there")
    for op in graph.ops:
        if not isinstance(op, _ALLOWED[graph.level]):
            faults.append(f"{op.mnemonic} does not belong to the {graph.level.value} level")
        for operand in op.operands:
            if defined.get(operand.name) != operand:
                faults.append(f"{op.mnemonic} %{op.result.name} reads %{operand.name}, which is not defined before it")
        define(op.result)
        faults.extend(f"{op.mnemonic} %{op.result.name}: {fault}" for fault in _op_faults(graph.level, op))
    if not graph.outputs:
        faults.append("the graph has no outputs")
    for output in graph.outputs:
        if defined.get(output.value.name) != output.value:
            faults.append(f"output {output.name!r} is not defined")
        if (graph.level is Level.INTEGER) != (output.map is not None):
            faults.append(f"output {output.name!r}: a map belongs to the integer level, and only there")
    return faults


def _op_faults(level: Level, op: Op) -> list[str]:
    faults = _shape_faults(op)
    if level is Level.INTEGER and not faults:
        faults += _range_faults(op)
    elif isinstance(op, Quantize | QuantizedConstant) and not isinstance(op.result.type.element, Quantization):
        faults.append("the result has no Quantization")
    return faults


def _shape_faults(op: Op) -> list[str]:
    expected = _expected_shape(op)
    if expected is None or expected == op.result.type.shape:
        return []
    return [f"the shape is {list(op.result.type.shape)}, should be {list(expected)}"]


def _expected_shape(op: Op) -> tuple[int, ...] | None:
    """The shape that follows from the operands; None where the operation has its own say."""
    match op:
        case Conv():
            return conv_shape(op.input.type.shape, op.weight.type.shape, op.window)
        case Conv2d():
            return conv_shape(op.input.type.shape, op.weight.shape, op.window)
        case Linear():
            return op.input.type.shape[0], op.weight.type.shape[0]
        case Dense():
            return op.input.type.shape[0], op.weight.shape[0]
        case MaxPool():
            return pool_shape(op.input.type.shape, op.window)
        case Reshape():
            same = element_count(op.input.type.shape) == element_count(op.result.type.shape)
            return op.result.type.shape if same else op.input.type.shape
        case Concat():
            first = op.inputs[0].type.shape
            total = sum(v.type.shape[op.axis] for v in op.inputs)
            return (*first[: op.axis], total, *first[op.axis + 1 :])
        case Quantize() | Requantize():
            return op.input.type.shape
        case _:
            return None


def _range_faults(op: Op) -> list[str]:
    if not all(isinstance(v.type.element, Codes) for v in (*op.operands, op.result)):
        return ["a tensor without codes"]
    faults = []
    low, high = result_range(op)  # type: ignore[arg-type]  # membership of the level was checked
    codes = op.result.type.codes
    if not codes.low <= low <= high <= codes.high:
        faults.append(f"the codes reach [{low}, {high}], the type says [{codes.low}, {codes.high}]")
    if isinstance(op, Requantize):
        inputs = op.input.type.codes
        if not (op.staircase.domain_low <= inputs.low and inputs.high <= op.staircase.domain_high):
            faults.append("the input leaves the staircase's domain")
    operands = (op.lhs, op.rhs) if isinstance(op, Sum) else op.inputs if isinstance(op, Concat) else ()
    if len({v.type.codes.scale for v in operands}) > 1:
        faults.append("the operands have different scales")
    return faults
