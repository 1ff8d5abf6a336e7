"""Where the taps of a dot product lie, and how they come there.

A kernel reads the taps of pixel p at  x[p * pixel + s * segment + i],  s < segments, i < taps.  Rows that lie in memory
(a dense layer, a 1 x 1 convolution) are one segment each. So are *patches*: the window of each pixel, copied together:
its rows, each pixel after pixel, or of planes channel after channel.
In a padded copy of the *image* a window is one segment a row of the kernel, and its pixels need no copies of their own.
So it is in a *strip*: what the pixels of one tile, side by side, see of the image. Windows there
share all their columns but one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pefslc.geometry.shapes import Window
from pefslc.targets.c.storage import CType

__all__ = ["Gather", "Move", "PaddedImage", "TapView"]


class Gather(Enum):
    """How the taps come to lie as the kernel reads them."""

    NONE = "none"  # they do already
    ROWS = "rows"  # they do, but as codes, of which each tile's taps are made
    PATCH = "patch"  # of each pixel of a tile
    STRIP = "strip"  # of the image, that all pixels of a tile see, with its pads
    IMAGE = "image"  # with its pads


@dataclass(frozen=True, slots=True)
class Move:
    """How codes of one type become taps of another: each `offset` more."""

    source: CType
    taps: CType
    offset: int

    @property
    def is_copy(self) -> bool:
        """Whether the bytes stay as they are."""
        return self.offset == 0 and self.source.bits == self.taps.bits

    @property
    def name(self) -> str:
        """Of the C function. Types of one width have one offset: 128, from signed to unsigned, or -128."""
        return f"{self.source.short}_to_{self.taps.short}"


@dataclass(frozen=True, slots=True)
class TapView:
    """Strides in elements. `taps` of a segment, filled up: where the last ones are no taps, their weights are zero."""

    pixel: int
    segments: int
    segment: int
    taps: int

    @property
    def padded(self) -> int:
        """Taps of a pixel, filled up."""
        return self.segments * self.taps


@dataclass(frozen=True, slots=True)
class PaddedImage:
    """The part of an image that windows see, with its pads: [rows, columns, channels], and `slack` elements behind it.

    held           rows that are in memory together: all of them, or those that a line of results sees
    top, left      the pads before the image; negative ones crop it
    source_height, source_width  of the image itself
    """

    rows: int
    columns: int
    channels: int
    held: int
    top: int
    left: int
    source_height: int
    source_width: int
    slack: int

    @classmethod
    def of(
        cls, window: Window, source: tuple[int, int, int], grid: tuple[int, int], filled: int, *, by_line: bool = False
    ) -> PaddedImage:
        """For the windows of `grid` results over a source of (channels, height, width).

        filled   taps of a segment as the kernel reads them: behind the last one that is there, it reads slack
        by_line  whether the rows of one line of results are in memory together, rather than all
        """
        channels, height, width = source
        (sh, sw), (eh, ew) = window.strides, window.extent
        rows, columns = (grid[0] - 1) * sh + eh, (grid[1] - 1) * sw + ew
        slack = filled - window.kernel[1] * channels
        held = eh if by_line else rows
        return cls(rows, columns, channels, held, window.pads[0], window.pads[1], height, width, slack)

    @property
    def elements(self) -> int:
        return self.held * self.columns * self.channels + self.slack

    @property
    def is_by_line(self) -> bool:
        """Whether the rows of each line of results are copied by themselves, to where those of the last one were."""
        return self.held < self.rows

    @property
    def row_elements(self) -> int:
        return self.columns * self.channels

    @property
    def first_row(self) -> int:
        """The first row that the image is in."""
        return min(max(self.top, 0), self.rows)

    @property
    def end_row(self) -> int:
        """The row after the last one that the image is in."""
        return max(min(self.top + self.source_height, self.rows), self.first_row)

    @property
    def is_outside(self) -> bool:
        """Whether all is pads."""
        return self.first_row == self.end_row

    @property
    def before(self) -> int:
        """Elements of a row before those of the image."""
        return min(max(self.left, 0), self.columns) * self.channels

    @property
    def inside(self) -> int:
        """Elements of a row that are the image's."""
        return max(min(self.left + self.source_width, self.columns) - max(self.left, 0), 0) * self.channels

    @property
    def behind(self) -> int:
        """Elements of a row behind those of the image."""
        return self.row_elements - self.before - self.inside
