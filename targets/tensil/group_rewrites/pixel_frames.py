"""Which pixels share the lanes of an array of activations: a tap at the edge of an image lies inside for some only.

Sixteen pixels on 12 lanes are two blocks, so that each weight passes twice. But of a 3 x 3 window only the centre sees
all of 4 x 4 pixels: the three taps of the row above see 12 of them, and those of the row below as many. A *frame* holds
just these: its taps pass once, and in the end its sums are spread over the blocks by matrices of ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.groups.group import Stationary, Weights
from pefslc.targets.tensil.groups.layout import Layout

__all__ = ["PixelFrames", "SharedGathers", "passes_and_gathers", "pixel_frames", "shared_gathers"]

_GATHERS_SHARE = 32  # of the accumulators, pixels on their way under taps have one part in so many at least


@dataclass(frozen=True, slots=True, eq=False)
class PixelFrames:
    """How pixels lie, the order in which taps are numbered there, and the cycles that frames beside the blocks save."""

    stationary: Stationary
    order: tuple[int, ...]
    saved: int


@dataclass(frozen=True, slots=True)
class SharedGathers:
    """Pixels under taps that are the same for several taps and frames: of 3 x 3 taps, with a row of the image a frame,
    what the tap above sees of a frame is what the centre sees of the frame before. So they are brought once; and not at
    all where they are a block of the input as it lies there.

    matrices  the taps of all frames that are brought
    found     by tap of all frames: which of `matrices`, or -1 - the block of the input
    """

    matrices: tuple[int, ...]
    found: tuple[int, ...]

    def address(self, place: int, source: int, brought: int, channels: int) -> int:
        """Where the rows under a tap begin, where the input's begin at `source`, those brought at `brought`."""
        found = self.found[place]
        return brought + found * channels if found >= 0 else source + (-1 - found) * channels


def shared_gathers(pixels: Weights, array_size: int, channels: int) -> SharedGathers | None:
    """Of `Stationary.pixels`; None where arrays hold channels of several taps."""
    if channels % array_size:
        return None
    seen: dict[bytes, int] = {}
    matrices: list[int] = []
    found: list[int] = []
    padded = np.pad(pixels != 0, ((0, 0), (0, -pixels.shape[1] % array_size)))
    for block in range(pixels.shape[1] // array_size):  # full ones: lanes without a pixel may hold anything
        own = np.eye(array_size, padded.shape[1], block * array_size, dtype=np.bool_)
        seen[own.tobytes()] = -1 - block
    for place, matrix in enumerate(padded.reshape(-1, array_size, padded.shape[1])):
        key = matrix.tobytes()
        if key not in seen:
            seen[key] = len(matrices)
            matrices.append(place)
        found.append(seen[key])
    return SharedGathers(tuple(matrices), tuple(found))


def pixel_frames(
    window: Window, source: Layout, output: Layout, array_size: int, pass_cycles: int, spread_cycles: int
) -> PixelFrames | None:
    """The frames of a layer, where one saves more than it takes; None where some block sees nothing but padding.

    pass_cycles    what one tap's weights take for one frame
    spread_cycles  what it takes to bring a frame's sums to the blocks
    """
    ones = [_pixels_under(window, tap, source, output) for tap in range(window.taps)]
    blocks = -(-output.pixels // array_size)
    lanes = [tuple(range(b * array_size, min((b + 1) * array_size, output.pixels))) for b in range(blocks)]
    inside = [frozenset(np.flatnonzero(under.any(axis=1)).tolist()) for under in ones]
    frames_of = [tuple(b for b, own in enumerate(lanes) if seen.intersection(own)) for seen in inside]
    if set(range(blocks)) - {b for frames in frames_of for b in frames}:
        return None
    extra: list[tuple[int, ...]] = []
    saved = 0
    candidates = dict.fromkeys(tuple(sorted(seen)) for seen in inside if len(seen) <= array_size)
    while True:
        gains = {frame: pass_cycles * _passes_saved(frame, inside, frames_of) - spread_cycles for frame in candidates}
        best = max(gains, key=gains.__getitem__, default=None)
        if best is None or gains[best] <= 0:
            break
        for tap in _gaining(best, inside, frames_of):
            frames_of[tap] = (blocks + len(extra),)
        extra.append(best)
        saved += gains[best]
    order = tuple(sorted(range(window.taps), key=lambda tap: (frames_of[tap], tap)) if extra else range(window.taps))
    frames = [*lanes, *extra]
    taps = tuple(tuple(i for i, tap in enumerate(order) if f in frames_of[tap]) for f in range(len(frames)))
    under = [ones[order[i]][list(frame)] for frame, own in zip(frames, taps, strict=True) for i in own]
    rows = [np.pad(some, ((0, array_size - len(some)), (0, 0))) for some in under]
    spread = np.zeros((len(extra), blocks, array_size, array_size), dtype=np.int64)
    for f, frame in enumerate(extra):
        for lane, pixel in enumerate(frame):
            spread[f, pixel // array_size, lane, pixel % array_size] = 1
    return PixelFrames(Stationary(taps, np.concatenate(rows), spread if extra else None), order, saved)


def passes_and_gathers(slots: int, outputs: int, channels: int, accumulators: int) -> tuple[int, int]:
    """Passes over the output channels, and accumulators through which pixels go on their way under taps: as many as
    these few passes leave. Each pass brings the pixels again, and each part of their channels loads matrices again.

    slots  sums of each output channel that are held at once
    """
    least = max(accumulators // _GATHERS_SHARE, 1)
    passes = -(-outputs // max((accumulators - least) // slots, 1))
    return passes, min(channels, max(accumulators - slots * -(-outputs // passes), least))


def _pixels_under(window: Window, tap: int, source: Layout, output: Layout) -> Weights:
    """[output pixels, input pixels]: 1 where the output's pixel has the input's under the tap."""
    where = divmod(tap, window.kernel[1])
    rows, columns = window.seen(where, (source.height, source.width), (output.height, output.width))
    ones = np.zeros((output.pixels, source.pixels), dtype=np.int64)
    for y in rows:
        for x in columns:
            row, column = window.pixel(where, y, x)
            ones[y * output.width + x, row * source.width + column] = 1
    return ones


def _gaining(frame: tuple[int, ...], inside: list[frozenset[int]], frames_of: list[tuple[int, ...]]) -> list[int]:
    """The taps that pass more than once and lie inside for pixels of the frame only."""
    return [tap for tap, seen in enumerate(inside) if len(frames_of[tap]) > 1 and seen.issubset(frame)]


def _passes_saved(frame: tuple[int, ...], inside: list[frozenset[int]], frames_of: list[tuple[int, ...]]) -> int:
    return sum(len(frames_of[tap]) - 1 for tap in _gaining(frame, inside, frames_of))
