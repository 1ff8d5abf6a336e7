"""Pools over images [N, C, H, W], and the means that are pools over the whole image."""

from __future__ import annotations

from pefslc.codes import Code
from pefslc.frontend.importer import Builder
from pefslc.frontend.node import Node
from pefslc.frontend.windows import checked_output, image_operand, take_pair, window_of
from pefslc.ir.quantized import AveragePool
from pefslc.ir.structural import MaxPool, Reshape
from pefslc.ir.value import Value
from pefslc.shapes import Window, pool_shape

__all__ = ["import_average_pool", "import_global_average_pool", "import_max_pool", "import_reduce_mean"]


def import_max_pool(builder: Builder, node: Node) -> Value:
    """MaxPool(x): the result is quantized as x is."""
    x = image_operand(builder, node)
    window = _pool_window(node, x)
    if node.take_int("storage_order", 0):
        raise node.fault(Code.UNSUPPORTED_ATTRIBUTE, "MaxPool with storage_order=1 is not supported")
    shape = checked_output(node, pool_shape(x.type.shape, window))
    result = builder.new_value(shape, x.type.element, node.origin)
    _check_sees(node, x, window)
    return builder.append(MaxPool(result=result, input=x, window=window))


def import_average_pool(builder: Builder, node: Node) -> Value:
    """AveragePool(x): every window is divided by the number of its taps, padding counted."""
    x = image_operand(builder, node)
    window = _pool_window(node, x)
    if not node.take_int("count_include_pad", 0) and window.is_padded:
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE,
            "AveragePool that leaves out the padding is not supported",
            hint="use count_include_pad=True",
        )
    result = builder.real(checked_output(node, pool_shape(x.type.shape, window)), node)
    _check_sees(node, x, window)
    return builder.append(AveragePool(result=result, input=x, window=window))


def import_global_average_pool(builder: Builder, node: Node) -> Value:
    """GlobalAveragePool(x): [N, C, 1, 1]."""
    return _spatial_mean(builder, node, image_operand(builder, node))


def import_reduce_mean(builder: Builder, node: Node) -> Value:
    """ReduceMean(x, axes) over H and W: [N, C, 1, 1], or [N, C] without keepdims."""
    x = image_operand(builder, node)
    axes = node.take_axes()
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


def _pool_window(node: Node, x: Value) -> Window:
    """The window, where every one of them sees some input, and ceil_mode changes nothing."""
    window = window_of(node, take_pair(node, "kernel_shape", None), x.type.shape)
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


def _spatial_mean(builder: Builder, node: Node, x: Value) -> Value:
    n, channels, height, width = x.type.shape
    result = builder.real((n, channels, 1, 1), node)
    return builder.append(AveragePool(result=result, input=x, window=Window(kernel=(height, width))))
