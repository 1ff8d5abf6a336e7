"""In which order a step reads and writes, unit by unit: how far its result may lie over what it reads.

A unit is what a step's loops compute before they write: the pixels of a tile, a pixel, an element. It reads all it
needs of `source` before it writes, and each element of a tensor that is added just before it writes that element. Units
write upward. So memory that no later unit reads is free: `distances` says how far below a tensor its result must begin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import Window
from pefslc.targets.c.stages import AddStage, MultiplyStage
from pefslc.targets.c.steps import ConvolutionStep, DepthwiseStep, DotStep, MapStep, PoolStep, Step, WinogradStep
from pefslc.targets.c.taps import Gather

__all__ = ["Units", "distances", "units_of"]

Elements = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """Of a step, in their order: elements of the source and of the result.

    reads   [units]: no element before this one is read of the source
    writes  [units]: the first element that is written; the same elements of added tensors are read
    ends    [units]: the element after the last one that is written
    whole   whether a unit reads all it needs of the source before it writes; else element by element, as it writes
    passes  whether it reads all that again, and added tensors, too, until its last write
    """

    reads: Elements
    writes: Elements
    ends: Elements
    whole: bool
    passes: bool = False


def units_of(step: Step) -> Units | None:
    """The units; None where the step reads and writes in another order, or several at a time."""
    if step.threads > 1 or (step.result.shape[0] > 1 and _copies_images(step)):
        return None  # a call may compute some lines of each image
    match step:
        case WinogradStep():
            return None
        case DotStep() if not step.is_phased and (step.parts[0].has_one_pass or step.parts[0].run):
            return _dot_units(step)
        case DepthwiseStep() if not step.is_phased:
            (part,) = step.parts
            assert part.window is not None
            grid = len(part.rows), len(part.columns)
            return _pixel_units(step, part.window, grid, step.result.shape[1])
        case PoolStep():
            return _pixel_units(step, step.window, step.result.shape[2:], step.result.shape[1])
        case MapStep():
            elements = np.arange(step.result.buffer.elements)
            return Units(elements, elements, elements + 1, whole=False)
        case _:
            return None


def distances(step: Step) -> dict[str, int]:
    """Buffer name -> d, for what the step reads: the result may begin d elements before that buffer, or further down,
    or where it does not touch it. Buffers that are not in it must not be touched. d < 0: it may begin so far inside.
    """
    units = units_of(step)
    if units is None:
        return {}
    found: dict[str, int] = {}

    def know(name: str, distance: int) -> None:
        found[name] = max(found.get(name, distance), distance)

    ends = np.maximum.accumulate(units.ends)
    source = step.source

    def beyond(reads: Elements, least: int) -> int:
        """How far elements are written beyond what is read later, at most."""
        later = np.minimum.accumulate(reads[::-1])[::-1]
        return int((ends - later if units.passes else ends[:-1] - later[1:]).max(initial=least))

    know(source.buffer.name, beyond(units.reads, -source.buffer.elements) if units.whole else 0)
    # Of elements that are read as they are written, a unit that computes some of them again reads them again.
    again = beyond(units.writes, 0)
    for stage in step.stages:
        if isinstance(stage, AddStage | MultiplyStage):
            other = stage.other
            is_gate = isinstance(stage, MultiplyStage) and stage.gate is not None
            if is_gate or other.type.bits != step.result.type.bits or other.shape != step.result.shape:
                found[other.buffer.name] = step.result.buffer.elements  # which is below all of it
            else:
                know(other.buffer.name, again)
    return found


def _copies_images(step: Step) -> bool:
    return isinstance(step, ConvolutionStep) and any(part.image is not None for part in step.parts)


def _dot_units(step: DotStep) -> Units:
    (part,) = step.parts
    n, channels, height, width = step.images
    if part.gather is Gather.IMAGE:  # lines: whoever copies more of the image before, reads earlier
        starts = np.arange(n * part.lines) * part.line
        count = part.line
    else:
        starts = np.minimum(np.arange(0, part.line, part.pixels), part.line - part.pixels)
        count = part.pixels
    outputs = step.outputs
    if part.window is None:
        reads = starts * channels
    else:
        first = _first_taps(part.window, (len(part.rows), len(part.columns)), (height, width))
        pixels = starts[:, None] + np.arange(count)
        per_image = channels * height * width
        of_image = pixels % len(first) if len(first) else pixels
        each = pixels // len(first) * per_image + first[of_image] * (1 if step.planes else channels)
        reads = each.min(axis=1)
    ends = (starts + count) * outputs
    if part.run:  # wherever a run begins, as a call may compute some of the tiles
        ends = ends[np.minimum(np.arange(len(ends)) + part.run, len(ends)) - 1]
    return Units(reads, starts * outputs, ends, whole=True, passes=bool(part.run))


def _pixel_units(step: Step, window: Window, grid: tuple[int, ...], channels: int) -> Units:
    n, source_channels, height, width = step.source.shape
    first = _first_taps(window, (grid[0], grid[1]), (height, width))
    images = np.arange(n)[:, None] * (source_channels * height * width)
    reads = (images + first * source_channels).reshape(-1)
    starts = np.arange(len(reads)) * channels
    return Units(reads, starts, starts + channels, whole=True)


def _first_taps(window: Window, grid: tuple[int, int], size: tuple[int, int]) -> Elements:
    """[pixels of the grid]: the pixel of the image that no tap of the window lies before."""

    def along(axis: int) -> Elements:
        at = np.arange(grid[axis]) * window.strides[axis] - window.pads[axis]
        return np.clip(at, 0, size[axis] - 1)

    return (along(0)[:, None] * size[1] + along(1)).reshape(-1)
