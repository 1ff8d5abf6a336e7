"""The integer graph under construction: its operations in order, and its tensors as their next reader needs them.

A tensor of the quantized level is, on the integer level, codes and a *tail* of stages that no code expresses. What an
operation can read is less: codes alone, or with one scale, or with zero point 0, or on the grid of another operand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from pefslc.analysis.ranges import result_range
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.ir.graph import Graph, GraphInput
from pefslc.ir.integer import IntegerOp, Requantize, Rescale
from pefslc.ir.quantized import Constant, QuantizedConstant
from pefslc.ir.value import CodeRange, IntArray, Op, TensorType, Value
from pefslc.numeric.accumulate import fits_int64
from pefslc.numeric.scale import Scale, common_grid
from pefslc.numeric.stages import Affine
from pefslc.numeric.staircase import MOST_STEPS, Staircase
from pefslc.passes.separate_bias import constant_values

__all__ = ["IntegerBuilder", "Lowered", "constant_operand", "open_input", "with_codes", "with_codes_of"]

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
    """

    def __init__(self, graph: Graph) -> None:
        self.ops: list[Op] = []
        self.lowered: dict[str, Lowered] = {}
        self.constants: dict[str, Constant | QuantizedConstant] = {}
        self.inputs = {i.value.name: i for i in graph.inputs}
        self.quantized_inputs: dict[str, GraphInput] = {}
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
        if value.name in self.inputs:
            found = self.inputs[value.name]
            what = f"input {quote(found.name)} has no quantizer: {reader.mnemonic} reads real numbers"
            raise open_input(found, what, reader)
        raise constant_operand(reader)

    def exact(self, value: Value, reader: Op) -> Value:
        """The operand as codes alone, value = (code - zero point) * scale."""
        lowered = self.operand(value, reader)
        if lowered.tail:
            raise CompileError(
                Code.NOT_QUANTIZED,
                f"{reader.mnemonic} reads a tensor that is not quantized",
                at=reader.result.origin,
                hint=f"quantize the result of {value.origin} (QuantIdentity or QuantReLU)",
            )
        return lowered.value

    def per_tensor(self, value: Value, reader: Op) -> Value:
        """The operand as codes alone, with one scale."""
        return self._with_one_scale(self.exact(value, reader), value, reader)

    def _with_one_scale(self, exact: Value, value: Value, reader: Op) -> Value:
        if exact.type.codes.scale.per_channel:
            raise CompileError(
                Code.SCALE_PER_CHANNEL,
                f"{reader.mnemonic} reads a tensor with one scale per channel",
                at=reader.result.origin,
                hint=f"quantize the result of {value.origin} per tensor",
            )
        return exact

    def summand(self, value: Value, reader: Op) -> Value:
        """The operand as codes that sums are made of: value = code * scale, one scale."""
        return self.centred(self.per_tensor(value, reader))

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

    def aligned(self, values: tuple[Value, ...], reader: Op) -> tuple[Value, ...]:
        """The operands on their common grid: each multiplied by an integer, which takes in constant factors."""
        multiples = [self._multiple(v, reader) for v in values]
        grid = common_grid(step for _, step in multiples)
        aligned = []
        for i, (value, step) in enumerate(multiples):
            factor = int(step / grid)
            if abs(factor) > 1 << 24:
                for v in values:
                    self.exact(v, reader)  # raises where a constant factor is to blame
                raise CompileError(
                    Code.NO_COMMON_GRID,
                    f"the scales of {reader.mnemonic}'s inputs have no common grid",
                    at=reader.result.origin,
                    hint="share one quantizer between the branches, or use power-of-two scales",
                )
            if factor != 1 or value.type.codes.scale.step != grid:
                result = replace(with_codes(value, Scale((grid,))), name=f"{reader.result.name}.aligned{i}")
                value = self.append(Rescale(result=result, input=value, factor=factor))
            aligned.append(value)
        return tuple(aligned)

    def _multiple(self, value: Value, reader: Op) -> tuple[Value, Fraction]:
        """The operand as codes that sums are made of, and what one code is worth: negative after a factor of -1."""
        lowered, worth = self.operand(value, reader), Fraction(1)
        for stage in lowered.tail:
            if stage.multiple is None:
                self.exact(value, reader)  # raises
            else:
                worth *= stage.multiple
        codes = self.centred(self._with_one_scale(lowered.value, value, reader))
        return codes, codes.type.codes.scale.step * worth

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
            hint="train with brevitas.nn.QuantConv2d / QuantLinear and export with export_qonnx",
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
    name, grid = quote(graph_input.name)[1:-1], _GRID
    if graph_input.integers:  # the numbers that it holds
        kind = np.dtype(graph_input.integers)
        grid = f"{'U' if kind.kind == 'u' else ''}Q{8 * kind.itemsize}.0"
    return CompileError(
        Code.INPUT_NOT_QUANTIZED,
        what,
        at=reader.result.origin,
        hint=f"start the network with QuantIdentity, or give the input's format: --input-fmt {name}={grid}",
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
