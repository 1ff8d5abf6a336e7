"""Tensors repeated along axes of size 1, as Expand does it, and Add, Sub, Mul of shapes that differ."""

from __future__ import annotations

import numpy as np

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.node import Node
from pefslc.frontend.sizes import check_size
from pefslc.geometry.shapes import Shape
from pefslc.ir.structural import Concat, Upsample
from pefslc.ir.value import Value

__all__ = ["broadcast_shape", "expanded", "import_expand"]

_MOST_CHANNELS = 1 << 12  # side by side, each a tensor of its own until then


def import_expand(builder: Builder, node: Node) -> Value:
    """Expand(x, shape): axes of size 1 become those of `shape`; axes that `shape` lacks stay."""
    x = builder.operand(node, 0)
    wanted = node.integers(1, "shape")
    shape = broadcast_shape(x.type.shape, wanted)
    if shape is None or len(shape) != len(x.type.shape):
        raise node.fault(
            Code.UNSUPPORTED_SHAPE,
            f"Expand of {list(x.type.shape)} to {list(wanted)} is not supported",
            hint="axes of size 1, of as many as the tensor has",
        )
    return expanded(builder, node, x, shape)


def broadcast_shape(left: Shape, right: Shape) -> Shape | None:
    """The shape of both, broadcast; None where they contradict each other."""
    if min((*left, *right), default=1) < 1:
        return None
    try:
        return np.broadcast_shapes(left, right)
    except ValueError:
        return None


def expanded(builder: Builder, node: Node, x: Value, shape: Shape) -> Value:
    """x with the axes of size 1 repeated; `shape` has as many axes. Raises CompileError for the batch's."""
    own = x.type.shape
    if own == shape:
        return x
    check_size(shape, node.origin)
    if own[0] != shape[0] or len(own) < 2 or shape[1] > max(own[1], _MOST_CHANNELS):
        raise node.fault(
            Code.UNSUPPORTED_SHAPE,
            f"{node.op_type} that repeats {list(own)} as {list(shape)} is not supported",
            hint=f"the batch stays; one channel may become {_MOST_CHANNELS:,}",
        )
    factors = (1, 1, *(size // before for before, size in zip(own[2:], shape[2:], strict=True)))
    if set(factors) != {1}:
        result = builder.new_value((*own[:2], *shape[2:]), x.type.element, node.origin)
        x = builder.append(Upsample(result=result, input=x, factors=factors))
    if own[1] != shape[1]:
        x = builder.append(Concat(result=builder.real(shape, node), inputs=(x,) * shape[1], axis=1))
    return x
