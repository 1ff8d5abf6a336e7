"""Operators that take a part of a tensor: Slice, Split, Gather. The batch stays whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.node import Node
from pefslc.ir.structural import Concat, Reshape, Slice
from pefslc.ir.value import Real, Value
from pefslc.numeric.format import Quantization

__all__ = ["import_gather", "import_slice", "import_split"]

_MOST_RUNS = 64  # each is an operation


def import_slice(builder: Builder, node: Node) -> Value:
    """Slice(x, starts, ends, axes, steps), as Python slices: attributes before opset 10, without steps."""
    x = builder.operand(node, 0)
    if node.opset < 10:
        starts, ends = node.take_ints("starts", ()) or (), node.take_ints("ends", ()) or ()
        axes, steps = node.take_ints("axes", None), None
    else:
        starts, ends = node.integers(1, "list of starts"), node.integers(2, "list of ends")
        axes = node.integers(3, "list of axes") if node.has_input(3) else None
        steps = node.integers(4, "list of steps") if node.has_input(4) else None
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise node.fault(
            Code.SHAPE_MISMATCH,
            f"Slice has {len(starts)} starts, {len(ends)} ends, {len(axes)} axes and {len(steps)} steps",
            hint="export the model again",
        )
    if 0 in steps:
        raise node.fault(Code.PARAMETER_VALUE, "Slice with a step of 0", hint="export the model again")
    taken = _everything(x)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        at = _axis(node, x, axis)
        taken[at] = range(x.type.shape[at])[start:end:step]
    return _part(builder, node, x, taken)


def import_split(builder: Builder, node: Node) -> tuple[Value, ...]:
    """Split(x): as many parts as the node has outputs. Their sizes: an attribute before opset 13, input 1 since."""
    x = builder.operand(node, 0)
    axis = _axis(node, x, node.take_int("axis", 0))
    parts, begin = [], 0
    for size, tensor in zip(_split_sizes(node, x.type.shape[axis]), node.raw.outputs, strict=True):
        taken = _everything(x)
        taken[axis] = range(begin, begin + size)
        parts.append(_part(builder, node, x, taken, tensor.name))
        begin += size
    return tuple(parts)


def _split_sizes(node: Node, total: int) -> tuple[int, ...]:
    """Of each output along the axis. Equal by default; from opset 18 the last may be smaller."""
    count = len(node.raw.outputs)
    if node.opset < 13:
        sizes = node.take_ints("split", None)
    else:
        sizes = node.integers(1, "list of sizes") if node.has_input(1) else None
    declared = node.take_int("num_outputs", count) if node.opset >= 18 else count
    if sizes is None:
        each = -(-total // count)
        even = total % count == 0 or node.opset >= 18
        sizes = (*[each] * (count - 1), total - each * (count - 1)) if even else ()
    if declared != count or len(sizes) != count or min(sizes) < 0 or sum(sizes) != total:
        raise node.fault(
            Code.SHAPE_MISMATCH,
            f"Split of {total} into {count} parts" + (f" of sizes {list(sizes)}" if sizes else " of one size"),
            hint="export the model again",
        )
    return sizes


def import_gather(builder: Builder, node: Node) -> Value:
    """Gather(x, indices) of one index, which drops the axis; of indices in equal steps; of any channels."""
    x = builder.operand(node, 0)
    axis = _axis(node, x, node.take_int("axis", 0))
    size, rank = x.type.shape[axis], node.constant(1, "list of indices").ndim
    indices = node.integers(1, "list of indices")
    if any(not -size <= i < size for i in indices):
        raise node.fault(Code.SHAPE_MISMATCH, f"Gather of {_shown(indices)} from {size}", hint="export the model again")
    runs = _runs([i % size for i in indices])
    if rank > 1 or not runs or (len(runs) > 1 and axis != 1) or len(runs) > _MOST_RUNS:
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE,
            f"Gather of {_shown(indices)} is not supported",
            hint="one index, or indices in equal steps: x[:, 3], x[:, 0::2]; of channels (axis 1), "
            f"{_MOST_RUNS} such runs",
        )
    parts = []
    for run in runs:
        taken = _everything(x)
        taken[axis] = run
        parts.append(_part(builder, node, x, taken))
    if len(parts) > 1:
        shape = (x.type.shape[0], len(indices), *x.type.shape[2:])
        return builder.append(Concat(result=builder.real(shape, node), inputs=tuple(parts), axis=1))
    (part,) = parts
    if rank == 1:
        return part
    shape = (*part.type.shape[:axis], *part.type.shape[axis + 1 :])
    return builder.append(Reshape(result=builder.new_value(shape, part.type.element, node.origin), input=part))


def _runs(indices: Sequence[int]) -> list[range]:
    """The indices in order, cut where the step changes: each run as long as it can be."""
    runs: list[range] = []
    for i in indices:
        last = runs[-1] if runs else None
        step = i - last[-1] if last is not None else 0
        if last is not None and step and (len(last) == 1 or step == last.step):
            runs[-1] = range(last.start, i + (1 if step > 0 else -1), step)
        else:
            runs.append(range(i, i + 1))
    return runs


def _shown(indices: Sequence[int]) -> str:
    """The first of them: there may be thousands."""
    return f"indices [{', '.join(map(str, indices[:8]))}{', ...' if len(indices) > 8 else ''}]"


def _everything(x: Value) -> list[range]:
    return [range(size) for size in x.type.shape]


def _axis(node: Node, x: Value, axis: int) -> int:
    """The axis, counted from the first. Raises CompileError where `x` has none such."""
    rank = len(x.type.shape)
    if not -rank <= axis < rank:
        raise node.fault(
            Code.SHAPE_MISMATCH,
            f"{node.op_type} along axis {axis} of {list(x.type.shape)}",
            hint="export the model again",
        )
    return axis % rank


def _part(builder: Builder, node: Node, x: Value, taken: Sequence[range], name: str | None = None) -> Value:
    """The part of `x` with these indices, as the node's first output or the one of that name."""
    if taken[0] != range(x.type.shape[0]):
        raise node.fault(
            Code.UNSUPPORTED_SHAPE,
            f"{node.op_type} along the batch axis of {list(x.type.shape)} is not supported",
            hint="keep the batch axis",
        )
    element = x.type.element
    if isinstance(element, Quantization) and element.scale.per_channel:
        element = Real()  # which of the scales, the integer level finds out
    origin = node.origin if name is None else replace(node.origin, tensor=name)
    result = builder.new_value(tuple(map(len, taken)), element, origin)
    begins, steps = tuple(r.start for r in taken), tuple(r.step for r in taken)
    return builder.append(Slice(result=result, input=x, begins=begins, steps=steps))
