"""What one pass computes of a result: a rectangle of its pixels, of some pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pefslc.targets.tensil.groups.layout import Rect

__all__ = ["Part"]


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
