"""From an ONNX graph to our quantized level: every node goes to its operator in `operators.OPERATORS`.

All faults are collected: a node that fails poisons its outputs, and nodes that read a poisoned tensor are passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from pefslc.codes import Code
from pefslc.diagnostics import CompileError, Origin, Problem, quote
from pefslc.frontend.constants import fold_constant_node
from pefslc.frontend.load import QONNX_DOMAINS, load_onnx
from pefslc.frontend.node import Node, constant_array
from pefslc.ir.graph import Graph, GraphInput, GraphOutput, Level
from pefslc.ir.quantized import Constant
from pefslc.ir.value import Element, Op, Real, RealArray, TensorType, Value
from pefslc.numeric.scale import Scale
from pefslc.shapes import Shape, element_count

__all__ = ["Builder", "import_model"]

_LARGEST_TENSOR = 1 << 28  # elements; what lies above is a fault in the file, not a network for a small device


def import_model(path: Path) -> Graph:
    """The quantized-level graph of the ONNX file at `path`. Raises one CompileError that holds every fault."""
    onnx_graph, opset = load_onnx(path)
    builder = Builder()
    inputs = [builder.add_input(tensor) for tensor in onnx_graph.inputs]
    for raw in onnx_graph.nodes:
        node = Node(raw, opset)
        if node.op_type == "Constant" and not node.domain:
            continue  # read where it is used
        if any(t.name in builder.poisoned for t in node.inputs):
            builder.poison(node)
            continue
        try:
            _import_node(builder, node, onnx_graph.outputs)
        except CompileError as e:
            builder.problems.extend(e.problems)
            builder.poison(node)
    outputs = builder.outputs(onnx_graph)
    if builder.problems:
        raise CompileError.of(builder.problems)
    return Graph(_graph_name(path), Level.QUANTIZED, tuple(i for i in inputs if i), tuple(builder.ops), outputs)


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
    result = operator(builder, node)
    node.finish()
    if isinstance(result, IntegerTensor):
        builder.integers[node.raw.outputs[0].name] = result
    else:
        builder.define(node.raw.outputs[0], result)
    for extra in node.raw.outputs[1:]:
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


@dataclass(frozen=True, slots=True, eq=False)
class IntegerTensor:
    """Integers of the file, between a QuantizeLinear and a DequantizeLinear, or a constant's; see linear_quantizers.

    low, high  what they are clipped to
    source     the real tensor that was quantized, or the integers themselves
    scale, zero_point, channel_axis  of the QuantizeLinear; None, 0 and 0 for constants
    """

    low: int
    high: int
    source: Value | NDArray[np.int64]
    scale: Scale | None
    zero_point: int
    channel_axis: int


@dataclass
class Builder:
    """The graph under construction: values by ONNX tensor name, operations in order, faults so far."""

    ops: list[Op] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    integers: dict[str, IntegerTensor] = field(default_factory=dict)
    poisoned: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    _count: int = 0

    def new_value(self, shape: Shape, element: Element, origin: Origin) -> Value:
        """A fresh value. Raises CompileError for a shape that no device could hold."""
        if any(size < 1 for size in shape):
            raise CompileError(Code.EMPTY_AXIS, f"shape {list(shape)} has an empty axis", at=origin)
        if element_count(shape) > _LARGEST_TENSOR:
            raise CompileError(Code.TENSOR_TOO_LARGE, f"a tensor of shape {list(shape)} is too large", at=origin)
        self._count += 1
        return Value(f"v{self._count}", TensorType(shape, element), origin)

    def real(self, shape: Shape, node: Node) -> Value:
        """A fresh real-valued result of `node`."""
        return self.new_value(shape, Real(), node.origin)

    def append(self, op: Op) -> Value:
        """Add the operation and return its result."""
        self.ops.append(op)
        return op.result

    def define(self, tensor: gs.Tensor, value: Value) -> None:
        """`value` is what the ONNX tensor holds."""
        self.values[tensor.name] = value

    def poison(self, node: Node) -> None:
        """The outputs of `node` are unknown because of a fault already reported."""
        self.poisoned.update(t.name for t in node.raw.outputs)

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
        try:
            shape = tensor.shape
            if shape is None:
                raise CompileError(
                    Code.DYNAMIC_SHAPE,
                    "the input has no shape",
                    at=origin,
                    hint="export with an example of fixed shape",
                )
            if not all(isinstance(size, int) for size in shape):
                raise CompileError(
                    Code.DYNAMIC_SHAPE,
                    f"the input's shape {list(shape)} is not fixed",
                    at=origin,
                    hint="export without dynamic_axes, with batch 1",
                )
            if tensor.dtype is not None and np.dtype(tensor.dtype).kind != "f":
                raise CompileError(Code.INPUT_TYPE, f"the input holds {np.dtype(tensor.dtype)}, not floats", at=origin)
            value = self.new_value(tuple(shape), Real(), origin)
        except (CompileError, TypeError) as e:
            fault = (
                e
                if isinstance(e, CompileError)
                else CompileError(Code.INPUT_TYPE, "the input's element type is unknown", at=origin)
            )
            self.problems.extend(fault.problems)
            self.poisoned.add(tensor.name)
            return None
        self.values[tensor.name] = value
        return GraphInput(tensor.name, value)

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
                        hint="export the model again",
                    )
                )
            found.append(GraphOutput(tensor.name, value))
        return tuple(found)
