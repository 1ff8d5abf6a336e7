"""Brevitas quantizers in Qm.n. Brevitas has none, but its FixedPoint presets become one with a constant scale."""

from __future__ import annotations

from dataclasses import dataclass

from brevitas.inject import ExtendedInjector
from brevitas.quant import Int8ActPerTensorFixedPoint, Int8WeightPerTensorFixedPoint, Uint8ActPerTensorFixedPoint
from brevitas.quant.fixed_point import Int8BiasPerTensorFixedPointInternalScaling

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote_given
from pefslc.numeric.format import FixedPoint

__all__ = ["Quantizers", "activation_quantizer", "bias_quantizer", "fixed_point", "weight_quantizer"]

_MOST_BITS = 24  # Brevitas trains in float32: codes of more bits are no longer its integers


@dataclass(frozen=True, slots=True)
class Quantizers:
    """What the layers of a network take: `QuantConv2d(..., weight_quant=q.weight, bias_quant=q.bias)`.

    format      Qm.n
    weight      Qm.n, for weight_quant of convolutions and linear layers
    bias        `bias_format`, for bias_quant
    input       Qm.n, for act_quant of the QuantIdentity that the network begins with
    activation  Qm.n, for act_quant of QuantIdentity, QuantHardTanh and residual sums
    relu        UQm.n, the same bits without a sign, for act_quant of QuantReLU
    """

    format: FixedPoint
    bias_format: FixedPoint
    weight: type[ExtendedInjector]
    bias: type[ExtendedInjector]
    input: type[ExtendedInjector]
    activation: type[ExtendedInjector]
    relu: type[ExtendedInjector]


def fixed_point(fmt: str | FixedPoint, *, bias: str | FixedPoint | None = None) -> Quantizers:
    """Brevitas quantizers of the format Qm.n: constant scale 2^-n, no narrow range, half to even, saturating.

    fmt   "Q2.3": m integer bits including the sign, n fraction bits
    bias  the format of biases; by default on the grid of the accumulators, with two more integer bits: Q4.6 for Q2.3

    Raises CompileError for what is not a signed format of 2 to 24 bits.
    """
    parsed = _signed_format(fmt)
    m, n = parsed.integer_bits, parsed.fraction_bits
    wanted = FixedPoint(m + 2, min(2 * n, _MOST_BITS - (m + 2))) if bias is None else _signed_format(bias)
    activation = activation_quantizer(parsed)
    return Quantizers(
        format=parsed,
        bias_format=wanted,
        weight=weight_quantizer(parsed),
        bias=bias_quantizer(wanted),
        input=activation,
        activation=activation,
        relu=activation_quantizer(FixedPoint(m, n, signed=False)),
    )


def weight_quantizer(fmt: FixedPoint) -> type[ExtendedInjector]:
    """The quantizer of weights in `fmt`, for weight_quant. Raises CompileError for what `fixed_point` refuses."""
    return _in_format(Int8WeightPerTensorFixedPoint, _signed_format(fmt))


def bias_quantizer(fmt: FixedPoint) -> type[ExtendedInjector]:
    """The quantizer of biases in `fmt`, for bias_quant. Raises CompileError for what `fixed_point` refuses."""
    return _in_format(Int8BiasPerTensorFixedPointInternalScaling, _signed_format(fmt))


def activation_quantizer(fmt: FixedPoint) -> type[ExtendedInjector]:
    """The quantizer of activations in `fmt`, signed or not, for act_quant and output_quant. Raises CompileError."""
    if fmt.signed:
        return _in_format(Int8ActPerTensorFixedPoint, _signed_format(fmt))
    _check_width(fmt)
    return _in_format(Uint8ActPerTensorFixedPoint, fmt)


def _signed_format(fmt: str | FixedPoint) -> FixedPoint:
    try:
        parsed = fmt if isinstance(fmt, FixedPoint) else FixedPoint.parse(fmt)
    except (ValueError, AttributeError):
        raise CompileError(Code.BAD_FORMAT, f"{quote_given(fmt)} is not a format", hint='for example "Q2.3"') from None
    if not parsed.signed:
        raise CompileError(
            Code.BAD_FORMAT,
            f"{parsed} is unsigned, and weights are not",
            hint=f"fixed_point('Q{parsed.integer_bits}.{parsed.fraction_bits}').relu is {parsed}",
        )
    _check_width(parsed)
    return parsed


def _check_width(fmt: FixedPoint) -> None:
    if not 2 <= fmt.bits <= _MOST_BITS:
        raise CompileError(Code.BAD_FORMAT, f"{fmt} has {fmt.bits} bits: training in float32 takes 2 to {_MOST_BITS}")


def _in_format(preset: type[ExtendedInjector], fmt: FixedPoint) -> type[ExtendedInjector]:
    """The preset with the format's bits and step: its scale is scaling_init / 2^(bits - 1), unsigned / 2^bits."""
    made: type[ExtendedInjector] = preset.let(
        bit_width=fmt.bits,
        scaling_impl_type="const",
        scaling_init=2.0 ** (fmt.integer_bits - fmt.signed),
        narrow_range=False,
    )
    return made
