"""A quantized file by the definition of its operators, in float64: what its outputs are.

ONNX' reference implementation evaluates each node with its real numbers in float64. What lies within 2^-40 of a tie
there is taken as one: 1/10 of 5 codes is 1/2. ONNX Runtime's operators on codes are, by their definition,
DequantizeLinear of the operands, the operator, QuantizeLinear of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np
import onnx
import onnx.reference
from numpy.typing import NDArray
from onnx import helper, numpy_helper

__all__ = ["evaluate"]

_TIE = 2.0**-40
_OPSET = 17  # that of the networks
Array = NDArray[np.generic]
_CONTRIB = "com.microsoft"
# operator on codes: its operands (codes, scale, zero point), the scale of the result, its zero point, the bias
_ON_CODES = {
    "QLinearConv": ("Conv", 2, 6, 8),
    "QLinearMatMul": ("MatMul", 2, 6, None),
    "QGemm": ("Gemm", 2, 7, 6),
    "QLinearAdd": ("Add", 2, 6, None),
    "QLinearMul": ("Mul", 2, 6, None),
}
_OF_ATTRIBUTES: dict[str, Callable[..., Array]] = {
    "LeakyRelu": lambda x, alpha=0.01: np.where(x >= 0, x, alpha * x),
    "HardSigmoid": lambda x, alpha=0.2, beta=0.5: np.clip(alpha * x + beta, 0, 1),
}


def evaluate(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs by name."""
    values: dict[str, Array] = {"": None}  # type: ignore[dict-item]
    values |= {t.name: _wide(numpy_helper.to_array(t)) for t in model.graph.initializer}
    values |= {name: _wide(array) for name, array in inputs.items()}
    for node in model.graph.node:
        results = _results(node, [values[name] for name in node.input])
        values |= zip(node.output, results, strict=True)
    return {output.name: values[output.name] for output in model.graph.output}


def _wide(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _results(node: onnx.NodeProto, operands: list[Array]) -> list[Array]:
    attributes = {a.name: _written(helper.get_attribute_value(a)) for a in node.attribute}
    match node.op_type:
        case "QuantizeLinear":
            return [_quantized(*operands, axis=attributes.get("axis", 1))]
        case "DequantizeLinear":
            return [_dequantized(*operands, axis=attributes.get("axis", 1))]
        case "QLinearConcat":
            parts = [_dequantized(*operands[i : i + 3]) for i in range(2, len(operands), 3)]
            return [_quantized(np.concatenate(parts, axis=attributes["axis"]), *operands[:2])]
        case "MaxPool" if operands[0].dtype.kind in "iu":  # whose padding is no integer in the reference
            (result,) = _reference("MaxPool", [operands[0].astype(np.float64)], attributes)
            return [result.astype(operands[0].dtype)]
        case op if op.startswith("QLinear") or op == "QGemm":
            return [_on_codes(op, operands, attributes)]
    return [_wide(y) for y in _reference(node.op_type, operands, attributes, len(node.output))]


def _written(value: object) -> object:
    """A float32 attribute as the number that was meant: 1/10, not the float32 next to it."""
    if not isinstance(value, float):
        return value
    short = Fraction(value).limit_denominator(1000)
    return float(short) if np.float32(float(short)) == np.float32(value) else float(str(np.float32(value)))


def _on_codes(op: str, operands: list[Array], attributes: dict[str, object]) -> Array:
    attributes.pop("channels_last", None)
    name, count, scale, bias = _ON_CODES.get(op, (op.removeprefix("QLinear"), 1, 3, None))
    is_column = name == "MatMul" or (name == "Gemm" and not attributes.get("transB"))
    values = [_dequantized(*operands[3 * i : 3 * i + 3], axis=1 if i and is_column else 0) for i in range(count)]
    if bias is not None and bias < len(operands) and operands[bias] is not None:
        step = operands[1].astype(np.float64) * operands[4].astype(np.float64)
        values.append(operands[bias] * step)
    (result,) = _reference(name, values, attributes)
    return _quantized(result, *operands[scale:][:2]) if scale < len(operands) else result


def _reference(op: str, operands: list[Array], attributes: dict[str, object], outputs: int = 1) -> tuple[Array, ...]:
    if op in _OF_ATTRIBUTES:  # which a node holds in float32
        return (_OF_ATTRIBUTES[op](*operands, **attributes),)
    names = [f"x{i}" if x is not None else "" for i, x in enumerate(operands)]
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], **attributes)
    ends = ([helper.make_empty_tensor_value_info(n) for n in part if n] for part in (names, node.output))
    graph = helper.make_graph([node], "node", *ends)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
    inputs = {name: x for name, x in zip(names, operands, strict=True) if x is not None}
    return tuple(onnx.reference.ReferenceEvaluator(model).run(None, inputs))


def _along(parameter: Array, like: Array, axis: int) -> Array:
    if parameter.size == 1:
        return parameter.reshape(())
    return parameter.reshape([-1 if i == axis % like.ndim else 1 for i in range(like.ndim)])


def _quantized(x: Array, scale: Array, zero_point: Array | None = None, axis: int = 1) -> Array:
    dtype = np.dtype(np.uint8) if zero_point is None else zero_point.dtype
    limits = np.iinfo(dtype)
    place = x / _along(scale, x, axis)
    halves = np.rint(2 * place)
    codes = np.rint(np.where(np.abs(2 * place - halves) <= _TIE * np.abs(halves), halves / 2, place))
    if zero_point is not None:
        codes = codes + _along(zero_point, x, axis).astype(np.float64)
    return np.clip(codes, limits.min, limits.max).astype(dtype)


def _dequantized(codes: Array, scale: Array, zero_point: Array | None = None, axis: int = 1) -> Array:
    wide = codes.astype(np.float64)
    if zero_point is not None:
        wide = wide - _along(zero_point, codes, axis).astype(np.float64)
    return wide * _along(scale, codes, axis)
