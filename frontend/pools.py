"""Pools over images [N, C, H, W], and the means that are pools over the whole image."""

from __future__ import annotations

import numpy as np

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.node import Node
from pefslc.frontend.windows import checked_output, image_operand, take_pair, window_of
from pefslc.geometry.shapes import Window, pool_shape
from pefslc.ir.quantized import AveragePool
from pefslc.ir.structural import MaxPool
from pefslc.ir.value import IntArray, Value

__all__ = [
    "import_average_pool",
    "import_global_average_pool",
    "import_global_max_pool",
    "import_max_pool",
]

_MOST_TAPS = 1 << 31


def import_max_pool(builder: Builder, node: Node) -> Value:
    """MaxPool(x): the result is quantized as x is."""
    x = image_operand(builder, node)
    window = _with_ceil_mode(node, x, _declared_window(node, x))
    if node.take_int("storage_order", 0):
        raise node.fault(Code.UNSUPPORTED_ATTRIBUTE, "MaxPool with storage_order=1 is not supported")
    shape = checked_output(node, pool_shape(x.type.shape, window))
    result = builder.new_value(shape, x.type.element, node.origin)
    _check_sees(node, x, window)
    return builder.append(MaxPool(result=result, input=x, window=window))


def import_average_pool(builder: Builder, node: Node) -> Value:
    """AveragePool(x): every window is divided by the number of its taps, in the padding only if that counts."""
    x = image_operand(builder, node)
    declared = _declared_window(node, x)
    window = _with_ceil_mode(node, x, declared)
    result = builder.real(checked_output(node, pool_shape(x.type.shape, window)), node)
    _check_sees(node, x, window)
    margins = declared.pads if node.take_int("count_include_pad", 0) else (0, 0, 0, 0)
    counts = np.outer(*window.taps_inside(x.type.shape[2:], margins))
    partial = None if (counts == window.taps).all() else IntArray(counts.astype(np.int64))
    return builder.append(AveragePool(result=result, input=x, window=window, counts=partial))


def import_global_average_pool(builder: Builder, node: Node) -> Value:
    """GlobalAveragePool(x): [N, C, 1, 1]."""
    return _spatial_mean(builder, node, image_operand(builder, node))


def import_global_max_pool(builder: Builder, node: Node) -> Value:
    """GlobalMaxPool(x): [N, C, 1, 1]."""
    return _spatial_maximum(builder, node, image_operand(builder, node))


def _declared_window(node: Node, x: Value) -> Window:
    """The window without what ceil_mode adds, its padding smaller than itself."""
    window = window_of(node, take_pair(node, "kernel_shape", None), x.type.shape)
    if window.taps > _MOST_TAPS:
        raise node.fault(Code.WINDOW, f"a window of {window.kernel[0]} x {window.kernel[1]} taps is too large")
    if any(p >= e for p, e in zip(window.pads, window.extent * 2, strict=True)):
        raise node.fault(Code.WINDOW, "the padding is as large as the window: some windows would see no input")
    return window


def _with_ceil_mode(node: Node, x: Value, window: Window) -> Window:
    return window.with_ceiled_output(*x.type.shape[2:]) if node.take_int("ceil_mode", 0) else window


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


def _spatial_maximum(builder: Builder, node: Node, x: Value) -> Value:
    n, channels, height, width = x.type.shape
    result = builder.new_value((n, channels, 1, 1), x.type.element, node.origin)
    return builder.append(MaxPool(result=result, input=x, window=Window(kernel=(height, width))))
