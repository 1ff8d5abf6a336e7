"""What convolutions cost, counted in tiles of weights: for choices that are made before anything is placed."""

from __future__ import annotations

import numpy as np

from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.groups.group import Weights
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.timing import tile_cycles, vector_beats

__all__ = ["convolution_cycles", "inside_cycles", "tile_count"]


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


def tile_count(weight: Weights, array_size: int) -> int:
    """The tiles of weights [C_out, C_in, KH, KW] that are not all zero."""
    lanes = range(0, weight.shape[1], array_size)
    blocks = (weight[first : first + array_size].any(axis=0) for first in range(0, len(weight), array_size))
    return sum(int(np.count_nonzero(np.logical_or.reduceat(used, lanes, axis=0))) for used in blocks)
