"""Values whose elements lie in a stored tensor in another order: what Reshape, Transpose and Slice leave behind.

Nothing is moved for them. A convolution that reads shuffled channels, or some of them, has its weights' columns in the
stored order, a dense layer any order at all. Only who reads words as they lie (a maximum, an addition, an
output) needs a copy, which a matrix of zeros and ones makes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import Shape, Window
from pefslc.ir.structural import Reshape, Slice, Transpose
from pefslc.ir.value import Op
from pefslc.targets.tensil.groups.layout import Layout

__all__ = ["Arrangement", "is_arrangement", "is_crop"]

Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Arrangement:
    """`positions` has the value's shape, without the batch: where each element lies in the stored tensor [C, H, W].

    Each position occurs at most once.
    """

    positions: Positions
    stored: Layout

    @classmethod
    def of(cls, stored: Layout, shape: Shape) -> Arrangement:
        """The elements of a stored tensor in their own order."""
        return cls(np.arange(stored.channels * stored.pixels, dtype=np.int64).reshape(shape[1:]), stored)

    def reshaped(self, shape: Shape) -> Arrangement:
        """After a Reshape to `shape`, which starts with the batch."""
        return Arrangement(self.positions.reshape(shape[1:]), self.stored)

    def transposed(self, permutation: tuple[int, ...]) -> Arrangement:
        """After a Transpose that leaves the batch in front."""
        return Arrangement(self.positions.transpose([axis - 1 for axis in permutation[1:]]), self.stored)

    def sliced(self, index: tuple[slice, ...]) -> Arrangement:
        """After a Slice; its index starts with the batch."""
        return Arrangement(self.positions[index[1:]], self.stored)

    def after(self, op: Reshape | Transpose | Slice) -> Arrangement:
        """The result of `op`, which reads the value."""
        match op:
            case Reshape():
                return self.reshaped(op.result.type.shape)
            case Transpose():
                return self.transposed(op.permutation)
            case Slice():
                return self.sliced(op.index)

    @property
    def is_natural(self) -> bool:
        """Whether these are all elements in their own order: a flattened image, or the image itself."""
        own = self.positions.ndim == 1 or self._is_image
        return own and np.array_equal(self.positions.reshape(-1), np.arange(self.stored.channels * self.stored.pixels))

    @property
    def channels(self) -> Positions | None:
        """Where whole channels were chosen and changed places: the stored channel of each channel; else None."""
        count = len(self.positions) if self.positions.ndim else 0
        if not self._is_image and not (self.positions.ndim == 1 and self.stored.pixels == 1):
            return None
        own = np.arange(self.stored.pixels, dtype=np.int64)
        order = self.positions.reshape(count, -1)[:, 0] // self.stored.pixels
        same = np.array_equal(self.positions.reshape(count, -1), order[:, None] * self.stored.pixels + own)
        return order if same else None

    @property
    def as_convolution(self) -> tuple[Positions, Window] | None:
        """Weights of 0 and 1, and the window, by which a convolution makes the value: what DepthToSpace and
        SpaceToDepth leave behind; None for what moves elements in another way.
        """
        pixels = (1, 1, *self.positions.shape[1:])[-2:]
        if self.positions.ndim not in (2, 3) or not self.positions.size:
            return None
        planes = self.positions.reshape(-1, *pixels)
        (rows, more_rows), (columns, more_columns) = (
            divmod(n, m) for n, m in zip(pixels, (self.stored.height, self.stored.width), strict=True)
        )
        if not (more_rows or more_columns) and rows and columns:
            return self._to_space(planes, rows, columns)
        (rows, more_rows), (columns, more_columns) = (
            divmod(n, m) for n, m in zip((self.stored.height, self.stored.width), pixels, strict=True)
        )
        return None if more_rows or more_columns or not (rows and columns) else self._to_depth(planes, rows, columns)

    def _to_space(self, planes: Positions, rows: int, columns: int) -> tuple[Positions, Window] | None:
        """Of channels that became pixels: a transposed convolution, each of whose taps sees one pixel."""
        stored, count = self.stored, len(planes)
        blocks = planes.reshape(count, stored.height, rows, stored.width, columns).transpose(0, 2, 4, 1, 3)
        first = blocks[:, :, :, :1, :1]
        if not np.array_equal(blocks.reshape(count, rows, columns, -1), _rasters(stored, first)):
            return None
        weight = np.zeros((count, stored.channels, rows, columns), dtype=np.int64)
        channel, i, j = np.indices((count, rows, columns))
        weight[channel, first[..., 0, 0] // stored.pixels, rows - 1 - i, columns - 1 - j] = 1
        pads = rows - 1, columns - 1, rows - 1, columns - 1
        return weight, Window(kernel=(rows, columns), pads=pads, input_dilations=(rows, columns))

    def _to_depth(self, planes: Positions, rows: int, columns: int) -> tuple[Positions, Window] | None:
        """Of pixels that became channels: a convolution whose strides are its kernel."""
        stored, count = self.stored, len(planes)
        raster = np.arange(stored.pixels, dtype=np.int64).reshape(stored.height, stored.width)[::rows, ::columns]
        first = planes[:, 0, 0]
        channel, place = first // stored.pixels, first % stored.pixels
        if not np.array_equal(planes, first[:, None, None] + raster):
            return None
        weight = np.zeros((count, stored.channels, rows, columns), dtype=np.int64)
        weight[np.arange(count), channel, place // stored.width, place % stored.width] = 1
        return weight, Window(kernel=(rows, columns), strides=(rows, columns))

    @property
    def _is_image(self) -> bool:
        """Whether the axes behind the channels are those of the stored tensor; of a sequence, which is one row, one."""
        pixels = self.positions.shape[1:]
        return ((1, *pixels) if len(pixels) == 1 else pixels) == (self.stored.height, self.stored.width)


def _rasters(stored: Layout, first: Positions) -> Positions:
    """All positions of the channels of which `first` [..., 1, 1] are the first: [..., pixels]; -1 for other firsts."""
    first = np.where(first % stored.pixels == 0, first, -1 - stored.pixels)[..., 0]
    return first + np.arange(stored.pixels, dtype=np.int64)


def is_arrangement(op: Op) -> TypeGuard[Reshape | Transpose | Slice]:
    """Whether the result is no tensor of its own. A part of an image is one."""
    return isinstance(op, Reshape | Transpose) or (isinstance(op, Slice) and not is_crop(op))


def is_crop(op: Slice) -> bool:
    """Whether it leaves out rows or columns of an image, in order."""
    shape = op.input.type.shape
    kept = all(r == range(size) for r, size in zip(op.ranges[2:], shape[2:], strict=True))
    return len(shape) == 4 and not kept and min(op.steps) > 0
