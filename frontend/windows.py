"""The windows that convolutions and pools slide over an image: kernel, strides, dilations, pads, auto_pad."""

from __future__ import annotations

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.node import Node
from pefslc.geometry.shapes import Window
from pefslc.ir.value import Value

__all__ = ["checked_output", "image_operand", "take_pair", "window_of"]


def window_of(node: Node, kernel: tuple[int, int], input_shape: tuple[int, ...]) -> Window:
    """The node's strides, dilations and pads (or auto_pad) over a [N, C, H, W] input. Raises CompileError."""
    strides = take_pair(node, "strides", (1, 1))
    dilations = take_pair(node, "dilations", (1, 1))
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


def transposed_window(node: Node, kernel: tuple[int, int], input_shape: tuple[int, ...]) -> Window:
    """The window of a ConvTranspose over its input with zeros between the pixels. Raises CompileError.

    Where the transposed convolution crops its result by p, the window has extent - 1 - p of padding, and where
    output_padding adds rows, so much more. Source: ONNX ConvTranspose-11.
    """
    strides = take_pair(node, "strides", (1, 1))
    dilations = take_pair(node, "dilations", (1, 1))
    added = node.take_ints("output_padding", (0, 0)) or ()
    if len(added) != 2 or min(added) < 0:
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE,
            f"output_padding={list(added)} is not supported",
            hint="two numbers, none negative",
        )
    extent = Window(kernel=kernel, dilations=dilations).extent
    whole = [(size - 1) * s + e + a for size, s, e, a in zip(input_shape[2:], strides, extent, added, strict=True)]
    top, left, bottom, right = _cropped(node, whole, input_shape, strides)
    (eh, ew), (ah, aw) = extent, added
    pads = eh - 1 - top, ew - 1 - left, eh - 1 - bottom + ah, ew - 1 - right + aw
    return Window(kernel=kernel, dilations=dilations, pads=pads, input_dilations=strides)


def _cropped(
    node: Node, whole: list[int], input_shape: tuple[int, ...], strides: tuple[int, int]
) -> tuple[int, int, int, int]:
    """What a ConvTranspose crops from its `whole` result: pads, or what auto_pad or output_shape say.

    Negative where output_shape is more than the whole: zeros follow it, as in onnxruntime and ONNX's own test.
    """
    pads = node.take_ints("pads", (0, 0, 0, 0)) or ()
    auto_pad = node.take_string("auto_pad", "NOTSET")
    wanted = node.take_ints("output_shape", None)
    if auto_pad not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise node.fault(Code.UNSUPPORTED_ATTRIBUTE, f"auto_pad={auto_pad!r} is unknown")
    if wanted is not None and (len(wanted) != 2 or min(wanted) < 1):
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE, f"output_shape={list(wanted)} is not supported", hint="rows and columns"
        )
    if len(pads) != 4 or min(pads) < 0:
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE, f"pads={list(pads)} is not supported", hint="four numbers, none negative"
        )
    if wanted is None and auto_pad.startswith("SAME"):
        wanted = tuple(size * stride for size, stride in zip(input_shape[2:], strides, strict=True))
        if any(size < target for size, target in zip(whole, wanted, strict=True)):
            raise node.fault(
                Code.UNSUPPORTED_ATTRIBUTE,
                f"auto_pad={auto_pad!r} with strides {list(strides)} larger than the kernel is not supported",
                hint="use pads and output_padding",
            )
    if wanted is None:
        return (0, 0, 0, 0) if auto_pad == "VALID" else (pads[0], pads[1], pads[2], pads[3])
    (top, bottom), (left, right) = (
        _split(size - target, upper=auto_pad == "SAME_UPPER") for size, target in zip(whole, wanted, strict=True)
    )
    return top, left, bottom, right


def _split(total: int, *, upper: bool) -> tuple[int, int]:
    """Before and after; the odd one goes after (SAME_UPPER) or before; what is missing is missing after."""
    if total < 0:
        return 0, total
    return (total // 2, total - total // 2) if upper else (total - total // 2, total // 2)


def take_pair(node: Node, name: str, default: tuple[int, int] | None) -> tuple[int, int]:
    """An attribute of two positive numbers, for rows and columns. Raises CompileError for what is none."""
    values = node.take_ints(name, default)
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


def image_operand(builder: Builder, node: Node) -> Value:
    """The node's first operand, [N, C, H, W]. Raises CompileError for any other rank."""
    x = builder.operand(node, 0)
    if len(x.type.shape) != 4:
        raise node.fault(
            Code.UNSUPPORTED_SHAPE,
            f"{node.op_type} on a tensor of shape {list(x.type.shape)} is not supported",
            hint="only [N, C, H, W] and [N, C, L]",
        )
    return x


def checked_output(node: Node, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the result. Raises CompileError where no window fits into the input."""
    if min(shape) < 1:
        raise node.fault(
            Code.WINDOW, f"the window does not fit: the result would be {list(shape)}", hint="check kernel and pads"
        )
    return shape
