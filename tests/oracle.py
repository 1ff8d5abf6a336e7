"""The meaning of a QONNX model, evaluated from the file's own nodes in exact rationals. Shares no code with pefslc.

Slow and plain on purpose. A square root is a rational within 2^-600: it decides every comparison that is not a tie, and
a tie with an irrational root is impossible unless its factor is 0, which is exact.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor, isqrt

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["evaluate_model", "quantize_value", "round_by_name", "square_root"]

HALF = Fraction(1, 2)


def round_by_name(x: Fraction, name: str) -> int:
    """QONNX's rounding modes, from their definitions in words."""
    down, up, sign = floor(x), ceil(x), (x > 0) - (x < 0)
    toward_zero, away = (down, up) if x >= 0 else (up, down)
    distance = x - down
    nearest = down if distance < HALF else up
    tie = distance == HALF
    match name.upper():
        case "ROUND" | "HALF_EVEN":
            return (down if down % 2 == 0 else up) if tie else nearest
        case "HALF_UP":
            return away if tie else nearest
        case "HALF_DOWN":
            return toward_zero if tie else nearest
        case "CEIL":
            return up
        case "FLOOR":
            return down
        case "UP":
            return sign * ceil(abs(x))
        case "DOWN" | "ROUND_TO_ZERO":
            return sign * floor(abs(x))
        case "SIGN":  # BipolarQuant's
            return 1 if x >= 0 else -1
    raise AssertionError(name)


def quantize_value(x: Fraction, scale: Fraction, bits: int, signed: bool, narrow: bool, rounding: str) -> int:
    """The code of x; zero point 0."""
    low = -(2 ** (bits - 1)) + narrow if signed else 0
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
    return min(max(round_by_name(x / scale, rounding), low), high)


def square_root(x: Fraction) -> Fraction:
    """Exact where it is rational, else within 2^-600."""
    n, d = isqrt(x.numerator), isqrt(x.denominator)
    if n * n == x.numerator and d * d == x.denominator:
        return Fraction(n, d)
    return Fraction(isqrt((x.numerator << 1400) // x.denominator), 1 << 700)


def exact(array: np.ndarray) -> np.ndarray:
    """The same numbers as Fractions."""
    result = np.empty(array.shape, dtype=object)
    for index in np.ndindex(array.shape):
        result[index] = Fraction(array[index].item())
    return result


def evaluate_model(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """The first output, as Fractions, for one float input."""
    tensors = {t.name: exact(numpy_helper.to_array(t)) for t in model.graph.initializer}
    tensors[model.graph.input[0].name] = exact(x)
    for node in model.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        operands = [tensors[name] for name in node.input]
        tensors[node.output[0]] = _node(node.op_type, operands, attributes)
    return tensors[model.graph.output[0].name]


def _node(op: str, v: list[np.ndarray], a: dict) -> np.ndarray:  # type: ignore[type-arg]
    x = v[0]
    match op:
        case "Quant":
            return _quant(*v, **a)
        case "Conv":
            return _conv(x, v[1], v[2] if len(v) > 2 else None, a)
        case "Gemm":
            return x.dot(v[1].T if a.get("transB") else v[1]) + (v[2] if len(v) > 2 else 0)
        case "MatMul":
            return x.dot(v[1])
        case "Transpose":
            return x.transpose(a["perm"])
        case "BatchNormalization":
            gamma, beta, mean, variance = (p.reshape(1, -1, 1, 1) for p in v[1:])
            epsilon = Fraction(float(np.float32(a["epsilon"])))
            deviation = np.vectorize(lambda s: square_root(s + epsilon), "O")(variance)
            return (x - mean) * gamma / deviation + beta
        case "Relu":
            return np.where(x > 0, x, Fraction(0))
        case "LeakyRelu":
            return np.where(x > 0, x, x * Fraction(str(np.float32(a["alpha"]))))
        case "Clip":
            return np.minimum(np.maximum(x, v[1]), v[2])
        case "Add":
            return x + v[1]
        case "Concat":
            return np.concatenate(v, axis=a["axis"])
        case "MaxPool" | "AveragePool":
            return _pool(op, x, a)
        case "GlobalAveragePool":
            return x.sum(axis=(2, 3), keepdims=True) / (x.shape[2] * x.shape[3])
        case "Flatten":
            return x.reshape(x.shape[0], -1)
        case "Reshape":
            return x.reshape([int(size) for size in v[1]])
        case "Pad":
            half = len(v[1]) // 2
            return np.pad(x, list(zip(map(int, v[1][:half]), map(int, v[1][half:]), strict=True)))
        case "BipolarQuant":
            return np.where(x >= 0, v[1], -v[1])
        case "Trunc":
            return _trunc(*v, **a)
        case "QuantizeLinear":
            scale, zero = _along(v[1], a, x), _along(v[2], a, x)
            return np.vectorize(lambda t: Fraction(round_by_name(t, "ROUND")), "O")(x / scale) + zero
        case "DequantizeLinear":
            return (x - _along(v[2], a, x)) * _along(v[1], a, x)
    raise AssertionError(op)


def _quant(x, scale, zero_point, bits, signed, narrow, rounding_mode):  # type: ignore[no-untyped-def]
    scales = np.broadcast_to(scale, x.shape)
    result = np.empty(x.shape, dtype=object)
    for i in np.ndindex(x.shape):
        shifted = x[i] + zero_point.item() * scales[i]
        code = quantize_value(shifted, scales[i], int(bits), bool(signed), bool(narrow), rounding_mode.decode())
        result[i] = (code - zero_point.item()) * scales[i]
    return result


def _along(parameter, a, x):  # type: ignore[no-untyped-def]
    """A scale or zero point along its axis. What saturates is the Clip of the tests, not the type."""
    return (
        parameter.reshape([-1 if i == a.get("axis", 1) else 1 for i in range(x.ndim)])
        if parameter.size > 1
        else (parameter.item())
    )


def _trunc(x, scale, zero_point, in_bits, *out, rounding_mode, signed=1, narrow=0):  # type: ignore[no-untyped-def]
    """qonnx's Trunc, both versions, number by number."""
    scale, zero_point = scale.item(), zero_point.item()
    result = np.empty(x.shape, dtype=object)
    for i in np.ndindex(x.shape):
        y = Fraction(round_by_name(x[i] / scale + zero_point, "ROUND"))
        if len(out) == 1:
            y = round_by_name(y / 2 ** int(in_bits - out[0]), rounding_mode.decode())
            result[i] = (y - zero_point) * scale
        else:
            out_scale, bits = out[0].item(), int(out[1])
            divisor = Fraction(2) ** round(float(np.log2(float(out_scale / scale))))
            low, high = (-(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1 - narrow)
            y = round_by_name(min(max(y / divisor, low), high), rounding_mode.decode())
            result[i] = (y - zero_point / divisor) * out_scale
    return result


def _conv(x, weight, bias, a):  # type: ignore[no-untyped-def]
    groups, pads = a.get("group", 1), a.get("pads", [0] * 4)
    (sh, sw), (dh, dw) = a.get("strides", [1, 1]), a.get("dilations", [1, 1])
    padded = np.full((*x.shape[:2], x.shape[2] + pads[0] + pads[2], x.shape[3] + pads[1] + pads[3]), Fraction(0))
    padded[:, :, pads[0] : pads[0] + x.shape[2], pads[1] : pads[1] + x.shape[3]] = x
    outputs, per_group, kh, kw = weight.shape
    height = (padded.shape[2] - (kh - 1) * dh - 1) // sh + 1
    width = (padded.shape[3] - (kw - 1) * dw - 1) // sw + 1
    result = np.empty((x.shape[0], outputs, height, width), dtype=object)
    for n, o, i, j in np.ndindex(result.shape):
        first = o // (outputs // groups) * per_group
        patch = padded[n, first : first + per_group, i * sh :: dh, j * sw :: dw][:, :kh, :kw]
        result[n, o, i, j] = (patch * weight[o]).sum() + (0 if bias is None else bias[o])
    return result


def _pool(op, x, a):  # type: ignore[no-untyped-def]
    (kh, kw), (sh, sw), pads = a["kernel_shape"], a.get("strides", [1, 1]), a.get("pads", [0] * 4)
    height = (x.shape[2] + pads[0] + pads[2] - kh) // sh + 1
    width = (x.shape[3] + pads[1] + pads[3] - kw) // sw + 1
    result = np.empty((*x.shape[:2], height, width), dtype=object)
    for n, c, i, j in np.ndindex(result.shape):
        top, left = i * sh - pads[0], j * sw - pads[1]
        window = x[n, c, max(top, 0) : top + kh, max(left, 0) : left + kw]
        result[n, c, i, j] = window.max() if op == "MaxPool" else window.sum() / (kh * kw)
    return result
