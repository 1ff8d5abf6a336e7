"""Small valid models that use everything the importer knows: what fuzzing.py mutates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from builders import Feature, ModelBuilder, random_network

__all__ = ["DATA_FILE", "Entry", "corpus"]

DATA_FILE = "weights.bin"
_MICROSOFT = "com.microsoft"


@dataclass(frozen=True, slots=True)
class Entry:
    """A model, and the content of the file DATA_FILE that it names, if any."""

    model: bytes
    beside: bytes = b""


@cache
def corpus() -> tuple[Entry, ...]:
    """The models, always the same ones; one of them is a float model."""
    small = Feature(float_scales=False, most_pixels=5, most_channels=2)
    wild = Feature(float_scales=True, most_pixels=5, most_channels=2, rounding=("ROUND", "FLOOR", "HALF_UP"))
    networks = [random_network(seed, small if seed % 2 else wild, blocks=1 + (seed == 1)) for seed in range(8)]
    others = [
        _float_network(),
        _linear_quantizers(),
        _shapes(),
        _qlinear_image(),
        _qlinear_dense(),
        _sums_of_integers(),
    ]
    others += [_tail("Softmax"), _tail("ArgMax"), _tail("Sigmoid"), _picture(), _codes_in_and_out(), _moved_integers()]
    others += [_computed_constants(), _other_spellings(), _in_pieces(), _with_functions_and_branches()]
    return (*(Entry(model.SerializeToString()) for model in [*networks, *others]), _data_beside())


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


# --- integers --------------------------------------------------------------------------------------------------------


def _parameters(m: ModelBuilder, scale: object, zero_point: object = 0, kind: type = np.uint8) -> tuple[str, str]:
    return m.constant(scale), m.constant(zero_point, dtype=kind)


def _codes(m: ModelBuilder, shape: tuple[int, ...], scale: object = 0.0125) -> tuple[str, str, str]:
    """A constant of int8 that is a little of everything, its scale, and its zero point."""
    values = np.resize([3, -2, 7, 0, -8, 5, 1], shape)
    return m.constant(values, dtype=np.int8), *_parameters(m, scale, kind=np.int8)


def _start(m: ModelBuilder, shape: tuple[int, ...]) -> tuple[str, str, str]:
    """An input's codes, with their scale and zero point."""
    both = _parameters(m, 0.0371, 121)
    return m.node("QuantizeLinear", m.input(shape), *both), *both


def _qlinear_image() -> onnx.ModelProto:
    m = ModelBuilder()
    x = _start(m, (1, 2, 4, 4))
    both = _parameters(m, 0.05, 7)
    bias = m.constant([100, -50], dtype=np.int32)
    y = m.node("QLinearConv", *x, *_codes(m, (2, 2, 3, 3), 0.01), *both, bias, pads=[1] * 4)
    y = m.node("QLinearAdd", y, *both, *x, *both, domain=_MICROSOFT)
    y = m.node("QLinearLeakyRelu", y, *both, *both, domain=_MICROSOFT, alpha=0.25)
    y = m.node("QLinearConcat", *both, y, *both, *x, domain=_MICROSOFT, axis=1)
    y = m.node("QLinearAveragePool", y, *both, *both, domain=_MICROSOFT, kernel_shape=[2, 2], strides=[2, 2])
    y = m.node("QLinearGlobalAveragePool", y, *both, *both, domain=_MICROSOFT)
    m.output(m.node("DequantizeLinear", y, *both))
    return m.build()


def _qlinear_dense() -> onnx.ModelProto:
    m = ModelBuilder()
    x = _start(m, (1, 6))
    both = _parameters(m, 0.05, 7)
    y = m.node("QLinearMatMul", *x, *_codes(m, (6, 4)), *both)
    bias = m.constant([5, 7, -100, 0], dtype=np.int32)
    y = m.node("QGemm", y, *both, *_codes(m, (4, 4)), bias, *both, domain=_MICROSOFT, transB=1)
    y = m.node("QLinearSigmoid", y, *both, *_parameters(m, 1 / 256), domain=_MICROSOFT)
    m.output(m.node("DequantizeLinear", y, *_parameters(m, 1 / 256)))
    return m.build()


def _sums_of_integers() -> onnx.ModelProto:
    m = ModelBuilder()
    x, scale, zero = _start(m, (1, 2, 4, 4))
    w, w_scale, w_zero = _codes(m, (2, 2, 1, 1))
    sums = m.node("ConvInteger", x, w, zero, w_zero)
    sums = m.node("Relu", m.node("Add", sums, m.constant(np.reshape([4, -4], (1, 2, 1, 1)), dtype=np.int32)))
    values = m.node("Mul", m.node("Cast", sums, to=TensorProto.FLOAT), m.node("Mul", scale, w_scale))
    both = _parameters(m, 0.25, 3)
    flat = m.node("Flatten", m.node("QuantizeLinear", values, *both))
    kernel, _, kernel_zero = _codes(m, (32, 3))
    sums = m.node("MatMulInteger", flat, kernel, both[1], kernel_zero)
    m.output(m.node("DequantizeLinear", sums, m.constant(0.003)))
    return m.build()


def _moved_integers() -> onnx.ModelProto:
    """What stands between QuantizeLinear and DequantizeLinear."""
    m = ModelBuilder()
    x, *both = _start(m, (1, 4, 4, 4))
    x = m.node("MaxPool", x, kernel_shape=[2, 2])
    x = m.node("Pad", x, m.constant([0, 0, 0, 0, 0, 0, 1, 0], dtype=np.int64), m.constant(121, dtype=np.uint8))
    x = m.node("Concat", x, m.node("Cast", x, to=TensorProto.UINT8), axis=1)
    x = m.node("Gather", x, m.constant([0, 2, 4, 6], dtype=np.int64), axis=1)
    x = m.node("Reshape", m.node("Transpose", x, perm=[0, 1, 3, 2]), m.constant([1, 4, 12], dtype=np.int64))
    m.output(m.node("DequantizeLinear", m.node("Identity", x), *both))
    return m.build()


def _codes_in_and_out() -> onnx.ModelProto:
    m = ModelBuilder()
    x = m.input((1, 4, 4, 2), dtype=TensorProto.UINT8)
    x = m.node("DequantizeLinear", m.node("Transpose", x, perm=[0, 3, 1, 2]), *_parameters(m, 0.125, 128))
    y = m.node("Conv", x, m.node("DequantizeLinear", *_codes(m, (2, 2, 3, 3), 0.25)))
    m.output(m.node("QuantizeLinear", y, *_parameters(m, 2.0, 3)))
    m.outputs[0].type.tensor_type.elem_type = TensorProto.UINT8
    return m.build()


def _picture() -> onnx.ModelProto:
    """Bytes, channels last, divided by 255, less a mean for each channel, padded: then the first quantizer."""
    m = ModelBuilder()
    x = m.node("Cast", m.input((1, 3, 3, 2), dtype=TensorProto.UINT8), to=TensorProto.FLOAT)
    x = m.node("Sub", m.node("Div", x, m.constant(255)), m.constant([0.5, 0.25]))
    x = m.node("Clip", m.node("Transpose", x, perm=[0, 3, 1, 2]), m.constant(-0.75), m.constant(0.75))
    x = m.quant(m.node("Mul", x, m.constant(np.reshape([4, 8], (2, 1, 1)))))
    m.output(m.node("Conv", x, m.weight(np.resize([0.5, -0.25, 0.125], (2, 2, 2, 2)))))
    return m.build()


def _tail(op: str) -> onnx.ModelProto:
    m = ModelBuilder()
    x = m.quant(m.node("Flatten", m.input((1, 2, 2, 1))))
    y = m.node("MatMul", x, m.weight(np.resize([0.5, -0.25, 0.125], (4, 5))))
    m.output(m.node(op, m.node("Add", y, m.weight([0.5, 0, 0.25, 1, -1])), **({} if op == "Sigmoid" else {"axis": 1})))
    return m.build()


def _computed_constants() -> onnx.ModelProto:
    """A scale that is divided, a bit width that is rounded up, a norm of roots, a weight that is reshaped."""
    m = ModelBuilder()
    bits = m.node("Ceil", m.node("Div", m.node("Log", m.constant(20)), m.node("Log", m.constant(2))))
    scale = m.node("Div", m.constant(1), m.constant(8))
    x = m.node("Quant", m.input((1, 4)), scale, m.constant(0), bits, domain=m.quant_domain, signed=1, narrow=0)
    flat = m.constant(np.resize([0.5, -0.25, 0.125], 12))
    y = m.node("MatMul", x, m.quant(m.node("Reshape", flat, m.constant([4, 3], dtype=np.int64))))
    norm = m.node("Pow", m.node("Add", m.constant(2.5), m.constant(1e-5)), m.constant(0.5))
    m.output(m.node("Div", m.node("Sub", y, m.constant(0.25)), norm))
    return m.build()


def _other_spellings() -> onnx.ModelProto:
    """Layers over the last axis, shuffles of pixels and channels, maxima over all, biases behind their layers."""
    m = ModelBuilder(opset=18)
    x = m.node("Conv", m.quant(m.input((1, 2, 2, 3))), m.weight(np.resize([0.5, -0.25], (4, 2, 1, 1))))
    x = m.node(
        "DepthToSpace", m.quant(m.node("Add", x, m.weight(np.reshape([1, 0, 0.5, -1], (1, 4, 1, 1))))), blocksize=2
    )
    m.output(m.node("ReduceMax", x, m.constant([2, 3], dtype=np.int64), keepdims=0))
    x = m.node("Reshape", x, m.constant([1, 4, 6], dtype=np.int64))
    x = m.node("MatMul", x, m.weight(np.resize([0.5, -0.25, 0.125, 0.75], (6, 2))))
    m.output(m.quant(m.node("Relu", m.node("Add", x, m.constant([0.5, -0.5])))))
    return m.build()


def _data_beside() -> Entry:
    """Weights in a file beside the model, behind something else there."""
    m = ModelBuilder()
    m.output(m.node("MatMul", m.quant(m.input((1, 4))), m.weight(np.resize([0.5, -0.25, 0.125], (4, 3)))))
    model = m.build()
    beside = b"in front"
    for tensor in model.graph.initializer:
        for key, value in {"location": DATA_FILE, "offset": len(beside), "length": len(tensor.raw_data)}.items():
            tensor.external_data.add(key=key, value=str(value))
        beside += tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
    return Entry(model.SerializeToString(), beside)


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
