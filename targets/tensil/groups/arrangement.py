"""Values whose elements lie in a stored tensor in another order: what Reshape, Transpose and Slice leave behind.

Nothing is moved for them. A convolution that reads shuffled channels, or some of them, has its weights' columns in the
stored order, a dense layer any order at all. Only who reads words as they lie (a maximum, an addition, an
output) needs a copy, which a matrix of zeros and ones makes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import Shape
from pefslc.targets.tensil.groups.layout import Layout

__all__ = ["Arrangement"]

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

    @property
    def is_natural(self) -> bool:
        """Whether these are all elements in their own order: a flattened image, or the image itself."""
        own = self.positions.ndim == 1 or self._is_image
        return own and np.array_equal(self.positions.reshape(-1), np.arange(self.stored.channels * self.stored.pixels))

    @property
    def channels(self) -> Positions | None:
        """Where whole channels were chosen and changed places: the stored channel of each channel; else None."""
        count = len(self.positions)
        if not self._is_image and not (self.positions.ndim == 1 and self.stored.pixels == 1):
            return None
        own = np.arange(self.stored.pixels, dtype=np.int64)
        order = self.positions.reshape(count, -1)[:, 0] // self.stored.pixels
        same = np.array_equal(self.positions.reshape(count, -1), order[:, None] * self.stored.pixels + own)
        return order if same else None

    @property
    def _is_image(self) -> bool:
        """Whether the axes behind the channels are those of the stored tensor; of a sequence, which is one row, one."""
        pixels = self.positions.shape[1:]
        return ((1, *pixels) if len(pixels) == 1 else pixels) == (self.stored.height, self.stored.width)
