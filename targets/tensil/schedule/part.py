"""What one pass computes of a result, a rectangle of its pixels, of some pictures; and what is told of all passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pefslc.targets.tensil.groups.layout import Rect
from pefslc.targets.tensil.matrix.matrix_steps import MatrixStep

__all__ = ["Part", "PassSummary"]


@dataclass(frozen=True, slots=True)
class Part:
    """The accumulators hold so many `vectors` for each output block: the rectangle of one picture after the other."""

    rect: Rect
    pictures: range

    @property
    def vectors(self) -> int:
        return self.rect.area * len(self.pictures)

    @property
    def picture(self) -> int:
        """The one of a part that has no others."""
        (picture,) = self.pictures
        return picture

    def each(self) -> Iterator[tuple[int, int]]:
        """(picture, where it begins among the accumulators of a block)."""
        for i, picture in enumerate(self.pictures):
            yield picture, i * self.rect.area


@dataclass(frozen=True, slots=True)
class PassSummary:
    """The passes of one group: how many, how large the largest is, and how the leading steps of the first are done: of
    `simd_blocks` blocks by SIMD, of the others by `steps`.
    """

    count: int
    rows: int
    columns: int
    blocks: int
    simd_blocks: int
    steps: tuple[MatrixStep, ...]
    pictures: int
    weight_rows: int
    readings: int
