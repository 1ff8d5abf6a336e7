"""The loops that sum products or reduce windows: convolutions, dense layers and pools as steps.

A step is made without what follows it: the planner adds the stages that join its loop.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pefslc.ir.integer import Conv2d, Dense, SumPool
from pefslc.ir.structural import MaxPool
from pefslc.shapes import Window
from pefslc.targets.c.dots import PIXEL_TILE, TAP_ALIGNMENT, accumulator_type, packed_rows, product_type
from pefslc.targets.c.steps import DepthwiseStep, DotStep, PoolStep
from pefslc.targets.c.storage import Buffer, CType, Place, Tensor, narrowest_signed, sum_type

__all__ = ["convolution_step", "dense_step", "pool_step"]

Codes = NDArray[np.int64]


def convolution_step(op: Conv2d, source: Tensor, result: Tensor, index: int) -> DotStep | DepthwiseStep:
    """The convolution of channels-last tensors; `index` is the step's in the program. Raises CompileError."""
    n, outputs, rows, columns = op.result.type.shape
    per_group = op.weight.shape[1]
    # [outputs, KH, KW, channels of the group]: the order of a channels-last tensor.
    weight = op.weight.data.transpose(0, 2, 3, 1).reshape(outputs, op.window.taps * per_group)
    if per_group == 1 and op.groups == outputs and op.groups > 1:
        sums = accumulator_type(op)
        return DepthwiseStep(
            source=source,
            result=result,
            scratch=(_scratch(f"s{index}", sums, outputs),),
            window=op.window,
            weight=np.ascontiguousarray(weight.T),
            weight_type=narrowest_signed(weight),
            bias=None if op.bias is None else op.bias.data,
            sums=sums,
            products=product_type(source, weight, sums),
        )
    in_place = op.groups == 1 and op.window.kernel == op.window.strides == (1, 1) and not op.window.is_padded
    window = None if in_place else op.window
    return _dot_step(op, source, result, index, weight, pixels=n * rows * columns, window=window, groups=op.groups)


def dense_step(op: Dense, source: Tensor, order: Codes | None, result: Tensor, index: int) -> DotStep:
    """The dense layer on rows of `source`; `order` says which weight belongs to each element, if not the next one."""
    weight = op.weight.data if order is None else op.weight.data[:, order]
    return _dot_step(op, source, result, index, weight, pixels=op.result.type.shape[0], window=None, groups=1)


def _dot_step(
    op: Conv2d | Dense,
    source: Tensor,
    result: Tensor,
    index: int,
    weight: Codes,
    *,
    pixels: int,
    window: Window | None,
    groups: int,
) -> DotStep:
    outputs, taps = weight.shape
    sums = accumulator_type(op)
    tile = PIXEL_TILE if pixels >= PIXEL_TILE else 1
    padded = taps
    if window is not None:
        alignment = max(TAP_ALIGNMENT // source.type.bytes, 1)
        padded = -(-taps // alignment) * alignment
    packed = packed_rows(weight, groups, padded)
    scratch = [_scratch(f"s{index}a", sums, tile * packed.shape[0])]
    if window is not None:
        scratch.append(_scratch(f"s{index}p", source.type, tile * groups * padded))
    return DotStep(
        source=source,
        result=result,
        scratch=tuple(scratch),
        window=window,
        groups=groups,
        weight=packed,
        weight_type=narrowest_signed(weight),
        bias=None if op.bias is None else op.bias.data,
        sums=sums,
        products=product_type(source, weight, sums),
        pixels=pixels,
        tile=tile,
        outputs=outputs,
        taps=taps,
        padded=padded,
    )


def pool_step(op: SumPool | MaxPool, source: Tensor, result: Tensor, index: int) -> PoolStep:
    """The maximum or sum over the windows of a channels-last tensor."""
    codes = op.result.type.codes
    sums = sum_type(min(codes.low, source.low), max(codes.high, source.high))
    return PoolStep(
        source=source,
        result=result,
        scratch=(_scratch(f"s{index}", sums, op.result.type.channels),),
        window=op.window,
        is_max=isinstance(op, MaxPool),
        sums=sums,
    )


def _scratch(name: str, kind: CType, elements: int) -> Buffer:
    return Buffer(name, Place.ARENA, kind, elements)
