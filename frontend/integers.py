"""Integers between QuantizeLinear and DequantizeLinear that move, or get another type, before they are read.

Optimizers and TFLite converters leave Reshape, Transpose, MaxPool, Concat and their like there, torch's eager and FX
quantization a Cast to the type that the integers have. The DequantizeLinear rises with the integers of one scale and
treats them alike: what moves or compares them may as well do so behind it, with the same result. Where each channel has
its scale, the DequantizeLinear must find it where the movement put it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import TensorProto, helper

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder, IntegerTensor
from pefslc.frontend.linear_quantizers import dequantized, type_range
from pefslc.frontend.node import Node
from pefslc.ir.reference import evaluate_op
from pefslc.ir.structural import MaxPool, Structural
from pefslc.ir.value import Op, Value

__all__ = ["also_for_integers", "import_cast"]

Moves = Callable[[Builder, Node], Value | tuple[Value, ...]]
Either = Callable[[Builder, Node], Value | tuple[Value, ...] | IntegerTensor | tuple[IntegerTensor, ...]]

_WIDE_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)


def also_for_integers(operator: Moves) -> Either:
    """The operator, which moves or compares values, for integers of a QuantizeLinear, too."""

    def import_either(
        builder: Builder, node: Node
    ) -> Value | tuple[Value, ...] | IntegerTensor | tuple[IntegerTensor, ...]:
        if not any(t.name in builder.integers for t in node.inputs):
            return operator(builder, node)
        tensors = _operands(builder, node)
        _check_chooses(node)
        if node.op_type == "Pad":
            _pad_with_zero(node, tensors[0])
        for i, tensor in enumerate(tensors):
            value = dequantized(builder, node, tensor)
            builder.integers[node.inputs[i].name] = tensor.quantized_as(value)
            node.inputs[i] = gs.Variable(f"{node.inputs[i].name} dequantized")
            builder.values[node.inputs[i].name] = value
        first = len(builder.ops)
        made = operator(builder, node)
        values = made if isinstance(made, tuple) else (made,)
        channels = _moved_channels(builder, node, tensors, builder.ops[first:], values)
        low, high = min(t.low for t in tensors), max(t.high for t in tensors)
        results = tuple(
            replace(tensors[0], low=low, high=high).quantized_as(value, scales)
            for value, scales in zip(values, channels, strict=True)
        )
        return results if isinstance(made, tuple) else results[0]

    return import_either


def _operands(builder: Builder, node: Node) -> Sequence[IntegerTensor]:
    """The integers that are moved: of all operands of a Concat, of the first one of all others; of one scale."""
    count = len(node.inputs) if node.op_type == "Concat" else 1
    tensors = [builder.integers.get(t.name) for t in node.inputs[:count]]
    found = [t for t in tensors if t is not None and isinstance(t.source, Value) and t.scale is not None]
    scales = {(t.scale, t.zero_point) for t in found}
    if len(found) == count and len(scales) == 1:
        return found
    raise node.fault(
        Code.UNSUPPORTED_OPERATOR,
        f"{node.op_type} of integers is not supported unless all have one scale and zero point",
        hint="put a DequantizeLinear right behind each quantizer",
    )


def _moved_channels(
    builder: Builder, node: Node, tensors: Sequence[IntegerTensor], ops: Sequence[Op], results: Sequence[Value]
) -> list[NDArray[np.int64] | None]:
    """`IntegerTensor.channels` of the results; None where one scale holds for all.

    The numbers of the channels go the way of the values: a 0 that pads belongs to every channel, and a maximum compares
    elements of one channel, whose number it returns.
    """
    if not any(t.scale is not None and t.scale.per_channel for t in tensors):
        return [None] * len(results)
    names = [builder.values[t.name].name for t in node.inputs[: len(tensors)]]
    numbers = {name: t.scale_of_each.astype(np.float64) for name, t in zip(names, tensors, strict=True)}
    for op in ops:
        assert isinstance(op, Structural)
        operands = [numbers[value.name] for value in op.operands]
        if isinstance(op, MaxPool) and not np.array_equal(operands[0].max((2, 3)), operands[0].min((2, 3))):
            raise node.fault(
                Code.SCALE_PER_CHANNEL,
                f"{node.op_type} of integers of different scales is not supported",
                hint="put a DequantizeLinear in front of it, or quantize with one scale",
            )
        numbers[op.result.name] = evaluate_op(op, operands)
    return [numbers[value.name].astype(np.int64) for value in results]


def _check_chooses(node: Node) -> None:
    """Raise where the node computes new numbers of integers: between neighbours, which are integers again."""
    mode = node.raw.attrs.get("mode", "nearest")
    if node.op_type in ("Resize", "Upsample") and mode not in ("nearest", b"nearest"):
        raise node.fault(
            Code.UNSUPPORTED_OPERATOR,
            f"{node.op_type} of integers between {mode} neighbours is not supported: it would round, and ONNX does not "
            "say how",
            hint="use quantize_static with QuantFormat.QDQ: it resizes values, and quantizes the result",
        )


def _pad_with_zero(node: Node, tensor: IntegerTensor) -> None:
    """The padding among integers, which must be the one that means 0, becomes 0."""
    given = node.constant(2, "padding value") if node.has_input(2) else np.zeros(1, dtype=np.int64)
    if given.size != 1 or given.dtype.kind not in "iu" or int(given.reshape(-1)[0]) != tensor.zero_point:
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE,
            "Pad of integers with another value than the zero point is not supported",
            hint=f"only zero padding, by {tensor.zero_point} here",
        )
    if node.has_input(2):
        node.inputs[2] = gs.Constant("a padding of 0", np.zeros((), dtype=np.float32))


def import_cast(builder: Builder, node: Node) -> Value | IntegerTensor:
    """Cast(x, to) that changes nothing: of integers to a type that holds them all, of values to float32 or float64.

    Real values have no type here: they are exact. An input's integers are values, and may become floats.
    """
    target = node.take_int("to", 0)
    node.ignore("saturate", "round_mode")  # of float8 only
    name = TensorProto.DataType.Name(target) if target in TensorProto.DataType.values() else f"type {target}"
    source, result = node.inputs[0].name if node.has_input(0) else "", node.raw.outputs[0].name
    tensor, kind = builder.integers.get(source), builder.integer_tensors.get(source)
    if tensor is not None or kind is not None:
        limits = np.iinfo(kind or "int8")
        low, high = (limits.min, limits.max) if tensor is None else (tensor.low, tensor.high)
        if _holds(node, target, low, high):
            if kind is not None:
                builder.integer_tensors[result] = kind
            return tensor or builder.operand(node, 0)
        if tensor is not None or target not in _WIDE_FLOATS:
            raise node.fault(
                Code.UNSUPPORTED_OPERATOR,
                f"Cast of integers in [{low}, {high}] to {name} is not supported",
                hint="cast only to an integer type that holds them all, before their DequantizeLinear",
            )
    elif target not in _WIDE_FLOATS:
        raise node.fault(
            Code.UNSUPPORTED_OPERATOR,
            f"Cast to {name} is not supported",
            hint="quantize by QuantizeLinear or Quant",
        )
    return builder.operand(node, 0)


def _holds(node: Node, target: int, low: int, high: int) -> bool:
    """Whether the type is one of integers that holds all of [low, high]."""
    if target in (TensorProto.INT64, TensorProto.UINT64):
        return target == TensorProto.INT64 or low >= 0
    try:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(target))
    except (KeyError, ValueError, TypeError):
        return False
    if dtype.kind not in "iu" and target not in (TensorProto.INT4, TensorProto.UINT4):
        return False
    lowest, highest = type_range(node, dtype)
    return lowest <= low and high <= highest
