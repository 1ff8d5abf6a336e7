"""Models of operators on integers, evaluated by ONNX's and ONNX Runtime's definitions in exact rationals."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx
from onnx import numpy_helper

from oracle import evaluate_node, exact, round_by_name
from oracle_functions import written

__all__ = ["evaluate_integer_model"]

Array = np.ndarray


def evaluate_integer_model(model: onnx.ModelProto, x: Array) -> Array:
    """The first output, as Fractions. Every quantizer's zero point is an initializer, whose type saturates."""
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    tensors = {name: exact(array) for name, array in stored.items()}
    tensors[model.graph.input[0].name] = exact(x)
    for node in model.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        operands = [tensors.get(name) for name in node.input]

        def quantized(values: Array, scale: int, zero_point: int, node: onnx.NodeProto = node) -> Array:
            limits = np.iinfo(stored[node.input[zero_point]].dtype)
            codes = values / one(tensors[node.input[scale]]) + 0
            rounded = np.vectorize(lambda t: Fraction(round_by_name(t, "ROUND")), "O")(codes)
            return np.clip(rounded + one(tensors[node.input[zero_point]]), limits.min, limits.max)

        tensors[node.output[0]] = _evaluate(node.op_type, operands, attributes, quantized)
    return tensors[model.graph.output[0].name]


def one(parameter: Array) -> Fraction:
    (value,) = parameter.reshape(-1)
    return value


def _evaluate(op: str, v: list, a: dict, quantized) -> Array:  # type: ignore[no-untyped-def, type-arg]
    a.pop("channels_last", None)
    match op:
        case "QuantizeLinear":
            return quantized(v[0], 1, 2)
        case "QLinearConv":
            sums = evaluate_node("Conv", [v[0] - one(v[2]), v[3] - _channels(v[5], v[3]), *v[8:]], a)
            return quantized(sums * one(v[1]) * _channels(v[4], sums, 1), 6, 7)
        case "QLinearMatMul":
            return quantized((v[0] - one(v[2])).dot(v[3] - v[5]) * one(v[1]) * v[4], 6, 7)
        case "QGemm":
            weight = v[3].T if a.get("transB") else v[3]
            sums = (v[0] - one(v[2])).dot(weight - v[5]) + (0 if v[6] is None else v[6])
            values = sums * one(v[1]) * v[4] * written(a.get("alpha", 1.0))
            return quantized(values, 7, 8) if len(v) > 7 else values
        case "QLinearAdd" | "QLinearMul":
            operands = [_value(*v[:3]), _value(*v[3:6])]
            return quantized(evaluate_node(op.removeprefix("QLinear"), operands, a), 6, 7)
        case "QLinearConcat":
            parts = [_value(*v[i : i + 3]) for i in range(2, len(v), 3)]
            return quantized(np.concatenate(parts, axis=a["axis"]), 0, 1)
        case "QLinearReduceMean":
            means = _value(*v[:3]).sum(axis=(2, 3), keepdims=bool(a["keepdims"])) / (v[0].shape[2] * v[0].shape[3])
            return quantized(means, 3, 4)
        case _ if op.startswith("QLinear"):
            return quantized(evaluate_node(op.removeprefix("QLinear"), [_value(*v[:3])], a), 3, 4)
        case "ConvInteger":
            return evaluate_node("Conv", [v[0] - one(v[2]), v[1] - _channels(v[3], v[1])], a)
        case "MatMulInteger":
            return (v[0] - one(v[2])).dot(v[1] - v[3])
        case "Cast" | "Identity":
            return v[0]
        case "DequantizeLinear" if v[0].ndim == 2 and len(v) == 2:
            return v[0] * v[1]
    return evaluate_node(op, v, a)


def _value(codes: Array, scale: Array, zero_point: Array | None) -> Array:
    return (codes - (0 if zero_point is None else one(zero_point))) * one(scale)


def _channels(parameter: Array, like: Array, axis: int = 0) -> Array:
    """One number, or one for each index along `axis`."""
    shape = [-1 if i == axis else 1 for i in range(like.ndim)]
    return parameter.reshape(shape if parameter.size > 1 else [1] * like.ndim)
