"""The last step of a classifier: Softmax, LogSoftmax, ArgMax, and a Sigmoid or Tanh that no quantizer follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder, HostTail
from pefslc.frontend.node import Node
from pefslc.ir.interface import GraphOutput
from pefslc.ir.output_function import OutputFunction, OutputFunctionKind
from pefslc.ir.quantized import Apply
from pefslc.ir.value import Op, Value
from pefslc.numeric.expression import Call, Expression, Function, X
from pefslc.numeric.format import Quantization

__all__ = ["import_arg_max", "import_log_softmax", "import_softmax", "passed_on", "with_functions"]

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
    """ArgMax(x) along an axis."""
    x = builder.operand(node, 0)
    axis = _axis(node, x, node.take_int("axis", 0))
    keepdims, last = bool(node.take_int("keepdims", 1)), bool(node.take_int("select_last_index", 0))
    return HostTail(x, OutputFunction(OutputFunctionKind.ARG_MAX, axis, keepdims, last))


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
