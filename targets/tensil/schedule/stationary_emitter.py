"""Instructions of layers whose weights move while activations stay in the array, and of transpositions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, zip_longest
from math import gcd
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.group_rewrites.pixel_frames import SharedGathers, passes_and_gathers, shared_gathers
from pefslc.targets.tensil.groups.group import Stationary
from pefslc.targets.tensil.groups.layout import Layout, Rect, Run, merged
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.schedule.constants import Constants
from pefslc.targets.tensil.schedule.emitter import DenseRuns, Emitter
from pefslc.targets.tensil.schedule.moved_rows import ranges_of, reads, shortest_gap, worth_moving
from pefslc.targets.tensil.words.word_group import WordGroup

__all__ = ["StationaryLayer", "shifted_ones", "transpose"]

Words = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Taps that lie inside of the input for the same frames of pixels: what is brought under them at a time."""

    taps: range
    frames: tuple[int, ...]


class StationaryLayer:
    """The sums of one group whose weights move. `source` is the layout of the transposed tensor that it reads, `one`
    the word of 1.
    """

    def __init__(self, group: WordGroup, how: Stationary, source: Layout, array_size: int, one: int) -> None:
        self.a, self.channels = array_size, source.height
        self.weight = group.terms[0].weight.reshape(len(group.bias), -1)
        self.bias = group.bias
        self.taps, self.slots = how.taps, how.slots
        self.pixels = None if how.pixels is None else how.pixels * one
        self.gathered = None if how.pixels is None else shared_gathers(how.pixels, array_size, self.channels)
        self.spread = None if how.spread is None else how.spread * one
        self.blocks = len(how.taps) - (0 if how.spread is None else len(how.spread))
        self._addresses: dict[tuple[str | int | range, ...], int] = {}

    @property
    def least(self) -> int:
        """Local memory that it needs: for the pixels under one tap, and for some weights."""
        return (self.a + 1) + (0 if self.pixels is None else self._most_frames * self.channels)

    @property
    def most_taps(self) -> int:
        """How many taps all frames have together."""
        return sum(map(len, self.taps))

    @property
    def _most_frames(self) -> int:
        """In how many frames one tap lies, at most."""
        return max(sum(tap in own for own in self.taps) for tap in range(max(map(max, self.taps)) + 1))

    @property
    def rows(self) -> int:
        """Local memory that it can use: for the pixels under all taps, and the weights of a few arrays."""
        taps = 0 if self.pixels is None else self.most_taps
        taps = taps if self.gathered is None else len(self.gathered.matrices)
        return self.least + taps * self.channels + 4 * len(self.bias)

    def gathers(self, accumulators: int) -> int:
        """How many of the accumulators are for pixels on their way under taps; the others hold sums."""
        if self.pixels is None:
            return 0
        return passes_and_gathers(self.slots, len(self.bias), self.channels, accumulators)[1]

    def emit(
        self, source: int, outputs: range, blocks: Sequence[int], buffer: range, spare: range, emitter: Emitter,
        constants: Constants,
    ) -> None:  # fmt: skip
        """accumulators[i * len(outputs) + o] = the sum of the o-th output for the pixels of blocks[i].

        Behind them are those of a frame that is no block, of one at a time.

        source  where the transposed tensor lies
        buffer  local memory for pixels under taps, as many taps at once as it holds, and for weights
        spare   accumulators through which pixels go
        """
        gathers = self.gathered
        if gathers is not None:
            taps = len(gathers.matrices) * self.channels
            beside = max(len(outputs), self.a) + (0 if self.spread is None else self.a)
            gathers = gathers if taps + beside <= len(buffer) else None
        if gathers is None:
            taps = self._under_taps(len(buffer), len(outputs))
        ring = range(buffer.start + taps, buffer.stop)
        one = _StationaryPass(self, source, outputs, blocks, ring, spare, emitter, constants)
        one.emit(buffer.start, taps, gathers)

    def _under_taps(self, size: int, outputs: int) -> int:
        """How much of local memory is for pixels under taps: all of them, if an array's weights fit beside them."""
        if self.pixels is None:
            return 0
        one, every = self._most_frames, self.most_taps
        taps = min(every, max((size - max(outputs, self.a)) // self.channels, one))
        return taps * self.channels

    def pieces(self, most: int) -> Iterator[_Piece]:
        """As many taps at once as pixels of `most` frames under a tap find room for; if possible, so many that they
        fill arrays.
        """
        full = self.a // gcd(self.a, self.channels)
        taps = range(max(map(max, self.taps)) + 1)
        for frames, group in groupby(taps, lambda tap: tuple(f for f, s in enumerate(self.taps) if tap in s)):
            same = list(group) if frames else []
            at_once = max(most // max(len(frames), 1), 1)
            at_once -= at_once % full if at_once > full else 0
            for start in range(0, len(same), at_once):
                part = same[start : start + at_once]
                yield _Piece(range(part[0], part[-1] + 1), frames)

    def place(self, frame: int, tap: int) -> int:
        """Which of the taps of all frames it is."""
        return sum(map(len, self.taps[:frame])) + self.taps[frame].index(tap)

    def matrices(self, place: int) -> Iterator[tuple[int, Words]]:
        """Blocks of the input, and the matrices [A, A] that bring their pixels under a tap."""
        assert self.pixels is not None
        matrix = self.pixels[place * self.a : (place + 1) * self.a].T
        matrix = np.pad(matrix, ((0, -len(matrix) % self.a), (0, 0))).reshape(-1, self.a, self.a)
        yield from ((i, part) for i, part in enumerate(matrix) if part.any())

    def store(self, constants: Constants, key: tuple[str | int | range, ...], rows: Words) -> int:
        """Where DRAM1 holds rows [.., A], which are the same for each pass."""
        if key not in self._addresses:
            self._addresses[key] = constants.store(rows.reshape(-1, self.a))
        return self._addresses[key]


@dataclass(slots=True)
class _StationaryPass:
    """One pass of a layer. `opened` are the frames of pixels whose accumulators hold something."""

    layer: StationaryLayer
    source: int
    outputs: range
    blocks: Sequence[int]
    ring: range
    spare: range
    emitter: Emitter
    constants: Constants
    opened: set[int] = field(default_factory=set)

    def emit(self, under_taps: int, size: int, gathers: SharedGathers | None) -> None:
        """Append the instructions. Local memory from `under_taps` on, `size` vectors, is for pixels under taps: with
        `gathers`, for all of them, before any weight moves.
        """
        layer = self.layer
        if layer.bias.any():
            words = np.repeat(layer.bias[self.outputs.start : self.outputs.stop, None], layer.a, axis=1)
            self._stream(("biases",), words[None], np.ones((1, len(words)), dtype=np.bool_), self._set)
        if gathers is not None:
            targets = range(under_taps, under_taps + size, layer.channels)
            self._bring(("gathers",), dict(zip(targets, gathers.matrices, strict=True)))
        pieces = list(layer.pieces(size // layer.channels if gathers is None else layer.most_taps))
        for piece, following in zip_longest(pieces, pieces[1:]):
            self._move(piece, self._arrays_of(piece, under_taps, gathers))
            if piece.frames[0] >= layer.blocks and (following is None or following.frames != piece.frames):
                later = 0 if gathers is None else size  # what pieces to come need of it
                self._spread(piece.frames[0], range(under_taps + later, self.ring.stop))

    def _arrays_of(self, piece: _Piece, under_taps: int, gathers: SharedGathers | None) -> dict[int, list[int]]:
        """Where the rows of each array of a piece begin in local memory, by frame; brings them there, if need be."""
        layer, a, channels = self.layer, self.layer.a, self.layer.channels
        if layer.pixels is None:
            bases = {block: self.source + block * channels for block in piece.frames}
        elif gathers is None:
            bases = {frame: under_taps + i * len(piece.taps) * channels for i, frame in enumerate(piece.frames)}
            places = {
                base + i * channels: layer.place(frame, tap)
                for frame, base in bases.items()
                for i, tap in enumerate(piece.taps)
            }
            self._bring(("pixels", piece.taps), places)
        else:  # each array is of one tap
            return {
                frame: [
                    first + row
                    for tap in piece.taps
                    for first in [gathers.address(layer.place(frame, tap), self.source, under_taps, channels)]
                    for row in range(0, channels, a)
                ]
                for frame in piece.frames
            }
        return {frame: [*range(base, base + len(piece.taps) * channels, a)] for frame, base in bases.items()}

    def _accumulators(self) -> Iterator[tuple[int, int]]:
        """Frames, and where their sums begin: those of a frame that is no block lie behind the blocks'."""
        count = len(self.outputs)
        yield from ((block, i * count) for i, block in enumerate(self.blocks))
        yield from ((frame, len(self.blocks) * count) for frame in range(self.layer.blocks, len(self.layer.taps)))

    def _spread(self, frame: int, buffer: range) -> None:
        """Add a frame's sums to those of the blocks: by way of local memory, in parts that find room."""
        layer, a, emitter = self.layer, self.layer.a, self.emitter
        assert layer.spread is not None
        matrices = layer.spread[frame - layer.blocks]
        address = layer.store(self.constants, ("spread", range(frame, frame + 1)), matrices)
        accumulators = dict(self._accumulators())
        part = min(len(buffer) - a, len(self.outputs))
        for first in range(0, len(self.outputs), part):
            count = min(part, len(self.outputs) - first)
            emitter.from_accumulators(accumulators[frame] + first, buffer.start, count)
            for block in self.blocks:
                if matrices[block].any():
                    local = self.constants.fetch(emitter, buffer.start + part, address + block * a, a)
                    emitter.load_weights(local, a, has_bias=False)
                    accumulate = block in self.opened
                    emitter.matmul(buffer.start, accumulators[block] + first, count, 0, 0, accumulate=accumulate)
        self.opened |= {block for block in self.blocks if matrices[block].any()}

    def _bring(self, key: tuple[str | range, ...], places: Mapping[int, int]) -> None:
        """Pixels under taps into local memory, to addresses each of which is for one of the taps of all frames."""
        layer, a, channels, spare = self.layer, self.layer.a, self.layer.channels, self.spare
        moves = [(target, *move) for target, place in places.items() for move in layer.matrices(place)]
        if not moves:
            return
        address = layer.store(self.constants, key, np.stack([matrix for *_, matrix in moves]))
        at_once = max(len(self.ring) // a, 1)
        for first in range(0, channels, len(spare)):
            vectors = min(len(spare), channels - first)
            for i, (target, from_block, _) in enumerate(moves):
                if i % at_once == 0:
                    read = min(at_once, len(moves) - i) * a
                    local = self.constants.fetch(self.emitter, self.ring.start, address + i * a, read)
                self.emitter.load_weights(local + i % at_once * a, a, has_bias=False)
                pixels = self.source + from_block * channels + first
                is_first = i == 0 or moves[i - 1][0] != target
                self.emitter.matmul(pixels, spare.start, vectors, 0, 0, accumulate=not is_first)
                if i + 1 == len(moves) or moves[i + 1][0] != target:
                    self.emitter.from_accumulators(spare.start, target + first, vectors)

    def _move(self, piece: _Piece, rows_of: Mapping[int, Sequence[int]]) -> None:
        """All weights of a piece through arrays of its pixels, which lie at `rows_of` [frame][array]: of the later ones
        those alone that add something.
        """
        a, channels = self.layer.a, self.layer.channels
        start, end = piece.taps.start * channels, piece.taps.stop * channels
        weight = self.layer.weight[self.outputs.start : self.outputs.stop, start:end]
        padded = np.pad(weight, ((0, 0), (0, -weight.shape[1] % a)))
        arrays = padded.reshape(len(weight), -1, a).transpose(1, 0, 2)
        frames = {frame: accumulator for frame, accumulator in self._accumulators() if frame in rows_of}
        opens = not self.opened.issuperset(frames)

        def pass_through(index: int, local: int, runs: DenseRuns) -> None:
            rows = min(a, end - start - index * a)
            for frame, accumulator in frames.items():
                self.emitter.load_weights(rows_of[frame][index], rows, has_bias=False)
                accumulate = frame in self.opened or index > 0
                self.emitter.dense_matmuls(runs, local, accumulator, accumulate=accumulate)

        adding = np.asarray(arrays.any(axis=2))
        adding[0] |= opens  # the first one overwrites
        moved = worth_moving(adding, shortest_gap(self.layer.weight.size // a))
        self._stream(("weights", start, opens), arrays, moved, pass_through)
        self.opened.update(rows_of)

    def _set(self, index: int, local: int, runs: DenseRuns) -> None:  # noqa: ARG002
        """Biases to the accumulators of all blocks."""
        for i, block in enumerate(self.blocks):
            for first, second, vectors in runs.tolist():
                self.emitter.to_accumulators(local + first, i * len(self.outputs) + second, vectors)
            self.opened.add(block)

    def _stream(
        self,
        key: tuple[str | int, ...],
        arrays: Words,
        moved: NDArray[np.bool_],
        use: Callable[[int, int, DenseRuns], None],
    ) -> None:
        """Read those of the rows [arrays, outputs, A] that are moved, of as many arrays at once as the buffer holds, or
        of one in parts; use each array or part: its index, where it lies, and the runs from there to its outputs.
        """
        if not moved.any():
            return
        address = self.layer.store(self.constants, (*key, self.outputs), arrays[moved])
        for parts in reads(ranges_of(moved), len(self.ring)):
            vectors = sum(len(own) for _, own in parts)
            local = self.constants.fetch(self.emitter, self.ring.start, address, vectors)
            for index, same in groupby(parts, itemgetter(0)):
                own = [rows for _, rows in same]
                counts = np.fromiter(map(len, own), dtype=np.int64, count=len(own))
                ends = np.cumsum(counts)
                use(index, local, np.stack([ends - counts, [rows.start for rows in own], counts], axis=1))
                local += int(ends[-1])
            address += vectors


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
