"""`NAME_values.h`: numbers to codes and back, in 64-bit integers; and the macros of scales in `NAME.h`.

An input's scale is factor / divisor * 2^exponent with odd factor and divisor, so that the code of value / 2^f is
round(value * divisor * 2^-(f + exponent) / factor): of the shift only as much is done as can change the code.
An output's value is (code * factor + addend) / 2^exponent: exactly where its scale and offset are such numbers, else
with as many bits as there is room for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from textwrap import wrap

from pefslc.ir.graph import GraphInput, GraphOutput
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.scale import power_of_two_exponent
from pefslc.numeric.stages import Affine
from pefslc.targets.c.naming import comment_text
from pefslc.targets.c.stages import literal
from pefslc.targets.c.storage import INT64, Tensor

__all__ = ["Helper", "input_helper", "input_macros", "output_helper", "output_macros"]

_HEADROOM = 61  # bits of the magnitude of any number that is formed
_VALUE_BITS = 31  # of the magnitude of what is handed over
_ENOUGH = 3  # a denominator 2^3 times the largest numerator: the quotient is nearly 0, whatever its size
_WIDTH = 108


@dataclass(frozen=True, slots=True)
class _Quantizer:
    """The fields of a `pefslc_quantizer`, as C; and the scale, for the comment."""

    factor: str
    divisor: str
    most: str
    zero_point: int
    low: int
    high: int
    exponent: int
    widest: int
    zero_point_last: int
    mode: str
    scale: Fraction


@dataclass(frozen=True, slots=True)
class _Map:
    """value = sum / 2^exponent.

    sum     the C expression of an int64_t, in `code` and, with more than one channel, `channel`
    tables  arrays that it reads, in lines
    error   how far sum / 2^exponent is from the value, at most
    """

    channels: int
    sum: str
    tables: dict[str, list[str]]
    exponent: int
    error: Fraction

    @property
    def unit(self) -> str:
        """2^-exponent, a constant of type double."""
        return repr(2.0**-self.exponent)

    @property
    def text(self) -> str:
        """How near the value is, for the comment."""
        if not self.error:
            return "the exact value, rounded once to fraction_bits"
        return f"the value within {float(self.error):.1e}, rounded to fraction_bits"


@dataclass(frozen=True, slots=True)
class Helper:
    """The function of an input or an output, as the template writes it.

    name      of the input or output in C
    type      of its codes
    what      for the function; None where there is none
    why       there is none
    function  that the model ends with behind the values
    """

    name: str
    type: str
    what: _Quantizer | _Map | None
    why: str = ""
    function: str = ""


def input_helper(graph_input: GraphInput, name: str, tensor: Tensor) -> Helper:
    """From numbers to the codes of `tensor`."""
    return _helper(name, tensor, _quantizer(graph_input))


def output_helper(output: GraphOutput, name: str, tensor: Tensor) -> Helper:
    """From the codes of `tensor` to numbers."""
    function = "" if output.function is None else comment_text(str(output.function))
    return _helper(name, tensor, _map(output, tensor), function)


def _helper(name: str, tensor: Tensor, found: _Quantizer | _Map | str, function: str = "") -> Helper:
    what, why = (None, found) if isinstance(found, str) else (found, "")
    return Helper(name, str(tensor.type), what, why, function)


def _plain_quantizer(graph_input: GraphInput) -> Quantizer | None:
    """The quantizer from the input's own numbers, where what stands before it only multiplies by positive numbers."""
    assert graph_input.quantizer is not None
    multiple = Fraction(1)
    for stage in graph_input.stages:
        factor = stage.multiple if isinstance(stage, Affine) else None
        if factor is None or factor < 0:
            return None
        multiple *= factor
    q = graph_input.quantizer.quantization
    return replace(graph_input.quantizer, quantization=replace(q, scale=q.scale * (1 / multiple)))


def _quantizer(graph_input: GraphInput) -> _Quantizer | str:
    """What its function is handed; or why there is no function."""
    quantizer = _plain_quantizer(graph_input)
    if quantizer is None:
        return "as the model does more than a multiplication before its quantizer"
    q = quantizer.quantization
    if q.scale.per_channel:
        return "as its scales are per channel"
    factor, divisor, exponent = _odd_parts(q.scale.step)
    reach = max(abs(q.low - q.zero_point), abs(q.high - q.zero_point)) + 2
    most = factor * reach
    largest = divisor << _VALUE_BITS
    widest = max(((largest << _ENOUGH) // factor).bit_length(), 0)
    denominator = factor << widest
    if max(most, largest + denominator * (abs(q.zero_point) + 1)) >> _HEADROOM:
        return "as its scale has too many digits for 64 bits"
    return _Quantizer(
        factor=literal(factor, INT64),
        divisor=literal(divisor, INT64),
        most=literal(most, INT64),
        zero_point=q.zero_point,
        low=q.low,
        high=q.high,
        exponent=exponent,
        widest=widest,
        zero_point_last=int(quantizer.adds_zero_point_last),
        mode=quantizer.rounding.name,
        scale=q.scale.step,
    )


def _map(output: GraphOutput, tensor: Tensor) -> _Map | str:
    """What its function computes; or why there is no function."""
    assert output.map is not None
    scale, offset = output.map.scale, output.map.offset
    channels = max(len(scale), len(offset))
    largest = max(abs(tensor.low), abs(tensor.high))
    values = max(map(abs, scale)) * largest + max(map(abs, offset))
    exponents = [_exact_exponent(v) for v in (*scale, *offset)]
    exponent = max((e for e in exponents if e is not None), default=0)
    room = Fraction(1 << _HEADROOM)
    if None in exponents or values * Fraction(2) ** exponent >= room:
        exponent = _room_exponent(values, room) if values else 0
    unit = Fraction(2) ** exponent
    factors, addends = ([round(v * unit) for v in part] for part in (scale, offset))
    errors = [[abs(v - Fraction(n) / unit) for v, n in zip(part, found, strict=True)]
              for part, found in ((scale, factors), (offset, addends))]  # fmt: skip
    if max(map(abs, factors)) * largest + max(map(abs, addends)) >> _HEADROOM + 1 or not all(
        n for v, n in zip(scale, factors, strict=True) if v
    ):
        return "as its codes and scales have too many digits for 64 bits"
    tables: dict[str, list[str]] = {}
    terms = [_term(part, what, tables) for part, what in ((factors, "factor"), (addends, "addend"))]
    total = "code" if terms[0] == "1" else f"code * {terms[0]}"
    total = f"(int64_t){total}" if terms[1] == "0" else f"(int64_t){total} + {terms[1]}"
    error = max(errors[0]) * largest + max(errors[1])
    return _Map(channels, total, tables, exponent, error)


def input_macros(graph_input: GraphInput) -> dict[str, str]:
    """Suffix of the macro -> what it stands for: the lowest and the highest code; scale and zero point where there is
    one of them for all numbers: value = (code - ZERO_POINT) * SCALE.
    """
    assert graph_input.quantizer is not None
    q = graph_input.quantizer.quantization
    found = {"MIN": q.low, "MAX": q.high}
    plain = _plain_quantizer(graph_input)
    if plain is None or plain.quantization.scale.per_channel:
        return _as_c(found)
    return _as_c({**found, "ZERO_POINT": q.zero_point}) | _scale_macros(plain.quantization.scale.step)


def output_macros(output: GraphOutput, tensor: Tensor) -> dict[str, str]:
    """The same of an output; OFFSET where no zero point gives it: value = code * SCALE + OFFSET."""
    assert output.map is not None
    found = _as_c({"MIN": tensor.low, "MAX": tensor.high})
    if len(set(output.map.scale)) > 1 or not output.map.scale[0]:
        return found
    scale, offsets = output.map.scale[0], set(output.map.offset)
    found |= _scale_macros(scale)
    if len(offsets) == 1:
        (offset,) = offsets
        zero_point = -offset / scale
        plain = zero_point.denominator == 1 and abs(zero_point) < 1 << _VALUE_BITS
        found |= {"ZERO_POINT": _in_brackets(str(zero_point))} if plain else {"OFFSET": _decimal(offset)}
    return found


def _scale_macros(scale: Fraction) -> dict[str, str]:
    exponent = power_of_two_exponent(scale)
    return {"SCALE": _decimal(scale)} | ({} if exponent is None else {"EXPONENT": _in_brackets(str(exponent))})


def _as_c(numbers: dict[str, int]) -> dict[str, str]:
    return {name: _in_brackets(literal(value, INT64)) for name, value in numbers.items()}


def _in_brackets(text: str) -> str:
    return f"({text})" if text.startswith("-") else text


def _decimal(value: Fraction) -> str:
    """A constant of type double, the one next to `value`."""
    return _in_brackets(repr(float(value)))


def _odd_parts(value: Fraction) -> tuple[int, int, int]:
    """(factor, divisor, exponent), the first two odd: value = factor / divisor * 2^exponent."""
    up, down = (_twos(part) for part in (value.numerator, value.denominator))
    return value.numerator >> up, value.denominator >> down, up - down


def _twos(value: int) -> int:
    """How often 2 divides it."""
    return (value & -value).bit_length() - 1


def _exact_exponent(value: Fraction) -> int | None:
    """The smallest e >= 0 with an integer value * 2^e, or None."""
    return _twos(value.denominator) if value.denominator & (value.denominator - 1) == 0 else None


def _room_exponent(values: Fraction, room: Fraction) -> int:
    """The largest e with values * 2^e < room."""
    exponent = int(room / values).bit_length()
    while values * Fraction(2) ** exponent >= room:
        exponent -= 1
    return exponent


def _term(numbers: Sequence[int], what: str, tables: dict[str, list[str]]) -> str:
    """The C of one number for all channels, or of its array's element."""
    if len(set(numbers)) == 1:
        return literal(numbers[0], INT64) if numbers[0] >= 0 else f"({literal(numbers[0], INT64)})"
    tables[what] = wrap(", ".join(literal(n, INT64) for n in numbers), _WIDTH)
    return f"{what}[channel]"
