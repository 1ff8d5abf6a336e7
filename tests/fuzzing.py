"""Mutated models: what a damaged, hostile or merely unlucky file may look like. A seed and a number give the same case.

Bytes are flipped, cut and repeated; and, since most of such files die in the parser, fields of the message itself are
changed: numbers to their extremes, names to other names, nodes and tensors dropped, doubled, swapped.
"""

from __future__ import annotations

import json
import random
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import TensorProto, helper, numpy_helper

import pefslc
from builders import Feature, ModelBuilder, random_network

__all__ = ["Case", "Hang", "make_case", "outcome"]

_INTEGERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    8,
    9,
    16,
    17,
    57,
    127,
    255,
    -128,
    2**31 - 1,
    2**31,
    -(2**31),
    2**62,
    -(2**62),
    2**63 - 1,
)
_FLOATS = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    0.1,
    3.0,
    4.5,
    1e-40,
    1e-30,
    1e30,
    3.4e38,
    float("inf"),
    float("-inf"),
    float("nan"),
)
_TEXTS = ("", "x", "..", "/etc/passwd", "a/../b", "int main(){", "\n\t\0", "*/ /*", "%s%n", "é☃", "con", "N" * 70_000)
_OPERATORS = (
    "Quant", "IntQuant", "BipolarQuant", "Trunc", "FloatQuant", "QuantizeLinear", "DequantizeLinear", "Conv",
    "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "Relu", "LeakyRelu", "PRelu", "Clip", "MaxPool",
    "AveragePool", "GlobalAveragePool", "ReduceMean", "Add", "Mul", "Sub", "Concat", "Flatten", "Reshape", "Transpose",
    "Pad", "Identity", "Dropout", "Constant", "Shape", "Gather", "Slice", "Cast", "ConstantOfShape", "Sigmoid",
    "Softmax", "Resize", "If", "Split", "Squeeze", "Unsqueeze", "Expand", "Where",
)  # fmt: skip
_ATTRIBUTES = (
    "signed", "narrow", "rounding_mode", "axis", "axes", "keepdims", "kernel_shape", "pads", "strides", "dilations",
    "group", "auto_pad", "ceil_mode", "count_include_pad", "alpha", "beta", "transA", "transB", "epsilon", "perm",
    "allowzero", "value", "min", "max", "mode", "block_size", "to", "output_padding", "output_shape", "scales",
    "coordinate_transformation_mode", "nearest_mode",
)  # fmt: skip
_DOMAINS = ("", "ai.onnx", "qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general", "com.microsoft", "x.y")


@dataclass(frozen=True, slots=True)
class Case:
    """One mutated model and how it is compiled."""

    data: bytes
    target: str
    arch: str | None
    fmt: str | None
    check_passes: bool


def make_case(seed: int, number: int) -> Case:
    """Case `number` of the campaign `seed`."""
    rng = random.Random(f"{seed}/{number}")
    data = rng.choice(corpus())
    kind = rng.random()
    if kind < 0.85:
        model = onnx.ModelProto.FromString(data)
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
            _mutate_message(rng, model)
        data = model.SerializeToString()
    if kind > 0.8:
        data = _mutate_bytes(rng, data)
    target, arch = rng.choice((("c", None), ("c", None), ("c", None), ("tensil", "pynqz1"), ("tensil", "cmoda7")))
    fmt = rng.choice((None, None, None, None, None, None, "Q2.3", "Q8.8"))
    return Case(data, target, arch, fmt, rng.random() < 0.05)


class Hang(BaseException):
    """More than the allowed CPU seconds. Not an Exception: nothing in between may catch it."""


def outcome(case: Case, path: Path, cpu_seconds: float = 5.0) -> str:
    """Compile the case from the file `path`: "compiled", or the codes of the refusal. Raises whatever else happens."""
    path.write_bytes(case.data)
    try:
        with _limited(cpu_seconds):
            pefslc.compile(
                path, target=case.target, arch=case.arch, fmt=case.fmt, check_passes=case.check_passes
            )  # fmt: skip
    except pefslc.CompileError as e:
        # A refusal can be printed whatever the file holds.
        lines = str(e).encode().decode().splitlines()
        assert all(line.isprintable() for line in lines), lines
        json.dumps([p.to_json() for p in e.problems])
        return " ".join(sorted({str(p.code) for p in e.problems}))
    return "compiled"


@contextmanager
def _limited(cpu_seconds: float) -> Iterator[None]:
    def hang(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, hang)
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@cache
def corpus() -> tuple[bytes, ...]:
    """Small valid models that use everything the importer knows."""
    small = Feature(float_scales=False, most_pixels=5, most_channels=2)
    wild = Feature(float_scales=True, most_pixels=5, most_channels=2, rounding=("ROUND", "FLOOR", "HALF_UP"))
    networks = [random_network(seed, small if seed % 2 else wild, blocks=1 + (seed == 1)) for seed in range(8)]
    others = [_float_network(), _linear_quantizers(), _shapes(), _in_pieces(), _with_functions_and_branches()]
    return tuple(model.SerializeToString() for model in [*networks, *others])


def _float_network() -> onnx.ModelProto:
    m = ModelBuilder()
    x = m.node(
        "Conv", m.input((1, 2, 4, 4)), m.constant(np.ones((2, 2, 3, 3)) / 8), m.constant([0.5, -1.0]), pads=[1] * 4
    )
    x = m.node("BatchNormalization", x, *(m.constant([v, v]) for v in (1.0, 0.25, 0.5, 2.0)))
    x = m.node("Relu", x)
    x = m.node("GlobalAveragePool", x)
    m.output(m.node("Gemm", m.node("Flatten", x), m.constant(np.ones((3, 2)) / 4), transB=1), [1, 3])
    return m.build()


def _linear_quantizers() -> onnx.ModelProto:
    m = ModelBuilder()
    scale, zero = m.constant(0.125), m.constant(0, dtype=np.int8)
    x = m.node("QuantizeLinear", m.input((1, 2, 4, 4)), scale, zero)
    x = m.node("Clip", x, m.constant(-16, dtype=np.int8), m.constant(15, dtype=np.int8))
    x = m.node("DequantizeLinear", x, scale, zero)
    weight = m.node("DequantizeLinear", m.constant(np.ones((2, 2, 1, 1)), dtype=np.int8), scale, zero)
    x = m.node("Conv", x, weight)
    x = m.node("DequantizeLinear", m.node("QuantizeLinear", x, scale, zero), scale, zero)
    x = m.node(
        "Trunc",
        x,
        scale,
        m.constant(0),
        m.constant(8),
        scale,
        m.constant(5),
        domain=m.quant_domain,
        rounding_mode="FLOOR",
    )
    m.output(m.node("BipolarQuant", x, m.constant(1.0), domain=m.quant_domain))
    return m.build()


def _shapes() -> onnx.ModelProto:
    m = ModelBuilder(opset=18)
    x = m.quant(m.input((1, 2, 4, 4)))
    size = m.node("Gather", m.node("Shape", x), m.constant(0, dtype=np.int64), axis=0)
    size = m.node("Unsqueeze", size, m.constant([0], dtype=np.int64))
    x = m.node("Pad", x, m.constant([0, 0, 1, 0, 0, 0, 0, 1], dtype=np.int64))
    x = m.node("MaxPool", x, kernel_shape=[2, 2])
    x = m.node("Slice", m.split(x, [1, 1], 2)[1], *(m.constant([v], dtype=np.int64) for v in (1, 9, 3, 2)))
    shape = m.node("Concat", size, m.constant([-1], dtype=np.int64), axis=0)
    m.output(m.node("Reshape", x, shape))
    m.output(m.node("ReduceMean", x, m.constant([2, 3], dtype=np.int64), keepdims=0))
    return m.build()


def _in_pieces() -> onnx.ModelProto:
    """Quantizers in pieces, sums and maxima of many, reductions, what is broadcast, padded, interpolated."""
    m = ModelBuilder(opset=18)

    def rounded(x: str, step: object) -> str:
        codes = m.node("Round", m.node("Div", x, m.constant(step)))
        return m.node("Mul", m.node("Clip", codes, m.constant(-8.0), m.constant(7.0)), m.constant(step))

    x = rounded(m.input((1, 2, 3, 4)), 0.25)
    weight = m.constant(np.arange(8).reshape(2, 2, 2, 1) / 8 - 0.5)
    scales = np.reshape([0.25, 0.5], (2, 1, 1, 1))
    weight = m.node("Add", weight, m.node("Sub", rounded(weight, scales), weight))
    x = m.quant(m.node("Max", m.node("Conv", x, weight), m.constant(0.0)))
    mean = m.node("ReduceSum", x, m.constant([1], dtype=np.int64))
    x = m.quant(m.node("Sum", x, mean, m.node("Expand", mean, m.constant([1, 2, 2, 4], dtype=np.int64))))
    x = m.quant(m.node("Resize", x, "", m.constant([1.0, 1, 2, 3]), mode="linear"))
    x = m.node("Pad", x, m.constant([0, 0, 1, -1, 0, 0, 0, 2], dtype=np.int64), mode="reflect")
    x = m.node("Resize", x, "", "", m.constant([1, 2, 3, 5], dtype=np.int64), mode="nearest")
    x = m.node("Concat", x, x, axis=2)
    flat = m.quant(
        m.node("Min", m.node("ReduceMax", x, m.constant([1, 3], dtype=np.int64), keepdims=0), m.constant(1.0))
    )
    m.output(m.node("Gemm", flat, m.weight(np.ones((6, 2)) / 4), m.constant([1.0, 2.0]), alpha=0.5, beta=2.0))
    return m.build()


def _with_functions_and_branches() -> onnx.ModelProto:
    m = ModelBuilder()
    x = m.quant(m.input((1, 2, 3, 4)))
    x = m.quant(m.node("Block", x, m.weight(np.ones((2, 2, 1, 1)) / 2), domain="local", slope=0.25))
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("then", "else")]
    then = helper.make_graph([helper.make_node("Add", [x, "half"], ["then"])], "then", [], results[:1])
    then.initializer.append(numpy_helper.from_array(np.float32(0.5), "half"))
    other = helper.make_graph([helper.make_node("Identity", [x], ["else"])], "else", [], results[1:])
    size = m.node("Gather", m.node("Shape", x), m.node("Constant", value_int=3), axis=0)
    x = m.node("If", m.node("Equal", size, m.constant(4, dtype=np.int64)), then_branch=then, else_branch=other)
    m.output(m.quant(x))
    model = m.build()
    leaky = helper.make_node("LeakyRelu", ["c"], ["b"])
    leaky.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
    inner = helper.make_node("Inner", ["a", "w"], ["c"], domain="local")
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("local", 1)]
    model.functions.append(helper.make_function("local", "Block", ["a", "w"], ["b"], [inner, leaky], opsets, ["slope"]))
    conv = helper.make_node("Conv", ["a", "w"], ["b"])
    model.functions.append(helper.make_function("local", "Inner", ["a", "w"], ["b"], [conv], opsets))
    model.opset_import.append(helper.make_opsetid("local", 1))
    return model


# --- bytes -----------------------------------------------------------------------------------------------------------


def _mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(out) + 1)
        length = rng.choice((1, 1, 2, 4, 16, 256))
        match rng.randrange(4):
            case 0:
                out[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del out[at : at + length]
            case 2:
                out[at:at] = rng.randbytes(length)
            case 3:
                out[at:at] = out[at : at + length]
    return bytes(out)


# --- messages --------------------------------------------------------------------------------------------------------


def _mutate_message(rng: random.Random, model: onnx.ModelProto) -> None:
    match rng.randrange(8):
        case 0:
            _mutate_constant(rng, model)
        case 1:
            _rewire(rng, model)
        case 2:
            _mutate_attribute(rng, model)
        case 3 if model.graph.node:
            rng.choice(model.graph.node).op_type = rng.choice(_OPERATORS)
        case 4 if model.graph.node:
            rng.choice(model.graph.node).domain = rng.choice(_DOMAINS)
        case _:
            _mutate_field(rng, rng.choice(list(_messages(model))), model)


def _messages(message: Message) -> Iterator[Message]:
    yield message
    for field, value in message.ListFields():
        if field.type != FieldDescriptor.TYPE_MESSAGE:
            continue
        for inner in value if hasattr(value, "append") else [value]:
            yield from _messages(inner)


def _mutate_field(rng: random.Random, message: Message, model: onnx.ModelProto) -> None:
    field = rng.choice(message.DESCRIPTOR.fields)
    content = getattr(message, field.name)
    if hasattr(content, "append"):
        _mutate_repeated(rng, content, field, model)
    elif field.type == FieldDescriptor.TYPE_MESSAGE or rng.random() < 0.2:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _scalar(rng, field, model))


def _mutate_repeated(rng: random.Random, content, field: FieldDescriptor, model: onnx.ModelProto) -> None:  # type: ignore[no-untyped-def]  # protobuf's containers have no common type
    if not len(content) or rng.random() < 0.2:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            content.add()
        else:
            content.append(_scalar(rng, field, model))
        return
    at = rng.randrange(len(content))
    match rng.randrange(4):
        case 0:
            del content[at]
        case 1:
            copies = [content[at]] * rng.choice((1, 1, 2, 30))
            content.extend(copies)
        case 2:
            other = rng.randrange(len(content))
            items = list(content)
            items[at], items[other] = items[other], items[at]
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                items = [type(i).FromString(i.SerializeToString()) for i in items]
            del content[:]
            content.extend(items)
        case 3 if field.type != FieldDescriptor.TYPE_MESSAGE:
            content[at] = _scalar(rng, field, model)


def _scalar(rng: random.Random, field: FieldDescriptor, model: onnx.ModelProto) -> object:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return rng.choice((*_TEXTS, *_names(model)))
        case FieldDescriptor.TYPE_BYTES:
            return rng.choice(
                (b"", b"ROUND", b"floor", b"BANANA", b"\xff\xfe", rng.randbytes(rng.choice((1, 4, 8, 64))))
            )
        case FieldDescriptor.TYPE_FLOAT | FieldDescriptor.TYPE_DOUBLE:
            return rng.choice(_FLOATS)
        case FieldDescriptor.TYPE_ENUM:
            return rng.choice(field.enum_type.values).number
        case FieldDescriptor.TYPE_UINT64:
            return rng.choice([v for v in _INTEGERS if v >= 0])
        case FieldDescriptor.TYPE_INT32:
            return rng.choice([v for v in _INTEGERS if -(2**31) <= v < 2**31])
        case _:
            return rng.choice(_INTEGERS)


def _names(model: onnx.ModelProto) -> list[str]:
    names = [n for node in model.graph.node for n in (*node.input, *node.output)]
    return names + [t.name for t in model.graph.initializer]


def _mutate_constant(rng: random.Random, model: onnx.ModelProto) -> None:
    """A number of an initializer becomes an unlucky one; its shape and type stay."""
    if not model.graph.initializer:
        return
    tensor = rng.choice(model.graph.initializer)
    packing = {onnx.TensorProto.FLOAT: "<f", onnx.TensorProto.INT64: "<q"}.get(tensor.data_type)
    width = struct.calcsize(packing) if packing else 1
    if packing is None or len(tensor.raw_data) < width:
        return
    value = rng.choice(_FLOATS) if packing == "<f" else rng.choice(_INTEGERS)
    if packing == "<f" and rng.random() < 0.5:
        value = float(rng.choice((1, 2, 3, 5, 8, 12, 20, 31, 32, 33, -4, 2.0**-20, 2.0**20)))
    at = rng.randrange(len(tensor.raw_data) // width) * width
    packed = struct.pack(packing, value)
    whole = rng.random() < 0.3
    raw = tensor.raw_data
    tensor.raw_data = packed * (len(raw) // width) if whole else raw[:at] + packed + raw[at + width :]


def _rewire(rng: random.Random, model: onnx.ModelProto) -> None:
    """An input or output of a node is another tensor."""
    nodes = [n for n in model.graph.node if n.input]
    if not nodes:
        return
    names = rng.choice((lambda n: n.input, lambda n: n.input, lambda n: n.output))(rng.choice(nodes))
    if names:
        names[rng.randrange(len(names))] = rng.choice((*_names(model), ""))


def _mutate_attribute(rng: random.Random, model: onnx.ModelProto) -> None:
    """An attribute that operators know gets a value of some type."""
    if not model.graph.node:
        return
    node = rng.choice(model.graph.node)
    known = [a.name for a in node.attribute]
    name = rng.choice((*known, *known, rng.choice(_ATTRIBUTES)))
    value = rng.choice(
        (
            rng.choice(_INTEGERS),
            rng.choice(_FLOATS),
            rng.choice(("ROUND", "SAME_UPPER", "SAME_LOWER", "VALID", "floor", "constant", "")),
            [rng.choice((0, 1, 2, 3, -1, 2**31, 2**62)) for _ in range(rng.choice((1, 2, 4, 5)))],
        )
    )
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])
