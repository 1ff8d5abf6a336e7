"""Pad: zeros around a tensor."""

from __future__ import annotations

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.node import Node
from pefslc.ir.structural import Pad
from pefslc.ir.value import Value

__all__ = ["import_pad"]


def import_pad(builder: Builder, node: Node) -> Value:
    """Pad(x, pads, value, axes): pads as an attribute before opset 11, axes from opset 18."""
    x = builder.operand(node, 0)
    mode = node.take_string("mode", "constant")
    if mode != "constant":
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE, f"Pad with mode={mode!r} is not supported", hint="only zero padding"
        )
    if node.opset < 11:
        counts, value = node.take_ints("pads", ()) or (), node.take_float("value", 0.0)
    else:
        counts = node.integers(1, "pads")
        value = node.scalar(2, "padding value") if node.has_input(2) else 0.0
    if value != 0:
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE, f"Pad with value {value:g} is not supported", hint="only zero padding"
        )
    rank = len(x.type.shape)
    axes = list(range(rank))
    if node.has_input(3):
        axes = [a % rank for a in node.integers(3, "axes")]
    if len(counts) != 2 * len(axes) or min(counts, default=0) < 0:
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE,
            f"pads={list(counts)} is not supported",
            hint=f"{2 * len(axes)} numbers, none negative",
        )
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = counts[i], counts[len(axes) + i]
    if before[0] or after[0]:
        raise node.fault(Code.UNSUPPORTED_SHAPE, "Pad of the batch axis is not supported")
    shape = tuple(b + size + a for b, size, a in zip(before, x.type.shape, after, strict=True))
    result = builder.new_value(shape, x.type.element, node.origin)
    return builder.append(Pad(result=result, input=x, before=tuple(before), after=tuple(after)))
