"""Convolutions of each channel by itself as steps: a vector register has a lane for each channel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.dilation_phases import Phase
from pefslc.geometry.shapes import Window
from pefslc.ir.integer import Conv2d
from pefslc.targets.c.cpus import Cpu
from pefslc.targets.c.dots import accumulator_type, converted_taps, product_type
from pefslc.targets.c.steps import DepthwisePart, DepthwiseStep
from pefslc.targets.c.storage import INT32, CType, Tensor, dtype_of, narrowest_signed, round_up, scratch
from pefslc.targets.c.taps import PaddedImage
from pefslc.targets.c.weight_orders import TAPS, WeightOrder

__all__ = ["depthwise_step", "is_depthwise"]

Codes = NDArray[np.int64]

_SIGNED_BYTE = CType(8, signed=True)


def is_depthwise(op: Conv2d) -> bool:
    """Whether each channel of the result is made of one channel, its own."""
    return op.weight.shape[1] == 1 and op.groups == op.weight.shape[0]


def depthwise_step(
    op: Conv2d, source: Tensor, result: Tensor, found: list[tuple[Phase, Codes]], cpu: Cpu
) -> DepthwiseStep:
    """The convolution of channels-last tensors.

    found  the phases, and the weights of each: [channels, KH * KW]
    """
    n, channels, height, width = source.shape
    sums, kind = accumulator_type(op), narrowest_signed(op.weight.data)
    bias, taps, offset, order = None if op.bias is None else op.bias.data, source.type, 0, None
    if cpu.depthwise is not None and (kind, sums, len(found)) == (_SIGNED_BYTE, INT32, 1):
        wanted = cpu.depthwise_taps or cpu.taps
        taps, offset, bias = converted_taps(source, found[0][1], bias, wanted, may_offset=True)
        order = cpu.depthwise if taps == wanted else None
    lanes = cpu.lanes if len(found) == 1 else 0
    parts = [_part(phase, weight, source, order, kind, cpu.copies_line, lanes) for phase, weight in found]
    together = max(part.run if order is None else len(part.columns) for part in parts)
    buffers = [scratch("", sums, channels * together)]
    if parts[0].image is not None:
        buffers.append(scratch("p", taps, parts[0].image.elements))
    return DepthwiseStep(
        source=source,
        result=result,
        scratch=tuple(buffers),
        images=(n, channels, height, width),
        order=order,
        taps=taps,
        offset=offset,
        parts=tuple(parts),
        weight_type=(order and cpu.widens and order.widened) or kind,
        bias=bias,
        sums=sums,
        products=product_type(source, op.weight.data, sums, narrow=order == TAPS),
    )


def _part(
    phase: Phase, weight: Codes, source: Tensor, order: WeightOrder | None, kind: CType, by_line: bool, lanes: int
) -> DepthwisePart:
    """weight: [channels, KH * KW]."""
    window, channels = phase.window, len(weight)
    image, run = None, 1
    if order in (None, TAPS):
        run = _run(window, channels, len(phase.columns), lanes)
        weight = np.tile(weight, (run, 1))
    if order is not None:
        grid = len(phase.rows), len(phase.columns)
        _, _, height, width = source.shape
        image = PaddedImage.of(window, (channels, height, width), grid, window.kernel[1] * channels, by_line=by_line)
    packed = _packed(weight.reshape(-1, *window.kernel), order).astype(dtype_of(kind))
    return DepthwisePart(rows=phase.rows, columns=phase.columns, window=window, weight=packed, image=image, run=run)


def _run(window: Window, channels: int, columns: int, lanes: int) -> int:
    """Pixels side by side that are as one of more channels: their taps lie side by side, too."""
    return max(min(lanes // channels, columns), 1) if window.strides[1] == 1 else 1


def _packed(weight: Codes, order: WeightOrder | None) -> Codes:
    """[channels, KH, KW] as [channels / o][KH / t][KW][o][t], filled up with zeros; or as [KH][KW][channels]."""
    if order is None or order == TAPS:
        return np.ascontiguousarray(weight.transpose(1, 2, 0))
    channels, height, width = weight.shape
    o, t = order.outputs, order.taps
    filled = np.zeros((round_up(channels, o), round_up(height, t), width), dtype=np.int64)
    filled[:channels, :height] = weight
    return np.ascontiguousarray(filled.reshape(-1, o, filled.shape[1] // t, t, width).transpose(0, 2, 4, 1, 3))
