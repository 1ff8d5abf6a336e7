"""Weights on their way from DRAM1 to the array: stored in the order of use, read in bursts, loaded tile by tile."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.timing import (
    SIMD_CYCLES,
    drain_cycles,
    read_overhead_cycles,
    simd_in_drain_cycles,
    streaming_cycles,
)
from pefslc.targets.tensil.schedule.constants import Constants
from pefslc.targets.tensil.schedule.emitter import Emitter
from pefslc.targets.tensil.schedule.moved_rows import Flags, ranges_of, shortest_gap, worth_moving
from pefslc.targets.tensil.schedule.weights import Tile

__all__ = ["KeptWeights", "WeightStream", "hidden_behind"]

Words = NDArray[np.int64]


@dataclass
class KeptWeights:
    """Local memory for the weights of a group that runs several times: `size` vectors from `base` on, which hold what
    DRAM1 holds from `address` on, once the first run has read it.
    """

    base: int
    size: int
    address: int | None = None


def hidden_behind(tile: Tile, architecture: Architecture, *, is_read: bool) -> int:
    """Cycles of SIMD that loading a tile hides: the drain, and its share of a DRAM read, if there is one."""
    free = simd_in_drain_cycles(architecture.array_size)
    return free + (streaming_cycles(architecture, tile.adding_rows) if is_read else 0)


class WeightStream:
    """The tiles of one group. `base` and `size` are the buffer in local memory; with `kept`, it is elsewhere.

    Rows of zeros are neither stored nor read: the array makes them (LoadWeights zeroes), as fast as it loads others
    ("MM16 LW5 LZ2 LW5 LZ1" is as "MM16 LW12 LZ1"). With `whole` they are: where each MatMul is of one vector, loads of
    few rows do not keep its sums apart (`check.hazards`).

    Reads are as long as the buffer, for each costs its latency. But where SIMD waits, more of it than the tiles' drains
    hide, short reads hide it too: then weights are read a little at a time, and before that no further than to the end
    of the output block after which SIMD will wait. And where the array drains for longer than a read's latency, each
    tile is read alone: while it comes, the array drains of the tile before.
    """

    def __init__(
        self, tiles: Sequence[Tile], base: int, size: int, emitter: Emitter, constants: Constants,
        kept: KeptWeights | None = None, *, whole: bool = False,
    ) -> None:  # fmt: skip
        self._base, self._size, self._emitter, self._constants = base, size, emitter, constants
        self._address: dict[Tile, int] = {}  # where its rows lie in DRAM1
        self._pieces: dict[int, list[range]] = {}  # which of its rows, by that address
        self._block_end: dict[Tile, int] = {}  # where its output block ends there
        self._ends: list[int] = []  # where tiles end there, rising
        self._simd_waits = False  # for the blocks to come
        self._buffered = (0, 0)  # DRAM1 rows in the buffer
        array_size = emitter.architecture.array_size
        self._drains_long = drain_cycles(array_size) > read_overhead_cycles()
        self._free_simd = simd_in_drain_cycles(array_size)
        self._in_array: int | None = None  # the address of the tile that was loaded last
        self.rows = 0  # of all tiles, each once
        runs: list[list[Tile]] = []
        for tile in tiles:
            if runs and tile.loads_the_same_as(runs[-1][0]):
                runs[-1].append(tile)
            else:
                runs.append([tile])
        if not runs:
            return
        first_tiles = [same[0] for same in runs]
        rows, stored = np.concatenate([tile.rows for tile in first_tiles]), _stored_rows(first_tiles, whole=whole)
        lengths = np.array([len(tile.rows) for tile in first_tiles])
        address = constants.store(rows[stored[np.arange(stored.shape[1]) < lengths[:, None]]])
        first = address
        pieces: list[list[range]] = [[] for _ in runs]
        for i, piece in ranges_of(stored):
            pieces[i].append(piece)
        for same, own in zip(runs, pieces, strict=True):
            self._address |= dict.fromkeys(same, address)
            self._pieces[address] = own
            address += sum(map(len, own))
            self._ends.append(address)
        self.rows = address - first
        if kept is not None:
            self._take(kept, first)
        end, following = address, tiles[-1]
        for tile in reversed(tiles):
            if tile.out_block != following.out_block:
                end = self._end(tile)
            self._block_end[tile], following = end, tile

    def _take(self, kept: KeptWeights, address: int) -> None:
        """Use what is kept, or read it there; nothing of it where a run has other tiles than the first."""
        if kept.address is None and self.rows <= kept.size:
            kept.address = address
            self._emitter.fill_behind_read(self.rows)
            self._constants.fetch(self._emitter, kept.base, address, self.rows)
        if kept.address == address and self.rows <= kept.size:
            self._base, self._size, self._buffered = kept.base, kept.size, (address, address + self.rows)

    def expect_simd(self, *, waits: bool) -> None:
        """Whether SIMD will wait at the ends of the output blocks to come."""
        self._simd_waits = waits

    def load(self, tile: Tile) -> None:
        """Bring the tile into the array, unless it is there; pending SIMD runs meanwhile."""
        address = self._address[tile]  # tiles that follow each other and are equal share it
        if address == self._in_array:
            return
        local = self._fetch(tile)
        self._emitter.fill(self._free_simd)
        self._emitter.load_weights(local, len(tile.rows), has_bias=tile.has_bias, pieces=self._pieces[address])
        self._in_array = address

    def forget_array(self) -> None:
        """Something else was loaded into the array."""
        self._in_array = None

    def _end(self, tile: Tile) -> int:
        """Where its rows end in DRAM1."""
        address = self._address[tile]
        return address + sum(map(len, self._pieces[address]))

    def _fetch(self, tile: Tile) -> int:
        """The local address of the tile's rows; reads it and as many of the following as fit, if it is not there."""
        start = self._address[tile]
        if self._constants.resident:
            return start
        if not (self._buffered[0] <= start and self._end(tile) <= self._buffered[1]):
            end = self._read_end(start, tile)
            self._emitter.fill_behind_read(end - start)
            self._constants.fetch(self._emitter, self._base, start, end - start)
            self._buffered = (start, end)
        return self._base + start - self._buffered[0]

    def _read_end(self, start: int, tile: Tile) -> int:
        """Where the read that begins with a tile ends: at the end of a tile, within the buffer's size."""
        first, last = bisect_right(self._ends, start), len(self._ends)
        if self._drains_long:
            return self._ends[first]
        most = self._size
        if self._emitter.pending * SIMD_CYCLES > (last - first) * self._free_simd:
            most = min(most, self._emitter.rows_that_hide_the_queue)
        elif self._simd_waits:
            most = min(most, self._block_end[tile] - start)
        return self._ends[max(bisect_right(self._ends, start + most) - 1, first)]


def _stored_rows(tiles: Sequence[Tile], *, whole: bool) -> Flags:
    """[tiles, rows of the longest]: which rows of each are stored; one at least, and the bias row, if there is one."""
    found = np.zeros((len(tiles), max(len(tile.rows) for tile in tiles)), dtype=np.bool_)
    for flags, tile in zip(found, tiles, strict=True):
        flags[: len(tile.rows)] = whole or tile.rows.any(axis=1)
        flags[0] |= tile.has_bias or not flags.any()
    return worth_moving(found, shortest_gap(sum(len(tile.rows) for tile in tiles)))
