"""--fmt quantizes: a float model gets weights on a grid, and a quantizer wherever a tensor is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar, Protocol

import numpy as np

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem
from pefslc.geometry.dilation_phases import taps_together
from pefslc.ir.graph import Graph, Level, map_operands
from pefslc.ir.quantized import Constant, Conv, Linear, Quantize
from pefslc.ir.structural import Structural
from pefslc.ir.value import Op, RealArray, TensorType, Value
from pefslc.numeric.format import FixedPoint, Quantization
from pefslc.numeric.quantize import broadcast_steps, round_floats
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale, common_grid
from pefslc.passes.check_format import is_float
from pefslc.passes.input_formats import InputFormats, format_of_input
from pefslc.passes.integer_builder import constant_operand
from pefslc.passes.manager import Exactness
from pefslc.passes.quantization_sites import quantization_sites
from pefslc.passes.round_weights import round_weights

__all__ = [
    "FormatPlan",
    "Formats",
    "QuantizeAfterTraining",
    "UniformFormat",
    "codes_name",
    "computed_parameter",
    "holding_codes",
    "quantized_by",
    "rounded_weight_name",
    "weight_codes_name",
]


@dataclass(frozen=True, slots=True)
class FormatPlan:
    """The format of everything that a float model leaves open. Every scale is a power of two.

    activations  by the name of the tensor (`quantization_sites`)
    weights      by the name of the result of the Conv or Linear that reads them
    uniform      the one format of all of them, where the user named one
    pinned       names of the tensors whose formats the user named by themselves
    pinned_weights  the same of weights
    balanced     of these layers the weights that are nearly halfway are rounded so that errors cancel; of the others
                 each weight is rounded to the nearest code, as formats from data were chosen
    """

    activations: Mapping[str, Quantization]
    weights: Mapping[str, Quantization]
    uniform: FixedPoint | None = None
    pinned: frozenset[str] = frozenset()
    pinned_weights: frozenset[str] = frozenset()
    balanced: frozenset[str] = frozenset()

    def with_named(self, named: FormatPlan) -> FormatPlan:
        """This plan with the formats of `named`, pinned, and with its rounding of weights."""
        return replace(
            self,
            activations={**self.activations, **named.activations},
            weights={**self.weights, **named.weights},
            pinned=self.pinned | named.activations.keys(),
            pinned_weights=self.pinned_weights | named.weights.keys(),
            balanced=named.balanced,
        )

    def with_inputs(self, graph: Graph, formats: InputFormats) -> FormatPlan:
        """This plan with the formats that --input-fmt gave to inputs."""
        found = {i.value.name: format_of_input(formats, i.name) for i in graph.inputs}
        given = {name: fmt.quantization for name, fmt in found.items() if fmt is not None}
        return replace(self, activations={**self.activations, **given}, pinned=self.pinned | given.keys())


class Formats(Protocol):
    """A way to choose formats."""

    def plan(self, graph: Graph) -> FormatPlan:
        """The formats for a float graph. Raises CompileError."""
        ...


@dataclass(frozen=True, slots=True)
class UniformFormat:
    """One format for the input, the weights and the activations.

    unsigned   the tensors that get the same bits without a sign: UQm.n
    input_fmt  of inputs that have formats of their own
    weights    the weights' format, where it is another: a target rounds them itself
    """

    fmt: FixedPoint
    unsigned: frozenset[str] = frozenset()
    input_fmt: InputFormats = None
    weights: FixedPoint | None = None

    def plan(self, graph: Graph) -> FormatPlan:
        if not self.fmt.signed or self.fmt.bits < 2:
            raise CompileError(
                Code.BAD_FORMAT,
                f"a float model cannot be quantized to {self.fmt.describe()}: its weights have signs",
                at=graph.name,
                hint="name a signed format of at least 2 bits, for example Q3.4",
            )
        quantization = self.fmt.quantization
        positive = replace(self.fmt, signed=False).quantization
        layers = [op.result.name for op in graph.ops if isinstance(op, Conv | Linear)]
        return FormatPlan(
            {v.name: positive if v.name in self.unsigned else quantization for v in quantization_sites(graph)},
            dict.fromkeys(layers, quantization if self.weights is None else self.weights.quantization),
            self.fmt,
            balanced=frozenset(layers),
        ).with_inputs(graph, self.input_fmt)


@dataclass(frozen=True, slots=True)
class QuantizeAfterTraining:
    """Quantizers after every unit of a float model, half to even, saturating; nothing for any other model.

    conv(x, w, b)  ==>  quantize(conv(x, quantize(w), b rounded to the step of the accumulator))

    Changes the model: the report (`post_training`) says what became of the signal.

    bias  None: a bias is rounded to its accumulator's step, half to even, never saturated; else its format
    """

    formats: Formats
    bias: Quantization | None = None
    name: ClassVar[str] = "quantize-after-training"
    exactness: ClassVar[Exactness] = Exactness.CHANGES
    level: ClassVar[Level] = Level.QUANTIZED

    def run(self, graph: Graph) -> Graph:
        return quantized_by(self.formats.plan(graph), graph, self.bias) if is_float(graph) else graph


def codes_name(name: str) -> str:
    """What the codes of a tensor are called in the quantized graph."""
    return f"{name}.codes"


def weight_codes_name(layer: str) -> str:
    """The same of the weights of a layer, by the name of its result."""
    return f"{layer}.weight.codes"


def rounded_weight_name(layer: str) -> str:
    """What weights are called that were rounded so that errors cancel."""
    return f"{layer}.weight.rounded"


def quantized_by(plan: FormatPlan, graph: Graph, bias: Quantization | None = None) -> Graph:
    """The float graph with the formats of `plan`. Raises CompileError, with every fault."""
    rewrite = _Rewrite(plan, graph, bias)
    for i in graph.inputs:
        rewrite.store(i.value)
    for op in graph.ops:
        rewrite.visit(op)
    if rewrite.problems:
        raise CompileError.of(rewrite.problems)
    quantized = graph.with_ops(rewrite.ops).with_outputs(rewrite.stored)
    return replace(quantized, uniform_format=plan.uniform)


class _Rewrite:
    def __init__(self, plan: FormatPlan, graph: Graph, bias: Quantization | None) -> None:
        self.plan = plan
        self.constants = {op.result.name: op for op in graph.of_type(Constant)}
        self.bias = bias
        self.ops: list[Op] = []
        self.stored: dict[str, Value] = {}
        self.problems: list[Problem] = []

    def current(self, value: Value) -> Value:
        return self.stored.get(value.name, value)

    def visit(self, op: Op) -> None:
        op = map_operands(op, self.current)
        if isinstance(op, Conv | Linear):
            op = self.layer(op)
        elif (moved := holding_codes(op)) is not op:
            op = moved
            self.stored[op.result.name] = op.result
        self.ops.append(op)
        self.store(op.result)

    def step(self, value: Value) -> Fraction | None:
        """The step of a tensor of codes; several that are concatenated get the finest, wherever they are moved to
        then. None for constants.
        """
        if isinstance(value.type.element, Quantization):
            return value.type.element.scale.step
        producer = next(op for op in self.ops if op.result.name == value.name)
        if not isinstance(producer, Structural):
            return None
        known = [step for v in producer.operands if (step := self.step(v)) is not None]
        return common_grid(known) if len(known) == len(producer.operands) else None

    def store(self, value: Value) -> None:
        """Append the quantizer of `value`, if it has one; later readers read its result."""
        quantization = self.plan.activations.get(value.name)
        if quantization is not None:
            result = replace(value, name=codes_name(value.name), type=TensorType(value.type.shape, quantization))
            self.ops.append(Quantize(result=result, input=value))
            self.stored[value.name] = result

    def layer(self, op: Conv | Linear) -> Conv | Linear:
        """`op` with a quantizer on its weights and its bias on the grid."""
        raw = self.constants.get(op.weight.name)
        if raw is None:
            self.problems.extend(computed_parameter("weights", op).problems)
            return op
        quantization = self.plan.weights[op.result.name]
        weight = Value(
            weight_codes_name(op.result.name), TensorType(raw.result.type.shape, quantization), raw.result.origin
        )
        balanced = op.result.name in self.plan.balanced
        source = self.rounded_weight(op, raw, quantization) if balanced else raw.result
        self.ops.append(Quantize(result=weight, input=source, channel_axis=0))
        bias = None if op.bias is None else self.rounded_bias(op, op.bias, quantization.scale)
        return replace(op, weight=weight, bias=bias)

    def rounded_weight(self, op: Conv | Linear, raw: Constant, quantization: Quantization) -> Value:
        """The weights on the grid, so that their errors cancel."""
        steps = np.array(float(quantization.scale.step))
        data = np.empty_like(raw.data.data)
        for part in _summed_together(op):
            data[part] = round_weights(raw.data.data[part], steps, quantization.low, quantization.high)
        value = replace(raw.result, name=rounded_weight_name(op.result.name))
        self.ops.append(Constant(result=value, data=RealArray(data)))
        return value

    def rounded_bias(self, op: Conv | Linear, bias: Value, weight_scale: Scale) -> Value | None:
        raw = self.constants.get(bias.name)
        if raw is None:
            self.problems.extend(computed_parameter("bias", op).problems)
            return None
        if self.bias is not None:
            value = Value(f"{op.result.name}.bias.codes", TensorType(raw.result.type.shape, self.bias), bias.origin)
            self.ops.append(Quantize(result=value, input=raw.result, channel_axis=0))
            return value
        step = self.step(op.input)
        if step is None:
            self.problems.extend(constant_operand(op).problems)
            return None
        steps = broadcast_steps(weight_scale * step, 1, 0)
        data = RealArray(round_floats(raw.data.data / steps, RoundingMode.HALF_EVEN) * steps)
        value = Value(f"{op.result.name}.bias.rounded", raw.result.type, bias.origin)
        self.ops.append(Constant(result=value, data=data))
        return value


def _summed_together(op: Conv | Linear) -> Iterator[tuple[slice, ...]]:
    """The parts of the weights that one sum may be made of: all, or those of each phase of a transposed convolution."""
    if isinstance(op, Linear):
        yield (slice(None),)
    else:
        yield from ((slice(None), slice(None), *taps) for taps in taps_together(op.window))


def holding_codes(op: Op) -> Op:
    """`op` with the quantization of its operands on its result, where it moves codes of one quantization."""
    if not isinstance(op, Structural):
        return op
    element, *others = {v.type.element for v in op.operands}
    if others or not isinstance(element, Quantization) or element == op.result.type.element:
        return op
    return replace(op, result=replace(op.result, type=replace(op.result.type, element=element)))


def computed_parameter(what: str, op: Conv | Linear) -> CompileError:
    """The refusal of weights or a bias that are no constants."""
    return CompileError(
        Code.COMPUTED_OPERAND,
        f"the {what} {'are' if what == 'weights' else 'is'} computed at run time",
        at=op.result.origin,
        hint="freeze the model before exporting it",
    )
