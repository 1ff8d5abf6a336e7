"""Constants in sums and products, raw or quantized: what each number is, exactly."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.node import Node, constant_array
from pefslc.geometry.shapes import Shape, element_count
from pefslc.ir.quantized import Constant, Quantize, QuantizedConstant
from pefslc.ir.structural import Reshape, Transpose
from pefslc.ir.value import Value
from pefslc.numeric.format import Quantization
from pefslc.numeric.quantize import quantize_array

__all__ = ["constant_operand", "constant_values", "is_constant", "is_quantized_constant", "per_channel"]


def is_constant(builder: Builder, tensor: gs.Tensor) -> bool:
    """Whether the tensor is a constant of the file, or one that was quantized."""
    return constant_array(tensor) is not None or is_quantized_constant(builder, tensor)


def is_quantized_constant(builder: Builder, tensor: gs.Tensor) -> bool:
    """Whether the tensor is a constant behind one quantizer."""
    value = builder.values.get(tensor.name)
    if value is None or not isinstance(value.type.element, Quantization):
        return False
    return _quantizers_of(builder, value) == 1


def _quantizers_of(builder: Builder, value: Value) -> int | None:
    """How many quantizers a constant went through; None for what is computed."""
    quantizers = 0
    while isinstance(op := builder.producer(value), Reshape | Transpose | Quantize):
        value, quantizers = op.input, quantizers + isinstance(op, Quantize)
    return quantizers + isinstance(op, QuantizedConstant) if isinstance(op, Constant | QuantizedConstant) else None


def constant_operand(builder: Builder, node: Node, index: int) -> NDArray[np.object_]:
    """The numbers of constant operand `index`, exactly. Raises CompileError for what is no finite number."""
    if node.has_input(index) and is_quantized_constant(builder, node.inputs[index]):
        return _values(builder, builder.values[node.inputs[index].name])
    array = node.constant(index, "constant operand")
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise node.fault(Code.CONSTANT_VALUE, "the constant operand holds NaN, infinity, or no floats")
    return _exact(array)


def constant_values(builder: Builder, node: Node, value: Value) -> NDArray[np.object_]:
    """The numbers of a constant, raw or quantized, exactly. Raises CompileError for what is computed."""
    if _quantizers_of(builder, value) not in (0, 1):
        raise node.fault(
            Code.COMPUTED_OPERAND,
            f"an operand of {node.op_type} is computed at run time",
            hint="only constants are supported here: freeze the model before exporting it",
        )
    return _values(builder, value)


def per_channel(builder: Builder, node: Node, index: int) -> tuple[Fraction, ...]:
    """The constant operand `index`, exactly: one number, or one for each channel (axis 1) of the other operand."""
    x = builder.operand(node, 1 - index)
    if node.has_input(index) and is_constant(builder, node.inputs[index]):
        _check_shape(node, x, _shape(builder, node.inputs[index]))
    return tuple(constant_operand(builder, node, index).reshape(-1))


def _check_shape(node: Node, x: Value, shape: Shape) -> None:
    rank, channels, size = len(x.type.shape), x.type.channels, element_count(shape)
    aligned = (1,) * (rank - len(shape)) + shape
    if size not in (1, channels) or (size > 1 and (len(shape) > rank or aligned[1:2] != (channels,))):
        raise node.fault(
            Code.UNSUPPORTED_SHAPE,
            f"{node.op_type} of a constant of shape {list(shape)} is not supported",
            hint="one number per channel",
        )


def _shape(builder: Builder, tensor: gs.Tensor) -> Shape:
    array = constant_array(tensor)
    return tuple(array.shape) if array is not None else builder.values[tensor.name].type.shape


def _exact(array: NDArray[np.generic]) -> NDArray[np.object_]:
    exact = np.empty(array.shape, dtype=object)
    exact.reshape(-1)[:] = [Fraction(float(v)) for v in array.reshape(-1)]  # every float of a file is exact in float64
    return exact


def _values(builder: Builder, value: Value) -> NDArray[np.object_]:
    """What the operations that made a constant evaluate to."""
    match op := builder.producer(value):
        case Reshape():
            return _values(builder, op.input).reshape(op.result.type.shape)
        case Transpose():
            return _values(builder, op.input).transpose(op.permutation)
        case QuantizedConstant():
            return _dequantized(op.codes.data, op.quantization, 0)
        case Quantize():
            source = _values(builder, op.input).astype(np.float64)
            return _dequantized(
                quantize_array(op.quantizer, source, op.channel_axis), op.quantizer.quantization, op.channel_axis
            )
        case Constant():
            return _exact(op.data.data)
    raise AssertionError(f"no constant: {op}")


def _dequantized(codes: NDArray[np.int64], quantization: Quantization, axis: int) -> NDArray[np.object_]:
    values = np.empty(codes.shape, dtype=object)
    for index, code in np.ndenumerate(codes):
        values[index] = quantization.value(int(code), index[axis] if quantization.scale.per_channel else 0)
    return values
