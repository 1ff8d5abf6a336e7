"""The loops that sum products or reduce windows: convolutions, dense layers and pools as steps.

A step is made without what follows it: the planner adds the stages that join its loop.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.dilation_phases import Phase, phases
from pefslc.geometry.shapes import Window
from pefslc.ir.integer import Conv2d, Dense, SumPool
from pefslc.ir.structural import MaxPool
from pefslc.targets.c.dots import PIXEL_TILE, TAP_ALIGNMENT, accumulator_type, packed_rows, product_type
from pefslc.targets.c.steps import DepthwiseStep, DotPart, DotStep, Part, PoolStep
from pefslc.targets.c.storage import Buffer, CType, Place, Tensor, narrowest_signed, sum_type

__all__ = ["convolution_step", "dense_step", "pool_step"]

Codes = NDArray[np.int64]


def convolution_step(op: Conv2d, source: Tensor, result: Tensor, index: int) -> DotStep | DepthwiseStep:
    """The convolution of channels-last tensors; `index` is the step's in the program. Raises CompileError."""
    n, outputs = op.result.type.shape[:2]
    found = [(phase, _phase_weight(op, phase)) for phase in phases(op.window, *op.input.type.shape[2:])]
    kind = narrowest_signed(op.weight.data)
    if op.weight.shape[1] == 1 and op.groups == outputs:
        sums = accumulator_type(op)
        return DepthwiseStep(
            source=source,
            result=result,
            scratch=(_scratch(f"s{index}", sums, outputs),),
            parts=tuple(
                Part(rows=p.rows, columns=p.columns, window=p.window, weight=weight.T.astype(kind.dtype, order="C"))
                for p, weight in found
            ),
            weight_type=kind,
            bias=None if op.bias is None else op.bias.data,
            sums=sums,
            products=product_type(source, op.weight.data, sums),
        )
    parts = [_dot_part(source, weight, kind, phase, op.groups, n) for phase, weight in found]
    return _dot_step(op, source, result, index, parts, op.groups)


def _phase_weight(op: Conv2d, phase: Phase) -> Codes:
    """[outputs, KH, KW, channels of the group] of the phase's taps: the order of a channels-last tensor."""
    outputs, per_group = op.weight.shape[:2]
    if not phase.has_taps:
        return np.zeros((outputs, phase.window.taps * per_group), dtype=np.int64)
    return op.weight.data[:, :, *phase.taps].transpose(0, 2, 3, 1).reshape(outputs, -1)


def dense_step(op: Dense, source: Tensor, order: Codes | None, result: Tensor, index: int) -> DotStep:
    """The dense layer on rows of `source`; `order` says which weight belongs to each element, if not the next one."""
    weight = op.weight.data if order is None else op.weight.data[:, order]
    (point,) = phases(Window(kernel=(1, 1)), 1, 1)
    part = _dot_part(source, weight, narrowest_signed(weight), point, 1, op.result.type.shape[0])
    return _dot_step(op, source, result, index, [part], 1)


def _dot_part(source: Tensor, weight: Codes, kind: CType, phase: Phase, groups: int, images: int) -> DotPart:
    window = phase.window
    in_place = groups == 1 and window.kernel == window.strides == (1, 1) and not window.is_padded
    taps = padded = weight.shape[1]
    if not in_place:
        alignment = max(TAP_ALIGNMENT // source.type.bytes, 1)
        padded = -(-taps // alignment) * alignment
    pixels = images * len(phase.rows) * len(phase.columns)
    return DotPart(
        rows=phase.rows,
        columns=phase.columns,
        window=None if in_place else window,
        weight=packed_rows(weight, groups, padded, kind),
        pixels=pixels,
        tile=PIXEL_TILE if pixels >= PIXEL_TILE else 1,
        taps=taps,
        padded=padded,
    )


def _dot_step(
    op: Conv2d | Dense, source: Tensor, result: Tensor, index: int, parts: list[DotPart], groups: int
) -> DotStep:
    sums = accumulator_type(op)
    scratch = [_scratch(f"s{index}a", sums, max(part.tile * part.weight.shape[0] for part in parts))]
    patches = [part.tile * groups * part.padded for part in parts if part.window is not None]
    if patches:
        scratch.append(_scratch(f"s{index}p", source.type, max(patches)))
    return DotStep(
        source=source,
        result=result,
        scratch=tuple(scratch),
        parts=tuple(parts),
        groups=groups,
        weight_type=narrowest_signed(op.weight.data),
        bias=None if op.bias is None else op.bias.data,
        sums=sums,
        products=product_type(source, op.weight.data, sums),
        outputs=op.weight.shape[0],
    )


def pool_step(op: SumPool | MaxPool, source: Tensor, result: Tensor, index: int) -> PoolStep:
    """The maximum or sum over the windows of a channels-last tensor."""
    codes = op.result.type.codes
    factors = op.factors.data.reshape(-1) if isinstance(op, SumPool) and op.factors is not None else None
    largest = 0 if factors is None else int(factors.max())
    sums = sum_type(min(codes.low, source.low), max(codes.high, source.high, largest))
    return PoolStep(
        source=source,
        result=result,
        scratch=(_scratch(f"s{index}", sums, op.result.type.channels),),
        window=op.window,
        is_max=isinstance(op, MaxPool),
        sums=sums,
        factors=factors,
    )


def _scratch(name: str, kind: CType, elements: int) -> Buffer:
    return Buffer(name, Place.ARENA, kind, elements)
