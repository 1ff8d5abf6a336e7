"""A graph as an ONNX file for Netron: one node per operation, in the domain `pefslc`. For looking at, not for running.

Inputs and outputs keep their ONNX names; the nodes `Input` and `Output` beside them show what the host computes.
Tensors inside are named as in the IR's text, with their format ("%v3: Q2.3", which Netron shows at the edges with Show
Names); codes are declared in the narrowest integer type that holds them. A function without a body stands for each kind
of node: of it Netron takes the names of the inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pefslc.analysis.ranges import partial_sums, result_range
from pefslc.geometry.shapes import Window
from pefslc.ir.graph import Graph, GraphInput
from pefslc.ir.integer import Conv2d, Dense, Rescale, Sum, SumPool
from pefslc.ir.summary import cut, stage_text
from pefslc.ir.text import narrowest, type_text
from pefslc.ir.value import CodeRange, IntArray, Op, RealArray, Value
from pefslc.numeric.accumulate import bits_for_range
from pefslc.numeric.expression import Call, Number, Variable
from pefslc.numeric.line import BentLine
from pefslc.numeric.stages import Stage
from pefslc.numeric.staircase import Staircase

if TYPE_CHECKING:
    import onnx

__all__ = ["is_drawing", "to_onnx"]

Attribute: TypeAlias = "int | str | list[int] | list[str]"
Array: TypeAlias = "NDArray[np.int64] | NDArray[np.float64]"

_DOMAIN = _PRODUCER = "pefslc"
_OPSET, _IR_VERSION = 13, 8
_LONGEST_FORMAT = 40  # characters at an edge


def to_onnx(graph: Graph) -> bytes:
    """The serialized ONNX model that shows `graph`, of either level. The same graph gives the same bytes."""
    from onnx import helper  # heavy, and needed by nobody else below the frontend

    drawing = _Drawing()
    inputs = [drawing.input(i) for i in graph.inputs]
    for op in graph.ops:
        drawing.op(op)
    outputs = [
        drawing.output(
            o.name,
            o.value,
            ({} if o.map is None else _pair(o.map.scale, o.map.offset))
            | ({} if o.function is None else {"function": str(o.function)}),
        )
        for o in graph.outputs
    ]
    functions = drawing.functions()
    proto = helper.make_graph(
        drawing.nodes, _utf8(graph.name), inputs, outputs, drawing.initializers, value_info=drawing.tensors
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_DOMAIN, 1)]
    model = helper.make_model(
        proto,
        producer_name=_PRODUCER,
        doc_string=f"{graph.level.value} level",
        opset_imports=opsets,
        functions=functions,
    )
    model.ir_version = _IR_VERSION
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def is_drawing(content: bytes) -> bool:
    """Whether a file's content is what `to_onnx` returns, by its first fields: ir_version, then producer_name."""
    # ir_version takes two bytes; producer_name is field 2, length-delimited.
    name = _PRODUCER.encode()
    return content[2:].startswith(bytes([2 << 3 | 2, len(name)]) + name)


@dataclass
class _Drawing:
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    tensors: list[onnx.ValueInfoProto] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)  # value name -> tensor name
    sources: list[tuple[onnx.NodeProto, dict[str, str]]] = field(default_factory=list)  # input name -> tensor name

    def input(self, graph_input: GraphInput) -> onnx.ValueInfoProto:
        value, quantizer = graph_input.value, graph_input.quantizer
        outside = self.unique(graph_input.name)
        attributes: dict[str, Attribute] = {}
        if quantizer is not None:
            attributes = {"quantizer": str(quantizer.quantization), "rounding": quantizer.rounding.value}
        if graph_input.stages:
            attributes["stages"] = [stage_text(stage) for stage in graph_input.stages]
        self.node("Input", {"x": outside}, value, attributes)
        return _tensor(outside, value, outside=True)

    def output(self, name: str, value: Value, attributes: dict[str, Attribute]) -> onnx.ValueInfoProto:
        outside = self.unique(name)
        self.add("Output", {"codes": self.tensor(value)}, outside, outside, attributes)
        return _tensor(outside, value, outside=True)

    def tensor(self, value: Value) -> str:
        return self.names.get(value.name, f"%{value.name}")

    def op(self, op: Op) -> None:
        named = op.named_operands
        alike = {name for name, count in Counter(name for name, _ in named).items() if count > 1}  # of a Concat
        sources = {f"{name}{i}" if name in alike else name: self.tensor(v) for i, (name, v) in enumerate(named)}
        attributes: dict[str, Attribute] = {}
        for f in fields(op):
            content: object = getattr(op, f.name)
            if f.name == "result" or isinstance(content, Value):
                continue
            for name, array in _arrays(f.name, content):
                sources[name] = self.constant(f"%{op.result.name}.{name}", array)
            attributes |= _attributes(f.name, content)
        if isinstance(op, Conv2d | Dense | Rescale | Sum | SumPool):
            sums = partial_sums(op) if isinstance(op, Conv2d | Dense) else result_range(op)
            attributes["accumulator_bits"] = bits_for_range(*sums)
        self.node(type(op).__name__, sources, op.result, attributes)

    def node(self, kind: str, sources: dict[str, str], result: Value, attributes: dict[str, Attribute]) -> None:
        tensor = self.names[result.name] = self.unique(f"%{result.name}: {_format(result)}")
        shown = {**attributes, "type": type_text(result.type), "origin": _utf8(str(result.origin))}
        self.add(kind, sources, f"%{result.name}", tensor, shown)
        self.tensors.append(_tensor(tensor, result))

    def add(self, kind: str, sources: dict[str, str], name: str, result: str, attributes: dict[str, Attribute]) -> None:
        """A node; `functions` gives it its inputs."""
        node = _node(kind, _utf8(name), result, attributes)
        self.nodes.append(node)
        self.sources.append((node, sources))

    def functions(self) -> list[onnx.FunctionProto]:
        """One for each kind of node, with the names of its inputs; each node gets its own at the same places."""
        from onnx import helper

        inputs: dict[str, dict[str, None]] = {}
        for node, sources in self.sources:
            inputs.setdefault(node.op_type, {}).update(dict.fromkeys(sources))
        for node, sources in self.sources:
            places = [sources.get(name, "") for name in inputs[node.op_type]]
            node.input.extend(places[: max((i + 1 for i, place in enumerate(places) if place), default=0)])
        opsets = [helper.make_opsetid("", _OPSET)]
        return [
            helper.make_function(_DOMAIN, kind, list(names), ["result"], [], opsets) for kind, names in inputs.items()
        ]

    def constant(self, name: str, array: Array) -> str:
        from onnx import numpy_helper

        name = self.unique(name)
        self.initializers.append(numpy_helper.from_array(narrowest(array), name))
        return name

    def unique(self, name: str) -> str:
        """`name`, or the next free variation: names from the file may look like ours."""
        name = _utf8(name)
        while name in self.taken:
            name += "'"
        self.taken.add(name)
        return name


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _format(value: Value) -> str:
    """The element of a tensor, without its shape."""
    shape = f"[{','.join(map(str, value.type.shape))}]"
    return cut(type_text(value.type).removesuffix(shape), _LONGEST_FORMAT)


def _node(kind: str, name: str, result: str, attributes: dict[str, Attribute]) -> onnx.NodeProto:
    from onnx import helper

    node = helper.make_node(kind, [], [result], name=name, domain=_DOMAIN)
    node.attribute.extend(helper.make_attribute(name, content) for name, content in sorted(attributes.items()))
    return node


def _tensor(name: str, value: Value, *, outside: bool = False) -> onnx.ValueInfoProto:
    from onnx import TensorProto, helper

    kind = TensorProto.FLOAT
    element = value.type.element
    if isinstance(element, CodeRange) and not outside:
        bits = bits_for_range(element.low, element.high)
        kinds = ((8, TensorProto.INT8), (16, TensorProto.INT16), (32, TensorProto.INT32), (64, TensorProto.INT64))
        kind = next(k for width, k in kinds if bits <= width)
    info = helper.make_tensor_value_info(name, kind, value.type.shape, doc_string=type_text(value.type))
    info.type.denotation = _format(value)
    return info


def _arrays(name: str, content: object) -> Iterator[tuple[str, Array]]:
    """What becomes an initializer."""
    if isinstance(content, IntArray | RealArray):
        yield name, content.data
    elif isinstance(content, Staircase):
        if not content.has_many_steps:  # nobody looks at a million
            yield "thresholds", content.thresholds
        yield "direction", content.direction


def _attributes(name: str, content: object) -> dict[str, Attribute]:
    """What Netron lists at the node."""
    match content:
        case Window():
            return {
                "kernel_shape": list(content.kernel),
                "strides": list(content.strides),
                "dilations": list(content.dilations),
                "pads": list(content.pads),
                **({"input_dilations": list(content.input_dilations)} if content.dilates_input else {}),
            }
        case Staircase():
            return {
                "domain": f"{content.domain_low}..{content.domain_high}",
                "codes": f"{content.low}..{content.high}",
                "step": content.step,
                **({} if content.chains is None else _attributes("stages", content.chains.stages)),
            }
        case BentLine():
            slopes = {"above": str(content.above), "below": str(content.below)}
            return {**slopes, "codes": f"{content.low}..{content.high}"}
        case int():
            return {name: int(content)}
        case Fraction():
            return {name: str(content)}
        case Enum():
            return {name: str(content.value)}
        case tuple() if content and all(isinstance(v, int) for v in content):
            return {name: list(content)}
        case tuple() if content and isinstance(content[0], Stage):
            return {name: [stage_text(v) for v in content]}
        case _ if isinstance(content, Stage):
            return {name: stage_text(content)}
        case Variable() | Number() | Call():
            return {name: str(content)}
        case _:
            return {}


def _pair(scale: tuple[Fraction, ...], offset: tuple[Fraction, ...]) -> dict[str, Attribute]:
    return {"scale": [str(s) for s in scale], "offset": [str(o) for o in offset]}
