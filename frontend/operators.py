"""The standard ONNX operators, one function each: check the node, add our operation, return its result."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pefslc.codes import Code
from pefslc.frontend.elementwise import (
    FUNCTIONS,
    constant_per_channel,
    import_div,
    import_function,
    import_mul,
    import_sub,
)
from pefslc.frontend.importer import Builder, IntegerTensor
from pefslc.frontend.linear_quantizers import clip_integers, import_dequantize_linear, import_quantize_linear
from pefslc.frontend.node import Node, constant_array
from pefslc.frontend.one_dimensional import also_for_sequences
from pefslc.frontend.padding import import_pad
from pefslc.frontend.quantizers import import_bipolar_quant, import_quant, import_trunc
from pefslc.ir.quantized import Add, AveragePool, BatchNorm, BiasAdd, Clip, Conv, LeakyRelu, Linear, Relu
from pefslc.ir.structural import Concat, MaxPool, Reshape, Transpose
from pefslc.ir.value import Value
from pefslc.numeric.stages import Affine
from pefslc.shapes import Window, conv_shape, element_count, pool_shape

__all__ = ["OPERATORS"]


def _window(node: Node, kernel: tuple[int, int], input_shape: tuple[int, ...]) -> Window:
    """strides, dilations, pads, auto_pad of a convolution or pool over a [N, C, H, W] input."""
    strides = _pair(node, "strides")
    dilations = _pair(node, "dilations")
    pads = node.take_ints("pads", None)
    auto_pad = node.take_string("auto_pad", "NOTSET")
    window = Window(kernel=kernel, strides=strides, dilations=dilations)
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        pads = _same_pads(window, input_shape, upper=auto_pad == "SAME_UPPER")
    elif auto_pad not in ("NOTSET", "VALID"):
        raise node.fault(Code.UNSUPPORTED_ATTRIBUTE, f"auto_pad={auto_pad!r} is unknown")
    if pads is None or auto_pad == "VALID":
        pads = (0, 0, 0, 0)
    if len(pads) != 4 or min(pads) < 0:
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE, f"pads={list(pads)} is not supported", hint="four numbers, none negative"
        )
    return Window(kernel=kernel, strides=strides, dilations=dilations, pads=(pads[0], pads[1], pads[2], pads[3]))


def _pair(node: Node, name: str) -> tuple[int, int]:
    values = node.take_ints(name, (1, 1))
    if values is None or len(values) != 2 or min(values) < 1:
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE, f"{name}={list(values or ())} is not supported", hint="two positive numbers"
        )
    return values[0], values[1]


def _same_pads(window: Window, input_shape: tuple[int, ...], *, upper: bool) -> tuple[int, ...]:
    """ONNX auto_pad: ceil(size / stride) outputs; the odd row goes below (UPPER) or above (LOWER)."""
    before, after = [], []
    for size, stride, extent in zip(input_shape[2:], window.strides, window.extent, strict=True):
        total = max((-(-size // stride) - 1) * stride + extent - size, 0)
        small, large = total // 2, total - total // 2
        before.append(small if upper else large)
        after.append(large if upper else small)
    return (*before, *after)


def _image(builder: Builder, node: Node) -> Value:
    x = builder.operand(node, 0)
    if len(x.type.shape) != 4:
        raise node.fault(
            Code.UNSUPPORTED_SHAPE,
            f"{node.op_type} on a tensor of shape {list(x.type.shape)} is not supported",
            hint="only [N, C, H, W] and [N, C, L]",
        )
    return x


def _checked_output(node: Node, shape: tuple[int, ...]) -> tuple[int, ...]:
    if min(shape) < 1:
        raise node.fault(
            Code.WINDOW, f"the window does not fit: the result would be {list(shape)}", hint="check kernel and pads"
        )
    return shape


def import_conv(builder: Builder, node: Node) -> Value:
    x, weight = _image(builder, node), builder.operand(node, 1)
    bias = builder.operand(node, 2) if node.has_input(2) else None
    groups = node.take_int("group", 1)
    w = weight.type.shape
    if len(w) != 4:
        raise node.fault(
            Code.UNSUPPORTED_SHAPE, f"a weight of shape {list(w)} is not supported", hint="only 2-D convolutions"
        )
    declared = node.take_ints("kernel_shape", w[2:])
    if declared != w[2:]:
        raise node.fault(Code.SHAPE_MISMATCH, f"kernel_shape is {list(declared or ())} but the weight is {list(w)}")
    channels = x.type.shape[1]
    if groups < 1 or channels % groups or w[0] % groups:
        raise node.fault(
            Code.SHAPE_MISMATCH, f"group={groups} does not divide {channels} input and {w[0]} output channels"
        )
    if w[1] * groups != channels:
        raise node.fault(
            Code.SHAPE_MISMATCH, f"the weight {list(w)} wants {w[1] * groups} input channels, the input has {channels}"
        )
    if bias is not None and bias.type.shape != (w[0],):
        raise node.fault(
            Code.SHAPE_MISMATCH, f"the bias has shape {list(bias.type.shape)}, the convolution {w[0]} output channels"
        )
    window = _window(node, (w[2], w[3]), x.type.shape)
    shape = _checked_output(node, conv_shape(x.type.shape, w, window))
    return builder.append(
        Conv(result=builder.real(shape, node), input=x, weight=weight, bias=bias, window=window, groups=groups)
    )


def import_gemm(builder: Builder, node: Node) -> Value:
    for name in ("alpha", "beta"):
        if (value := node.take_float(name, 1.0)) != 1.0:
            raise node.fault(
                Code.UNSUPPORTED_ATTRIBUTE,
                f"Gemm with {name}={value} is not supported",
                hint="fold it into the weights",
            )
    if node.take_int("transA", 0):
        raise node.fault(Code.UNSUPPORTED_ATTRIBUTE, "Gemm with transA=1 is not supported")
    return _linear(builder, node, transposed=bool(node.take_int("transB", 0)))


def import_matmul(builder: Builder, node: Node) -> Value:
    return _linear(builder, node, transposed=False)


def _linear(builder: Builder, node: Node, *, transposed: bool) -> Value:
    x, weight = builder.operand(node, 0), builder.operand(node, 1)
    if len(x.type.shape) != 2 or len(weight.type.shape) != 2:
        raise node.fault(
            Code.UNSUPPORTED_SHAPE,
            f"{node.op_type} of {list(x.type.shape)} and {list(weight.type.shape)} is not supported",
            hint="two matrices, the second a constant",
        )
    if not transposed:
        k, m = weight.type.shape
        flipped = builder.new_value((m, k), weight.type.element, weight.origin)
        weight = builder.append(Transpose(result=flipped, input=weight, permutation=(1, 0)))
    if weight.type.shape[1] != x.type.shape[1]:
        raise node.fault(
            Code.SHAPE_MISMATCH, f"the weight wants {weight.type.shape[1]} features, the input has {x.type.shape[1]}"
        )
    bias = builder.operand(node, 2) if node.has_input(2) else None
    if bias is not None and bias.type.shape != (weight.type.shape[0],):
        raise node.fault(
            Code.SHAPE_MISMATCH, f"the bias has shape {list(bias.type.shape)}, the layer {weight.type.shape[0]} outputs"
        )
    result = builder.real((x.type.shape[0], weight.type.shape[0]), node)
    return builder.append(Linear(result=result, input=x, weight=weight, bias=bias))


def import_batch_norm(builder: Builder, node: Node) -> Value:
    x = builder.operand(node, 0)
    names = ("scale", "bias", "mean", "variance")
    gamma, beta, mean, variance = (
        [Fraction(float(v)) for v in _finite(node, i, name).reshape(-1)] for i, name in enumerate(names, 1)
    )
    if {len(gamma), len(beta), len(mean), len(variance)} != {x.type.channels}:
        raise node.fault(
            Code.SHAPE_MISMATCH, f"BatchNormalization of {len(gamma)} channels on a tensor of {x.type.channels}"
        )
    epsilon = Fraction(node.take_float("epsilon", 1e-5))
    if node.take_int("training_mode", 0):
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE, "BatchNormalization in training mode", hint="call model.eval() before exporting"
        )
    node.ignore("momentum", "spatial")
    radicand = [v + epsilon for v in variance]
    if min(radicand) <= 0:
        raise node.fault(Code.PARAMETER_VALUE, "variance + epsilon is not positive")
    addend = tuple(-g * m for g, m in zip(gamma, mean, strict=True))
    stage = Affine(tuple(gamma), addend, tuple(radicand), tuple(beta))
    return builder.append(BatchNorm(result=builder.real(x.type.shape, node), input=x, stage=stage))


def _finite(node: Node, index: int, what: str) -> NDArray[np.float64]:
    array = node.constant(index, what)
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise node.fault(Code.PARAMETER_VALUE, f"the {what} holds NaN, infinity, or no floats")
    return array.astype(np.float64)  # every float of a file is exact in it


def import_relu(builder: Builder, node: Node) -> Value:
    x = builder.operand(node, 0)
    return builder.append(Relu(result=builder.real(x.type.shape, node), input=x))


def import_leaky_relu(builder: Builder, node: Node) -> Value:
    x = builder.operand(node, 0)
    # The shortest decimal that prints this float32 is what torch computes with: 0.1, not 0.100000001.
    alpha = Fraction(str(np.float32(node.take_float("alpha", 0.01))))
    if not 0 <= alpha <= 1:
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE,
            f"LeakyRelu with alpha={float(alpha):g} is not supported",
            hint="alpha lies in [0, 1]",
        )
    return builder.append(LeakyRelu(result=builder.real(x.type.shape, node), input=x, alpha=alpha))


def import_clip(builder: Builder, node: Node) -> Value | IntegerTensor:
    integers = clip_integers(builder, node)
    if integers is not None:
        return integers
    x = builder.operand(node, 0)
    if node.opset < 11:
        limits = [node.take_float("min", -np.inf), node.take_float("max", np.inf)]
    else:
        limits = [
            node.scalar(i, what) if node.has_input(i) else d for i, what, d in ((1, "min", -np.inf), (2, "max", np.inf))
        ]
    if limits[0] > limits[1] or any(v != v for v in limits):
        raise node.fault(Code.PARAMETER_VALUE, f"Clip to [{limits[0]}, {limits[1]}] is empty")
    low, high = (None if np.isinf(v) else Fraction(v) for v in limits)
    return builder.append(Clip(result=builder.real(x.type.shape, node), input=x, low=low, high=high))


def import_max_pool(builder: Builder, node: Node) -> Value:
    x = _image(builder, node)
    window = _pool_window(node, x)
    if node.take_int("storage_order", 0):
        raise node.fault(Code.UNSUPPORTED_ATTRIBUTE, "MaxPool with storage_order=1 is not supported")
    shape = _checked_output(node, pool_shape(x.type.shape, window))
    result = builder.new_value(shape, x.type.element, node.origin)
    _check_sees(node, x, window)
    return builder.append(MaxPool(result=result, input=x, window=window))


def _pool_window(node: Node, x: Value) -> Window:
    kernel = node.take_ints("kernel_shape", None)
    if kernel is None or len(kernel) != 2 or min(kernel) < 1:
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE,
            f"kernel_shape={list(kernel or ())} is not supported",
            hint="two positive numbers",
        )
    window = _window(node, (kernel[0], kernel[1]), x.type.shape)
    if any(p >= e for p, e in zip(window.pads, window.extent * 2, strict=True)):
        raise node.fault(Code.WINDOW, "the padding is as large as the window: some windows would see no input")
    if node.take_int("ceil_mode", 0):
        top, left, bottom, right = window.pads
        spans = (x.type.shape[2] + top + bottom, x.type.shape[3] + left + right)
        if any((s - e) % t for s, e, t in zip(spans, window.extent, window.strides, strict=True)):
            raise node.fault(
                Code.UNSUPPORTED_ATTRIBUTE,
                f"{node.op_type} with ceil_mode=1 is not supported here",
                hint="use ceil_mode=False",
            )
    return window


def _check_sees(node: Node, x: Value, window: Window) -> None:
    """No window lies in the padding alone; its taps may step over a small input when they are dilated."""
    if not window.always_sees(*x.type.shape[2:]):
        raise node.fault(
            Code.WINDOW,
            f"some windows see no input: kernel {list(window.kernel)} with dilations {list(window.dilations)} and "
            f"pads {list(window.pads)} on {list(x.type.shape)}",
            hint="reduce the padding or the dilation",
        )


def import_average_pool(builder: Builder, node: Node) -> Value:
    x = _image(builder, node)
    window = _pool_window(node, x)
    if not node.take_int("count_include_pad", 0) and window.is_padded:
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE,
            "AveragePool that leaves out the padding is not supported",
            hint="use count_include_pad=True",
        )
    result = builder.real(_checked_output(node, pool_shape(x.type.shape, window)), node)
    _check_sees(node, x, window)
    return builder.append(AveragePool(result=result, input=x, window=window))


def import_global_average_pool(builder: Builder, node: Node) -> Value:
    return _spatial_mean(builder, node, _image(builder, node))


def _spatial_mean(builder: Builder, node: Node, x: Value) -> Value:
    n, channels, height, width = x.type.shape
    result = builder.real((n, channels, 1, 1), node)
    return builder.append(AveragePool(result=result, input=x, window=Window(kernel=(height, width))))


def import_reduce_mean(builder: Builder, node: Node) -> Value:
    x = _image(builder, node)
    axes = node.take_ints("axes", None)
    if node.has_input(1):
        axes = tuple(int(a) for a in node.constant(1, "axes").reshape(-1))
    node.ignore("noop_with_empty_axes")
    if axes is None or sorted(a % 4 for a in axes) != [2, 3]:
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE,
            f"ReduceMean over axes {list(axes or ())} is not supported",
            hint="only the mean over H and W",
        )
    keepdims = node.take_int("keepdims", 1)
    mean = _spatial_mean(builder, node, x)
    if keepdims:
        return mean
    return builder.append(Reshape(result=builder.real(mean.type.shape[:2], node), input=mean))


def import_add(builder: Builder, node: Node) -> Value:
    constants = [constant_array(t) is not None for t in node.inputs]
    if any(constants):
        return _add_constant(builder, node, constants.index(True))
    lhs, rhs = builder.operand(node, 0), builder.operand(node, 1)
    if lhs.type.shape != rhs.type.shape:
        raise node.fault(
            Code.UNSUPPORTED_SHAPE,
            f"Add of {list(lhs.type.shape)} and {list(rhs.type.shape)} is not supported",
            hint="shapes must be equal",
        )
    return builder.append(Add(result=builder.real(lhs.type.shape, node), lhs=lhs, rhs=rhs))


def _add_constant(builder: Builder, node: Node, index: int) -> Value:
    offsets = constant_per_channel(builder, node, index)
    x = builder.operand(node, 1 - index)
    return builder.append(BiasAdd(result=builder.real(x.type.shape, node), input=x, stage=Affine.bias(offsets)))


def import_concat(builder: Builder, node: Node) -> Value:
    parts = tuple(builder.operand(node, i) for i in range(len(node.inputs)))
    rank = len(parts[0].type.shape)
    axis = node.take_int("axis", 1)
    axis += rank if axis < 0 else 0
    others = {(*p.type.shape[:axis], *p.type.shape[axis + 1 :]) for p in parts}
    if rank < 2 or axis != 1 or len(others) != 1 or any(len(p.type.shape) != rank for p in parts):
        raise node.fault(
            Code.UNSUPPORTED_SHAPE,
            f"Concat of {', '.join(str(list(p.type.shape)) for p in parts)} along axis {axis} is not supported",
            hint="only along the channels (axis 1), all other sizes equal",
        )
    channels = sum(p.type.shape[1] for p in parts)
    shape = (parts[0].type.shape[0], channels, *parts[0].type.shape[2:])
    return builder.append(Concat(result=builder.real(shape, node), inputs=parts, axis=1))


def import_flatten(builder: Builder, node: Node) -> Value:
    x = builder.operand(node, 0)
    if (axis := node.take_int("axis", 1)) != 1:
        raise node.fault(Code.UNSUPPORTED_ATTRIBUTE, f"Flatten with axis={axis} is not supported", hint="only axis=1")
    return _reshape(builder, node, x, (*x.type.shape[:1], element_count(x.type.shape[1:])))


def import_reshape(builder: Builder, node: Node) -> Value:
    x = builder.operand(node, 0)
    wanted = [int(s) for s in node.constant(1, "shape").reshape(-1)]
    allow_zero = node.take_int("allowzero", 0)
    shape = [
        x.type.shape[i] if s == 0 and not allow_zero and i < len(x.type.shape) else s for i, s in enumerate(wanted)
    ]
    total = element_count(x.type.shape)
    if shape.count(-1) == 1:
        known = element_count(tuple(s for s in shape if s != -1))
        shape[shape.index(-1)] = total // known if known > 0 else 0
    if element_count(tuple(shape)) != total or min(shape, default=1) < 1:
        raise node.fault(Code.SHAPE_MISMATCH, f"Reshape of {list(x.type.shape)} to {wanted} does not fit")
    return _reshape(builder, node, x, tuple(shape))


def import_squeeze(builder: Builder, node: Node) -> Value:
    x = builder.operand(node, 0)
    rank = len(x.type.shape)
    axes = _axes(node)
    dropped = {a % rank for a in axes} if axes is not None else {i for i, s in enumerate(x.type.shape) if s == 1 and i}
    if any(x.type.shape[a] != 1 for a in dropped):
        raise node.fault(Code.SHAPE_MISMATCH, f"Squeeze of axes {sorted(dropped)} of {list(x.type.shape)}")
    return _reshape(builder, node, x, tuple(s for i, s in enumerate(x.type.shape) if i not in dropped))


def import_unsqueeze(builder: Builder, node: Node) -> Value:
    x = builder.operand(node, 0)
    axes = _axes(node) or ()
    rank = len(x.type.shape) + len(axes)
    added = {a % rank for a in axes}
    sizes = iter(x.type.shape)
    return _reshape(builder, node, x, tuple(1 if i in added else next(sizes, 1) for i in range(rank)))


def _axes(node: Node) -> tuple[int, ...] | None:
    """An attribute before opset 13, an input since."""
    axes = node.take_ints("axes", None)
    return tuple(int(a) for a in node.constant(1, "axes").reshape(-1)) if node.has_input(1) else axes


def _reshape(builder: Builder, node: Node, x: Value, shape: tuple[int, ...]) -> Value:
    if not shape or shape[:1] != x.type.shape[:1]:
        raise node.fault(
            Code.UNSUPPORTED_SHAPE,
            f"{node.op_type} of {list(x.type.shape)} to {list(shape)} is not supported",
            hint="keep the batch axis",
        )
    return builder.append(Reshape(result=builder.new_value(shape, x.type.element, node.origin), input=x))


def import_transpose(builder: Builder, node: Node) -> Value:
    x = builder.operand(node, 0)
    rank = len(x.type.shape)
    permutation = node.take_ints("perm", tuple(reversed(range(rank)))) or ()
    if sorted(permutation) != list(range(rank)):
        raise node.fault(Code.UNSUPPORTED_ATTRIBUTE, f"perm={list(permutation)} is no permutation of {rank} axes")
    shape = tuple(x.type.shape[i] for i in permutation)
    result = builder.new_value(shape, x.type.element, node.origin)
    return builder.append(Transpose(result=result, input=x, permutation=permutation))


def import_identity(builder: Builder, node: Node) -> Value:
    node.ignore("ratio", "seed")
    return builder.operand(node, 0)


OPERATORS: dict[tuple[str, str], Callable[[Builder, Node], Value | IntegerTensor]] = {
    ("qonnx", "Quant"): import_quant,
    ("qonnx", "IntQuant"): import_quant,
    ("qonnx", "BipolarQuant"): import_bipolar_quant,
    ("qonnx", "Trunc"): import_trunc,
    ("", "QuantizeLinear"): import_quantize_linear,
    ("", "DequantizeLinear"): import_dequantize_linear,
    ("com.microsoft", "QuantizeLinear"): import_quantize_linear,
    ("com.microsoft", "DequantizeLinear"): import_dequantize_linear,
    ("", "Conv"): also_for_sequences(import_conv),
    ("", "Gemm"): import_gemm,
    ("", "MatMul"): import_matmul,
    ("", "BatchNormalization"): import_batch_norm,
    ("", "Relu"): import_relu,
    ("", "LeakyRelu"): import_leaky_relu,
    ("", "Clip"): import_clip,
    ("", "MaxPool"): also_for_sequences(import_max_pool),
    ("", "AveragePool"): also_for_sequences(import_average_pool),
    ("", "GlobalAveragePool"): also_for_sequences(import_global_average_pool),
    ("", "ReduceMean"): also_for_sequences(import_reduce_mean),
    ("", "Add"): import_add,
    ("", "Mul"): import_mul,
    ("", "Div"): import_div,
    ("", "Sub"): import_sub,
    **{("", name): import_function for name in FUNCTIONS},
    ("", "Concat"): import_concat,
    ("", "Flatten"): import_flatten,
    ("", "Reshape"): import_reshape,
    ("", "Squeeze"): import_squeeze,
    ("", "Unsqueeze"): import_unsqueeze,
    ("", "Transpose"): import_transpose,
    ("", "Pad"): import_pad,
    ("", "Identity"): import_identity,
    ("", "Dropout"): import_identity,
}
