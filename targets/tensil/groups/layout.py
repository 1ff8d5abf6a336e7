"""How a tensor lies in the TCU's memories: channel blocks, each a raster of vectors.

Block b holds channels b*A .. b*A + A-1 in its lanes; its vectors run over rows, then columns. So a row of pixels is a
run of consecutive vectors, whatever the number of channels, and every MatMul has the stride of the convolution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import Shape, Window

__all__ = [
    "ALONE",
    "Layout",
    "Offsets",
    "Rect",
    "Run",
    "View",
    "from_vectors",
    "merged",
    "missed_runs",
    "packed",
    "rect_runs",
    "tap_runs",
    "to_vectors",
]

Codes = NDArray[np.int64]
Offsets = tuple[tuple[int, int], ...]  # (dy, dx) of the pixels that share a vector
ALONE: Offsets = ((0, 0),)  # a pixel for each vector


@dataclass(frozen=True, slots=True)
class Layout:
    """The shape of one stored tensor: [channels, height, width]; N features are [N, 1, 1], a sequence is one row."""

    channels: int
    height: int
    width: int

    @classmethod
    def of(cls, shape: Shape) -> Layout:
        """The layout of an ONNX shape [1, C, H, W], [1, C, W] or [1, N]."""
        channels, *pixels = shape[1:]
        height, width = (1,) * (2 - len(pixels)) + tuple(pixels)
        return cls(channels, height, width)

    def blocks(self, array_size: int) -> int:
        return -(-self.channels // array_size)

    @property
    def pixels(self) -> int:
        return self.height * self.width

    def vectors(self, array_size: int) -> int:
        """Vectors that the tensor takes."""
        return self.blocks(array_size) * self.pixels


@dataclass(frozen=True, slots=True)
class Rect:
    """Rows [top, bottom) and columns [left, right) of a raster."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def area(self) -> int:
        return self.height * self.width

    def under(self, window: Window, layout: Layout) -> Rect:
        """The part of the input that the window sees from this part of the output; empty where that is all padding."""
        (sh, sw), (eh, ew), (above, before) = window.strides, window.extent, window.pads[:2]
        uh, uw = window.input_dilations
        top = min(max(-((above - self.top * sh) // uh), 0), layout.height)
        left = min(max(-((before - self.left * sw) // uw), 0), layout.width)
        bottom = max(min(((self.bottom - 1) * sh - above + eh - 1) // uh + 1, layout.height), top)
        right = max(min(((self.right - 1) * sw - before + ew - 1) // uw + 1, layout.width), left)
        return Rect(top, bottom, left, right)


@dataclass(frozen=True, slots=True)
class View:
    """Where (part of) a tensor lies: the vector of block b, row y, column x is at
    base + block(b) + (y - top) * row_pitch + (x - left).

    apart  where each block begins, if they do not lie `block_pitch` behind each other
    """

    base: int
    block_pitch: int
    row_pitch: int
    top: int = 0
    left: int = 0
    apart: tuple[int, ...] = ()

    @classmethod
    def whole(cls, blocks: Sequence[int], layout: Layout) -> View:
        """Of a tensor whose blocks begin there."""
        first, pitch = blocks[0], layout.pixels
        behind = all(start == first + i * pitch for i, start in enumerate(blocks))
        return cls(first, pitch, layout.width, apart=() if behind else tuple(blocks))

    @classmethod
    def part(cls, base: int, rect: Rect) -> View:
        return cls(base, rect.area, rect.width, rect.top, rect.left)

    def block(self, block: int) -> int:
        """How far a block lies behind block 0."""
        return self.apart[block] - self.base if self.apart else block * self.block_pitch

    def address(self, block: int, y: int, x: int) -> int:
        return self.base + self.block(block) + (y - self.top) * self.row_pitch + (x - self.left)


@dataclass(frozen=True, slots=True)
class Run:
    """`vectors` pairs of addresses in two memories, relative to block 0 of their views; strides are exponents."""

    first: int
    second: int
    vectors: int
    first_stride: int = 0
    second_stride: int = 0


def tap_runs(
    window: Window,
    tap: tuple[int, int],
    rect: Rect,
    source: View,
    layout: Layout,
    target: View,
    strides: tuple[int, int],
) -> list[Run]:
    """The runs that bring input pixels under one tap to the output pixels in `rect`; what lies outside is left out.

    strides  the number of stride exponents that each side may use
    """
    seen = window.seen(tap, (layout.height, layout.width), (rect.bottom, rect.right))
    rows, columns = _not_before(seen[0], rect.top), _not_before(seen[1], rect.left)
    if not columns:
        return []
    steps = window.strides[1], columns.step
    runs: list[Run] = []
    for y in rows:
        first = source.address(0, *window.pixel(tap, y, columns.start))
        runs.extend(_row_runs(first, target.address(0, y, columns.start), len(columns), steps, strides))
    return merged(runs, strides)


def _not_before(positions: range, first: int) -> range:
    return positions[max(-((positions.start - first) // positions.step), 0) :]


def rect_runs(rect: Rect, source: View, target: View, strides: tuple[int, int] = (1, 1)) -> list[Run]:
    """The runs that copy a rectangle from one view to the other; none for an empty one."""
    if not rect.area:
        return []
    if rect.width == source.row_pitch == target.row_pitch:  # whole rows, one behind the other
        return [Run(source.address(0, rect.top, rect.left), target.address(0, rect.top, rect.left), rect.area)]
    runs = [
        Run(source.address(0, y, rect.left), target.address(0, y, rect.left), rect.width)
        for y in range(rect.top, rect.bottom)
    ]
    return merged(runs, strides)


def missed_runs(runs: list[Run], rect: Rect, strides: tuple[int, int]) -> list[Run]:
    """The runs of the vectors of a rectangle, laid out from address 0, that the second side of `runs` leaves out."""
    missed = np.ones(rect.area, dtype=bool)
    for run in runs:
        missed[run.second + (np.arange(run.vectors) << run.second_stride)] = False
    found: list[Run] = []
    for row in range(rect.height):
        columns = np.flatnonzero(missed[row * rect.width : (row + 1) * rect.width]) + row * rect.width
        for part in np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1):
            if len(part):
                found.append(Run(int(part[0]), int(part[0]), len(part)))
    return merged(found, (min(strides), min(strides)))


def _row_runs(first: int, second: int, count: int, steps: tuple[int, int], strides: tuple[int, int]) -> Iterator[Run]:
    exponents = [step.bit_length() - 1 for step in steps]
    if all(s == 1 << e and e < limit for s, e, limit in zip(steps, exponents, strides, strict=True)):
        yield Run(first, second, count, *(exponents if count > 1 else (0, 0)))
    else:
        for i in range(count):
            yield Run(first + i * steps[0], second + i * steps[1], 1)


def merged(runs: list[Run], strides: tuple[int, int]) -> list[Run]:
    """Consecutive runs joined where one stride on each side reaches over both."""
    merged: list[Run] = []
    for run in runs:
        joined = _join(merged[-1], run, strides) if merged else None
        if joined is None:
            merged.append(run)
        else:
            merged[-1] = joined
    return merged


def _join(a: Run, b: Run, strides: tuple[int, int]) -> Run | None:
    first = _exponent(a.first, a.vectors, a.first_stride, b.first, strides[0])
    second = _exponent(a.second, a.vectors, a.second_stride, b.second, strides[1])
    if first is None or second is None:
        return None
    if b.vectors > 1 and (first, second) != (b.first_stride, b.second_stride):
        return None
    return Run(a.first, a.second, a.vectors + b.vectors, first, second)


def _exponent(start: int, vectors: int, exponent: int, following: int, limit: int) -> int | None:
    """The stride exponent with which a run from `start` goes on to `following`; None where there is none."""
    if vectors > 1:
        return exponent if following == start + (vectors << exponent) else None
    step = following - start
    if step <= 0 or step & (step - 1) or step.bit_length() > limit:
        return None
    return step.bit_length() - 1


def to_vectors(codes: Codes, array_size: int, *, by_pixel: bool = False, dense: bool = False) -> Codes:
    """[C, H, W] codes as vectors [blocks * H * W, A]; lanes without a channel hold 0.

    by_pixel  the blocks of one pixel's channels lie one behind the other
    dense     so do pixels, without a gap: [C * H * W / A, A]
    """
    if dense:
        return codes.transpose(1, 2, 0).reshape(-1, array_size)
    channels, height, width = codes.shape
    blocks = -(-channels // array_size)
    padded = np.zeros((blocks * array_size, height, width), dtype=np.int64)
    padded[:channels] = codes
    vectors = padded.reshape(blocks, array_size, height * width)
    return vectors.transpose((2, 0, 1) if by_pixel else (0, 2, 1)).reshape(-1, array_size)


def from_vectors(vectors: Codes, layout: Layout, *, by_pixel: bool = False) -> Codes:
    """The [C, H, W] codes that `to_vectors` laid out."""
    array_size = vectors.shape[1]
    blocks = layout.blocks(array_size)
    if by_pixel:
        planes = vectors.reshape(layout.pixels, blocks, array_size).transpose(1, 2, 0)
    else:
        planes = vectors.reshape(blocks, layout.pixels, array_size).transpose(0, 2, 1)
    return planes.reshape(blocks * array_size, layout.height, layout.width)[: layout.channels]


def packed(codes: Codes, offsets: Offsets, steps: tuple[int, int] = (1, 1)) -> Codes:
    """[C, H, W] codes with neighbouring pixels as channels: [len(offsets) * C, H, W]; 0 outside of the image. Of these,
    those of every so many rows and columns.
    """
    channels, height, width = codes.shape
    result = np.zeros((len(offsets), channels, height, width), dtype=np.int64)
    for j, (dy, dx) in enumerate(offsets):
        y, x = max(-dy, 0), max(-dx, 0)
        source = codes[:, y + dy : max(height + dy, 0), x + dx : max(width + dx, 0)]
        result[j, :, y : y + source.shape[1], x : x + source.shape[2]] = source
    return result.reshape(-1, height, width)[:, :: steps[0], :: steps[1]]
