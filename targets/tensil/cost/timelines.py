"""What a run does to the memories, over modelled cycles: vectors held on the chip, bytes moved to and from DRAM."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pefslc.artifacts.costs import Timeline
from pefslc.targets.tensil.cost.cycles import CycleReport
from pefslc.targets.tensil.program.accesses import Memory
from pefslc.targets.tensil.program.table import Column

__all__ = ["timelines"]

_PARTS = 240  # of a run: a few pixels of a picture each


def timelines(
    cycles: CycleReport, held: Mapping[Memory, Column], moved: Mapping[Memory, Column]
) -> tuple[Timeline, ...]:
    """A line for each memory, each of as many equal parts of the run; none for a program without instructions.

    An instruction lasts until the next one is issued: the decoder waits for what moves to or from DRAM.

    held   [instructions] the vectors in use at each; of a part the most
    moved  [instructions] the bytes that each moves, evenly while it lasts; of a part the sum
    """
    if not cycles.issued.size:
        return ()
    edges = np.linspace(0, cycles.total, min(_PARTS, max(cycles.total, 1)) + 1)
    return (
        *(_line(m, cycles, _largest(cycles.issued, edges, column)) for m, column in held.items()),
        *(_line(m, cycles, _sums(cycles, edges, column), moves=True) for m, column in moved.items()),
    )


def _line(memory: Memory, cycles: CycleReport, values: Column, *, moves: bool = False) -> Timeline:
    return Timeline(
        memory=memory.value,
        unit="bytes" if moves else "vectors",
        moves=moves,
        time_unit=cycles.unit,
        end=cycles.total,
        values=tuple(values.tolist()),
    )


def _sums(cycles: CycleReport, edges: NDArray[np.float64], column: Column) -> Column:
    """Whole bytes that add up to those of all instructions."""
    before = np.concatenate([[0], np.cumsum(column)])
    times = np.append(cycles.issued, cycles.total)
    return np.asarray(np.diff(np.rint(np.interp(edges, times, before))), dtype=np.int64)


def _largest(issued: NDArray[np.float64], edges: NDArray[np.float64], column: Column) -> Column:
    """Of the instructions that last into each part."""
    first = np.maximum(np.searchsorted(issued, edges[:-1], "right") - 1, 0)
    end = np.maximum(np.searchsorted(issued, edges[1:], "left"), first + 1)
    ranges = np.stack([first, end], axis=1).reshape(-1)
    return np.asarray(np.maximum.reduceat(np.append(column, 0), ranges)[::2], dtype=np.int64)
