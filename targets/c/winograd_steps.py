"""Convolutions of 3 x 3 by Winograd's F(2x2, 3x3), where the processor's row wants that and it is proven exact."""

from __future__ import annotations

from dataclasses import fields, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import Window
from pefslc.ir.integer import Conv2d
from pefslc.targets.c.certificates import fits_winograd
from pefslc.targets.c.cpus import Cpu
from pefslc.targets.c.dots import code_range, packed_weights
from pefslc.targets.c.steps import DotPart, DotStep, WinogradStep
from pefslc.targets.c.storage import scratch
from pefslc.targets.c.taps import Gather, PaddedImage, TapView
from pefslc.targets.c.tiles import chunks, pixels_of_a_tile, tile
from pefslc.targets.c.winograd import POINTS, point_weights

__all__ = ["winograd_step"]

Codes = NDArray[np.int64]

_RESULTS = 4  # of a square
_WORTH = Fraction(3, 5)  # of the multiplications: what is left at most, where squares are partly outside


def winograd_step(op: Conv2d, direct: DotStep, cpu: Cpu) -> WinogradStep | None:
    """What computes the same as `direct`; None where that is better, or this is not proven to be exact."""
    part = direct.parts[0]
    if not _suits(direct, part, cpu):
        return None
    weights = point_weights(op.weight.data)
    if not fits_winograd(weights, *code_range(direct.source)):
        return None
    return _step(direct, _part(direct, part, weights, cpu))


def _suits(direct: DotStep, part: DotPart, cpu: Cpu) -> bool:
    """Whether it is such a convolution, on a copy of the image, and large enough."""
    window = part.window
    if window is None or part.image is None or direct.is_phased or direct.order != cpu.order or direct.groups > 1:
        return False
    is_3x3 = replace(window, pads=(0, 0, 0, 0)) == Window(kernel=(3, 3))
    results = len(part.rows) * len(part.columns)
    saves = POINTS * _squares(part)[0] * _squares(part)[1] <= _WORTH * results * window.taps
    return is_3x3 and saves and 0 < cpu.winograd <= min(direct.images[1], direct.outputs)


def _squares(part: DotPart) -> tuple[int, int]:
    """Lines of them, and those of a line: the last ones may be partly outside."""
    return -(-len(part.rows) // 2), -(-len(part.columns) // 2)


def _part(direct: DotStep, part: DotPart, weights: Codes, cpu: Cpu) -> DotPart:
    """weights: [points, outputs, channels]"""
    order, outputs, (_, channels, height, width) = direct.order, direct.padded_outputs, direct.images
    taps = order.filled(channels, order.taps)
    view = TapView(pixel=taps, segments=1, segment=taps, taps=taps)
    lines, line = _squares(part)
    assert part.window is not None
    image = PaddedImage.of(part.window, (channels, height, width), (2 * lines, 2 * line), 2 * channels + taps)
    apiece, blocks = tile(cpu, lines * line, outputs // order.outputs, taps * direct.weight_type.bytes)
    near = cpu.cache // (POINTS * (taps * direct.taps.bytes + outputs * direct.sums.bytes))
    return DotPart(
        rows=part.rows,
        columns=part.columns,
        window=part.window,
        weight=np.concatenate([packed_weights(w, 1, outputs, view, order, direct.weight_type) for w in weights]),
        image=image,
        gather=Gather.IMAGE,
        view=view,
        lines=1,
        line=lines * line,
        pixels=pixels_of_a_tile(replace(cpu, tile=near), lines * line, apiece),
        apiece=apiece,
        chunks=tuple(chunks(cpu, outputs, blocks)),
        passes=False,
    )


def _step(direct: DotStep, part: DotPart) -> WinogradStep:
    """Scratch is for the sums of a tile's points, and the results of a square; the image; the taps of points."""
    same = {each.name: getattr(direct, each.name) for each in fields(direct)}
    sums = (POINTS * part.pixels + _RESULTS) * direct.padded_outputs
    buffers = (
        scratch("a", direct.sums, sums),
        scratch("p", direct.taps, part.copied),
        scratch("t", direct.taps, POINTS * part.pixels * part.view.pixel),
    )
    return WinogradStep(**{**same, "parts": (part,), "scratch": buffers})
