"""From values to codes: the quantized level becomes the integer level, exactly.

Every real tensor of the quantized level is, here, codes with a scale, followed by a *tail* of affine stages that no
code expresses (a fine bias, a BatchNorm). Quantizers absorb tails into their staircases, outputs into their maps;
where neither follows, the network computes with real numbers and is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar

import numpy as np

from pefslc.codes import Code
from pefslc.diagnostics import CompileError, Problem, quote
from pefslc.ir.graph import Graph, GraphInput, GraphOutput, Level
from pefslc.ir.integer import Clamp, Conv2d, Dense, IntegerOp, Lookup, Product, Requantize, Rescale, Sum, SumPool
from pefslc.ir.quantized import (
    Add,
    Apply,
    AveragePool,
    BatchNorm,
    BiasAdd,
    Clip,
    Constant,
    Conv,
    LeakyRelu,
    Linear,
    Multiply,
    Quantize,
    QuantizedConstant,
    QuantizedOp,
    Relu,
    Scaling,
)
from pefslc.ir.structural import Concat, MaxPool, Pad, Reshape, Transpose
from pefslc.ir.value import Codes, IntArray, Op, TensorType, Value
from pefslc.numeric.accumulate import fits_int64
from pefslc.numeric.format import Quantization
from pefslc.numeric.scale import Scale, common_grid
from pefslc.numeric.stages import Affine
from pefslc.numeric.staircase import MOST_STEPS, Quantizer, Staircase
from pefslc.passes.manager import Exactness
from pefslc.passes.output_map import output_map
from pefslc.passes.quantizer_codes import quantizer_codes
from pefslc.passes.separate_bias import constant_values
from pefslc.ranges import result_range
from pefslc.shapes import element_count

__all__ = ["LowerToInteger"]


@dataclass(frozen=True, slots=True)
class LowerToInteger:
    """Values become codes, Quantize becomes Requantize with its staircase, Add and Concat get aligned scales."""

    name: ClassVar[str] = "lower-to-integer"
    exactness: ClassVar[Exactness] = Exactness.EXACT
    level: ClassVar[Level] = Level.QUANTIZED

    def run(self, graph: Graph) -> Graph:
        lowering = _Lowering(graph)
        for op in graph.ops:
            lowering.lower(op)
        return lowering.finish()


@dataclass(frozen=True, slots=True)
class _Lowered:
    """A quantized-level tensor on the integer level: codes, then the stages that codes do not express."""

    value: Value
    tail: tuple[Affine, ...] = ()


class _Lowering:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.ops: list[Op] = []
        self.lowered: dict[str, _Lowered] = {}
        self.constants: dict[str, Constant | QuantizedConstant] = {}
        self.inputs = {i.value.name: i for i in graph.inputs}
        self.quantized_inputs: dict[str, GraphInput] = {}
        self.centred: dict[str, Value] = {}
        self.failed: set[str] = set()
        self.problems: list[Problem] = []

    def lower(self, op: Op) -> None:
        """Lower one operation; faults are collected, and what depends on a failed tensor is passed over."""
        if any(v.name in self.failed for v in op.operands):
            self.failed.add(op.result.name)
            return
        try:
            if isinstance(op, Constant | QuantizedConstant):
                self.constants[op.result.name] = op
            else:
                self.lowered[op.result.name] = self._lower(op)  # type: ignore[arg-type]  # verified level
        except CompileError as e:
            self.problems.extend(e.problems)
            self.failed.add(op.result.name)

    def finish(self) -> Graph:
        outputs = []
        for output in self.graph.outputs:
            if output.value.name in self.failed:
                continue
            try:
                outputs.append(self._output(output))
            except CompileError as e:
                self.problems.extend(e.problems)
        missing = [i for i in self.graph.inputs if i.name not in self.quantized_inputs]
        if not self.problems:
            self.problems.extend(
                Problem(Code.UNUSED_INPUT, f"input {quote(i.name)} is read by nothing", at=i.value.origin)
                for i in missing
            )
        if self.problems:
            raise CompileError.of(self.problems)
        inputs = tuple(self.quantized_inputs[i.name] for i in self.graph.inputs)
        return replace(self.graph, level=Level.INTEGER, inputs=inputs, ops=tuple(self.ops), outputs=tuple(outputs))

    # --- results -------------------------------------------------------------------------------------------------

    def _emit(self, op: IntegerOp) -> Value:
        """Append `op` with the range that its operands imply, and return its result."""
        low, high = result_range(op)
        codes = replace(op.result.type.codes, low=low, high=high)
        op = replace(op, result=replace(op.result, type=replace(op.result.type, element=codes)))
        self.ops.append(op)
        return op.result

    @staticmethod
    def _codes(of: Value, scale: Scale, zero_point: int = 0) -> Value:
        """A result named and placed like `of`, its range still to be computed by `_emit`."""
        element = Codes(low=0, high=0, scale=scale, zero_point=zero_point)
        return replace(of, type=TensorType(of.type.shape, element))

    def _codes_like(self, source: Value, of: Value) -> Value:
        """A result whose codes mean what those of `source` mean."""
        return self._codes(of, source.type.codes.scale, source.type.codes.zero_point)

    # --- operands ------------------------------------------------------------------------------------------------

    def _operand(self, value: Value, reader: Op) -> _Lowered:
        if value.name in self.lowered:
            return self.lowered[value.name]
        if value.name in self.inputs:
            raise CompileError(
                Code.INPUT_NOT_QUANTIZED,
                f"input {quote(self.inputs[value.name].name)} has no quantizer: {reader.mnemonic} reads real numbers",
                at=reader.result.origin,
                hint="start the network with QuantIdentity, or give the input's format with --fmt Q2.3",
            )
        raise CompileError(
            Code.CONSTANT_OPERAND,
            f"{reader.mnemonic} reads a constant where it needs an activation",
            at=reader.result.origin,
            hint="only weights and biases may be constants",
        )

    def _exact(self, value: Value, reader: Op) -> Value:
        """The operand as codes alone, value = (code - zero point) * scale."""
        lowered = self._operand(value, reader)
        if lowered.tail:
            raise CompileError(
                Code.NOT_QUANTIZED,
                f"{reader.mnemonic} reads a tensor that is not quantized",
                at=reader.result.origin,
                hint=f"quantize the result of {value.origin} (QuantIdentity or QuantReLU)",
            )
        return lowered.value

    def _per_tensor(self, value: Value, reader: Op) -> Value:
        exact = self._exact(value, reader)
        if exact.type.codes.scale.per_channel:
            raise CompileError(
                Code.SCALE_PER_CHANNEL,
                f"{reader.mnemonic} reads a tensor with one scale per channel",
                at=reader.result.origin,
                hint=f"quantize the result of {value.origin} per tensor",
            )
        return exact

    def _summand(self, value: Value, reader: Op) -> Value:
        """The operand as codes that sums are made of: value = code * scale, one scale."""
        return self._centred(self._per_tensor(value, reader))

    def _centred(self, value: Value) -> Value:
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
        if value.name not in self.centred:
            steps = np.arange(codes.low + 1, codes.high + 1, dtype=np.int64)[None, :]
            rising = np.ones(1, dtype=np.int64)
            staircase = Staircase(codes.low, codes.high, codes.low - codes.zero_point, steps, rising)
            result = replace(self._codes(value, codes.scale), name=f"{value.name}.centred")
            self.centred[value.name] = self._emit(Requantize(result=result, input=value, staircase=staircase))
        return self.centred[value.name]

    def _weight(self, value: Value, reader: Op) -> tuple[IntArray, Scale]:
        """The weights' codes, with zero point 0, and their scale."""
        constant = self.constants.get(value.name)
        if isinstance(constant, QuantizedConstant):
            element = constant.result.type.element
            assert isinstance(element, Quantization)
            codes = constant.codes
            return (IntArray(codes.data - element.zero_point) if element.zero_point else codes), element.scale
        message = "the weights are not quantized" if constant is not None else "the weights are computed at run time"
        raise CompileError(
            Code.WEIGHT_NOT_QUANTIZED,
            message,
            at=reader.result.origin,
            hint="train with brevitas.nn.QuantConv2d / QuantLinear and export with export_qonnx",
        )

    def _bias(self, value: Value | None, scale: Scale, reader: Op) -> IntArray | None:
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

    # --- operations ----------------------------------------------------------------------------------------------

    def _lower(self, op: QuantizedOp) -> _Lowered:
        match op:
            case Quantize():
                return self._quantize(op)
            case Conv() | Linear():
                return self._product(op)
            case BatchNorm() | BiasAdd() | Scaling():
                x = self._operand(op.input, op)
                return _Lowered(x.value, (*x.tail, op.stage))
            case Relu() | LeakyRelu() | Clip():
                return self._clamp(op)
            case Apply():
                raise CompileError(
                    Code.NOT_QUANTIZED,
                    f"{op.result.origin.op_type} is not followed by a quantizer",
                    at=op.result.origin,
                    hint="quantize its result (QuantIdentity), or leave it to the host",
                )
            case Multiply():
                lhs, rhs = (self._centred(self._exact(v, op)) for v in (op.lhs, op.rhs))
                result = self._codes(op.result, lhs.type.codes.scale * rhs.type.codes.scale)
                return _Lowered(self._emit(Product(result=result, lhs=lhs, rhs=rhs)))
            case AveragePool():
                x = self._operand(op.input, op)
                if x.tail and op.window.is_padded:
                    self._exact(op.input, op)  # raises
                source = self._centred(x.value)
                result = self._codes(op.result, source.type.codes.scale * Fraction(1, op.window.taps))
                return _Lowered(self._emit(SumPool(result=result, input=source, window=op.window)), x.tail)
            case MaxPool():
                exact = self._exact(op.input, op)
                result = self._codes_like(exact, op.result)
                return _Lowered(self._emit(MaxPool(result=result, input=exact, window=op.window)))
            case Add():
                lhs, rhs = self._aligned((op.lhs, op.rhs), op)
                result = self._codes(op.result, lhs.type.codes.scale)
                return _Lowered(self._emit(Sum(result=result, lhs=lhs, rhs=rhs)))
            case Concat():
                parts = self._aligned(op.inputs, op)
                result = self._codes(op.result, parts[0].type.codes.scale)
                return _Lowered(self._emit(Concat(result=result, inputs=parts, axis=op.axis)))
            case Reshape():
                return self._reshape(op)
            case Transpose():
                return self._transpose(op)
            case Pad():
                exact = self._exact(op.input, op)
                if exact.type.codes.scale.per_channel and op.before[1] + op.after[1]:
                    exact = self._per_tensor(op.input, op)  # raises
                result = self._codes_like(exact, op.result)
                return _Lowered(self._emit(Pad(result=result, input=exact, before=op.before, after=op.after)))
            case Constant() | QuantizedConstant():
                raise AssertionError("constants are not lowered")

    def _quantize(self, op: Quantize) -> _Lowered:
        quantization = op.result.type.element
        assert isinstance(quantization, Quantization)
        quantizer = Quantizer(quantization, op.rounding, op.adds_zero_point_last)
        if op.input.name in self.inputs:
            return self._quantize_input(op, quantizer)
        x = self._operand(op.input, op)
        result = self._codes(op.result, quantization.scale)
        found = quantizer_codes(op, quantizer, x.value, x.tail)
        if isinstance(found, Staircase):
            return _Lowered(self._emit(Requantize(result=result, input=x.value, staircase=found)))
        low = x.value.type.codes.low
        return _Lowered(self._emit(Lookup(result=result, input=x.value, low=low, table=found)))

    def _quantize_input(self, op: Quantize, quantizer: Quantizer) -> _Lowered:
        graph_input = self.inputs[op.input.name]
        if op.stages:
            raise CompileError(
                Code.INPUT_NOT_QUANTIZED,
                f"input {quote(graph_input.name)} is not quantized before its first layer",
                at=op.result.origin,
                hint="start the network with QuantIdentity",
            )
        known = self.quantized_inputs.get(graph_input.name)
        if known is not None and known.quantizer != quantizer:
            raise CompileError(
                Code.INPUT_QUANTIZED_TWICE,
                f"input {quote(graph_input.name)} has two different quantizers",
                at=op.result.origin,
                hint="start the network with one QuantIdentity that all branches read",
            )
        if known is None:
            q = quantizer.quantization
            element = Codes(low=q.low, high=q.high, scale=q.scale, zero_point=q.zero_point)
            value = replace(graph_input.value, type=replace(graph_input.value.type, element=element))
            known = GraphInput(graph_input.name, value, quantizer)
            self.quantized_inputs[graph_input.name] = known
        return _Lowered(known.value)

    def _product(self, op: Conv | Linear) -> _Lowered:
        x = self._summand(op.input, op)
        weight, weight_scale = self._weight(op.weight, op)
        scale = x.type.codes.scale * weight_scale
        bias = self._bias(op.bias, scale, op)
        result = self._codes(op.result, scale)
        if isinstance(op, Linear):
            return _Lowered(self._emit(Dense(result=result, input=x, weight=weight, bias=bias)))
        conv = Conv2d(result=result, input=x, weight=weight, bias=bias, window=op.window, groups=op.groups)
        return _Lowered(self._emit(conv))

    def _clamp(self, op: Relu | LeakyRelu | Clip) -> _Lowered:
        """An activation that no quantizer follows directly: a clamp of the codes, where its limits are codes."""
        x = self._per_tensor(op.input, op)
        step = x.type.codes.scale.step
        low: Fraction | None
        high: Fraction | None
        match op:
            case Relu():
                low, high = Fraction(0), None
            case Clip():
                low, high = op.low, op.high
            case LeakyRelu():
                raise CompileError(
                    Code.NOT_QUANTIZED,
                    "LeakyRelu is not followed by a quantizer",
                    at=op.result.origin,
                    hint="quantize its result",
                )
        limits = [None if v is None else v / step for v in (low, high)]
        if any(v is not None and v.denominator != 1 for v in limits):
            raise CompileError(
                Code.BIAS_OFF_GRID, "Clip's limits are no multiples of the input's scale", at=op.result.origin
            )
        codes = x.type.codes
        lowest = codes.low if limits[0] is None else int(limits[0]) + codes.zero_point
        highest = max(codes.high, lowest) if limits[1] is None else int(limits[1]) + codes.zero_point
        lowest = min(lowest, highest)  # the upper limit wins, as in min(max(code, low), high)
        result = self._codes_like(x, op.result)
        return _Lowered(self._emit(Clamp(result=result, input=x, low=lowest, high=highest)))

    def _aligned(self, values: tuple[Value, ...], reader: Op) -> tuple[Value, ...]:
        """The operands on their common grid: each multiplied by an integer."""
        exact = [self._summand(v, reader) for v in values]
        grid = common_grid(v.type.codes.scale.step for v in exact)
        aligned = []
        for i, value in enumerate(exact):
            factor = int(value.type.codes.scale.step / grid)
            if factor > 1 << 24:
                raise CompileError(
                    Code.NO_COMMON_GRID,
                    f"the scales of {reader.mnemonic}'s inputs have no common grid",
                    at=reader.result.origin,
                    hint="share one quantizer between the branches, or use power-of-two scales",
                )
            if factor > 1:
                result = replace(self._codes(value, Scale((grid,))), name=f"{reader.result.name}.aligned{i}")
                value = self._emit(Rescale(result=result, input=value, factor=factor))
            aligned.append(value)
        return tuple(aligned)

    def _reshape(self, op: Reshape) -> _Lowered:
        x = self._operand(op.input, op)
        before, after = x.value.type, op.result.type.shape
        repeat = element_count(after[1:2]) // before.channels if len(after) == 2 else 1
        if len(after) > 1 and (len(after) == 2 or after[1] == before.channels):
            scale = before.codes.scale.repeated(repeat)
            tail = tuple(stage.repeated(repeat) for stage in x.tail)
        elif before.codes.scale.per_channel or x.tail:
            raise CompileError(
                Code.SCALE_PER_CHANNEL, "Reshape mixes channels of different scales", at=op.result.origin
            )
        else:
            scale, tail = before.codes.scale, ()
        result = self._codes(op.result, scale, before.codes.zero_point)
        return _Lowered(self._emit(Reshape(result=result, input=x.value)), tail)

    def _transpose(self, op: Transpose) -> _Lowered:
        x = self._operand(op.input, op)
        if op.permutation[0] != 0:
            raise CompileError(
                Code.UNSUPPORTED_SHAPE,
                f"Transpose with perm={list(op.permutation)} moves the batch axis",
                at=op.result.origin,
                hint="keep the batch axis first",
            )
        if op.permutation[1] != 1 and (x.tail or x.value.type.codes.scale.per_channel):
            raise CompileError(
                Code.SCALE_PER_CHANNEL,
                "Transpose moves channels of different scales",
                at=op.result.origin,
                hint=f"quantize the result of {op.input.origin} per tensor",
            )
        result = self._codes_like(x.value, op.result)
        return _Lowered(self._emit(Transpose(result=result, input=x.value, permutation=op.permutation)), x.tail)

    # --- outputs -------------------------------------------------------------------------------------------------

    def _output(self, output: GraphOutput) -> GraphOutput:
        lowered = self.lowered.get(output.value.name)
        if lowered is None:
            raise CompileError(
                Code.CONSTANT_OUTPUT,
                f"output {quote(output.name)} depends on no quantized input",
                at=output.value.origin,
                hint="the network must start with a quantizer: QuantIdentity, or --fmt",
            )
        return GraphOutput(output.name, lowered.value, output_map(lowered.value, lowered.tail))
