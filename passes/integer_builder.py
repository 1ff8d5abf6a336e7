"""The integer graph under construction: its operations in order, and its tensors as their next reader needs them.

A tensor of the quantized level is, on the integer level, codes and a *tail* of stages that no code expresses. What an
operation can read is less: codes alone, or with one scale, or with zero point 0, or on the grid of another operand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from pefslc.analysis.ranges import result_range
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.geometry.shapes import Shape, Window, element_count
from pefslc.ir.graph import Graph, GraphInput
from pefslc.ir.integer import Conv2d, IntegerOp, Requantize, Rescale
from pefslc.ir.quantized import Constant, QuantizedConstant
from pefslc.ir.structural import Reshape
from pefslc.ir.value import CodeRange, IntArray, Op, TensorType, Value
from pefslc.numeric.accumulate import bits_for_range, fits_int64
from pefslc.numeric.affine_shift import INT64_HEADROOM
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine
from pefslc.numeric.staircase import MOST_STEPS, Staircase
from pefslc.passes.affine_operand import AffineOperand, affine_operand, factors_on_grids
from pefslc.passes.separate_bias import constant_values

__all__ = [
    "HOW_TO_QUANTIZE",
    "IntegerBuilder",
    "Lowered",
    "constant_operand",
    "grid_option",
    "open_input",
    "several_scales",
    "with_codes",
    "with_codes_of",
]

HOW_TO_QUANTIZE = "QuantIdentity or QuantReLU; ONNX Runtime's quantize_static: QuantFormat.QDQ"

_GRID = "UQ0.8"  # pictures as ToTensor makes them


@dataclass(frozen=True, slots=True)
class Lowered:
    """A quantized-level tensor on the integer level: codes, then the stages that codes do not express."""

    value: Value
    tail: tuple[Affine, ...] = ()


class IntegerBuilder:
    """What of a quantized-level graph is lowered so far. Each operand is asked for with the operation that reads it.

    ops        of the integer level, in order
    lowered    quantized-level value name -> what it is on the integer level
    constants  quantized-level value name -> the constant
    inputs     quantized-level value name -> the graph input
    quantized_inputs  name of a graph input -> the input on the integer level, once a Quantize was seen to read it
    refusals   quantized-level value name -> why only a quantizer can read it
    """

    def __init__(self, graph: Graph) -> None:
        self.ops: list[Op] = []
        self.lowered: dict[str, Lowered] = {}
        self.constants: dict[str, Constant | QuantizedConstant] = {}
        self.inputs = {i.value.name: i for i in graph.inputs}
        self.quantized_inputs: dict[str, GraphInput] = {}
        self.refusals: dict[str, CompileError] = {}
        self._centred: dict[str, Value] = {}

    def append(self, op: IntegerOp) -> Value:
        """Append `op` with the range that its operands imply, and return its result."""
        low, high = result_range(op)
        codes = replace(op.result.type.codes, low=low, high=high)
        op = replace(op, result=replace(op.result, type=replace(op.result.type, element=codes)))
        self.ops.append(op)
        return op.result

    def operand(self, value: Value, reader: Op) -> Lowered:
        """The operand as it is. Raises CompileError, as all below do, where `reader` cannot have it in that form."""
        if value.name in self.lowered:
            return self.lowered[value.name]
        if value.name in self.refusals:
            raise self.refusals[value.name]
        if value.name in self.inputs:
            found = self.inputs[value.name]
            what = f"input {quote(found.name)} has no quantizer: {reader.mnemonic} reads real numbers"
            raise open_input(found, what, reader)
        raise constant_operand(reader)

    def exact(self, value: Value, reader: Op) -> Value:
        """The operand as codes alone, value = (code - zero point) * scale."""
        lowered = self.operand(value, reader)
        if lowered.tail:
            raise _not_quantized(value, reader)
        return lowered.value

    def per_tensor(self, value: Value, reader: Op) -> Value:
        """The operand as codes alone, with one scale."""
        exact = self.exact(value, reader)
        if exact.type.codes.scale.per_channel:
            raise several_scales(value, reader)
        return exact

    def centred(self, value: Value) -> Value:
        """The same values as codes with zero point 0. Only an input's codes have another: quantizers centre theirs."""
        codes = value.type.codes
        if not codes.zero_point:
            return value
        if codes.high - codes.low > MOST_STEPS:
            raise CompileError(
                Code.CODES_TOO_WIDE,
                f"an input of more than {MOST_STEPS.bit_length() - 1} bits with a zero point is not supported",
                at=value.origin,
                hint="use fewer bits, or a symmetric quantizer",
            )
        if value.name not in self._centred:
            steps = np.arange(codes.low + 1, codes.high + 1, dtype=np.int64)[None, :]
            rising = np.ones(1, dtype=np.int64)
            staircase = Staircase(codes.low, codes.high, codes.low - codes.zero_point, steps, rising)
            result = replace(with_codes(value, codes.scale), name=f"{value.name}.centred")
            self._centred[value.name] = self.append(Requantize(result=result, input=value, staircase=staircase))
        return self._centred[value.name]

    def affine(self, value: Value, reader: Op) -> AffineOperand:
        """The operand as an affine function of codes, per channel (see `passes.affine_operand`)."""
        lowered = self.operand(value, reader)
        if affine_operand(lowered.value, lowered.tail) is None:
            self.exact(value, reader)  # raises
        found = affine_operand(self.centred(lowered.value), lowered.tail)
        assert found is not None, "a scale is not 0"
        return found

    def aligned(self, values: tuple[Value, ...], reader: Op) -> tuple[AffineOperand, ...]:
        """The operands with their codes on one grid, which is the step of each; the offsets are as they were.

        The codes are multiplied by integers, which take in constant factors: of each channel, where a scale is. Sums of
        them fit 62 bits.
        """
        operands = [self.affine(v, reader) for v in values]
        # A code that is always 0 is worth 0 whatever its step: it demands no grid.
        leading = next((o for o in operands if _largest(o.codes)), operands[0])
        rows, grids = factors_on_grids([(o if _largest(o.codes) else leading).steps for o in operands])
        reaches = (
            sum(abs(f) * _largest(o.codes) for f, o in zip(of_channel, operands, strict=True))
            for of_channel in zip(*rows, strict=True)
        )
        bits = max(bits_for_range(-reach, reach) for reach in reaches)
        if bits > INT64_HEADROOM:
            raise self._no_common_grid(values, reader, bits)
        aligned = []
        for i, (operand, factors) in enumerate(zip(operands, rows, strict=True)):
            codes, scale = operand.codes, Scale.of(grids)
            if any(f != 1 for f in factors) or codes.type.codes.scale != scale:
                codes = self.rescaled(codes, factors, scale, f"{reader.result.name}.aligned{i}")
            aligned.append(AffineOperand(codes, scale.steps, operand.offsets))
        return tuple(aligned)

    def rescaled(self, value: Value, factors: Sequence[int], scale: Scale, name: str) -> Value:
        """The codes times a factor, or times that of their channel: then by a depthwise convolution of one tap."""
        if len(set(factors)) == 1 and not scale.per_channel:
            result = replace(with_codes(value, scale), name=name)
            return self.append(Rescale(result=result, input=value, factor=factors[0]))
        shape, groups = value.type.shape, value.type.channels
        pixels = (*shape[:2], element_count(shape[2:]), 1)
        if len(shape) != 4:
            value = self._viewed(value, value.type.codes.scale, pixels, f"{name}.pixels")
        result = replace(with_codes(value, scale), name=name if len(shape) == 4 else f"{name}.products")
        made = self.products(value, [*factors] * (groups // len(factors)), result)
        return made if len(shape) == 4 else self._viewed(made, scale, shape, name)

    def products(self, value: Value, factors: Sequence[int], result: Value) -> Value:
        """Pictures times a factor for each channel: a depthwise convolution of one tap."""
        weight = IntArray(np.array(factors, dtype=np.int64)[:, None, None, None])
        window, groups = Window(kernel=(1, 1)), len(factors)
        return self.append(Conv2d(result=result, input=value, weight=weight, bias=None, window=window, groups=groups))

    def _viewed(self, value: Value, scale: Scale, shape: Shape, name: str) -> Value:
        """The same elements in another shape with the same channels."""
        element = replace(value.type.codes, scale=scale)
        result = replace(value, name=name, type=TensorType(shape, element))
        return self.append(Reshape(result=result, input=value))

    def _no_common_grid(self, values: tuple[Value, ...], reader: Op, bits: int) -> CompileError:
        """The refusal of a sum of more than 62 bits: sums without a quantizer have the longest scales."""
        sums = [v for v in values if self.lowered[v.name].tail or _largest(self.lowered[v.name].value) >= 1 << 16]
        names = " and of ".join(str(v.origin) for v in sums)
        quantizers = f"quantize the result of {names}, too (QuantIdentity); or " if sums else ""
        return CompileError(
            Code.NO_COMMON_GRID,
            f"on the common grid of the scales of {reader.mnemonic}'s inputs sums take {bits} bits, and 62 are there",
            at=reader.result.origin,
            hint=quantizers + "share one quantizer between the branches, or use power-of-two scales",
        )

    def with_offset_in_codes(self, operand: AffineOperand, value: Value, reader: Op) -> AffineOperand:
        """The operand without offset, for a layer that pads with 0: 0 has to be a code then."""
        shifts = operand.shifts
        codes = operand.codes.type.codes
        if shifts is None or codes.high - codes.low > MOST_STEPS:
            raise CompileError(
                Code.NOT_QUANTIZED,
                f"{reader.mnemonic} pads with 0, and no code of its input is worth 0",
                at=reader.result.origin,
                hint=f"quantize the result of {value.origin} (QuantIdentity), or pad nothing",
            )
        result = replace(with_codes(operand.codes, codes.scale), name=f"{value.name}.shifted")
        steps = np.arange(codes.low + 1, codes.high + 1, dtype=np.int64)[None, :]
        if len(set(shifts)) > 1:
            raise _not_quantized(value, reader)
        staircase = Staircase(codes.low, codes.high, codes.low + shifts[0], steps, np.ones(1, dtype=np.int64))
        shifted = self.append(Requantize(result=result, input=operand.codes, staircase=staircase))
        return AffineOperand(shifted, operand.steps, (Fraction(0),))

    def weight(self, value: Value, reader: Op) -> tuple[IntArray, Scale]:
        """The weights' codes, with zero point 0, and their scale."""
        constant = self.constants.get(value.name)
        if isinstance(constant, QuantizedConstant):
            element, codes = constant.quantization, constant.codes
            return (IntArray(codes.data - element.zero_point) if element.zero_point else codes), element.scale
        message = "the weights are not quantized" if constant is not None else "the weights are computed at run time"
        raise CompileError(
            Code.WEIGHT_NOT_QUANTIZED,
            message,
            at=reader.result.origin,
            hint="quantize them: by brevitas.nn.QuantConv2d or QuantLinear, or by QuantizeLinear and DequantizeLinear; "
            "ONNX Runtime's quantize_static with QuantFormat.QDQ does that but for nodes_to_exclude and types not in "
            "op_types_to_quantize",
        )

    def bias(self, value: Value | None, scale: Scale, reader: Op) -> IntArray | None:
        """The bias as codes of an accumulator with `scale`, in int64; None where there is none."""
        if value is None:
            return None
        constant = self.constants.get(value.name)
        values = None if constant is None else constant_values(constant)
        if values is None:
            raise CompileError(Code.COMPUTED_OPERAND, "the bias is computed at run time", at=reader.result.origin)
        codes = [v / scale.channel(c) for c, v in enumerate(values)]
        if any(c.denominator != 1 for c in codes):
            raise CompileError(Code.BIAS_OFF_GRID, "the bias is on no grid of the accumulator", at=reader.result.origin)
        if not all(fits_int64(abs(int(c))) for c in codes):
            raise CompileError(
                Code.BEYOND_64_BITS,
                "the bias needs more than 64 bits",
                at=reader.result.origin,
                hint="use coarser scales",
            )
        return IntArray(np.array([int(c) for c in codes], dtype=np.int64))


def open_input(graph_input: GraphInput, what: str, reader: Op) -> CompileError:
    """The refusal of an input whose codes nothing says."""
    return CompileError(
        Code.INPUT_NOT_QUANTIZED,
        what,
        at=reader.result.origin,
        hint="start the network with QuantIdentity, or give the input's format: for numbers of "
        f"{_range_text(graph_input)}, {grid_option(graph_input)}",
    )


def grid_option(graph_input: GraphInput) -> str:
    """An example of the option that gives a format to the input: where it holds integers, the one of all of them."""
    grid = _GRID
    if graph_input.integers:
        kind = np.dtype(graph_input.integers)
        grid = f"{'U' if kind.kind == 'u' else ''}Q{8 * kind.itemsize}.0"
    return f"--input-fmt {quote(graph_input.name)[1:-1]}={grid}"


def _range_text(graph_input: GraphInput) -> str:
    """What `grid_option` holds."""
    limits = np.iinfo(graph_input.integers) if graph_input.integers else None
    return "0 to 1" if limits is None else f"{limits.min} to {limits.max}"


def _largest(value: Value) -> int:
    """The largest magnitude of its codes."""
    return max(-value.type.codes.low, value.type.codes.high)


def _not_quantized(value: Value, reader: Op) -> CompileError:
    return CompileError(
        Code.NOT_QUANTIZED,
        f"{reader.mnemonic} reads a tensor that is not quantized",
        at=reader.result.origin,
        hint=f"quantize the result of {value.origin} ({HOW_TO_QUANTIZE})",
    )


def several_scales(value: Value, reader: Op) -> CompileError:
    """The refusal of a layer that needs one scale of all channels."""
    return CompileError(
        Code.SCALE_PER_CHANNEL,
        f"{reader.mnemonic} reads a tensor with one scale per channel",
        at=reader.result.origin,
        hint=f"quantize the result of {value.origin} per tensor",
    )


def constant_operand(reader: Op) -> CompileError:
    """The refusal of a layer that computes nothing from the network's inputs."""
    return CompileError(
        Code.CONSTANT_OPERAND,
        f"{reader.mnemonic} reads a constant where it needs an activation",
        at=reader.result.origin,
        hint="only weights and biases may be constants",
    )


def with_codes(of: Value, scale: Scale, zero_point: int = 0) -> Value:
    """A result named and placed like `of`, its range still to be computed by `append`."""
    element = CodeRange(low=0, high=0, scale=scale, zero_point=zero_point)
    return replace(of, type=TensorType(of.type.shape, element))


def with_codes_of(of: Value, source: Value) -> Value:
    """A result named and placed like `of`, whose codes mean what those of `source` mean."""
    return with_codes(of, source.type.codes.scale, source.type.codes.zero_point)
