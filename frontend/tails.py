"""The last step of a classifier: Softmax, LogSoftmax, ArgMax, and a Sigmoid or Tanh that no quantizer follows.

A quantizer of a Softmax's or LogSoftmax's result, as ONNX Runtime puts it there, is the host's, too; so is a second one
that has the same values by other codes, as TFLite has it behind a network of int8 with an output of uint8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem
from pefslc.frontend.builder import Builder, HostTail, IntegerTensor
from pefslc.frontend.linear_quantizers import dequantized
from pefslc.frontend.node import Node
from pefslc.ir.interface import GraphOutput
from pefslc.ir.output_function import OutputFunction, OutputFunctionKind
from pefslc.ir.quantized import Apply, Quantize
from pefslc.ir.value import Op, Value
from pefslc.numeric.expression import Call, Expression, Function, X
from pefslc.numeric.format import Quantization
from pefslc.numeric.scale import Scale

__all__ = [
    "check_ends",
    "import_arg_max",
    "import_log_softmax",
    "import_softmax",
    "integer_tail",
    "passed_on",
    "quantized",
    "with_functions",
]

_FUNCTIONS: dict[Expression, OutputFunctionKind] = {
    Call(Function.SIGMOID, (X,)): OutputFunctionKind.SIGMOID,
    Call(Function.TANH, (X,)): OutputFunctionKind.TANH,
}


def import_softmax(builder: Builder, node: Node) -> HostTail:
    """Softmax(x) along an axis."""
    return _softmax(builder, node, OutputFunctionKind.SOFTMAX)


def import_log_softmax(builder: Builder, node: Node) -> HostTail:
    """LogSoftmax(x) along an axis."""
    return _softmax(builder, node, OutputFunctionKind.LOG_SOFTMAX)


def _softmax(builder: Builder, node: Node, kind: OutputFunctionKind) -> HostTail:
    x = builder.operand(node, 0)
    axis = _axis(node, x, node.take_int("axis", -1 if node.opset >= 13 else 1))
    if node.opset < 13 and any(size > 1 for size in x.type.shape[axis + 1 :]):
        # Before opset 13 all axes from this one on are one.
        raise node.fault(
            Code.UNSUPPORTED_SHAPE,
            f"{node.op_type} over several axes is not supported",
            hint="export with opset 13 or newer",
        )
    return HostTail(x, OutputFunction(kind, axis))


def import_arg_max(builder: Builder, node: Node) -> HostTail:
    """ArgMax(x) along an axis; of a quantizer's codes, which have the order of their values."""
    x = _values_of_codes(builder, node) or builder.operand(node, 0)
    axis = _axis(node, x, node.take_int("axis", 0))
    keepdims, last = bool(node.take_int("keepdims", 1)), bool(node.take_int("select_last_index", 0))
    return HostTail(x, OutputFunction(OutputFunctionKind.ARG_MAX, axis, keepdims, last))


def _values_of_codes(builder: Builder, node: Node) -> Value | None:
    """What the integers of one scale that the node reads stand for; None where it reads no such integers."""
    tensor = builder.integers.get(node.inputs[0].name) if node.has_input(0) else None
    if tensor is None or tensor.is_constant or tensor.scale is None or tensor.scale.per_channel:
        return None
    return dequantized(builder, node, tensor)


def _axis(node: Node, x: Value, axis: int) -> int:
    rank = len(x.type.shape)
    if not -rank <= axis < rank or axis % rank == 0:
        raise node.fault(
            Code.UNSUPPORTED_SHAPE,
            f"{node.op_type} along axis {axis} of {list(x.type.shape)} is not supported",
            hint="along any axis but the batch's",
        )
    return axis % rank


def passed_on(builder: Builder, node: Node) -> HostTail | None:
    """The tail that an Identity, a Dropout, or a Cast of ArgMax's integers passes on; None for other nodes."""
    tail = builder.tails.get(node.inputs[0].name) if node.inputs else None
    if tail is None or node.domain or node.op_type not in ("Identity", "Dropout", "Cast"):
        return None
    return tail if node.op_type != "Cast" or tail.function.kind is OutputFunctionKind.ARG_MAX else None


def quantized(builder: Builder, node: Node, made: Value) -> HostTail | None:
    """The tail that the quantizer of a result of the host's is, whose value is `made`; None where that is a value.

    The quantizer is no operation then. `node` makes the value.
    """
    op = builder.producer(made) if builder.host_results else None
    if not isinstance(op, Quantize) or op.input.name not in builder.host_results or op.quantization.scale.per_channel:
        return None
    builder.ops.remove(op)
    tail = builder.host_results[op.input.name]
    quantizer, first = op.quantizer, tail.function.quantizer
    if first is not None:
        quantizer = replace(first, quantization=op.quantization)
        if not first.adds_zero_point_last or _values(first.quantization) != _values(op.quantization):
            raise node.fault(
                Code.NOT_QUANTIZED,
                "the host's part has a second quantizer, with other values than the first",
                hint="end the network before it, or give it the scale and the range of the first",
            )
    return replace(tail, function=replace(tail.function, quantizer=quantizer))


def _values(quantization: Quantization) -> tuple[Scale, int, int]:
    """The step, and the least and the largest value in steps: as TFLite goes from int8 to uint8, all stay the same."""
    zero_point = quantization.zero_point
    return quantization.scale, quantization.low - zero_point, quantization.high - zero_point


def integer_tail(builder: Builder, node: Node, tensor: IntegerTensor) -> HostTail | None:
    """The tail whose quantizer, the QuantizeLinear `node`, ends the network with its codes; None for others."""
    if not isinstance(tensor.source, Value) or tensor.source.name not in builder.host_results:
        return None
    tail = quantized(builder, node, dequantized(builder, node, tensor))
    return tail and replace(tail, function=replace(tail.function, as_codes=True))


def check_ends(builder: Builder) -> None:
    """Raise CompileError, with all problems so far, where anything else reads a result of the host's.

    A Reshape of its codes does, and scales per channel. Nothing makes that result, so no pass can look for more faults.
    """
    for op in builder.ops:
        if any(v.name in builder.host_results for v in op.operands):
            found = Problem(
                Code.NOT_QUANTIZED,
                "what the host computes at the end of the network is read behind a quantizer",
                at=op.result.origin,
                hint="only a quantizer with one scale may follow it: end the network before it",
            )
            shapes = builder.shapes()
            raise CompileError.of([problem.with_shape(shapes) for problem in (*builder.problems, found)])


def with_functions(outputs: Sequence[GraphOutput], ops: Sequence[Op]) -> tuple[GraphOutput, ...]:
    """A Sigmoid or Tanh that makes an output of a quantized network is the host's."""
    if not any(isinstance(op.result.type.element, Quantization) for op in ops):
        return tuple(outputs)  # of a float model whose output, too, gets a format after training
    producers = {op.result.name: op for op in ops}
    found = []
    for output in outputs:
        op = producers.get(output.value.name)
        if output.function is None and isinstance(op, Apply) and op.function in _FUNCTIONS:
            output = replace(output, value=op.input, function=OutputFunction(_FUNCTIONS[op.function]))
        found.append(output)
    return tuple(found)
