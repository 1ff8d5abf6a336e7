"""From values to codes: the quantized level becomes the integer level, exactly.

Every real tensor of the quantized level is, here, codes with a scale, followed by a *tail* of affine stages that no
code expresses (a fine bias, a BatchNorm). Quantizers absorb tails into their staircases, outputs into their maps;
where neither follows, the network computes with real numbers and is refused. Operands come from `integer_builder`.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import lcm
from typing import ClassVar

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem, quote
from pefslc.ir.graph import Graph, GraphOutput, Level, quantized_graph
from pefslc.ir.integer import Clamp, Conv2d, Dense, Lookup, Product, Requantize, Round, Sum, SumPool
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
from pefslc.ir.structural import Concat, MaxPool, Pad, Reshape, Slice, Transpose, Upsample
from pefslc.ir.value import IntArray, Value
from pefslc.numeric.accumulate import fits_int64
from pefslc.numeric.format import Quantization
from pefslc.numeric.line import BentLine
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, direction
from pefslc.numeric.staircase import Staircase
from pefslc.passes.affine_operand import added, offset_tail, products_offset, weights_on_one_grid
from pefslc.passes.certified_sum import certified_sum
from pefslc.passes.concatenation import concatenated
from pefslc.passes.host_input import host_input
from pefslc.passes.integer_builder import (
    HOW_TO_QUANTIZE,
    IntegerBuilder,
    Lowered,
    grid_option,
    several_scales,
    with_codes,
    with_codes_of,
)
from pefslc.passes.manager import Exactness
from pefslc.passes.output_map import output_map
from pefslc.passes.quantizer_codes import quantizer_codes

__all__ = ["LowerToInteger"]


class LowerToInteger:
    """Values become codes, Quantize becomes Requantize with its staircase, Add and Concat get aligned scales."""

    name: ClassVar[str] = "lower-to-integer"
    exactness: ClassVar[Exactness] = Exactness.EXACT
    level: ClassVar[Level] = Level.QUANTIZED

    def run(self, graph: Graph) -> Graph:
        lowering = _Lowering(graph)
        for op in quantized_graph(graph).ops:
            lowering.lower(op)
        return lowering.finish()


class _Lowering:
    """One operation after the other, and all of their faults."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producers = graph.producers()
        self.builder = IntegerBuilder(graph)
        self.failed: set[str] = set()
        self.problems: list[Problem] = []

    def lower(self, op: QuantizedOp) -> None:
        """Lower one operation; faults are collected, and what depends on a failed tensor is passed over."""
        if any(v.name in self.failed for v in op.operands):
            self.failed.add(op.result.name)
            return
        try:
            if isinstance(op, Constant | QuantizedConstant):
                self.builder.constants[op.result.name] = op
            elif isinstance(op, Quantize) and op.input.name in self.builder.refusals:
                add = self.producers[op.input.name]
                self.builder.lowered[op.result.name] = certified_sum(self.builder, op, add)
            else:
                self.builder.lowered[op.result.name] = _lower(self.builder, op)
        except CompileError as e:
            if isinstance(op, Add) and {p.code for p in e.problems} <= {Code.NO_COMMON_GRID, Code.NOT_QUANTIZED}:
                self.builder.refusals[op.result.name] = e  # a quantizer may read it
                return
            self.problems.extend(p for p in e.problems if p not in self.problems)  # a sum may have several readers
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
        missing = [i for i in self.graph.inputs if i.name not in self.builder.quantized_inputs]
        if not self.problems:
            self.problems.extend(
                Problem(Code.UNUSED_INPUT, f"input {quote(i.name)} is read by nothing", at=i.value.origin)
                for i in missing
            )
        if self.problems:
            raise CompileError.of(self.problems)
        inputs = tuple(self.builder.quantized_inputs[i.name] for i in self.graph.inputs)
        ops = tuple(self.builder.ops)
        return replace(self.graph, level=Level.INTEGER, inputs=inputs, ops=ops, outputs=tuple(outputs))

    def _output(self, output: GraphOutput) -> GraphOutput:
        if output.value.name in self.builder.refusals:
            raise self.builder.refusals[output.value.name]
        lowered = self.builder.lowered.get(output.value.name)
        if lowered is None:
            raise CompileError(
                Code.CONSTANT_OUTPUT,
                f"output {quote(output.name)} depends on no quantized input",
                at=output.value.origin,
                hint="the network must start with a quantizer: QuantIdentity, or --input-fmt",
            )
        return replace(output, value=lowered.value, map=output_map(lowered.value, lowered.tail))


def _lower(builder: IntegerBuilder, op: QuantizedOp) -> Lowered:
    match op:
        case Quantize():
            return _quantize(builder, op)
        case Conv() | Linear():
            return _product(builder, op)
        case BatchNorm() | BiasAdd() | Scaling():
            x = builder.operand(op.input, op)
            return Lowered(x.value, (*x.tail, op.stage))
        case Relu() | LeakyRelu() | Clip():
            return _clamp(builder, op)
        case Apply():
            raise CompileError(
                Code.NOT_QUANTIZED,
                f"{op.result.origin.op_type} is not followed by a quantizer",
                at=op.result.origin,
                hint=f"quantize its result ({HOW_TO_QUANTIZE}), or leave it to the host",
            )
        case Multiply():
            lhs, rhs = (builder.centred(builder.exact(v, op)) for v in (op.lhs, op.rhs))
            result = with_codes(op.result, lhs.type.codes.scale * rhs.type.codes.scale)
            return Lowered(builder.append(Product(result=result, lhs=lhs, rhs=rhs)))
        case AveragePool():
            x = builder.operand(op.input, op)
            if x.tail and op.window.is_padded:
                builder.exact(op.input, op)  # raises
            source = builder.centred(x.value)
            divisor, factors = _common_divisor(op)
            result = with_codes(op.result, source.type.codes.scale * Fraction(1, divisor))
            pool = SumPool(result=result, input=source, window=op.window, factors=factors)
            return Lowered(builder.append(pool), x.tail)
        case MaxPool():
            return _max_pool(builder, op)
        case Add():
            return _add(builder, op)
        case Concat():
            return concatenated(builder, op)
        case Reshape():
            return _reshape(builder, op)
        case Transpose():
            return _transpose(builder, op)
        case Slice():
            return _slice(builder, op)
        case Upsample():
            x = builder.operand(op.input, op)
            result = with_codes_of(op.result, x.value)
            return Lowered(builder.append(Upsample(result=result, input=x.value, factors=op.factors)), x.tail)
        case Pad():
            exact = builder.exact(op.input, op)
            if exact.type.codes.scale.per_channel and op.before[1] + op.after[1]:
                exact = builder.per_tensor(op.input, op)  # raises
            result = with_codes_of(op.result, exact)
            return Lowered(builder.append(Pad(result=result, input=exact, before=op.before, after=op.after)))
        case Constant() | QuantizedConstant():
            raise AssertionError("constants are not lowered")


def _quantize(builder: IntegerBuilder, op: Quantize) -> Lowered:
    quantization, quantizer = op.quantization, op.quantizer
    if op.input.name in builder.inputs:
        return _quantize_input(builder, op)
    x = builder.operand(op.input, op)
    result = with_codes(op.result, quantization.scale)
    found = quantizer_codes(op, quantizer, x.value, x.tail)
    if isinstance(found, Staircase):
        return Lowered(builder.append(Requantize(result=result, input=x.value, staircase=found)))
    if isinstance(found, tuple):
        return Lowered(_turning(builder, result, x.value, found, quantization))
    if isinstance(found, BentLine):
        return Lowered(builder.append(Round(result=result, input=x.value, line=found)))
    low = x.value.type.codes.low
    return Lowered(builder.append(Lookup(result=result, input=x.value, low=low, table=found)))


def _turning(
    builder: IntegerBuilder, result: Value, x: Value, parts: tuple[Staircase, Staircase], quantization: Quantization
) -> Value:
    """The sum of two staircases, and what its codes are known to lie in: each part alone reaches further."""
    names = (f"{result.name}.before", f"{result.name}.after")
    before, after = (
        builder.append(Requantize(result=replace(result, name=name), input=x, staircase=part))
        for name, part in zip(names, parts, strict=True)
    )
    total = builder.append(Sum(result=replace(result, name=f"{result.name}.sum"), lhs=before, rhs=after))
    low, high = (code - quantization.zero_point for code in (quantization.low, quantization.high))
    return builder.append(Clamp(result=result, input=total, low=low, high=high))


def _quantize_input(builder: IntegerBuilder, op: Quantize) -> Lowered:
    graph_input = builder.inputs[op.input.name]
    found = host_input(graph_input, op)
    known = builder.quantized_inputs.setdefault(graph_input.name, found)
    if known != found:
        raise CompileError(
            Code.INPUT_QUANTIZED_TWICE,
            f"input {quote(graph_input.name)} has two different quantizers",
            at=op.result.origin,
            hint="start the network with one QuantIdentity that all branches read, or give the input a grid, behind "
            f"which both run on the target: {grid_option(graph_input)}",
        )
    return Lowered(known.value)


def _max_pool(builder: IntegerBuilder, op: MaxPool) -> Lowered:
    """The largest code is the largest value where the value rises with the code; else codes change their sign first."""
    x = builder.operand(op.input, op)
    falls = [direction(x.tail, c) == -1 for c in range(op.input.type.channels)]
    if any(falls):
        x = _negated(builder, op, x, falls)
    result = with_codes_of(op.result, x.value)
    return Lowered(builder.append(MaxPool(result=result, input=x.value, window=op.window)), x.tail)


def _negated(builder: IntegerBuilder, op: MaxPool, x: Lowered, channels: list[bool]) -> Lowered:
    """The same tensor with the codes of some channels negated: a depthwise convolution by 1 and -1."""
    codes, groups = builder.centred(x.value), len(channels)
    signs = [-1 if negated else 1 for negated in channels]
    result = replace(with_codes_of(op.input, codes), name=f"{op.result.name}.rising")
    value = builder.products(codes, signs, result)
    zeros, ones = (Fraction(0),) * groups, (Fraction(1),) * groups
    return Lowered(value, (Affine(tuple(map(Fraction, signs)), zeros, ones, zeros), *x.tail))


def _add(builder: IntegerBuilder, op: Add) -> Lowered:
    """A sum of codes; the offsets that the operands have besides are added, too, behind it."""
    lhs, rhs = builder.aligned((op.lhs, op.rhs), op)
    result = with_codes(op.result, lhs.codes.type.codes.scale)
    value = builder.append(Sum(result=result, lhs=lhs.codes, rhs=rhs.codes))
    return Lowered(value, offset_tail(added(lhs.offsets, rhs.offsets)))


def _product(builder: IntegerBuilder, op: Conv | Linear) -> Lowered:
    """Sums of products of codes. Steps per channel are in the weights, offsets behind the sums."""
    x = builder.affine(op.input, op)
    groups, pads = (op.groups, op.window.is_padded or op.window.dilates_input) if isinstance(op, Conv) else (1, False)
    weight, weight_scale = builder.weight(op.weight, op)
    if x.has_offset and pads:
        x = builder.with_offset_in_codes(x, op.input, op)
    offset = products_offset(weight, weight_scale, x.offsets, groups) if x.has_offset else ()
    found = weights_on_one_grid(weight, x.steps, groups)
    if found is None:
        raise several_scales(op.input, op)
    weight, steps = found
    scale = Scale.of(steps) * weight_scale
    bias = builder.bias(op.bias, scale, op)
    result, tail = with_codes(op.result, scale), offset_tail(offset)
    if isinstance(op, Linear):
        return Lowered(builder.append(Dense(result=result, input=x.codes, weight=weight, bias=bias)), tail)
    conv = Conv2d(result=result, input=x.codes, weight=weight, bias=bias, window=op.window, groups=op.groups)
    return Lowered(builder.append(conv), tail)


def _common_divisor(op: AveragePool) -> tuple[int, IntArray | None]:
    """What all windows can be divided by, and the factors of those that have fewer taps."""
    if op.counts is None:
        return op.window.taps, None
    counts = op.counts.data
    divisor = lcm(*counts.reshape(-1).tolist())
    if not fits_int64(divisor):
        raise CompileError(
            Code.BEYOND_64_BITS,
            "means over windows of so many sizes need more than 64 bits",
            at=op.result.origin,
            hint="use count_include_pad=True and ceil_mode=False, or a smaller window",
        )
    return divisor, IntArray(divisor // counts)


def _clamp(builder: IntegerBuilder, op: Relu | LeakyRelu | Clip) -> Lowered:
    """An activation that no quantizer follows directly: a clamp of the codes, where its limits are codes."""
    x = builder.exact(op.input, op)
    if not isinstance(op, Relu):
        x = builder.per_tensor(op.input, op)
    step = x.type.codes.scale.channel(0)  # 0, Relu's limit, is code 0 in every channel
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
                f"{op.result.origin.op_type} is not followed by a quantizer",
                at=op.result.origin,
                hint=f"quantize its result ({HOW_TO_QUANTIZE})",
            )
    codes = x.type.codes
    limits = [None if v is None else v / step for v in (low, high)]
    if limits[0] is not None and limits[0].denominator != 1 and limits[0] < codes.low - codes.zero_point:
        limits[0] = None  # no code is as low
    if limits[1] is not None and limits[1].denominator != 1 and limits[1] > codes.high - codes.zero_point:
        limits[1] = None
    if any(v is not None and v.denominator != 1 for v in limits):
        raise CompileError(
            Code.BIAS_OFF_GRID,
            "Clip's limits are no multiples of the input's scale",
            at=op.result.origin,
            hint="put a quantizer behind the Clip, which takes any limit exactly",
        )
    lowest = codes.low if limits[0] is None else int(limits[0]) + codes.zero_point
    highest = max(codes.high, lowest) if limits[1] is None else int(limits[1]) + codes.zero_point
    lowest = min(lowest, highest)  # the upper limit wins, as in min(max(code, low), high)
    result = with_codes_of(op.result, x)
    return Lowered(builder.append(Clamp(result=result, input=x, low=lowest, high=highest)))


def _reshape(builder: IntegerBuilder, op: Reshape) -> Lowered:
    x = builder.operand(op.input, op)
    before, after = x.value.type, op.result.type.shape
    repeat = after[1] // before.channels if len(after) == 2 else 1
    if len(after) > 1 and (len(after) == 2 or after[1] == before.channels):
        channels = [c for c in range(before.channels) for _ in range(repeat)]
        scale = before.codes.scale.of_channels(channels)
        tail = tuple(stage.of_channels(channels) for stage in x.tail)
    elif before.codes.scale.per_channel or x.tail:
        raise CompileError(Code.SCALE_PER_CHANNEL, "Reshape mixes channels of different scales", at=op.result.origin)
    else:
        scale, tail = before.codes.scale, ()
    result = with_codes(op.result, scale, before.codes.zero_point)
    return Lowered(builder.append(Reshape(result=result, input=x.value)), tail)


def _transpose(builder: IntegerBuilder, op: Transpose) -> Lowered:
    x = builder.operand(op.input, op)
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
            f"channels of different {'biases' if x.tail else 'scales'} cannot become rows or columns",
            at=op.result.origin,
            hint=f"quantize the result of {op.input.origin} with one scale",
        )
    result = with_codes_of(op.result, x.value)
    return Lowered(builder.append(Transpose(result=result, input=x.value, permutation=op.permutation)), x.tail)


def _slice(builder: IntegerBuilder, op: Slice) -> Lowered:
    x = builder.operand(op.input, op)
    codes, channels = x.value.type.codes, op.ranges[1] if len(op.ranges) > 1 else range(1)
    result = with_codes(op.result, codes.scale.of_channels(channels), codes.zero_point)
    value = builder.append(Slice(result=result, input=x.value, begins=op.begins, steps=op.steps))
    return Lowered(value, tuple(stage.of_channels(channels) for stage in x.tail))
