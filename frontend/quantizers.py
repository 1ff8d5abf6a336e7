"""QONNX's quantizers: Quant (IntQuant), BipolarQuant, Trunc; scale, zero point, bit width and attributes checked."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.channel_quantizers import differs_between_channels, quantized_by_channel
from pefslc.frontend.node import Node, constant_array
from pefslc.frontend.weights import channel_axes, with_axis_first
from pefslc.geometry.shapes import Shape
from pefslc.ir.quantized import Constant, Quantize
from pefslc.ir.value import Op, Value
from pefslc.numeric.format import MAX_FORMAT_BITS, Quantization
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, SnapStage

__all__ = ["exact_scale", "import_bipolar_quant", "import_quant", "import_trunc", "positive_steps"]

_LARGEST_ZERO_POINT = 1 << 31


def import_quant(builder: Builder, node: Node) -> Value:
    """Quant(x, scale, zero_point, bit_width) {signed, narrow, rounding_mode}."""
    if len(node.inputs) != 4:
        raise node.fault(
            Code.QUANTIZER_INPUTS, f"Quant has {len(node.inputs)} inputs, not 4 (x, scale, zero point, bit width)"
        )
    x = builder.operand(node, 0)
    scale, axis = _operand_scale(builder, node, x)
    signed, narrow = _flag(node, "signed", 1), _flag(node, "narrow", 0)
    weights = builder.producer(x)
    if isinstance(weights, Constant) and (differs_between_channels(node, 2) or differs_between_channels(node, 3)):
        return quantized_by_channel(
            builder, node, weights.data.data, (scale, axis or 0), signed=signed, narrow=narrow,
            rounding=_rounding(node, "ROUND"),
        )  # fmt: skip
    bits = _bits(node, 3)
    zero_point = _zero_point(node, _integer(node, 2, "zero point", Code.ZERO_POINT))
    if bits == 1 and (signed or narrow):
        raise node.fault(
            Code.BIT_WIDTH,
            "a signed or narrow format of 1 bit is not supported",
            hint="for -1 and 1, BipolarQuant; else 2 bits",
        )
    rounding = _rounding(node, "ROUND")
    quantization = Quantization(bits=bits, signed=signed, narrow=narrow, scale=scale, zero_point=zero_point)
    return _quantized(builder, node, x, quantization, rounding, axis)


def import_bipolar_quant(builder: Builder, node: Node) -> Value:
    """BipolarQuant(x, scale): scale for x >= 0, else -scale. Codes -1 and 1 of a narrow format of 2 bits."""
    if len(node.inputs) != 2:
        raise node.fault(Code.QUANTIZER_INPUTS, f"BipolarQuant has {len(node.inputs)} inputs, not 2 (x, scale)")
    x = builder.operand(node, 0)
    scale, axis = _operand_scale(builder, node, x)
    quantization = Quantization(bits=2, signed=True, narrow=True, scale=scale)
    return _quantized(builder, node, x, quantization, RoundingMode.SIGN, axis)


def _operand_scale(builder: Builder, node: Node, x: Value) -> tuple[Scale, int | None]:
    """The scale (input 1) of a quantizer of x, and the axis of a constant that it goes along; None for activations."""
    if constant_array(node.inputs[0]) is None and not _is_constant(builder.ops, x):
        return _scale(node, 1, x.type.shape, (1,))[0], None
    return _scale(node, 1, x.type.shape, channel_axes(node, x.type.shape))


def _quantized(
    builder: Builder, node: Node, x: Value, quantization: Quantization, rounding: RoundingMode, axis: int | None
) -> Value:
    def quantize(x: Value) -> Value:
        result = builder.new_value(x.type.shape, quantization, node.origin)
        return builder.append(
            Quantize(result=result, input=x, rounding=rounding, channel_axis=1 if axis is None else 0)
        )

    return quantize(x) if axis is None else with_axis_first(builder, x, axis, quantize)


def import_trunc(builder: Builder, node: Node) -> Value:
    """Trunc: round(round(x / scale + zero_point) / 2^k) by the rounding mode, which is the floor unless it says else.

    v1  (x, scale, zero point, in bits, out bits): k = in - out bits, the result on the *input's* scale, unclipped
    v2  (x, scale, zero point, in bits, out scale, out bits): 2^k nearest to out scale / scale, clipped to out bits
    """
    if len(node.inputs) not in (5, 6):
        raise node.fault(
            Code.QUANTIZER_INPUTS, f"Trunc has {len(node.inputs)} inputs, not 5 (version 1) or 6 (version 2)"
        )
    x = builder.operand(node, 0)
    scale, _ = _scale(node, 1, x.type.shape, (1,))
    if scale.per_channel:
        raise node.fault(
            Code.SCALE_PER_CHANNEL, "Trunc with one scale per channel is not supported", hint="truncate per tensor"
        )
    step, in_bits = scale.step, _bits(node, 3)
    zero_point = _zero_point(node, _integer(node, 2, "zero point", Code.ZERO_POINT))
    snap = SnapStage(step, zero_point)
    if len(node.inputs) == 5:
        divisor = Fraction(2) ** (in_bits - _bits(node, 4))
        # z / scale + zero_point is to be (x / scale + zero_point) / divisor.
        factor, offset = 1 / divisor, zero_point * step * (1 / divisor - 1)
        quantization = Quantization(bits=MAX_FORMAT_BITS, signed=True, scale=scale, zero_point=zero_point)
    else:
        out_scale, _ = _scale(node, 4, x.type.shape, (1,))
        divisor = _nearest_power_of_two(out_scale.step / step)
        if (shifted := zero_point / divisor).denominator != 1:
            raise node.fault(
                Code.ZERO_POINT,
                f"zero point {zero_point} is no multiple of {divisor}",
                hint="use a symmetric quantizer",
            )
        # A factor other than 1 is a scale that is not the power of two itself.
        factor, offset = out_scale.step / (step * divisor), Fraction(0)
        quantization = Quantization(
            bits=_bits(node, 5),
            signed=_flag(node, "signed", 1),
            narrow=_flag(node, "narrow", 0),
            scale=out_scale,
            zero_point=_zero_point(node, int(shifted)),
        )
    moved = (Affine((factor,), (Fraction(0),), (Fraction(1),), (offset,)),) if factor != 1 or offset else ()
    result = builder.new_value(x.type.shape, quantization, node.origin)
    return builder.append(Quantize(result=result, input=x, stages=(snap, *moved), rounding=_rounding(node, "FLOOR")))


def _nearest_power_of_two(ratio: Fraction) -> Fraction:
    """2^k with k = round(log2(ratio)); a tie would need an irrational ratio."""
    k = ratio.numerator.bit_length() - ratio.denominator.bit_length()
    return min((Fraction(2) ** e for e in (k - 1, k, k + 1)), key=lambda power: max(ratio / power, power / ratio))


def _is_constant(ops: list[Op], x: Value) -> bool:
    return any(isinstance(op, Constant) and op.result is x for op in ops)


def _zero_point(node: Node, zero_point: int) -> int:
    if abs(zero_point) > _LARGEST_ZERO_POINT:
        raise node.fault(
            Code.ZERO_POINT,
            f"a zero point of {zero_point} is not supported",
            hint="the quantizer was not calibrated?",
        )
    return zero_point


def _bits(node: Node, index: int) -> int:
    bits = _integer(node, index, "bit width", Code.BIT_WIDTH)
    if not 1 <= bits <= MAX_FORMAT_BITS:
        raise node.fault(Code.BIT_WIDTH, f"a bit width of {bits} is not supported", hint=f"1 to {MAX_FORMAT_BITS} bits")
    return bits


def _rounding(node: Node, default: str) -> RoundingMode:
    name = node.take_string("rounding_mode", default)
    rounding = RoundingMode.from_qonnx(name)
    if rounding is None:
        raise node.fault(
            Code.ROUNDING_MODE,
            f"rounding mode {name!r} is not supported",
            hint="ROUND, FLOOR, CEIL, ROUND_TO_ZERO, ...",
        )
    return rounding


def positive_steps(node: Node, index: int) -> NDArray[np.float64]:
    """The constant scale of a quantizer: floats, positive, finite, normal. Raises CompileError for any other."""
    raw = node.constant(index, "scale")
    if raw.dtype.kind != "f":
        hint = (
            "make it float32; where qonnx' converter of Keras wrote it for binary(): BipolarQuant of x and that scale"
        )
        raise node.fault(Code.SCALE_VALUE, f"the scale holds {raw.dtype}, not floats", hint=hint)
    if not raw.size:
        raise node.fault(Code.SCALE_VALUE, "the scale is empty", hint="export the model again")
    with np.errstate(invalid="ignore"):  # a signalling NaN
        array = raw.astype(np.float64)  # every float of a file is exact in it
    if not np.isfinite(array).all() or not (array > 0).all():
        raise node.fault(
            Code.SCALE_VALUE, "the scale is not a positive finite number", hint="the quantizer was not calibrated?"
        )
    if (array < np.finfo(np.float32).tiny).any():
        raise node.fault(Code.SCALE_VALUE, "the scale is subnormal", hint="the quantizer was not calibrated?")
    return array


def exact_scale(steps: NDArray[np.float64]) -> Scale:
    """The floats as the rationals that they are."""
    return Scale.of(Fraction(float(s)) for s in steps.reshape(-1))


def _scale(node: Node, index: int, shape: Shape, axes: tuple[int, ...]) -> tuple[Scale, int]:
    """The constant scale, and the one of `axes` that it goes along: 0 where it is one for all."""
    array = positive_steps(node, index)
    scale = exact_scale(array)
    if not scale.per_channel:
        return scale, 0
    aligned = (1,) * (len(shape) - array.ndim) + tuple(array.shape)
    for channel_axis in axes:
        if aligned == tuple(size if axis == channel_axis else 1 for axis, size in enumerate(shape)):
            return scale, channel_axis
    raise node.fault(
        Code.SCALE_SHAPE,
        f"a scale of shape {list(array.shape)} on a tensor {list(shape)} is not supported",
        hint="per tensor, or per output channel of a weight",
    )


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
