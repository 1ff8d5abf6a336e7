"""Pad: zeros around a tensor, or what lies at its edges again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.gathering import taken_along
from pefslc.frontend.node import Node
from pefslc.frontend.sizes import check_size
from pefslc.ir.structural import Pad
from pefslc.ir.value import Value

__all__ = ["import_pad"]


# The index that stands at position i, of `size` elements from 0 on (ONNX Pad-19).
_INDICES: dict[str, Callable[[int, int], int]] = {
    "edge": lambda i, size: min(max(i, 0), size - 1),
    "reflect": lambda i, size: size - 1 - abs(size - 1 - i % (2 * size - 2)) if size > 1 else 0,
    "wrap": lambda i, size: i % size,
}


def import_pad(builder: Builder, node: Node) -> Value:
    """Pad(x, pads, value, axes): pads as an attribute before opset 11, axes from opset 18."""
    x = builder.operand(node, 0)
    mode = node.take_string("mode", "constant")
    if mode not in ("constant", *_INDICES):
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE,
            f"Pad with mode={mode!r} is not supported",
            hint=f"'constant' with zeros, {', '.join(map(repr, _INDICES))}",
        )
    if node.opset < 11:
        counts, value = node.take_ints("pads", ()) or (), node.take_float("value", 0.0)
    else:
        counts = node.integers(1, "pads")
        value = node.scalar(2, "padding value") if node.has_input(2) else 0.0
    if mode == "constant" and value != 0:
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE, f"Pad with value {value:g} is not supported", hint="only zero padding"
        )
    rank = len(x.type.shape)
    axes = list(range(rank))
    if node.has_input(3):
        axes = [a % rank for a in node.integers(3, "axes")]
    if len(counts) != 2 * len(axes):
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE, f"pads={list(counts)} is not supported", hint=f"{2 * len(axes)} numbers"
        )
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = counts[i], counts[len(axes) + i]
    if before[0] or after[0]:
        raise node.fault(Code.UNSUPPORTED_SHAPE, "Pad of the batch axis is not supported")
    x = _cropped(builder, node, x, before, after)
    before, after = [max(n, 0) for n in before], [max(n, 0) for n in after]
    if mode != "constant":
        return _with_edges(builder, node, x, mode, before, after)
    if not any((*before, *after)):
        return x
    shape = tuple(b + size + a for b, size, a in zip(before, x.type.shape, after, strict=True))
    result = builder.new_value(shape, x.type.element, node.origin)
    return builder.append(Pad(result=result, input=x, before=tuple(before), after=tuple(after)))


def _with_edges(
    builder: Builder, node: Node, x: Value, mode: str, before: Sequence[int], after: Sequence[int]
) -> Value:
    for axis, (low, high) in enumerate(zip(before, after, strict=True)):
        if low or high:
            size = x.type.shape[axis]
            check_size((*x.type.shape[:axis], low + size + high, *x.type.shape[axis + 1 :]), node.origin)
            indices = [_INDICES[mode](i, size) for i in range(-low, size + high)]
            x = taken_along(builder, node, x, axis, indices)
    return x


def _cropped(builder: Builder, node: Node, x: Value, before: Sequence[int], after: Sequence[int]) -> Value:
    """x without what negative pads take off."""
    for axis, (low, high) in enumerate(zip(before, after, strict=True)):
        if min(low, high) < 0:
            left = range(x.type.shape[axis])[max(-low, 0) : x.type.shape[axis] - max(-high, 0)]
            if not left:
                raise node.fault(Code.EMPTY_AXIS, f"Pad of {list(x.type.shape)} leaves nothing of axis {axis}")
            x = taken_along(builder, node, x, axis, left)
    return x
