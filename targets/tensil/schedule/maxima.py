"""Maxima over windows by SIMD: all pixels that a window sees lie in accumulators, and pass one register.

The first pixel goes to the register, each further one meets it there at two cycles, and the last one's maximum is
written at four: of k pixels, 2 k + 2 cycles. Where the accumulators cannot hold the whole input of a pass, some taps at
a time meet the maximum of those before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.groups.layout import Layout, Rect, View, rect_runs, tap_runs
from pefslc.targets.tensil.machine.instructions import SimdOperation
from pefslc.targets.tensil.schedule.emitter import Emitter

__all__ = ["emit_maximum", "held_vectors"]


def held_vectors(window: Window, rect: Rect, seen: int) -> int:
    """Accumulators for the input of a pass over `rect`, whose windows see `seen` pixels: the pixels as they lie, or
    those under each tap, whichever are fewer.
    """
    return min(seen, window.taps * rect.area)


def emit_maximum(
    window: Window, layout: Layout, rect: Rect, source: View, capacity: int, strides: tuple[int, int], emitter: Emitter
) -> None:
    """accumulators[i] = the largest of what the window sees from the i-th pixel of `rect`, or what it held where that
    is nothing. `source` is where the input lies in local memory; accumulators below `capacity` are free.
    """
    if window.taps == 1:
        for run in tap_runs(window, (0, 0), rect, source, layout, View.part(0, rect), strides):
            emitter.to_accumulators(run.first, run.second, run.vectors, run.first_stride, run.second_stride)
        return
    opened: set[int] = set()
    for under in _parts(window, layout, rect, source, capacity, strides, emitter):
        for target, sources in sorted(under.items()):
            emitter.simd_reduce(SimdOperation.MAX, [target, *sources] if target in opened else sources, target)
        opened |= under.keys()


def _parts(
    window: Window, layout: Layout, rect: Rect, source: View, capacity: int, strides: tuple[int, int], emitter: Emitter
) -> Iterator[dict[int, list[int]]]:
    """By output accumulator, those that hold pixels under it, in parts that fit; emits the moves that bring each."""
    first, target, seen = rect.area, View.part(0, rect), rect.under(window, layout)
    taps = [(y, x) for y in range(window.kernel[0]) for x in range(window.kernel[1])]
    found: dict[int, list[int]] = defaultdict(list)
    if held_vectors(window, rect, seen.area) == seen.area <= capacity - first:
        held = View.part(first, seen)
        for run in rect_runs(seen, source, held):
            emitter.to_accumulators(run.first, run.second, run.vectors)
        for tap in taps:
            for run in tap_runs(window, tap, rect, held, layout, target, strides):
                for i in range(run.vectors):
                    found[run.second + (i << run.second_stride)].append(run.first + (i << run.first_stride))
        yield found
        return
    lane = first
    for tap in taps:
        if lane + rect.area > capacity:
            yield found
            found, lane = defaultdict(list), first
        for run in tap_runs(window, tap, rect, source, layout, target, strides):
            emitter.to_accumulators(run.first, lane, run.vectors, run.first_stride)
            for i in range(run.vectors):
                found[run.second + (i << run.second_stride)].append(lane + i)
            lane += run.vectors
    yield found
