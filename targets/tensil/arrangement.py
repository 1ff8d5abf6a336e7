"""Values whose elements lie in a stored tensor in another order: what Reshape and Transpose leave behind.

Nothing is moved for them. A convolution that reads shuffled channels has its weights' columns in the stored order, a
dense layer any order at all. Only who reads words as they lie (a maximum, an addition, an output) needs a copy, which a
permutation matrix makes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.shapes import Shape
from pefslc.targets.tensil.planes import Layout

__all__ = ["Arrangement"]

Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Arrangement:
    """`positions` has the value's shape, without the batch: where each element lies in the stored tensor [C, H, W]."""

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

    @property
    def is_natural(self) -> bool:
        """Whether the elements are in their own order: a flattened image, or the image itself."""
        flat = self.positions.reshape(-1)
        own = self.positions.ndim == 1 or self.positions.shape == self._shape
        return own and bool((flat == np.arange(flat.size)).all())

    @property
    def channels(self) -> Positions | None:
        """Where only channels changed places: the stored channel of each channel; else None."""
        if self.positions.shape != self._shape:
            return None
        pixels = np.arange(self.stored.pixels, dtype=np.int64).reshape(self._shape[1:])
        order = self.positions[:, 0, 0] // self.stored.pixels
        same = np.array_equal(self.positions, order[:, None, None] * self.stored.pixels + pixels)
        return order if same else None

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.stored.channels, self.stored.height, self.stored.width
