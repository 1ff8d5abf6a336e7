"""From an ONNX graph to our quantized level: every node goes to its operator in `operators.OPERATORS`.

All faults are collected. A node that fails leaves its output unknown: where its shape is known a stand-in takes its
place, so that the nodes behind are checked, too; else the output is poisoned: nodes that read it are only looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Origin, Problem, quote
from pefslc.frontend.constants import fold_constant_node
from pefslc.frontend.foreign_shape import foreign_shape
from pefslc.frontend.given_shapes import NOTHING_GIVEN, GivenShapes
from pefslc.frontend.load import QONNX_DOMAINS, load_onnx
from pefslc.frontend.node import Node, constant_array
from pefslc.frontend.sizes import check_size, is_possible
from pefslc.geometry.shapes import Shape
from pefslc.ir.graph import Graph, GraphInput, GraphOutput, Level
from pefslc.ir.quantized import Constant
from pefslc.ir.value import Element, Op, Real, RealArray, TensorType, Value
from pefslc.numeric.scale import Scale

__all__ = ["Builder", "Imported", "import_model", "survey_model"]


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file: its graph, and what is wrong with it.

    graph     whole where there are no problems; else with the values `unknown` in it that nothing computes
    problems  every fault of the import
    """

    graph: Graph
    unknown: frozenset[str]
    problems: tuple[Problem, ...]


def import_model(path: Path, given: GivenShapes = NOTHING_GIVEN) -> Graph:
    """The quantized-level graph of the ONNX file at `path`. Raises one CompileError that holds every fault."""
    imported = survey_model(path, given)
    if imported.problems:
        raise CompileError.of(imported.problems)
    return imported.graph


def survey_model(path: Path, given: GivenShapes = NOTHING_GIVEN) -> Imported:
    """The graph of the ONNX file at `path` as far as it can be imported. Raises CompileError where nothing can.

    given  what the user says about the shapes of inputs
    """
    loaded = load_onnx(path)
    builder = Builder(given, set(loaded.unreadable), list(loaded.problems))
    builder.problems += given.problems([t.name for t in loaded.graph.inputs])
    inputs = [builder.add_input(tensor) for tensor in loaded.graph.inputs]
    for raw in loaded.graph.nodes:
        node = Node(raw, loaded.opset)
        if node.op_type == "Constant" and not node.domain:
            continue  # read where it is used
        try:
            _import_node(builder, node, loaded.graph.outputs)
        except CompileError as e:
            builder.problems.extend(e.problems)
            builder.stand_in(node)
    outputs = builder.outputs(loaded.graph)
    builder.drop_superseded(outputs)
    shapes = builder.shapes()
    return Imported(
        Graph(_graph_name(path), Level.QUANTIZED, tuple(i for i in inputs if i), tuple(builder.ops), outputs),
        frozenset(builder.unknown),
        tuple(problem.with_shape(shapes) for problem in builder.problems),
    )


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


def _import_node(builder: Builder, node: Node, outputs: Sequence[gs.Tensor]) -> None:
    """Fold the node, or hand it to its operator. Raises CompileError."""
    from pefslc.frontend.operators import OPERATORS  # the operators need the Builder below

    array = fold_constant_node(node, builder.values)
    if array is not None:
        node.raw.outputs[0].to_constant(array)
        return
    domain = "qonnx" if node.domain in QONNX_DOMAINS else node.domain
    operator = OPERATORS.get((domain.removeprefix("ai.onnx"), node.op_type))
    if operator is None:
        raise _unsupported(node)
    if any(t.name in builder.poisoned for t in node.inputs):
        if domain == "qonnx":
            _check_parameters(builder, node)
        builder.stand_in(node)
        return
    result = operator(builder, node)
    node.finish()
    results = result if isinstance(result, tuple) else (result,)
    for tensor, made in zip(node.raw.outputs, results, strict=False):
        if isinstance(made, IntegerTensor):
            builder.integers[tensor.name] = made
        else:
            builder.define(tensor, made)
    for extra in node.raw.outputs[len(results) :]:
        if extra.outputs or extra in outputs:
            raise node.fault(Code.EXTRA_OUTPUT, f"the second output of {node.op_type} is not supported")


def _graph_name(path: Path) -> str:
    return path.stem or "model"


def _unsupported(node: Node) -> CompileError:
    domain = f" of domain {quote(node.domain)}" if node.domain else ""
    hints = {
        "FloatQuant": "use integer quantizers: minifloat formats have no fixed-point twin",
    }
    return node.fault(
        Code.UNSUPPORTED_OPERATOR,
        f"operator {node.op_type}{domain} is not supported",
        hint=hints.get(node.op_type, "docs/operators.md lists what is; replace it in the model"),
    )


def _check_parameters(builder: Builder, node: Node) -> None:
    """A quantizer whose scale comes out of a node is dynamic quantization, whatever is wrong with that node."""
    for tensor in node.inputs[1:]:
        if tensor.name in builder.poisoned and tensor.inputs and tensor.inputs[0].op != "Constant":
            raise node.fault(
                Code.COMPUTED_OPERAND,
                f"a parameter of the quantizer is computed at run time (tensor {quote(tensor.name)})",
                hint="use a quantizer with a constant or learned scale: dynamic quantization is not supported",
            )


@dataclass(frozen=True, slots=True, eq=False)
class IntegerTensor:
    """Integers of the file, between a QuantizeLinear and a DequantizeLinear, or a constant's; see linear_quantizers.

    low, high  what they are clipped to
    source     the real tensor that was quantized, or the integers themselves
    scale, zero_point  of the QuantizeLinear; None and 0 for constants
    is_constant  whether the source is one; then `channel_axis` is that of the QuantizeLinear's scales
    """

    low: int
    high: int
    source: Value | NDArray[np.int64]
    scale: Scale | None
    zero_point: int
    is_constant: bool
    channel_axis: int


@dataclass
class Builder:
    """The graph under construction: values by ONNX tensor name, operations in order, faults so far.

    poisoned  ONNX tensors of which not even the shape is known, because of a fault already reported
    unknown   names of the values that stand in for what a faulty node would compute
    assumed   inputs whose open axes were taken as 1, only to go on
    superseded  names of constants that were made anew in another order
    """

    given: GivenShapes = NOTHING_GIVEN
    poisoned: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    assumed: set[str] = field(default_factory=set)
    superseded: set[str] = field(default_factory=set)
    ops: list[Op] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    integers: dict[str, IntegerTensor] = field(default_factory=dict)
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
        """Remove the constants made anew, where nothing reads them."""
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
        if not is_possible(shape) and "Quant" in node.op_type and node.inputs and node.inputs[0].name in self.values:
            shape = self.values[node.inputs[0].name].type.shape
        if not is_possible(shape) and tensor is node.raw.outputs[0]:
            shape = foreign_shape(node.raw, {n: v.type.shape for n, v in self.values.items()}, node.opset)
        return tuple(shape) if is_possible(shape) else None

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
        array = constant_array(tensor)
        if array is None:
            raise node.fault(Code.UNDEFINED_TENSOR, f"tensor {quote(tensor.name)} is produced by no node")
        value = self.constant(array, Origin(node.origin.node, node.op_type, tensor.name))
        self.values[tensor.name] = value
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
        """A graph input with a static float shape; a fault otherwise."""
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
            if tensor.dtype is not None and np.dtype(tensor.dtype).kind != "f":
                raise CompileError(Code.INPUT_TYPE, f"the input holds {_element(tensor.dtype)}, not floats", at=origin)
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
        return GraphInput(tensor.name, value)

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
            if tensor.name not in self.values:
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
            value = self.values[tensor.name]
            declared = tensor.shape
            if (
                declared is not None
                and all(isinstance(s, int) for s in declared)
                and tuple(declared) != value.type.shape
            ):
                self.problems.append(
                    Problem(
                        Code.OUTPUT_SHAPE,
                        f"the output is declared {list(declared)} but computed {list(value.type.shape)}",
                        at=value.origin,
                        hint="export the model again"
                        if self.given == NOTHING_GIVEN
                        else "the file fixes this shape: give --batch and --input-shape that agree with it",
                    )
                )
            found.append(GraphOutput(tensor.name, value))
        return tuple(found)
