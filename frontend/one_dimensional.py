"""Convolutions and pools of sequences [N, C, L]: those of images [N, C, 1, L], which have one row."""

from __future__ import annotations

from collections.abc import Callable

import onnx_graphsurgeon as gs

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.node import Node
from pefslc.ir.structural import Reshape
from pefslc.ir.value import Value

__all__ = ["also_for_sequences"]

Operator = Callable[[Builder, Node], Value]

# What one row is given beside the one number of the sequence.
_PER_AXIS = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 0, "output_shape": 1}


def also_for_sequences(operator: Operator) -> Operator:
    """The operator of images, which then takes [N, C, L] too, with one number per attribute where images have two."""

    def import_either(builder: Builder, node: Node) -> Value:
        x = builder.operand(node, 0)
        if len(x.type.shape) != 3:
            return operator(builder, node)
        _with_one_row(builder, node, 0)
        if node.op_type in ("Conv", "ConvTranspose") and len(builder.operand(node, 1).type.shape) == 3:
            _with_one_row(builder, node, 1)
        for name, row in _PER_AXIS.items():
            values = _numbers(node, name, 1)
            if values is not None:
                node.give_ints(name, (row, *values))
        pads = _numbers(node, "pads", 2)
        if pads is not None:
            node.give_ints("pads", (0, pads[0], 0, pads[1]))
        result = operator(builder, node)
        shape = result.type.shape
        return result if len(shape) != 4 else _reshaped(builder, node, result, (*shape[:2], shape[3]))

    return import_either


def _numbers(node: Node, name: str, count: int) -> tuple[int, ...] | None:
    """An attribute of so many numbers: more would be about rows, of which a sequence has none."""
    values = node.take_ints(name, None)
    if values is not None and len(values) != count:
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE,
            f"{name}={list(values)} is not supported",
            hint=f"{'one number' if count == 1 else 'two numbers'}, for the length of a sequence",
        )
    return values


def _with_one_row(builder: Builder, node: Node, index: int) -> None:
    """Let input `index`, [N, C, L], be [N, C, 1, L]."""
    x = builder.operand(node, index)
    n, c, length = x.type.shape
    tensor = gs.Variable(f"{node.inputs[index].name} with one row")
    builder.values[tensor.name] = _reshaped(builder, node, x, (n, c, 1, length))
    node.inputs[index] = tensor


def _reshaped(builder: Builder, node: Node, x: Value, shape: tuple[int, ...]) -> Value:
    return builder.append(Reshape(result=builder.new_value(shape, x.type.element, node.origin), input=x))
