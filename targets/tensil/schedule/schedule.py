"""From placed groups to instructions: which tensors live where, tiles of the output, bursts of weights.

Tensors live in local memory while they fit, else in DRAM0. A group computes its output in *passes*: a rectangle of
pixels and some output blocks, as many as the accumulators hold. Weights stream from DRAM1 in the order of use, in
bursts as long as the free local memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.diagnostics.progress import Progress
from pefslc.targets.tensil.group_rewrites.convolution_cost import tile_count
from pefslc.targets.tensil.groups.group import MaxHead
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.instructions import Segment
from pefslc.targets.tensil.matrix.matrix_steps import MatrixStep
from pefslc.targets.tensil.matrix.resident_rows import resident_rows
from pefslc.targets.tensil.program.encoding import encode_table
from pefslc.targets.tensil.program.tmodel import Vectors
from pefslc.targets.tensil.schedule.batches import ONE_PICTURE, Batches
from pefslc.targets.tensil.schedule.channel_rows import ChannelRows
from pefslc.targets.tensil.schedule.constants import Constants
from pefslc.targets.tensil.schedule.emitter import Constant, Emitter
from pefslc.targets.tensil.schedule.group_pass import emit_group
from pefslc.targets.tensil.schedule.part import PassSummary
from pefslc.targets.tensil.schedule.pass_plan import Needs, Scratch
from pefslc.targets.tensil.schedule.pass_steps import PassSteps
from pefslc.targets.tensil.schedule.simd_steps import SPARE_VECTORS, needs_spare, simd_words
from pefslc.targets.tensil.schedule.stationary_emitter import StationaryLayer
from pefslc.targets.tensil.schedule.tensor_memory import Entry, TensorMemory, no_local_memory
from pefslc.targets.tensil.schedule.weight_stream import KeptWeights
from pefslc.targets.tensil.schedule.weights import Tile, least_rows, tiles_of
from pefslc.targets.tensil.words.steps import (
    Accumulate,
    AddOffset,
    ChannelAdd,
    ChannelMultiply,
    Maximum,
    Minimum,
    block_words,
)
from pefslc.targets.tensil.words.word_group import WordGroup
from pefslc.targets.tensil.words.word_program import WordProgram

__all__ = ["Schedule", "Stored", "schedule"]

Words = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Stored:
    """A picture's tensor, whole: from `base` on in local memory, or in DRAM0, before instruction `before`."""

    tensor: str
    local: bool
    base: int
    before: int
    picture: int = 0


@dataclass(frozen=True, slots=True)
class Schedule:
    """The program: encoded instructions, DRAM1 contents [vectors, A], DRAM0 entries, whom which instructions serve.

    resident  the constants lie in local memory, at the same addresses, before every run
    groups    as they were scheduled
    stored    where and when their results are complete, in the same order
    channel_rows  how many of the constants are for MatMuls that requantize per channel
    passes    by the result of a group
    batches   how the groups share a batch
    """

    code: bytes
    constants: Vectors
    inputs: tuple[Entry, ...]
    outputs: tuple[Entry, ...]
    segments: tuple[Segment, ...]
    resident: bool
    groups: tuple[WordGroup, ...]
    stored: tuple[Stored, ...]
    channel_rows: int
    passes: Mapping[str, PassSummary]
    batches: Batches = ONE_PICTURE


def schedule(
    program: WordProgram,
    architecture: Architecture,
    progress: Progress | None = None,
    resident: int = 0,
    *,
    by_matrix: bool = True,
    batches: Batches = ONE_PICTURE,
) -> Schedule:
    """The instructions of a whole network. Raises CompileError that names the resource that is too small.

    resident  vectors at the start of local memory for the constants, which the driver puts there once; 0: DRAM1 holds
              them, and the schedule's own `constants` say how many there are
    by_matrix whether MatMuls may requantize per channel, where DRAM1 holds their rows, which are constants, too
    batches   the batch, and how the groups share it
    """
    for with_rows in (True, False) if by_matrix else (False,):
        scheduler = _Scheduler(program, architecture, resident, batches, by_matrix=with_rows)
        if scheduler.made(progress):
            return scheduler.finish()
        del scheduler  # half a million instructions, before there are as many again
    raise AssertionError("without rows of channels, all is made")


class _Scheduler:
    def __init__(
        self, program: WordProgram, architecture: Architecture, resident: int, batches: Batches, *, by_matrix: bool
    ) -> None:
        self.architecture, self.program, self.layouts = architecture, program, program.layouts
        self.a = architecture.array_size
        if architecture.local_depth < self.a + 1:
            raise no_local_memory(self.architecture, "one tile of weights", self.a + 1)
        self.resident = resident
        self.by_matrix, self.channel_rows = by_matrix, 0
        self.batches = batches
        both_digits = any(group.add_high is not None for group in program.groups)  # both multiply the same weights
        once = batches.size > 1 or both_digits
        self.constants = Constants(resident=resident > 0, once=once, data_type=architecture.data_type)
        self.tiles: dict[tuple[str, bool], list[list[Tile]]] = {}  # of groups that run several times
        self.stored: list[Stored] = []
        self.passes: dict[str, PassSummary] = {}
        self.written: set[tuple[str, int]] = set()  # outputs of pictures that are where the host reads them
        words = self._simd_constants()
        first = architecture.accumulator_depth - len(words)
        addresses: dict[Constant, int] = {word: first + i for i, word in enumerate(words)}
        self.emitter = Emitter(architecture, addresses)
        self.memory = TensorMemory(architecture, program, resident, self.emitter, batches.size)
        self.capacity, self.spare = self._accumulators(words)
        self._load_constants(words, first)
        self.matrix_rows = self._load_matrix_rows()
        self.unclean = _unclean_tensors(program)
        self.latest: dict[str, int] = {}  # by tensor, on how many pictures a group works at once that reads it, at most
        for group in program.groups if batches.size > 1 else ():
            for tensor in group.tensors:
                self.latest[tensor] = max(self.latest.get(tensor, 0), batches.of(group))
        self.kept = self._places_of_kept_weights()

    # --- the frame of the program --------------------------------------------------------------------------------

    def _simd_constants(self) -> list[int]:
        """Every word that a SIMD step uses in all lanes."""
        data_type = self.architecture.data_type
        words = {1 << data_type.binary_point: None}  # one at least: the hazard guard reads it
        for group in self.program.groups:
            for step in group.steps:
                words |= dict.fromkeys(simd_words(step, data_type))
        return list(words)

    def _accumulators(self, words: list[int]) -> tuple[int, range]:
        """How many accumulators passes may use, and which SIMD steps may overwrite; the constants are above both."""
        steps = [step for group in self.program.groups for step in group.steps]
        first = self.architecture.accumulator_depth - len(words)
        least = 3 if any(map(needs_spare, steps)) else 2
        if first < least:
            raise CompileError(
                Code.TCU_ACCUMULATORS,
                f"the accumulators have {self.architecture.accumulator_depth} vectors, {len(words)} constants and "
                f"{'three' if least == 3 else 'two'} lanes of work need {len(words) + least}",
                hint="use an architecture with a larger accumulator_depth",
            )
        if len(words) > self.architecture.local_depth:
            raise no_local_memory(self.architecture, "one copy of the constants of all layers", len(words))
        spare = min(SPARE_VECTORS, first // 2) if any(map(needs_spare, steps)) else 0
        return first - spare, range(first - spare, first)

    def _load_constants(self, words: list[int], first: int) -> None:
        """The constants as vectors at the top of the accumulators, for the whole program."""
        address = self.constants.store(np.repeat(np.array(words, dtype=np.int64)[:, None], self.a, axis=1))
        local = self.constants.fetch(self.emitter, 0, address, len(words))
        self.emitter.to_accumulators(local, first, len(words))
        self.emitter.clear_weights()

    def _load_matrix_rows(self) -> dict[MatrixStep, int]:
        """Where the rows of all matrix steps lie in local memory for the whole program; none where it is small."""
        rows = resident_rows(self.program.groups, self.architecture)
        if not rows:
            return {}
        total = sum(map(len, rows.values()))
        address = self.constants.store(np.concatenate(list(rows.values())))
        place = 0 if self.constants.resident else self.memory.local.allocate(total)
        assert place is not None
        base = self.constants.fetch(self.emitter, place, address, total)
        starts = np.cumsum([0, *map(len, rows.values())]).tolist()
        return {step: base + start for step, start in zip(rows, starts, strict=False)}

    def _places_of_kept_weights(self) -> dict[str, KeptWeights]:
        """Local memory for the weights of groups that keep them, side by side: so no gap lies among tensors."""
        found: dict[str, KeptWeights] = {}
        for group in self.program.groups if not self.constants.resident else ():
            if group.result in self.batches.kept:
                rows = sum(len(tile.rows) for block in self._tiles(group, bias_alone=False) for tile in block)
                size = rows + 2 * group.layout.blocks(self.a)  # sums that carry a word have two bias rows a block
                base = self.memory.local.allocate(size)
                if base is not None:
                    found[group.result] = KeptWeights(base, size)
        return found

    def _load_channel_words(self, group: WordGroup) -> int:
        """The words per channel of one group, below the other constants; how many accumulators are left."""
        steps = [s for s in group.steps if isinstance(s, ChannelMultiply | ChannelAdd)]
        blocks = range(group.layout.blocks(self.a))
        words = list(dict.fromkeys(block_words(step, block, self.a) for step in steps for block in blocks))
        first = self.capacity - len(words)
        if not words:
            return first
        there = self.architecture.accumulator_depth
        if first < 2:
            raise CompileError(
                Code.TCU_ACCUMULATORS,
                f"the accumulators have {there} vectors, the constants of this requantization per channel and two "
                f"lanes of work need {there - first + 2}",
                at=group.origin,
                hint="use an architecture with a larger accumulator_depth or array_size",
            )
        address = self.constants.store(np.array(words, dtype=np.int64))
        scratch, gap = self.memory.local.largest_gap()
        assert gap, "a pass needs some of it, too"
        for start in range(0, len(words), gap):
            count = min(gap, len(words) - start)
            local = self.constants.fetch(self.emitter, scratch, address + start, count)
            self.emitter.to_accumulators(local, first + start, count)
        self.emitter.use_constants({w: first + i for i, w in enumerate(words)})
        return first

    def made(self, progress: Progress | None) -> bool:
        """Whether all groups are scheduled: not where rows for channels are more than DRAM1 holds."""
        runs = list(self.batches.runs(self.program.groups))
        self.require_dram1()
        for i, (group, pictures) in enumerate(runs):
            if progress is not None:
                progress(i, len(runs), "scheduling")
            self.group(group, pictures)
            if self.channel_rows and self.constants.size > self.architecture.dram1_depth:
                return False
        return True

    def require_dram1(self) -> None:
        """Raise CompileError where the weights alone are more than DRAM1 holds: before the program is made."""
        loaded = [group for group in self.program.groups if not group.reads_in_place]
        tiles = sum(tile_count(term.weight, self.a) for group in loaded for term in group.terms)
        if tiles * self.a <= self.architecture.dram1_depth:
            return  # few; whether they fit is known in the end
        least = sum(
            least_rows(
                tiles_of(group, self.layouts, self.a, self.unclean, self.architecture.data_type.one, bias_alone=False)
            )
            for group in loaded
        )
        if least > self.architecture.dram1_depth:
            raise self._no_dram1(f"the weights alone need {least}")

    def _no_dram1(self, need: str) -> CompileError:
        return CompileError(
            Code.TCU_DRAM1,
            f"DRAM1 has {self.architecture.dram1_depth} vectors, {need}",
            hint="use an architecture with a larger dram1_depth or array_size, or a smaller network",
        )

    def finish(self) -> Schedule:
        if self.constants.size > self.architecture.dram1_depth:  # only now is it known how many it takes
            raise self._no_dram1(f"the weights and constants need {self.constants.size}")
        if self.resident and self.constants.size > self.resident:
            raise no_local_memory(self.architecture, "all weights and constants", self.constants.size)
        self.emitter.serve("")
        for entry in self.memory.outputs:
            for picture in range(self.batches.size):
                if (entry.name, picture) not in self.written:
                    self.memory.write_output(entry, picture)
        return Schedule(
            encode_table(self.architecture, self.emitter.rows.table()),
            self.constants.rows(),
            self.memory.inputs,
            self.memory.outputs,
            self.emitter.segments(),
            resident=self.constants.resident,
            groups=self.program.groups,
            stored=tuple(self.stored),
            channel_rows=self.channel_rows,
            passes=self.passes,
            batches=self.batches,
        )

    # --- one group -----------------------------------------------------------------------------------------------

    def group(self, group: WordGroup, pictures: range) -> None:
        """Place the results of some pictures, make room, and emit the passes."""
        self.emitter.serve(group.result)
        memory = self.memory
        reads = [memory.tensors[name, picture] for name in group.tensors for picture in pictures]
        tiles = self._tiles(group, bias_alone=False)
        times, staged = self._reading(group)
        for tensor in reads:
            memory.fetch(tensor, group, reads, times, staged + 4 * (self.a + 1))
        stationary, tile = self._stationary(group), self.a + 1
        weight_rows = sum(len(t.rows) for block in tiles for t in block) or tile
        least = min(weight_rows, tile)
        if stationary is not None:
            weight_rows, least = stationary.rows, stationary.least
        kept = self.kept.get(group.result)
        waits = self.latest.get(group.result, 0) > self.batches.of(group)
        needs = memory.settle(group, pictures, weight_rows, least, waits=waits)
        if needs.streamed_terms:
            tiles = self._tiles(group, bias_alone=True)
        capacity = self._load_channel_words(group)
        scratch = Scratch(*memory.local.largest_gap())
        rows = self._channel_rows(group, scratch, needs)
        steps = PassSteps(
            group, self.layouts, tiles, needs, self.architecture, self.emitter, self.constants, self.matrix_rows, rows,
            keeps_weights=kept is not None,
        )  # fmt: skip
        places = [(name, picture) for name in (*group.tensors, group.result) for picture in pictures]
        self.passes[group.result] = emit_group(
            group,
            needs,
            pictures,
            layouts=self.layouts,
            architecture=self.architecture,
            emitter=self.emitter,
            capacity=capacity,
            tiles=tiles,
            views={place: memory.view(place) for place in places},
            local={place for place in places if memory.is_local(place)},
            scratch=scratch if rows is None else rows.beside(scratch, self.constants),
            steps=steps,
            constants=self.constants,
            spare=self.spare,
            stationary=stationary,
            kept=kept,
        )
        for picture in pictures:
            place = group.result, picture
            where = memory.view(place).base
            self.stored.append(Stored(group.result, memory.is_local(place), where, len(self.emitter), picture))
        self._write_outputs(group, pictures)
        for tensor in reads:
            tensor.readers -= 1
            if tensor.readers == 0:
                memory.release(tensor)
        if kept is not None and pictures.stop == self.batches.size:
            memory.local.release(kept.base, kept.size)

    def _write_outputs(self, group: WordGroup, pictures: range) -> None:
        """Of a batch, what the host reads leaves local memory at once: other pictures need the room."""
        if self.batches.size == 1:
            return
        for entry in (e for e in self.memory.outputs if e.tensor == group.result):
            for picture in pictures:
                self.memory.write_output(entry, picture)
                self.written.add((entry.name, picture))
                tensor = self.memory.tensors[entry.tensor, picture]
                tensor.readers -= 1
                if tensor.readers == 0:
                    self.memory.release(tensor)

    def _tiles(self, group: WordGroup, *, bias_alone: bool) -> list[list[Tile]]:
        key = group.result, bias_alone
        if key not in self.tiles:
            found = tiles_of(
                group, self.layouts, self.a, self.unclean, self.architecture.data_type.one, bias_alone=bias_alone
            )
            if self.batches.size == 1:
                return found  # a large network's tiles are as much memory as its instructions
            self.tiles[key] = found
        return self.tiles[key]

    def _reading(self, group: WordGroup) -> tuple[int, int]:
        """How often passes would read a tensor in DRAM0, and how much they may stage: a set of output blocks after the
        other, as many as the accumulators hold.
        """
        blocks, pixels = group.layout.blocks(self.a), group.layout.pixels
        together = max(1, min(blocks, self.capacity // pixels))
        alone = group.terms and group.stationary is None and self.batches.size == 1  # pictures of a batch come and go
        times = -(-blocks // together) if alone else 1
        return times, min(pixels * together, self.capacity) // 2  # smaller passes are better than reading again

    def _channel_rows(self, group: WordGroup, scratch: Scratch, needs: Needs) -> ChannelRows | None:
        if not self.by_matrix:
            return None
        before = self.constants.size
        rows = ChannelRows.of(group, self.architecture, self.constants, scratch, needs)
        self.channel_rows += self.constants.size - before
        return rows

    def _stationary(self, group: WordGroup) -> StationaryLayer | None:
        if group.stationary is None:
            return None
        source = self.layouts[group.terms[0].tensor]
        return StationaryLayer(group, group.stationary, source, self.a, self.architecture.data_type.one)


def _unclean_tensors(program: WordProgram) -> set[str]:
    """Tensors whose lanes without a channel may not hold 0: a clip moved them off it, or what they are made from."""
    found: set[str] = set()
    for group in program.groups:
        if group.carried or group.stationary is not None:
            found.add(group.result)
        for step in group.steps:
            moved = (isinstance(step, Maximum) and step.word > 0) or (isinstance(step, Minimum) and step.word < 0)
            moved |= isinstance(step, AddOffset)
            if moved or (isinstance(step, Accumulate) and step.word is None and step.tensor in found):
                found.add(group.result)
        if isinstance(group.head, MaxHead) and group.head.tensor in found:
            found.add(group.result)
    return found
