"""A quantized file by the definition of its operators, in float64: what its outputs are.

ONNX' reference implementation evaluates each node with its real numbers in float64. What lies within 2^-40 of a tie
there is taken as one: 1/10 of 5 codes is 1/2. Where a file computes constants, as the scale of weights from their
largest, they are what its own type makes of them. ONNX Runtime's operators on codes are, by their definition,
DequantizeLinear of the operands, the operator, QuantizeLinear of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
from numpy.typing import NDArray
from onnx import helper, numpy_helper

__all__ = ["evaluate", "write_definition"]

_TIE = 2.0**-40
Array = NDArray[np.generic]
_CONTRIB = "com.microsoft"
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", "Quant", "IntQuant", "BipolarQuant", "Trunc")
_REAL = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
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


def write_definition(path: Path) -> None:
    """Beside NAME.onnx and its inputs NAME.npz, NAME.exact.npz with the inputs and the outputs by definition."""
    model, given = onnx.load(path), np.load(path.with_suffix(".npz"))
    inputs = {tensor.name: given[tensor.name] for tensor in model.graph.input if tensor.name in given.files}
    count = len(next(iter(inputs.values())))
    rows = [evaluate(model, {name: array[i : i + 1] for name, array in inputs.items()}) for i in range(count)]
    outputs = {output.name: np.concatenate([row[output.name] for row in rows]) for output in model.graph.output}
    np.savez(path.with_suffix(".exact.npz"), **inputs, **outputs)


def evaluate(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs by name."""
    values: dict[str, Array] = {"": None}  # type: ignore[dict-item]
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    values |= {name: _wide(array) for name, array in constants.items()}
    values |= {name: _wide(array) for name, array in inputs.items()}
    (opset,) = (entry.version for entry in model.opset_import if not entry.domain)
    for node in model.graph.node:
        if node.op_type not in _QUANTIZERS and all(name in constants for name in node.input):
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            operands = [constants[name] for name in node.input]
            constants |= zip(node.output, _reference(node.op_type, operands, attributes, opset), strict=True)
            results = [_wide(constants[name]) for name in node.output]
        else:
            results = _results(node, [values[name] for name in node.input], opset)
        values |= zip(node.output, results, strict=True)
    return {output.name: values[output.name] for output in model.graph.output}


def _wide(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _results(node: onnx.NodeProto, operands: list[Array], opset: int) -> list[Array]:
    attributes = {a.name: _written(helper.get_attribute_value(a)) for a in node.attribute}
    match node.op_type:
        case "QuantizeLinear":
            return [_quantized(*operands, axis=attributes.get("axis", 1))]
        case "DequantizeLinear":
            return [_dequantized(*operands, axis=attributes.get("axis", 1))]
        case "Quant" | "IntQuant":
            return [_integer_quantized(*operands, **attributes)]
        case "BipolarQuant":
            return [np.where(operands[0] >= 0, operands[1], -operands[1])]
        case "Trunc":
            return [_truncated(*operands, **attributes)]
        case "Resize" if attributes["coordinate_transformation_mode"] == "tf_half_pixel_for_nn":
            # Row i of the output is row floor((i + 1/2) / factor): of a factor that is an integer, floor(i / factor).
            assert attributes["mode"] == "nearest"
            assert (operands[2] == np.rint(operands[2])).all()
            attributes |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        case "QLinearConcat":
            parts = [_dequantized(*operands[i : i + 3]) for i in range(2, len(operands), 3)]
            return [_quantized(np.concatenate(parts, axis=attributes["axis"]), *operands[:2])]
        case "MaxPool" if operands[0].dtype.kind in "iu":  # whose padding is no integer in the reference
            (result,) = _reference("MaxPool", [operands[0].astype(np.float64)], attributes, opset)
            return [result.astype(operands[0].dtype)]
        case "BatchNormalization":  # before opset 14, the reference trains where there is a momentum
            opset = max(opset, 15)
        case "Cast" if operands[0].dtype.kind == "f" and attributes["to"] in _REAL:
            return operands
        case op if op.startswith("QLinear") or op == "QGemm":
            return [_on_codes(op, operands, attributes, opset)]
    return [_wide(y) for y in _reference(node.op_type, operands, attributes, opset, len(node.output))]


def _written(value: object) -> object:
    """A float32 attribute as the number that was meant: 1/10, not the float32 next to it."""
    if not isinstance(value, float):
        return value.decode() if isinstance(value, bytes) else value
    short = Fraction(value).limit_denominator(1000)
    return float(short) if np.float32(float(short)) == np.float32(value) else float(str(np.float32(value)))


def _on_codes(op: str, operands: list[Array], attributes: dict[str, object], opset: int) -> Array:
    attributes.pop("channels_last", None)
    name, count, scale, bias = _ON_CODES.get(op, (op.removeprefix("QLinear"), 1, 3, None))
    is_column = name == "MatMul" or (name == "Gemm" and not attributes.get("transB"))
    values = [_dequantized(*operands[3 * i : 3 * i + 3], axis=1 if i and is_column else 0) for i in range(count)]
    if bias is not None and bias < len(operands) and operands[bias] is not None:
        step = operands[1].astype(np.float64) * operands[4].astype(np.float64)
        values.append(operands[bias] * step)
    (result,) = _reference(name, values, attributes, opset)
    return _quantized(result, *operands[scale:][:2]) if scale < len(operands) else result


def _reference(
    op: str, operands: list[Array], attributes: dict[str, object], opset: int, outputs: int = 1
) -> tuple[Array, ...]:
    if op in _OF_ATTRIBUTES:  # which a node holds in float32
        return (_OF_ATTRIBUTES[op](*operands, **attributes),)
    names = [f"x{i}" if x is not None else "" for i, x in enumerate(operands)]
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], **attributes)
    ends = ([helper.make_empty_tensor_value_info(n) for n in part if n] for part in (names, node.output))
    graph = helper.make_graph([node], "node", *ends)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    inputs = {name: x for name, x in zip(names, operands, strict=True) if x is not None}
    return tuple(onnx.reference.ReferenceEvaluator(model).run(None, inputs))


def _along(parameter: Array, like: Array, axis: int) -> Array:
    if parameter.size == 1:
        return parameter.reshape(())
    return parameter.reshape([-1 if i == axis % like.ndim else 1 for i in range(like.ndim)])


def _integer_quantized(
    x: Array,
    scale: Array,
    zero_point: Array,
    bits: Array,
    signed: int = 1,
    narrow: int = 0,
    rounding_mode: str = "ROUND",
) -> Array:
    """QONNX's Quant: it rounds with the zero point in the sum. Its formats begin at 2 bits where they have a sign."""
    assert (bits >= 1 + signed).all()
    low = np.where(signed, -(2.0 ** (bits - 1)), 0) + bool(signed and narrow)
    high = 2.0 ** (bits - signed) - 1 - bool(narrow and not signed)
    codes = np.clip(_rounded(x / scale + zero_point, rounding_mode), low, high)
    return (codes - zero_point) * scale


def _truncated(
    x: Array, scale: Array, zero_point: Array, in_bits: Array, *out: Array,
    signed: int = 1, narrow: int = 0, rounding_mode: str = "FLOOR",
) -> Array:  # fmt: skip
    """QONNX's Trunc: `out` has the bits (version 1), or the scale and the bits (version 2)."""
    codes = _rounded(x / scale + zero_point, "ROUND")
    if len(out) == 1:
        return (_rounded(codes / 2.0 ** (in_bits - out[0]), rounding_mode) - zero_point) * scale
    divisor = 2.0 ** np.rint(np.log2(out[0] / scale))
    codes, zero_point = _rounded(codes / divisor, rounding_mode), zero_point / divisor
    return _integer_quantized((codes - zero_point) * out[0], out[0], zero_point, out[1], signed, narrow)


def _rounded(x: Array, mode: str) -> Array:
    """The integer by QONNX's mode; what is within 2^-40 of a half or an integer is taken as that."""
    halves = np.rint(2 * x)
    x = np.where(np.abs(2 * x - halves) <= _TIE * np.abs(halves), halves / 2, x)
    return {"ROUND": np.rint, "FLOOR": np.floor, "CEIL": np.ceil}[mode.upper()](x)


def _quantized(x: Array, scale: Array, zero_point: Array | None = None, axis: int = 1) -> Array:
    dtype = np.dtype(np.uint8) if zero_point is None else zero_point.dtype
    limits = np.iinfo(dtype)
    place = x / _along(scale, x, axis)
    codes = _rounded(place, "ROUND")
    if zero_point is not None:
        codes = codes + _along(zero_point, x, axis).astype(np.float64)
    return np.clip(codes, limits.min, limits.max).astype(dtype)


def _dequantized(codes: Array, scale: Array, zero_point: Array | None = None, axis: int = 1) -> Array:
    wide = codes.astype(np.float64)
    if zero_point is not None:
        wide = wide - _along(zero_point, codes, axis).astype(np.float64)
    return wide * _along(scale, codes, axis)
