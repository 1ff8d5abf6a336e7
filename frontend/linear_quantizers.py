"""ONNX's own quantizers: QuantizeLinear, Clip of integers, DequantizeLinear (QDQ and Brevitas' QCDQ).

Between the two the file holds integers. Ours never does: the pair is one quantizer, so that nothing is emitted before
the DequantizeLinear, which knows what the integers mean.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder, IntegerTensor
from pefslc.frontend.channel_quantizers import codes_by_channel
from pefslc.frontend.integer_inputs import dequantized_input, values_as_integers
from pefslc.frontend.node import Node, constant_array
from pefslc.frontend.quantized_constants import format_of, quantized_constant
from pefslc.frontend.quantizers import exact_scale, positive_steps
from pefslc.frontend.weights import channel_axes, with_axis_first
from pefslc.ir.quantized import Clip, Constant, Quantize
from pefslc.ir.value import Value
from pefslc.numeric.format import Quantization
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.scale import Scale

__all__ = [
    "clip_integers",
    "dequantized",
    "import_dequantize_linear",
    "import_quantize_linear",
    "integer_output",
    "type_range",
]

_EXACT_PRECISIONS = (0, 1, 11)  # the scale's, FLOAT, DOUBLE
_INTEGER = re.compile(r"(u?)int(\d+)")


def import_quantize_linear(builder: Builder, node: Node) -> IntegerTensor:
    """QuantizeLinear(x, scale, zero point): round(x / scale) + zero point, saturated to the zero point's type."""
    x = builder.operand(node, 0)
    axis = _axis(node, len(x.type.shape))
    node.ignore("saturate")  # of float8 only
    if (precision := node.take_int("precision", 0)) not in _EXACT_PRECISIONS:  # of the division, since opset 23
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE,
            f"QuantizeLinear with precision={precision} is not supported",
            hint="leave it out, or take float32",
        )
    zero_points = node.constant(2, "zero point") if node.has_input(2) else np.zeros(1, dtype=_output_type(node))
    low, high = type_range(node, zero_points.dtype)
    codes = _zero_points(node, zero_points, x.type.shape, axis)
    scale, source = _scale(node, x.type.shape, axis), builder.producer(x)
    if (codes != codes[0]).any():
        if not isinstance(source, Constant):
            raise node.fault(
                Code.ZERO_POINT,
                "zero points that differ between channels are supported for constants only",
                hint="quantize activations with one zero point, or symmetrically",
            )
        whole = Quantization(bits=high.bit_length() + (low < 0), signed=low < 0, scale=scale)
        integers = codes_by_channel(source.data.data, Quantizer(whole, adds_zero_point_last=True), codes, axis)
        return IntegerTensor(low, high, integers, None, 0, is_constant=True, channel_axis=0)
    zero_point, constant = int(codes[0]), isinstance(source, Constant)
    if scale.per_channel and axis not in (channel_axes(node, x.type.shape) if constant else (1,)):
        raise node.fault(
            Code.SCALE_SHAPE,
            f"a scale along axis {axis} is not supported",
            hint="along the output channels of weights, axis 1 of activations",
        )
    return IntegerTensor(low, high, x, scale, zero_point, constant, channel_axis=axis if scale.per_channel else 0)


def clip_integers(builder: Builder, node: Node) -> IntegerTensor | None:
    """Clip, or Relu, between the two: the codes' range. None where the input holds no integers."""
    tensor = _integers(builder, node)
    if tensor is None:
        return None
    low, high = tensor.low, tensor.high
    if node.op_type == "Relu":
        low, high = max(low, 0), max(high, 0)
    else:
        low = max(_integer(node, 1, "min"), low) if node.has_input(1) else low
        high = min(_integer(node, 2, "max"), high) if node.has_input(2) else high
    if low > high:
        raise node.fault(Code.PARAMETER_VALUE, f"Clip to [{low}, {high}] is empty")
    source = tensor.source if isinstance(tensor.source, Value) else np.clip(tensor.source, low, high)
    if tensor.is_quantized and isinstance(source, Value):
        if tensor.scale is not None and tensor.scale.per_channel:
            raise node.fault(
                Code.SCALE_PER_CHANNEL,
                f"{node.op_type} of moved integers with one scale per channel is not supported",
                hint="put it right behind the QuantizeLinear",
            )
        source = _clipped(builder, node, source, low, high, tensor)
    return replace(tensor, low=low, high=high, source=source)


def import_dequantize_linear(builder: Builder, node: Node) -> Value:
    """DequantizeLinear(codes, scale, zero point): (codes - zero point) * scale."""
    if node.has_input(0) and node.inputs[0].name in builder.integer_tensors:
        return _dequantized_input(builder, node)
    tensor = _integers(builder, node)
    if tensor is None:
        raise node.fault(
            Code.COMPUTED_OPERAND, "DequantizeLinear reads no integers that a QuantizeLinear or a constant made"
        )
    shape = tensor.source.type.shape if isinstance(tensor.source, Value) else tuple(tensor.source.shape)
    axis = _axis(node, len(shape))
    scale = _scale(node, shape, axis)
    zero_points = np.zeros(1, dtype=np.int64)
    if node.has_input(2):
        zero_points = _zero_points(node, node.constant(2, "zero point"), shape, axis)
    if not isinstance(tensor.source, Value):
        limits = tensor.low, tensor.high
        return quantized_constant(builder, node, tensor.source, limits, scale, zero_points, axis)
    if set(zero_points.tolist()) != {tensor.zero_point} or not _has_scales(tensor, scale, axis):
        raise node.fault(
            Code.QUANTIZER_INPUTS,
            "DequantizeLinear has another scale or zero point than its QuantizeLinear",
            hint="integers that are read with another meaning are not supported",
        )
    return dequantized(builder, node, tensor)


def _has_scales(tensor: IntegerTensor, scale: Scale, axis: int) -> bool:
    """Whether each integer of a QuantizeLinear has the step there that it has with `scale` along `axis`."""
    assert isinstance(tensor.source, Value)
    assert tensor.scale is not None
    if tensor.channels is None:
        return scale == tensor.scale and (axis == tensor.channel_axis or not scale.per_channel)
    shape, count = tensor.source.type.shape, len(scale.steps)
    along = np.arange(count).reshape([-1 if i == axis and count > 1 else 1 for i in range(len(shape))])
    pairs = np.unique(tensor.channels * count + along)
    return all(i < count or tensor.scale.channel(i // count - 1) == scale.channel(i % count) for i in pairs.tolist())


def _dequantized_input(builder: Builder, node: Node) -> Value:
    """Of an input that holds integers."""
    shape = builder.values[node.inputs[0].name].type.shape
    axis = _axis(node, len(shape))
    scale = _scale(node, shape, axis)
    zero_points = node.constant(2, "zero point").astype(np.int64).reshape(-1) if node.has_input(2) else np.zeros(1, int)
    if (zero_points != zero_points[0]).any() or (scale.per_channel and axis != 1):
        raise node.fault(
            Code.ZERO_POINT if not scale.per_channel or axis == 1 else Code.SCALE_SHAPE,
            "an input's integers have one zero point, and scales along axis 1",
            hint="give the input one scale and one zero point",
        )
    return dequantized_input(builder, node, scale, int(zero_points[0]))


def integer_output(builder: Builder, node: Node, tensor: IntegerTensor) -> Value | None:
    """The codes of the QuantizeLinear `node` as the network's result: numbers that are integers. None of a constant."""
    if tensor.is_constant or tensor.scale is None:
        return None
    if tensor.channels is not None:
        raise node.fault(
            Code.SCALE_PER_CHANNEL,
            "an output of moved integers with one scale per channel is not supported",
            hint="end with their DequantizeLinear",
        )
    values = dequantized(builder, node, tensor)
    return values_as_integers(builder, node, values, tensor.scale, tensor.zero_point)


def dequantized(builder: Builder, node: Node, tensor: IntegerTensor) -> Value:
    """What a DequantizeLinear makes of the integers of a QuantizeLinear, by the scale and zero point of that.

    The quantizer that the pair is, and a Clip of values where the codes' range is no format's.
    """
    x, zero_point, scale = tensor.source, tensor.zero_point, tensor.scale
    assert isinstance(x, Value)
    assert scale is not None
    if tensor.is_quantized:
        return x
    found = format_of(tensor.low, tensor.high, scale, zero_point)
    bits = max(tensor.high.bit_length(), (-tensor.low - 1).bit_length() if tensor.low < 0 else 0)
    signed = tensor.low < 0
    quantization = found or Quantization(bits=bits + signed, signed=signed, scale=scale, zero_point=zero_point)
    channel_axis = 0 if tensor.is_constant else 1

    def quantize(x: Value) -> Value:
        result = builder.new_value(x.type.shape, quantization, node.origin)
        return builder.append(Quantize(result=result, input=x, adds_zero_point_last=True, channel_axis=channel_axis))

    value = with_axis_first(builder, x, tensor.channel_axis, quantize) if tensor.is_constant else quantize(x)
    if found is not None:
        return value
    if scale.per_channel:
        raise node.fault(
            Code.SCALE_PER_CHANNEL,
            f"codes in [{tensor.low}, {tensor.high}] with one scale per channel are not supported",
        )
    return _clipped(builder, node, value, tensor.low, tensor.high, tensor)


def _clipped(builder: Builder, node: Node, x: Value, low: int, high: int, tensor: IntegerTensor) -> Value:
    """The values x of the integers `tensor`, which are clipped to [low, high]."""
    assert tensor.scale is not None
    limits = [(code - tensor.zero_point) * tensor.scale.step for code in (low, high)]
    return builder.append(Clip(result=builder.real(x.type.shape, node), input=x, low=limits[0], high=limits[1]))


def _zero_points(node: Node, array: NDArray[np.generic], shape: tuple[int, ...], axis: int) -> NDArray[np.int64]:
    """One, or one for each index along `axis` of a tensor."""
    if array.dtype.kind == "f" or not (array.size == 1 or (0 <= axis < len(shape) and array.size == shape[axis])):
        raise node.fault(
            Code.ZERO_POINT,
            f"a zero point of shape {list(array.shape)}, {array.dtype}, of a tensor {list(shape)} is not supported",
            hint="one integer, or one for each channel",
        )
    return array.astype(np.int64).reshape(-1)


def _integers(builder: Builder, node: Node) -> IntegerTensor | None:
    """The integers that the node reads: from a QuantizeLinear (and a Clip), or a constant's."""
    if not node.has_input(0):
        raise node.fault(Code.MISSING_OPERAND, f"{node.op_type} has no input 0")
    known = builder.integers.get(node.inputs[0].name)
    if known is not None:
        return known
    array = constant_array(node.inputs[0])
    if array is None or array.dtype.kind == "f":
        return None
    small = np.iinfo(np.int32)  # no DequantizeLinear has 64 bits, and files do, of numbers that need them not
    fits = array.dtype.itemsize == 8 and array.size and small.min <= array.min() and array.max() <= small.max
    low, high = type_range(node, np.dtype(np.int32) if fits else array.dtype)
    return IntegerTensor(low, high, array.astype(np.int64), None, 0, is_constant=True, channel_axis=0)


def _integer(node: Node, index: int, what: str) -> int:
    array = node.constant(index, what)
    if array.size != 1 or array.dtype.kind == "f":
        raise node.fault(
            Code.SHAPE_MISMATCH, f"the {what} has shape {list(array.shape)} and type {array.dtype}, not one integer"
        )
    return int(array.astype(np.int64).reshape(-1)[0])


def type_range(node: Node, dtype: np.dtype[np.generic]) -> tuple[int, int]:
    """The lowest and the highest integer of a type."""
    name = dtype.names[0] if dtype.names else dtype.name  # onnx 1.17 makes a record of int4
    match = _INTEGER.fullmatch(name)
    if match is None or int(match[2]) > 32:
        raise node.fault(Code.BIT_WIDTH, f"quantization to {name} is not supported", hint="integers of at most 32 bits")
    bits = int(match[2])
    return (0, (1 << bits) - 1) if match[1] else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def _output_type(node: Node) -> np.dtype[np.generic]:
    """The type of a QuantizeLinear without zero point: output_dtype (opset 21), else uint8."""
    import onnx

    code = node.take_int("output_dtype", 0)
    if not code:
        return np.dtype(np.uint8)
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(code))
    except (KeyError, ValueError, TypeError):
        raise node.fault(Code.UNSUPPORTED_ATTRIBUTE, f"output_dtype={code} is not supported") from None


def _axis(node: Node, rank: int) -> int:
    axis = node.take_int("axis", 1)
    if node.op_type == "DequantizeLinear" or node.has_input(2):
        node.ignore("output_dtype")  # the zero point says it, or it is a float type
    if node.take_int("block_size", 0):
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE,
            "block-wise quantization is not supported",
            hint="one scale per tensor or per channel",
        )
    return axis % rank if rank and -rank <= axis < rank else axis


def _scale(node: Node, shape: tuple[int, ...], axis: int) -> Scale:
    steps = positive_steps(node, 1)
    if steps.size > 1 and (steps.ndim != 1 or not 0 <= axis < len(shape) or steps.size != shape[axis]):
        raise node.fault(
            Code.SCALE_SHAPE,
            f"a scale of shape {list(steps.shape)} along axis {axis} of a tensor {list(shape)} is not supported",
            hint="one number, or one for each channel",
        )
    return exact_scale(steps)
