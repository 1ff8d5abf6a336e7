"""Concat, and elements at any indices along an axis: parts in equal steps, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.movement import transposed
from pefslc.frontend.node import Node
from pefslc.frontend.sizes import check_size
from pefslc.ir.structural import Concat, Slice
from pefslc.ir.value import Real, Value
from pefslc.numeric.format import Quantization

__all__ = ["import_concat", "taken_along"]

_MOST_PARTS = 1 << 10


def import_concat(builder: Builder, node: Node) -> Value:
    """Concat(x...) along any axis but the batch's."""
    parts = [builder.operand(node, i) for i in range(max(len(node.inputs), 1))]  # without any: the refusal
    rank = len(parts[0].type.shape)
    axis = node.take_int("axis", 1)
    axis += rank if axis < 0 else 0
    others = {(*p.type.shape[:axis], *p.type.shape[axis + 1 :]) for p in parts}
    if not 0 < axis < rank or len(others) != 1 or any(len(p.type.shape) != rank for p in parts):
        raise node.fault(
            Code.UNSUPPORTED_SHAPE,
            f"Concat of {', '.join(str(list(p.type.shape)) for p in parts)} along axis {axis} is not supported",
            hint="along any axis but the batch's, all other sizes equal",
        )
    return _side_by_side(builder, node, parts, axis)


def taken_along(builder: Builder, node: Node, x: Value, axis: int, indices: Sequence[int]) -> Value:
    """x at these indices along an axis that is not the batch's. Raises CompileError for too many parts."""
    if list(indices) == list(range(x.type.shape[axis])):
        return x
    check_size((*x.type.shape[:axis], len(indices), *x.type.shape[axis + 1 :]), node.origin)
    runs = list(_runs(indices))
    if len(runs) > _MOST_PARTS:
        raise node.fault(
            Code.UNSUPPORTED_SHAPE,
            f"{node.op_type} of {list(x.type.shape)} takes {len(runs)} parts along axis {axis}",
            hint=f"at most {_MOST_PARTS:,} are put side by side",
        )
    parts: dict[range, Value] = {}
    for run in runs:
        if run not in parts:
            parts[run] = _slice(builder, node, x, axis, run)
    return _side_by_side(builder, node, [parts[run] for run in runs], axis)


def _runs(indices: Sequence[int]) -> Iterator[range]:
    """Pieces in equal steps that are not 0, from the first on, each as long as it goes."""
    at = 0
    while at < len(indices):
        step = indices[at + 1] - indices[at] if at + 1 < len(indices) else 1
        end = at + 1
        while step and end < len(indices) and indices[end] - indices[end - 1] == step:
            end += 1
        yield range(indices[at], indices[at] + (end - at) * (step or 1), step or 1)
        at = end


def _slice(builder: Builder, node: Node, x: Value, axis: int, run: range) -> Value:
    shape = x.type.shape
    element = x.type.element
    if isinstance(element, Quantization) and element.scale.per_channel:
        element = Real()  # which of the scales, the integer level finds out
    begins, steps = [0] * len(shape), [1] * len(shape)
    begins[axis], steps[axis] = run.start, run.step
    result = builder.new_value((*shape[:axis], len(run), *shape[axis + 1 :]), element, node.origin)
    return builder.append(Slice(result=result, input=x, begins=tuple(begins), steps=tuple(steps)))


def _side_by_side(builder: Builder, node: Node, parts: Sequence[Value], axis: int) -> Value:
    """The parts along an axis that is not the batch's: along another than the channels as if it were that of these."""
    if len(parts) == 1 and node.op_type != "Concat":
        return parts[0]
    swap = list(range(len(parts[0].type.shape)))
    swap[1], swap[axis] = axis, 1
    if axis != 1:
        parts = [transposed(builder, part, tuple(swap)) for part in parts]
    first, count = parts[0].type.shape, sum(part.type.shape[1] for part in parts)
    shape = (first[0], count, *first[2:])
    joined = builder.append(Concat(result=builder.real(shape, node), inputs=tuple(parts), axis=1))
    return joined if axis == 1 else transposed(builder, joined, tuple(swap))
