"""QONNX's Quant (IntQuant): its scale, zero point, bit width and attributes, each checked."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from pefslc.codes import Code
from pefslc.frontend.importer import Builder
from pefslc.frontend.node import Node, constant_array
from pefslc.ir.quantized import Constant, Quantize
from pefslc.ir.value import Op, Value
from pefslc.numeric.format import MAX_FORMAT_BITS, Quantization
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale
from pefslc.shapes import Shape

__all__ = ["import_quant"]


def import_quant(builder: Builder, node: Node) -> Value:
    """Quant(x, scale, zero_point, bit_width) {signed, narrow, rounding_mode}."""
    if len(node.inputs) != 4:
        raise node.fault(
            Code.QUANTIZER_INPUTS, f"Quant has {len(node.inputs)} inputs, not 4 (x, scale, zero point, bit width)"
        )
    x = builder.operand(node, 0)
    constant = constant_array(node.inputs[0]) is not None or _is_constant(builder.ops, x)
    channel_axis = 0 if constant else 1
    scale = _scale(node, x.type.shape, channel_axis)
    bits = _integer(node, 3, "bit width", Code.BIT_WIDTH)
    if not 1 <= bits <= MAX_FORMAT_BITS:
        raise node.fault(Code.BIT_WIDTH, f"a bit width of {bits} is not supported", hint=f"1 to {MAX_FORMAT_BITS} bits")
    zero_point = _integer(node, 2, "zero point", Code.ZERO_POINT)
    if zero_point:
        raise node.fault(
            Code.ZERO_POINT,
            f"asymmetric quantization (zero point {zero_point}) is not supported",
            hint="use a symmetric quantizer, for example Int8ActPerTensorFixedPoint",
        )
    signed, narrow = _flag(node, "signed", 1), _flag(node, "narrow", 0)
    if bits == 1 and (signed or narrow):
        raise node.fault(Code.BIT_WIDTH, "a signed or narrow format of 1 bit is not supported", hint="use 2 bits")
    name = node.take_string("rounding_mode", "ROUND")
    rounding = RoundingMode.from_qonnx(name)
    if rounding is None:
        raise node.fault(
            Code.ROUNDING_MODE,
            f"rounding mode {name!r} is not supported",
            hint="ROUND, FLOOR, CEIL, ROUND_TO_ZERO, ...",
        )
    quantization = Quantization(bits=bits, signed=signed, narrow=narrow, scale=scale, zero_point=zero_point)
    result = builder.new_value(x.type.shape, quantization, node.origin)
    return builder.append(Quantize(result=result, input=x, rounding=rounding, channel_axis=channel_axis))


def _is_constant(ops: list[Op], x: Value) -> bool:
    return any(isinstance(op, Constant) and op.result is x for op in ops)


def _scale(node: Node, shape: Shape, channel_axis: int) -> Scale:
    raw = node.constant(1, "scale")
    if raw.dtype.kind != "f":
        raise node.fault(Code.SCALE_VALUE, f"the scale holds {raw.dtype}, not floats")
    array = raw.astype(np.float64)  # every float of a file is exact in it
    if not np.isfinite(array).all() or not (array > 0).all():
        raise node.fault(
            Code.SCALE_VALUE, "the scale is not a positive finite number", hint="the quantizer was not calibrated?"
        )
    if (array < np.finfo(np.float32).tiny).any():
        raise node.fault(Code.SCALE_VALUE, "the scale is subnormal", hint="the quantizer was not calibrated?")
    steps = [Fraction(float(s)) for s in array.reshape(-1)]
    scale = Scale.of(steps)
    if scale.per_channel:
        aligned = (1,) * (len(shape) - array.ndim) + tuple(array.shape)
        wanted = tuple(size if axis == channel_axis else 1 for axis, size in enumerate(shape))
        if aligned != wanted:
            raise node.fault(
                Code.SCALE_SHAPE,
                f"a scale of shape {list(array.shape)} on a tensor {list(shape)} is not supported",
                hint="per tensor, or per output channel of a weight",
            )
    return scale


def _integer(node: Node, index: int, what: str, code: Code) -> int:
    value = node.scalar(index, what)
    if not np.isfinite(value) or value != round(value):
        raise node.fault(code, f"the {what} is {value:g}, not an integer")
    return round(value)


def _flag(node: Node, name: str, default: int) -> bool:
    value = node.take_int(name, default)
    if value not in (0, 1):
        raise node.fault(Code.QUANTIZER_FLAG, f"attribute {name} is {value}, not 0 or 1")
    return bool(value)
