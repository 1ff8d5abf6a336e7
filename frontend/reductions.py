"""ReduceMean, ReduceSum, ReduceMax over any axes but the batch's: pools over what is reduced. ReduceMin likewise.

A minimum leaves the channels alone: the maximum of the negated tensor would have to mix them before they are quantized.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.movement import transposed
from pefslc.frontend.node import Node
from pefslc.geometry.shapes import Shape, Window, element_count, pool_shape
from pefslc.ir.quantized import AveragePool, Scaling
from pefslc.ir.structural import MaxPool, Reshape
from pefslc.ir.value import Value
from pefslc.numeric.format import Quantization
from pefslc.numeric.stages import Affine

__all__ = ["import_reduction"]


def import_reduction(builder: Builder, node: Node) -> Value:
    """The mean, sum, maximum or minimum over the axes: they stay with size 1, or go where keepdims is 0."""
    x = builder.operand(node, 0)
    shape = x.type.shape
    if len(shape) < 2:
        raise node.fault(
            Code.UNSUPPORTED_SHAPE,
            f"{node.op_type} of a tensor of shape {list(shape)} is not supported",
            hint="a batch axis, and others",
        )
    axes = _axes(node, len(shape))
    kept = [a for a in range(1, len(shape)) if a not in axes]
    count = element_count(tuple(shape[a] for a in axes))
    keepdims = bool(node.take_int("keepdims", 1))
    if node.op_type == "ReduceMin" and 1 in axes:
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE,
            "ReduceMin over the channels is not supported",
            hint="over rows and columns, or the length of a sequence",
        )
    if len(shape) == 4 and set(axes) <= {2, 3}:
        image, window = x, Window(kernel=(shape[2] if 2 in axes else 1, shape[3] if 3 in axes else 1))
    else:
        image, window = _as_image(builder, node, x, kept, axes), Window(kernel=(1, count))
    left = (shape[0], *((1 if a in axes else shape[a]) for a in range(1, len(shape)) if keepdims or a not in axes))
    if node.op_type == "ReduceMin":  # -max(-x)
        image = _scaled(builder, node, image, Fraction(-1))
    reduced = _reshaped(builder, node, _pooled(builder, node, image, window), left)
    # The factor comes last, where a quantizer can take it in.
    factor = {"ReduceMin": -1, "ReduceSum": count}.get(node.op_type, 1)
    return reduced if factor == 1 else _scaled(builder, node, reduced, Fraction(factor))


def _axes(node: Node, rank: int) -> list[int]:
    """What is reduced, in order."""
    axes = node.take_axes()
    node.ignore("noop_with_empty_axes")
    found = sorted({a % rank if -rank <= a < rank else rank for a in axes or range(rank)})
    if rank not in found and 0 not in found:
        return found
    raise node.fault(
        Code.UNSUPPORTED_ATTRIBUTE,
        f"{node.op_type} over axes {list(axes or ())} of {rank} is not supported",
        hint="over any axes but the batch's",
    )


def _as_image(builder: Builder, node: Node, x: Value, kept: Sequence[int], axes: Sequence[int]) -> Value:
    """x as [N, what is kept, 1, what is reduced]."""
    shape = x.type.shape
    order = (0, *kept, *axes)
    if order != tuple(range(len(shape))):
        element = x.type.element
        if isinstance(element, Quantization) and element.scale.per_channel:
            raise node.fault(
                Code.SCALE_PER_CHANNEL,
                f"{node.op_type} over channels with one scale per channel is not supported",
                hint="quantize per tensor in front of it",
            )
        known = builder.channels_first.get(x.name)
        if known is not None and order == (0, len(shape) - 1, *range(1, len(shape) - 1)):
            builder.superseded.add(x.name)
            x = known
        else:
            x = transposed(builder, x, order)
    channels = element_count(tuple(shape[a] for a in kept))
    return _reshaped(builder, node, x, (shape[0], channels, 1, element_count(tuple(shape[a] for a in axes))))


def _pooled(builder: Builder, node: Node, image: Value, window: Window) -> Value:
    shape = pool_shape(image.type.shape, window)
    if node.op_type in ("ReduceMean", "ReduceSum"):
        return builder.append(AveragePool(result=builder.real(shape, node), input=image, window=window))
    result = builder.new_value(shape, image.type.element, node.origin)
    return builder.append(MaxPool(result=result, input=image, window=window))


def _scaled(builder: Builder, node: Node, x: Value, factor: Fraction) -> Value:
    stage = Affine.product((factor,))
    return builder.append(Scaling(result=builder.real(x.type.shape, node), input=x, stage=stage))


def _reshaped(builder: Builder, node: Node, x: Value, shape: Shape) -> Value:
    if x.type.shape == shape:
        return x
    return builder.append(Reshape(result=builder.new_value(shape, x.type.element, node.origin), input=x))
