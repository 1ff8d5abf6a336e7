"""From placed groups to instructions: the frame of a program, and in it the runs of the groups.

Tensors live in local memory while they fit, else in DRAM0 (`placing`). A group computes its output in *passes*: a
rectangle of pixels and some output blocks, as many as the accumulators hold. Weights stream from DRAM1 in the order of
use, in bursts as long as the free local memory.
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
from pefslc.targets.tensil.groups.layout import View
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.instructions import Segment
from pefslc.targets.tensil.matrix.matrix_steps import MatrixStep
from pefslc.targets.tensil.program.encoding import encode_table
from pefslc.targets.tensil.program.tmodel import Vectors
from pefslc.targets.tensil.schedule.batches import ONE_PICTURE, Batches
from pefslc.targets.tensil.schedule.channel_rows import ChannelRows
from pefslc.targets.tensil.schedule.constants import Constants
from pefslc.targets.tensil.schedule.emitter import Constant, Emitter
from pefslc.targets.tensil.schedule.group_pass import emit_group
from pefslc.targets.tensil.schedule.group_passes import GroupPasses
from pefslc.targets.tensil.schedule.part import PassSummary
from pefslc.targets.tensil.schedule.pass_plan import Needs, Scratch
from pefslc.targets.tensil.schedule.pass_steps import PassSteps
from pefslc.targets.tensil.schedule.placing import Placing
from pefslc.targets.tensil.schedule.schedule_input import ScheduleInput
from pefslc.targets.tensil.schedule.tensor_memory import Entry, no_local_memory
from pefslc.targets.tensil.schedule.weights import least_rows
from pefslc.targets.tensil.words.word_group import WordGroup
from pefslc.targets.tensil.words.word_program import WordProgram

__all__ = ["Schedule", "Stored", "schedule"]

Words = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Stored:
    """A picture's tensor, whole: where it lies, in local memory or in DRAM0, before instruction `before`."""

    tensor: str
    local: bool
    view: View
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
    passes: GroupPasses | None = None,
) -> Schedule:
    """The instructions of a whole network. Raises CompileError that names the resource that is too small.

    resident  vectors at the start of local memory for the constants, which the driver puts there once; 0: DRAM1 holds
              them, and the schedule's own `constants` say how many there are
    by_matrix whether MatMuls may requantize per channel, where DRAM1 holds their rows, which are constants, too
    batches   the batch, and how the groups share it
    passes    those of the program, where other schedules of it use them, too
    """
    passes = passes or GroupPasses(program, architecture, keeps=batches.size > 1)
    given = ScheduleInput(program, architecture, resident, batches, passes)
    for with_rows in (True, False) if by_matrix else (False,):
        scheduler = _Scheduler(given, by_matrix=with_rows)
        if scheduler.made(progress):
            return scheduler.finish()
        del scheduler  # half a million instructions, before there are as many again
    raise AssertionError("without rows of channels, all is made")


class _Scheduler:
    def __init__(self, given: ScheduleInput, *, by_matrix: bool) -> None:
        program, architecture, resident, batches = given.program, given.architecture, given.resident, given.batches
        self.architecture, self.program, self.layouts = architecture, program, program.layouts
        self.a = architecture.array_size
        if architecture.local_depth < self.a + 1:
            raise no_local_memory(self.architecture, "one tile of weights", self.a + 1)
        self.resident = resident
        self.by_matrix, self.channel_rows = by_matrix, 0
        self.batches, self.group_passes = batches, given.passes
        both_digits = any(group.add_high is not None for group in program.groups)  # both multiply the same weights
        once = batches.size > 1 or both_digits
        self.constants = Constants(resident=resident > 0, once=once, data_type=architecture.data_type)
        self.stored: list[Stored] = []
        self.passes: dict[str, PassSummary] = {}
        self.accumulators = given.passes.accumulators
        first = self.accumulators.first
        addresses: dict[Constant, int] = {word: first + i for i, word in enumerate(self.accumulators.words)}
        self.emitter = Emitter(architecture, addresses)
        self.placing = Placing(given, self.emitter)
        self.memory = self.placing.memory
        self._load_constants()
        self.matrix_rows = self._load_matrix_rows()

    # --- the frame of the program --------------------------------------------------------------------------------

    def _load_constants(self) -> None:
        """The constants as vectors at the top of the accumulators, for the whole program."""
        words = np.array(self.accumulators.words, dtype=np.int64)
        address = self.constants.store(np.repeat(words[:, None], self.a, axis=1))
        local = self.constants.fetch(self.emitter, 0, address, len(words))
        self.emitter.to_accumulators(local, self.accumulators.first, len(words))
        self.emitter.clear_weights()

    def _load_matrix_rows(self) -> dict[MatrixStep, int]:
        """Where the rows of all matrix steps lie in local memory for the whole program; none where it is small."""
        rows = list(self.placing.matrix_rows.values())
        if not rows:
            return {}
        address = self.constants.store(np.concatenate(rows))
        base = self.constants.fetch(self.emitter, self.placing.matrix_base, address, sum(map(len, rows)))
        return self.placing.place_of_matrix_rows(base)

    def _load_channel_words(self, group: WordGroup) -> int:
        """The words per channel of one group, below the other constants; how many accumulators are left."""
        words = self.accumulators.channel_words(group)
        first = self.accumulators.capacity - len(words)
        if not words:
            return first
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
        runs = self.placing.runs
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
        least = sum(least_rows(self.group_passes.tiles(group, bias_alone=False)) for group in loaded)
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
        self.placing.finish()
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
        needs = self.placing.begin(group, pictures)
        tiles = self.group_passes.tiles(group, bias_alone=bool(needs.streamed_terms))
        capacity = self._load_channel_words(group)
        scratch = Scratch(*memory.local.largest_gap())
        rows = self._channel_rows(group, scratch, needs)
        kept = self.placing.kept.get(group.result)
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
            spare=self.accumulators.spare,
            stationary=self.group_passes.stationary(group),
            kept=kept,
            batched=self.batches.size > 1,
        )
        for picture in pictures:
            place = group.result, picture
            self.stored.append(
                Stored(group.result, memory.is_local(place), memory.view(place), len(self.emitter), picture)
            )
        self.placing.end(group, pictures)

    def _channel_rows(self, group: WordGroup, scratch: Scratch, needs: Needs) -> ChannelRows | None:
        if not self.by_matrix:
            return None
        before = self.constants.size
        rows = ChannelRows.of(group, self.architecture, self.constants, scratch, needs)
        self.channel_rows += self.constants.size - before
        return rows
