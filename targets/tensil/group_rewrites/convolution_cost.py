"""What convolutions cost, counted in tiles of weights: for choices that are made before anything is placed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.groups.group import Weights
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.timing import drain_cycles, streaming_cycles, tile_cycles, vector_beats

__all__ = ["convolution_cycles", "inside_cycles", "stream_cycles", "tile_count", "tiles_of_few_lanes"]


def convolution_cycles(weight: Weights, pixels: int, architecture: Architecture) -> int:
    """Cycles of a convolution with so many output pixels: for each tile the read, the load, and a MatMul a pixel."""
    a = architecture.array_size
    return tile_count(weight, a) * (pixels + tile_cycles(a) + a * vector_beats(architecture))


def inside_cycles(weight: Weights, window: Window, source: Layout, output: Layout, architecture: Architecture) -> int:
    """The same with MatMuls for those pixels only under whose taps there is one of the source."""
    size, positions = (source.height, source.width), (output.height, output.width)
    return sum(
        convolution_cycles(weight[:, :, y : y + 1, x : x + 1], window.reach((y, x), size, positions), architecture)
        for y in range(window.kernel[0])
        for x in range(window.kernel[1])
    )


def stream_cycles(tensors: Iterable[Layout], architecture: Architecture) -> int:
    """Cycles in which a group reads, once, those of its tensors that stay in DRAM0: local memory has no room for them
    and for as much again (`schedule.tensor_memory`).
    """
    sizes = [layout.vectors(architecture.array_size) for layout in tensors]
    return streaming_cycles(architecture, sum(n for n in sizes if 2 * n > architecture.local_depth))


def tile_count(weight: Weights, array_size: int) -> int:
    """The tiles of weights [C_out, C_in, KH, KW] that are not all zero."""
    lanes = range(0, weight.shape[1], array_size)
    blocks = (weight[first : first + array_size].any(axis=0) for first in range(0, len(weight), array_size))
    return sum(int(np.count_nonzero(np.logical_or.reduceat(used, lanes, axis=0))) for used in blocks)


def tiles_of_few_lanes(
    weight: Weights, window: Window, source: Layout, output: Layout, architecture: Architecture
) -> tuple[int, int]:
    """Cycles without the reads, and the rows to read, where a tile has rows for the lanes that hold channels alone."""
    size, positions, a = (source.height, source.width), (output.height, output.width), architecture.array_size
    outputs, inputs = (np.arange(0, count, a) for count in weight.shape[:2])
    lanes = np.minimum(weight.shape[1] - inputs, a)
    used = np.logical_or.reduceat(np.logical_or.reduceat(weight != 0, outputs, axis=0), inputs, axis=1)
    rows = int((used.sum(axis=(0, 2, 3)) * lanes).sum())
    tiles = used.sum(axis=(0, 1))
    cycles = rows + sum(
        int(tiles[y, x]) * (window.reach((y, x), size, positions) + drain_cycles(a) + 1)
        for y, x in np.ndindex(*window.kernel)
    )
    return cycles, rows
