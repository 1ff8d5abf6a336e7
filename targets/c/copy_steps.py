"""Copies between layouts, as the fewest nested loops."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain

from pefslc.ir.structural import Pad, Slice, Transpose, Upsample
from pefslc.targets.c.steps import CopyStep
from pefslc.targets.c.storage import Tensor

__all__ = ["copied", "copy_step"]


def copied(op: Transpose | Slice | Upsample | Pad, source: Tensor, result: Tensor) -> CopyStep:
    """What the operation moves."""
    match op:
        case Transpose():
            return copy_step(source, result, op.permutation)
        case Slice():
            return _sliced(source, result, op)
        case Upsample():
            return _upsampled(source, result, op)
        case Pad():
            return _padded(source, result, op)


def copy_step(source: Tensor, result: Tensor, axes: range | tuple[int, ...], offset: int = 0) -> CopyStep:
    """result[i...] = source[permuted i...]; `axes[i]` is the source's axis of the result's axis i."""
    sizes, strides = [source.shape[a] for a in axes], [source.strides[a] for a in axes]
    return replace(_copy(source, result, zip(sizes, strides, result.strides, strict=True)), offset=offset)


def _sliced(source: Tensor, result: Tensor, op: Slice) -> CopyStep:
    """A part of the source."""
    strides = [step * stride for step, stride in zip(op.steps, source.strides, strict=True)]
    first = sum(begin * stride for begin, stride in zip(op.begins, source.strides, strict=True))
    loops = zip(result.shape, strides, result.strides, strict=True)
    return replace(_copy(source, result, loops), source_offset=first)


def _upsampled(source: Tensor, result: Tensor, op: Upsample) -> CopyStep:
    """Each pixel several times: of two loops along an axis, the inner one does not move in the source."""
    axes = zip(source.shape, op.factors, source.strides, result.strides, strict=True)
    loops = [((size, read, factor * write), (factor, 0, write)) for size, factor, read, write in axes]
    return _copy(source, result, chain.from_iterable(loops))


def _copy(source: Tensor, result: Tensor, along: Iterable[tuple[int, int, int]]) -> CopyStep:
    """From the source's start to the result's, by loops of (size, source stride, result stride)."""
    # The innermost loop writes consecutive elements where there is one that does.
    loops = sorted(along, key=lambda loop: -loop[2])
    loops = _merged([loop for loop in loops if loop[0] != 1] or [(1, 1, 1)])
    return CopyStep(
        source=source,
        result=result,
        sizes=tuple(loop[0] for loop in loops),
        source_strides=tuple(loop[1] for loop in loops),
        result_strides=tuple(loop[2] for loop in loops),
    )


def _padded(source: Tensor, result: Tensor, op: Pad) -> CopyStep:
    """The source inside of the result, zeros around it."""
    first = sum(count * stride for count, stride in zip(op.before, result.strides, strict=True))
    step = copy_step(source, result, range(len(source.shape)), first)
    return replace(step, fill=op.result.type.codes.zero_point)


def _merged(loops: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Neighbouring loops as one, where the outer one's steps are the inner one's full length."""
    merged = [loops[0]]
    for size, source, result in loops[1:]:
        outer = merged[-1]
        if outer[1] == size * source and outer[2] == size * result:
            merged[-1] = (outer[0] * size, source, result)
        else:
            merged.append((size, source, result))
    return merged
