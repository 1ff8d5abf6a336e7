"""The meaning of a QONNX model, evaluated from the file's own nodes in exact rationals. Shares no code with pefslc.

Slow and plain on purpose. A square root is a rational within 2^-600: it decides every comparison that is not a tie, and
a tie with an irrational root is impossible unless its factor is 0, which is exact.
"""

from __future__ import annotations

import functools
from fractions import Fraction
from math import ceil, floor

import numpy as np
import onnx
from onnx import numpy_helper

from oracle_functions import FUNCTIONS, square_root, tanh_gelu, written

__all__ = ["evaluate_model", "evaluate_node", "exact", "quantize_value", "round_by_name"]

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
        if node.op_type == "Split":
            sizes = [int(size) for size in operands[1]]
            ends = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
            tensors |= zip(node.output, np.split(operands[0], ends, axis=attributes["axis"]), strict=True)
        else:
            tensors[node.output[0]] = evaluate_node(node.op_type, operands, attributes)
    return tensors[model.graph.output[0].name]


def evaluate_node(op: str, v: list[np.ndarray], a: dict) -> np.ndarray:  # type: ignore[type-arg]
    """The first result of one operator."""
    x = v[0]
    if op == "ConvTranspose":
        return _conv_transpose(x, v[1], v[2] if len(v) > 2 else None, a)
    if x.ndim == 3 and op in ("Conv", "MaxPool", "AveragePool"):  # a sequence is an image of one row
        wide = {k: [k != "pads", *s] if len(s) == 1 else [0, s[0], 0, s[1]] for k, s in a.items() if k != "group"}
        operands = [x[:, :, None], *(w[:, :, None] if w.ndim == 3 else w for w in v[1:])]
        return evaluate_node(
            op, operands, {k: [int(n) for n in s] for k, s in wide.items()} | {"group": a.get("group", 1)}
        )[:, :, 0]
    match op:
        case "Quant":
            return _quant(*v, **a)
        case "Conv":
            return _conv(x, v[1], v[2] if len(v) > 2 else None, a)
        case "Gemm":
            alpha, beta = (written(a.get(name, 1.0)) for name in ("alpha", "beta"))
            return alpha * x.dot(v[1].T if a.get("transB") else v[1]) + (beta * v[2] if len(v) > 2 else 0)
        case "MatMul":
            return x.dot(v[1])
        case "Transpose":
            return x.transpose(a["perm"])
        case "BatchNormalization":
            gamma, beta, mean, variance = (p.reshape(1, -1, *[1] * (x.ndim - 2)) for p in v[1:])
            epsilon = Fraction(float(np.float32(a["epsilon"])))
            deviation = np.vectorize(lambda s: square_root(s + epsilon), "O")(variance)
            return (x - mean) * gamma / deviation + beta
        case "Relu":
            return np.where(x > 0, x, Fraction(0))
        case "LeakyRelu":
            return np.where(x > 0, x, x * written(a["alpha"]))
        case "PRelu":
            return np.where(x > 0, x, x * v[1])
        case "Clip":
            limits = (v[1], v[2]) if len(v) > 1 else (written(a["min"]), written(a["max"]))
            return np.minimum(np.maximum(x, limits[0]), limits[1])
        case "Add":
            return x + v[1]
        case "Mul":
            return x * v[1]
        case "Div":
            return x / v[1]
        case "Sub":
            return x - v[1]
        case "Round" | "Floor" | "Ceil" | "Sign":
            rounded = {"Sign": lambda t: (t > 0) - (t < 0)}.get(op, lambda t: round_by_name(t, op))
            return np.vectorize(lambda t: Fraction(rounded(t)), "O")(x)
        case "Max" | "Min":
            choose = np.maximum if op == "Max" else np.minimum
            return functools.reduce(choose, v)
        case "Sum" | "Mean":
            return sum(v) / (len(v) if op == "Mean" else 1)
        case "Pow":
            return x ** int(v[1])
        case _ if op in FUNCTIONS:
            function = tanh_gelu if a.pop("approximate", b"none") == b"tanh" else FUNCTIONS[op]
            parameters = {name: written(value) for name, value in a.items()}
            values = {t: function(t, **parameters) for t in set(x.reshape(-1).tolist())}
            return np.vectorize(values.__getitem__, "O")(x)
        case "Concat":
            return np.concatenate(v, axis=a["axis"])
        case "MaxPool" | "AveragePool":
            return _pool(op, x, a)
        case "GlobalAveragePool":
            axes = tuple(range(2, x.ndim))
            return x.sum(axis=axes, keepdims=True) / int(np.prod(x.shape[2:]))
        case "Slice":
            for start, end, axis in zip(*(map(int, part) for part in v[1:4]), strict=True):
                x = np.stack([x.take(i, axis) for i in range(start, min(end, x.shape[axis]))], axis)
            return x
        case "Flatten":
            return x.reshape(x.shape[0], -1)
        case "Reshape":
            return x.reshape([int(size) for size in v[1]])
        case "Resize" | "Upsample":
            return _resize(x, v, a)
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


def _conv_transpose(x, weight, bias, a):  # type: ignore[no-untyped-def]
    """Each pixel adds itself times the kernel to the result, of any rank, and the pads are cut off.

    Pads that output_shape and auto_pad leave open are computed as onnxruntime does.
    """
    rank, groups = x.ndim - 2, a.get("group", 1)
    strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
    added, pads = a.get("output_padding", [0] * rank), list(a.get("pads", [0] * 2 * rank))
    spans = [
        (n - 1) * s + d * (k - 1) + 1
        for n, s, d, k in zip(x.shape[2:], strides, dilations, weight.shape[2:], strict=True)
    ]
    auto_pad, shape = a.get("auto_pad", b"NOTSET"), a.get("output_shape")
    if shape is None and auto_pad.startswith(b"SAME"):
        shape = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    if shape is not None:
        totals = [max(span + more - size, 0) for span, more, size in zip(spans, added, shape, strict=True)]
        less, more = [t // 2 for t in totals], [t - t // 2 for t in totals]
        pads = [*less, *more] if auto_pad == b"SAME_UPPER" else [*more, *less]
    else:
        shape = [span + more - p - q for span, more, p, q in zip(spans, added, pads[:rank], pads[rank:], strict=True)]
    per_group = weight.shape[1]
    whole = np.full(
        (x.shape[0], per_group * groups, *(max(s, p + n) for s, p, n in zip(spans, pads, shape, strict=False))),
        Fraction(0),
    )
    for n, c, *position in np.ndindex(x.shape):
        first = c // (x.shape[1] // groups) * per_group
        area = tuple(
            slice(i * s, i * s + d * (k - 1) + 1, d)
            for i, s, d, k in zip(position, strides, dilations, weight.shape[2:], strict=True)
        )
        whole[(n, slice(first, first + per_group), *area)] += x[(n, c, *position)] * weight[c]
    result = whole[(..., *(slice(p, p + size) for p, size in zip(pads, shape, strict=False)))]
    return result if bias is None else result + bias.reshape(1, -1, *[1] * rank)


def _resize(x, v, a):  # type: ignore[no-untyped-def]
    """Nearest neighbours, pixel by pixel, from ONNX's formulas; sizes or scales, whichever the file has."""
    scales = a.get("scales") or [float(s) for s in v[1 if len(v) == 2 else 2]]
    sizes = [int(s) for s in v[3]] if len(v) == 4 else [int(n * s) for n, s in zip(x.shape, scales, strict=True)]
    way = a.get("coordinate_transformation_mode", b"half_pixel" if len(v) > 2 else b"asymmetric")
    mode = a.get("nearest_mode", b"round_prefer_floor" if len(v) > 2 else b"floor")
    result = np.empty(sizes, dtype=object)
    for index in np.ndindex(result.shape):
        source = []
        for i, before, after in zip(index, x.shape, sizes, strict=True):
            ratio = Fraction(after, before)
            if way == b"asymmetric":
                at = i / ratio
            elif way == b"align_corners":
                at = Fraction(i * (before - 1), after - 1) if after > 1 else Fraction(0)
            elif way == b"tf_half_pixel_for_nn":  # an axis that keeps its size is copied, by whatever mode
                at = (i + HALF) / ratio if ratio != 1 else Fraction(i)
            else:  # of whole sizes, half_pixel_symmetric is half_pixel
                at = Fraction(0) if way == b"pytorch_half_pixel" and after == 1 else (i + HALF) / ratio - HALF
            down, up = floor(at), ceil(at)
            ties = {b"round_prefer_floor": down, b"round_prefer_ceil": up}
            nearest = down if at - down < HALF else up if at - down > HALF else ties.get(mode)
            chosen = {b"floor": down, b"ceil": up}.get(mode, nearest)
            source.append(min(max(chosen, 0), before - 1))
        result[index] = x[tuple(source)]
    return result


def _pool(op, x, a):  # type: ignore[no-untyped-def]
    """Window by window, tap by tap, as torch's documentation has it."""
    kernel, strides, pads = a["kernel_shape"], a.get("strides", [1, 1]), a.get("pads", [0] * 4)
    dilations = a.get("dilations", [1, 1])
    sizes = []
    for i in (0, 1):
        room = Fraction(x.shape[2 + i] + pads[i] + pads[2 + i] - dilations[i] * (kernel[i] - 1) - 1, strides[i])
        size = (ceil(room) if a.get("ceil_mode") else floor(room)) + 1
        if a.get("ceil_mode") and (size - 1) * strides[i] >= x.shape[2 + i] + pads[i]:
            size -= 1  # it would begin behind the input
        sizes.append(size)
    result = np.empty((*x.shape[:2], *sizes), dtype=object)
    for n, c, i, j in np.ndindex(result.shape):
        taps = [
            (i * strides[0] - pads[0] + v * dilations[0], j * strides[1] - pads[1] + h * dilations[1])
            for v, h in np.ndindex(*kernel)
        ]
        inside = [x[n, c, v, h] for v, h in taps if 0 <= v < x.shape[2] and 0 <= h < x.shape[3]]
        padded = [v < x.shape[2] + pads[2] and h < x.shape[3] + pads[3] for v, h in taps]
        count = sum(padded) if a.get("count_include_pad") else len(inside)
        result[n, c, i, j] = max(inside) if op == "MaxPool" else sum(inside) / count
    return result
