"""Instructions of layers whose weights move while activations stay in the array, and of transpositions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.architecture import Architecture
from pefslc.targets.tensil.constants import Constants
from pefslc.targets.tensil.emitter import Emitter
from pefslc.targets.tensil.groups import LinearHead
from pefslc.targets.tensil.placed import PlacedGroup
from pefslc.targets.tensil.planes import Layout, Rect, Run, merged

__all__ = ["MovingWeights", "shifted_ones", "transpose"]

Words = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Array:
    """What is in the array at a time: inputs [first, first + rows), that is (tap, channel), of some blocks of pixels.

    rows_of  per block of pixels, vectors from the base of the tensor of pixels under taps to the array's rows
    opens    blocks of which this is the first array
    """

    first: int
    rows: int
    rows_of: dict[int, int]
    opens: frozenset[int]


class MovingWeights:
    """The sums of one group. `channels` are the input's; DRAM1 holds, per range of outputs, their biases if there are
    any, each in all lanes, then for each array a row of weights for each output.
    """

    def __init__(self, placed: PlacedGroup, channels: int, array_size: int) -> None:
        head = placed.group.head
        assert isinstance(head, LinearHead)
        self._a = array_size
        self._weight = placed.terms[0].weight.reshape(len(placed.bias), -1)
        self._bias = placed.bias
        self._arrays = list(_arrays(head.stationary, channels, array_size))
        self._addresses: dict[range, int] = {}

    @property
    def rows(self) -> int:
        """Vectors that DRAM1 holds for it."""
        return len(self._bias) * (len(self._arrays) + 1)

    def emit(
        self, source: int, outputs: range, blocks: Sequence[int], buffer: range, emitter: Emitter, constants: Constants
    ) -> None:
        """accumulators[i * len(outputs) + o] = the sum of the o-th output for the pixels of blocks[i].

        source  where the tensor of pixels under taps lies
        buffer  local memory that weights are read to, as many arrays at once as it holds
        """
        arrays: list[_Array | None] = [*([None] if self._bias.any() else []), *self._arrays]
        address, count = self._store(outputs, constants), len(outputs)
        at_once, part = max(len(buffer) // count, 1), min(len(buffer), count)
        for start in range(0, len(arrays), at_once):
            together = arrays[start : start + at_once]
            for first in range(0, count, part):
                rows = min(part, count - first)
                read = rows if rows < count else count * len(together)
                local = constants.fetch(emitter, buffer[0], address + start * count + first, read)
                for i, array in enumerate(together):
                    self._move(array, local + i * count, first, rows, source, count, blocks, emitter)

    def _move(
        self, array: _Array | None, local: int, first: int, rows: int, source: int, count: int, blocks: Sequence[int],
        emitter: Emitter,
    ) -> None:  # fmt: skip
        """Move rows from `local` through an array, or biases to the accumulators, of outputs from the `first`-th on."""
        for i, block in enumerate(blocks):
            if array is None:
                emitter.to_accumulators(local, i * count + first, rows)
            elif block in array.rows_of:
                emitter.load_weights(source + array.rows_of[block], array.rows, has_bias=False)
                opens = block in array.opens and not self._bias.any()
                emitter.matmul(local, i * count + first, rows, 0, 0, accumulate=not opens)

    def _store(self, outputs: range, constants: Constants) -> int:
        if outputs not in self._addresses:
            weight, bias = (words[outputs.start : outputs.stop] for words in (self._weight, self._bias))
            rows = np.zeros((len(self._arrays), len(outputs), self._a), dtype=np.int64)
            for row, array in zip(rows, self._arrays, strict=True):
                row[:, : array.rows] = weight[:, array.first : array.first + array.rows]
            biases = np.repeat(bias[:, None], self._a, axis=1) if self._bias.any() else rows[:0, 0]
            self._addresses[outputs] = constants.store(np.concatenate([biases, rows.reshape(-1, self._a)]))
        return self._addresses[outputs]


def _arrays(stationary: tuple[tuple[int, ...], ...], channels: int, a: int) -> Iterator[_Array]:
    """Taps that follow each other and lie inside of the input for the same blocks are cut into arrays as one."""
    bases = np.cumsum([0, *map(len, stationary)]).tolist()
    taps = range(max(map(max, stationary)) + 1)
    opened: set[int] = set()
    for blocks, group in groupby(taps, lambda tap: [b for b, under in enumerate(stationary) if tap in under]):
        first, *others = group
        start, end = first * channels, (first + 1 + len(others)) * channels
        for row in range(start, end, a) if blocks else ():
            rows_of = {b: (bases[b] + stationary[b].index(first)) * channels + row - start for b in blocks}
            yield _Array(row, min(a, end - row), rows_of, frozenset(blocks) - opened)
            opened.update(blocks)


def shifted_ones(architecture: Architecture) -> Words:
    """The rows that `transpose` needs in local memory: zeros, then the identity."""
    a = architecture.array_size
    return np.eye(a + 1, a, -1, dtype=np.int64) * architecture.data_type.one


def transpose(
    source: int, layout: Layout, rect: Rect, width: int, blocks: Sequence[int], rows: int, machine: Architecture,
    emitter: Emitter,
) -> None:  # fmt: skip
    """accumulators = the tensor at `source` with lanes and vectors exchanged: a rectangle of some blocks of the result,
    whose images are `width` wide. `rows` is where the rows of `shifted_ones` lie.

    No product of matrices transposes. But a single 1 in the array sends one lane to one lane, and each vector that
    passes to an address of its own. Shifting the array by a row moves the 1 to the next lane that is read.
    """
    a, strides = machine.array_size, (machine.stride0_depth, machine.stride1_depth)
    pixels = [y * width + x for y in range(rect.top, rect.bottom) for x in range(rect.left, rect.right)]
    for lane in range(min(a, layout.pixels)):
        emitter.clear_weights()
        emitter.load_weights(rows + 1 + lane, 1, has_bias=True)
        for source_lane in range(min(a, layout.channels)):
            emitter.load_weights(rows, 1, has_bias=True)
            runs = [
                Run(source + pixel // a * layout.pixels + block * a + lane, i * rect.area + j, 1)
                for i, block in enumerate(blocks)
                if block * a + lane < layout.pixels
                for j, pixel in enumerate(pixels)
                if pixel % a == source_lane
            ]
            for run in merged(runs, strides):
                emitter.matmul(
                    run.first, run.second, run.vectors, run.first_stride, run.second_stride, accumulate=lane > 0
                )
