"""The graph under construction, to which each operator's import adds its operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Origin, Problem, quote
from pefslc.frontend.foreign_shape import foreign_shape
from pefslc.frontend.given_shapes import NOTHING_GIVEN, GivenShapes
from pefslc.frontend.node import Node, constant_array
from pefslc.frontend.sizes import check_size, is_possible
from pefslc.geometry.shapes import Shape
from pefslc.ir.graph import GraphInput, GraphOutput
from pefslc.ir.output_function import OutputFunction
from pefslc.ir.quantized import Constant
from pefslc.ir.value import Element, Op, Real, RealArray, TensorType, Value
from pefslc.numeric.scale import Scale

__all__ = ["Builder", "HostTail", "IntegerTensor"]

_INTEGER_INPUTS = ("int8", "uint8", "int16", "uint16", "int32", "uint32")


_KEEP_SHAPE = ("BipolarQuant", "DequantizeLinear", "FloatQuant", "IntQuant", "Quant", "QuantizeLinear", "Trunc")


def _is_no_float(tensor: gs.Tensor) -> bool:
    """Whether the tensor is declared of another type; of those that NumPy lacks, it is no NumPy type."""
    known = isinstance(tensor.dtype, type | np.dtype)
    return tensor.dtype is not None and not (known and np.dtype(tensor.dtype).kind == "f")


def _element(dtype: object) -> str:
    """What a tensor holds, as ONNX calls it: NumPy has strings as objects."""
    name = str(np.dtype(dtype))  # type: ignore[call-overload]
    return "strings" if name == "object" else name


def _option_name(name: str) -> str:
    return quote(name)[1:-1] or "NAME"


def _example(shape: Sequence[int | str | None]) -> str:
    return ",".join(str(size) if isinstance(size, int) else "1" for size in shape)


@dataclass(frozen=True, slots=True, eq=False)
class IntegerTensor:
    """Integers of the file, between a QuantizeLinear and a DequantizeLinear, or a constant's; see linear_quantizers.

    low, high  what they are clipped to
    source     the real tensor that was quantized, or the integers themselves
    scale, zero_point  of the QuantizeLinear; None and 0 for constants
    is_constant  whether the source is one; then `channel_axis` is that of the QuantizeLinear's scales
    is_quantized  whether the source is what a DequantizeLinear of that scale and zero point makes of the integers
    channels  of moved integers with several scales: which of them each element has, counted from 1; 0: any
    """

    low: int
    high: int
    source: Value | NDArray[np.int64]
    scale: Scale | None
    zero_point: int
    is_constant: bool
    channel_axis: int
    is_quantized: bool = False
    channels: NDArray[np.int64] | None = None

    def quantized_as(self, value: Value, channels: NDArray[np.int64] | None = None) -> IntegerTensor:
        """These integers, where `value` is what their DequantizeLinear makes of them."""
        return replace(self, source=value, is_quantized=True, channels=channels)

    @property
    def scale_of_each(self) -> NDArray[np.int64]:
        """`channels` of any integers of a QuantizeLinear."""
        assert isinstance(self.source, Value)
        assert self.scale is not None
        if self.channels is not None:
            return self.channels
        shape = self.source.type.shape
        along = [-1 if axis == self.channel_axis else 1 for axis in range(len(shape))]
        count = len(self.scale.steps)
        return np.broadcast_to(np.arange(1, count + 1).reshape(along if count > 1 else [1] * len(shape)), shape)


@dataclass(frozen=True, slots=True)
class HostTail:
    """What the host computes of a tensor at the end of the network."""

    value: Value
    function: OutputFunction


def behind_the_end(node: Node, last: str) -> CompileError:
    """The fault of a node that reads what `last` makes, on the host."""
    return node.fault(
        Code.NOT_QUANTIZED,
        f"{node.op_type} reads what {last} makes, which the host computes: it may only end the network",
        hint=f"end the network before {last}, or quantize its operand and take {last} off",
    )


@dataclass
class Builder:
    """The graph under construction: values by ONNX tensor name, operations in order, faults so far.

    poisoned  ONNX tensors of which not even the shape is known, because of a fault already reported
    unknown   names of the values that stand in for what a faulty node would compute
    assumed   inputs whose open axes were taken as 1, only to go on
    superseded  names of values that were made anew, in another order or with a bias: dropped where nothing reads them
    dynamic   ONNX tensors of integers that a dynamic quantizer made, or that were computed of those
    host_results  names of the values that stand for what the host computes: only a quantizer reads them, `tails`
    channels_first  of a value [N, ..., C], by its name: the value [N, C, ...] of which it is a transposition (`rows`)
    integer_tensors  ONNX tensors that are an input of integers, or parts of one: their type
    """

    given: GivenShapes = NOTHING_GIVEN
    poisoned: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    assumed: set[str] = field(default_factory=set)
    superseded: set[str] = field(default_factory=set)
    dynamic: set[str] = field(default_factory=set)
    host_results: dict[str, HostTail] = field(default_factory=dict)
    channels_first: dict[str, Value] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    integers: dict[str, IntegerTensor] = field(default_factory=dict)
    integer_tensors: dict[str, str] = field(default_factory=dict)
    tails: dict[str, HostTail] = field(default_factory=dict)
    _count: int = 0

    def new_value(self, shape: Shape, element: Element, origin: Origin) -> Value:
        """A fresh value. Raises CompileError for a shape that no device could hold."""
        if any(size < 1 for size in shape):
            raise CompileError(Code.EMPTY_AXIS, f"shape {list(shape)} has an empty axis", at=origin)
        check_size(shape, origin)
        self._count += 1
        return Value(f"v{self._count}", TensorType(shape, element), origin)

    def real(self, shape: Shape, node: Node) -> Value:
        """A fresh real-valued result of `node`."""
        return self.new_value(shape, Real(), node.origin)

    def append(self, op: Op) -> Value:
        """Add the operation and return its result."""
        self.ops.append(op)
        return op.result

    def producer(self, value: Value) -> Op | None:
        """The operation that made `value`; None for an input."""
        return next((op for op in reversed(self.ops) if op.result is value), None)

    def drop_superseded(self, outputs: Sequence[GraphOutput]) -> None:
        """Remove what was made anew, where nothing reads them."""
        read = {output.value.name for output in outputs}
        kept: list[Op] = []
        for op in reversed(self.ops):
            if op.result.name in read or op.result.name not in self.superseded:
                kept.append(op)
                read.update(v.name for v in op.operands)
        self.ops = kept[::-1]

    def define(self, tensor: gs.Tensor, value: Value) -> None:
        """`value` is what the ONNX tensor holds."""
        self.values[tensor.name] = value

    def stand_in(self, node: Node) -> None:
        """The outputs of `node` are unknown because of a fault already reported."""
        for tensor in node.raw.outputs:
            shape = self._expected_shape(node, tensor)
            if shape is None:
                self.poisoned.add(tensor.name)
                continue
            value = self.real(shape, node)
            self.unknown.add(value.name)
            self.define(tensor, value)

    def _expected_shape(self, node: Node, tensor: gs.Tensor) -> Shape | None:
        """What the file declares, a quantizer does not change, or ONNX infers; None where no tensor has that shape."""
        if node.op_type == "QuantizeLinear" or _is_no_float(tensor):
            return None  # integers, which no value holds
        shape: Sequence[int | str | None] | None = tensor.shape
        if (
            not is_possible(shape)
            and node.op_type in _KEEP_SHAPE
            and node.inputs
            and node.inputs[0].name in self.values
        ):
            shape = self.values[node.inputs[0].name].type.shape
        if not is_possible(shape) and tensor is node.raw.outputs[0]:
            shape = foreign_shape(node.raw, {n: v.type.shape for n, v in self.values.items()}, node.opset)
        return tuple(shape) if is_possible(shape) else None

    def shape_of(self, name: str) -> Shape | None:
        """The shape of an ONNX tensor that is computed, where it is known: of values, or of integers."""
        if name in self.values:
            return self.values[name].type.shape
        source = self.integers[name].source if name in self.integers else None
        return source.type.shape if isinstance(source, Value) else None

    def shapes(self) -> dict[str, Shape]:
        """The shape of each ONNX tensor of which it is known."""
        return {name: value.type.shape for name, value in self.values.items() if name not in self.assumed}

    def operand(self, node: Node, index: int) -> Value:
        """The value of input `index`; an initializer becomes a constant operation."""
        if not node.has_input(index):
            raise node.fault(Code.MISSING_OPERAND, f"{node.op_type} has no input {index}")
        tensor = node.inputs[index]
        if tensor.name in self.values:
            return self.values[tensor.name]
        if tensor.name in self.integers:
            raise node.fault(
                Code.UNSUPPORTED_OPERATOR,
                f"{node.op_type} of integers is not supported",
                hint="put a DequantizeLinear right behind the quantizer",
            )
        if tensor.name in self.tails:
            return self._host_result(node, tensor)
        array = constant_array(tensor)
        if array is None:
            raise node.fault(Code.UNDEFINED_TENSOR, f"tensor {quote(tensor.name)} is produced by no node")
        value = self.constant(array, Origin(node.origin.node, node.op_type, tensor.name))
        self.values[tensor.name] = value
        return value

    def _host_result(self, node: Node, tensor: gs.Tensor) -> Value:
        """What stands for a result of the host's, for a quantizer."""
        tail = self.tails[tensor.name]
        readers = ("IntQuant", "Quant", "QuantizeLinear") if tail.function.quantizer is None else ("QuantizeLinear",)
        if node.op_type not in readers or not tail.function.makes_values:
            raise behind_the_end(node, tensor.inputs[0].op if tensor.inputs else "a tensor")
        value = self.new_value(tail.function.shape(tail.value.type.shape), Real(), tail.value.origin)
        self.host_results[value.name] = tail
        return value

    def constant(self, array: NDArray[np.generic], origin: Origin) -> Value:
        """A constant operation that holds `array`. Raises CompileError for what is not a finite number."""
        if array.dtype.kind not in "fiu":
            raise CompileError(Code.CONSTANT_VALUE, f"a constant of type {array.dtype} is not supported", at=origin)
        if not np.isfinite(array).all():
            raise CompileError(
                Code.CONSTANT_VALUE,
                "the constant holds NaN or infinity",
                at=origin,
                hint="training diverged? check the checkpoint",
            )
        data = RealArray(array.astype(np.float64))
        return self.append(Constant(result=self.new_value(tuple(array.shape), Real(), origin), data=data))

    def add_input(self, tensor: gs.Tensor) -> GraphInput | None:
        """A graph input of a static shape, floats or integers that a format holds; a fault otherwise."""
        origin = Origin("", "input", tensor.name)
        shape: Sequence[int | str | None] | None = tensor.shape
        try:
            shape = self.given.shape_of(tensor.name, tensor.shape, origin)
            if shape is None:
                raise CompileError(
                    Code.DYNAMIC_SHAPE,
                    "the input has no shape",
                    at=origin,
                    hint="export with an example of fixed shape, or give it: "
                    f"--input-shape {_option_name(tensor.name)}=1,3,32,32",
                )
            if not all(isinstance(size, int) for size in shape):
                raise CompileError(
                    Code.DYNAMIC_SHAPE,
                    f"the input's shape {list(shape)} is not fixed",
                    at=origin,
                    hint="export without dynamic_axes, or give the open sizes: --batch 1 or "
                    f"--input-shape {_option_name(tensor.name)}={_example(shape)}",
                )
            kind = "" if tensor.dtype is None else _element(tensor.dtype)
            if tensor.dtype is not None and np.dtype(tensor.dtype).kind != "f" and kind not in _INTEGER_INPUTS:
                raise CompileError(
                    Code.INPUT_TYPE,
                    f"the input holds {kind}, not floats",
                    at=origin,
                    hint=f"make it floats, or one of {', '.join(_INTEGER_INPUTS)} that a DequantizeLinear or a Cast "
                    "reads",
                )
            if not shape:
                raise CompileError(
                    Code.UNSUPPORTED_SHAPE,
                    "the input is a single number, without a batch axis",
                    at=origin,
                    hint="give it the shape [1, 1]",
                )
            value = self.new_value(tuple(size for size in shape if isinstance(size, int)), Real(), origin)
        except (CompileError, TypeError) as e:
            fault = (
                e
                if isinstance(e, CompileError)
                else CompileError(Code.INPUT_TYPE, "the input's element type is unknown", at=origin)
            )
            self.problems.extend(fault.problems)
            self._stand_in_for_input(tensor, shape, origin)
            return None
        self.values[tensor.name] = value
        if kind not in _INTEGER_INPUTS:
            return GraphInput(tensor.name, value)
        self.integer_tensors[tensor.name] = kind
        return GraphInput(tensor.name, value, integers=kind)

    def _stand_in_for_input(
        self, tensor: gs.Tensor, declared: Sequence[int | str | None] | None, origin: Origin
    ) -> None:
        """So that the rest is checked, too: a network that takes any batch takes 1."""
        shape = [1 if axis == 0 and isinstance(size, str) else size for axis, size in enumerate(declared or ())]
        if declared is not None and is_possible(shape):
            value = self.new_value(tuple(shape), Real(), origin)
            self.unknown.add(value.name)
            if tuple(shape) != tuple(declared or ()):
                self.assumed.add(tensor.name)
            self.values[tensor.name] = value
        else:
            self.poisoned.add(tensor.name)

    def outputs(self, onnx_graph: gs.Graph) -> tuple[GraphOutput, ...]:
        """The graph outputs, their declared shapes compared with ours."""
        found = []
        for tensor in onnx_graph.outputs:
            if tensor.name in self.poisoned:
                continue
            tail = self.tails.get(tensor.name)
            if tensor.name not in self.values and tail is None:
                integers = tensor.name in self.integers
                self.problems.append(
                    Problem(
                        Code.CONSTANT_OUTPUT,
                        f"output {quote(tensor.name)} {'holds integers' if integers else 'is a constant'}",
                        at=Origin("", "output", tensor.name),
                        hint="end the network with a DequantizeLinear" if integers else "export the model again",
                    )
                )
                continue
            value = self.values[tensor.name] if tail is None else tail.value
            output = GraphOutput(tensor.name, value, function=None if tail is None else tail.function)
            declared = tensor.shape
            if declared is not None and all(isinstance(s, int) for s in declared) and tuple(declared) != output.shape:
                self.problems.append(
                    Problem(
                        Code.OUTPUT_SHAPE,
                        f"the output is declared {list(declared)} but computed {list(output.shape)}",
                        at=value.origin,
                        hint="export the model again"
                        if self.given == NOTHING_GIVEN
                        else "the file fixes this shape: give --batch and --input-shape that agree with it",
                    )
                )
            found.append(output)
        return tuple(found)
