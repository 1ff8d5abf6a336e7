"""From placed groups to instructions: which tensors live where, tiles of the output, bursts of weights.

Tensors live in local memory while they fit, else in DRAM0. A group computes its output in *passes*: a rectangle of
pixels and some output blocks, as many as the accumulators hold. Weights stream from DRAM1 in the order of use, in
bursts as long as the free local memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.codes import Code
from pefslc.diagnostics import CompileError, Origin, quote
from pefslc.ir.graph import Graph
from pefslc.targets.tensil.addends import fold_addends
from pefslc.targets.tensil.architecture import Architecture
from pefslc.targets.tensil.constants import Constants
from pefslc.targets.tensil.emitter import Constant, Emitter
from pefslc.targets.tensil.group_pass import GroupPass
from pefslc.targets.tensil.group_steps import addend_plan, leading_plan, trailing_plan
from pefslc.targets.tensil.instructions import Instruction, MoveKind, Segment
from pefslc.targets.tensil.leftovers import HELPERS
from pefslc.targets.tensil.matrix_steps import MatrixStep
from pefslc.targets.tensil.memory import Memory
from pefslc.targets.tensil.pass_plan import Needs, Scratch
from pefslc.targets.tensil.placement import Placed, PlacedGroup
from pefslc.targets.tensil.planes import Layout, View
from pefslc.targets.tensil.raw_steps import Accumulate, ChannelAdd, ChannelMultiply, Maximum, Minimum, block_words
from pefslc.targets.tensil.selection import MaxHead, Selection
from pefslc.targets.tensil.simd_steps import SPARE_VECTORS, needs_spare, simd_words
from pefslc.targets.tensil.weights import tiles_of

__all__ = ["Entry", "Schedule", "schedule"]

Words = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Entry:
    """An input or output in DRAM0: its ONNX name and vectors [base, base + size)."""

    name: str
    tensor: str
    base: int
    size: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """The program: instructions, DRAM1 contents [vectors, A], DRAM0 entries, which instructions serve which group.

    resident  the constants lie in local memory, at the same addresses, before every run
    """

    instructions: list[Instruction]
    constants: Words
    inputs: tuple[Entry, ...]
    outputs: tuple[Entry, ...]
    segments: tuple[Segment, ...]
    resident: bool


def schedule(
    graph: Graph,
    selection: Selection,
    placed: Placed,
    architecture: Architecture,
    progress: Callable[[int, int, str], None] | None = None,
    resident: int = 0,
) -> Schedule:
    """The instructions of a whole network. Raises CompileError that names the resource that is too small.

    resident  vectors at the start of local memory for the constants, which the driver puts there once; 0: DRAM1 holds
              them, and the schedule's own `constants` say how many there are
    """
    scheduler = _Scheduler(graph, selection, placed, architecture, resident)
    groups = scheduler.placed.groups
    for i, group in enumerate(groups):
        if progress is not None:
            progress(i, len(groups), "scheduling")
        scheduler.group(group)
    return scheduler.finish()


@dataclass
class _Tensor:
    """A live tensor: where it is. `dram` is kept once written, so that a spill happens once."""

    layout: Layout
    vectors: int
    local: int | None = None
    dram: int | None = None
    readers: int = 0


class _Scheduler:
    def __init__(
        self, graph: Graph, selection: Selection, placed: Placed, architecture: Architecture, resident: int
    ) -> None:
        self.architecture, self.selection, self.placed = architecture, selection, placed
        self.a = architecture.array_size
        self.local = Memory(resident, architecture.local_depth)
        self.dram0 = Memory(0, architecture.usable_dram0_vectors)
        if architecture.local_depth < self.a + 1:
            raise self._no_local_memory("one tile of weights", self.a + 1)
        self.resident = resident
        self.constants = Constants(resident=resident > 0)
        self.tensors = {
            name: _Tensor(layout, layout.vectors(self.a)) for name, layout in selection.layouts.items()
            if name in set(selection.storage.values())
        }  # fmt: skip
        self.inputs = tuple(self._entry(i.name, selection.storage[i.value.name], i.value.origin) for i in graph.inputs)
        for entry in self.inputs:
            self.tensors[entry.tensor].dram = entry.base
        self.outputs = tuple(
            self._entry(o.name, selection.storage[o.value.name], o.value.origin) for o in graph.outputs
        )
        self._load_constants()
        self.unclean = _unclean_tensors(self.placed)
        self._count_readers(graph)

    # --- the frame of the program --------------------------------------------------------------------------------

    def _count_readers(self, graph: Graph) -> None:
        for placed in self.placed.groups:
            for tensor in placed.tensors:
                self.tensors[tensor].readers += 1
        for output in graph.outputs:
            self.tensors[self.selection.storage[output.value.name]].readers += 1

    def _entry(self, name: str, tensor: str, origin: Origin) -> Entry:
        vectors = self.tensors[tensor].vectors
        base = self.dram0.allocate(vectors)
        if base is None:
            raise self._no_dram0(f"tensor {quote(name)}", vectors, origin)
        return Entry(name, tensor, base, vectors)

    def _load_constants(self) -> None:
        """Every word that a SIMD step uses, as a vector at the top of the accumulators, for the whole program."""
        words = {1 << self.architecture.data_type.binary_point: None}  # one at least: the hazard guard reads it
        data_type = self.architecture.data_type
        steps = [step for group in self.placed.groups for step in group.steps]
        for step in steps:
            words |= dict.fromkeys(simd_words(step, data_type))
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
            raise self._no_local_memory("one copy of the constants of all layers", len(words))
        spare = min(SPARE_VECTORS, first // 2) if any(map(needs_spare, steps)) else 0
        self.capacity = first - spare
        self.spare = range(self.capacity, first)
        constants: dict[Constant, int] = {word: first + i for i, word in enumerate(words)}
        self.emitter = Emitter(self.architecture, constants)
        address = self.constants.store(np.repeat(np.array(list(words), dtype=np.int64)[:, None], self.a, axis=1))
        local = self.constants.fetch(self.emitter, 0, address, len(words))
        self.emitter.to_accumulators(local, first, len(words))
        self.emitter.clear_weights()
        self.matrix_rows = self._load_matrix_rows()

    def _load_channel_words(self, placed: PlacedGroup) -> int:
        """The words per channel of one group, below the other constants; how many accumulators are left."""
        steps = [s for s in placed.steps if isinstance(s, ChannelMultiply | ChannelAdd)]
        blocks = range(placed.group.layout.blocks(self.a))
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
                at=placed.group.origin,
                hint="use an architecture with a larger accumulator_depth or array_size",
            )
        address = self.constants.store(np.array(words, dtype=np.int64))
        scratch, gap = self.local.largest_gap()
        assert gap, "a pass needs some of it, too"
        for start in range(0, len(words), gap):
            count = min(gap, len(words) - start)
            local = self.constants.fetch(self.emitter, scratch, address + start, count)
            self.emitter.to_accumulators(local, first + start, count)
        self.emitter.use_constants({w: first + i for i, w in enumerate(words)})
        return first

    def _load_matrix_rows(self) -> dict[MatrixStep, int]:
        """The rows of all matrix steps, kept in local memory for the whole program; none where it is small.

        Where they fit, clamps of addends are folded into the additions, which need them.
        """
        data_type = self.architecture.data_type
        outputs = {entry.tensor for entry in self.outputs}
        folded = fold_addends(self.placed, outputs, data_type)
        kinds = leading_plan, trailing_plan, addend_plan
        plans = [plan(group, data_type) for group in folded.groups for plan in kinds]
        steps = list(dict.fromkeys(step for plan in plans if plan is not None for step in plan.alone))
        rows = [step.rows(self.a, data_type.one) for step in steps]
        total = sum(map(len, rows))
        if not rows or total > self.architecture.local_depth // 16:
            return {}
        self.placed = folded
        address = self.constants.store(np.concatenate(rows))
        place = 0 if self.constants.resident else self.local.allocate(total)
        assert place is not None
        base = self.constants.fetch(self.emitter, place, address, total)
        starts = np.cumsum([0, *map(len, rows)]).tolist()
        return {step: base + start for step, start in zip(steps, starts, strict=False)}

    def finish(self) -> Schedule:
        if self.constants.size > self.architecture.dram1_depth:  # only now is it known how many it takes
            raise CompileError(
                Code.TCU_DRAM1,
                f"DRAM1 has {self.architecture.dram1_depth} vectors, the weights and constants need "
                f"{self.constants.size}",
                hint="use an architecture with a larger dram1_depth or array_size, or a smaller network",
            )
        if self.resident and self.constants.size > self.resident:
            raise self._no_local_memory("all weights and constants", self.constants.size)
        self.emitter.serve("")
        for entry in self.outputs:
            self._write_output(entry)
        return Schedule(
            self.emitter.instructions,
            self.constants.rows(),
            self.inputs,
            self.outputs,
            self.emitter.segments(),
            resident=self.constants.resident,
        )

    def _write_output(self, entry: Entry) -> None:
        tensor = self.tensors[entry.tensor]
        if tensor.local is not None:
            self.emitter.dram(MoveKind.LOCAL_TO_DRAM0, tensor.local, entry.base, tensor.vectors)
        elif tensor.dram != entry.base:
            assert tensor.dram is not None
            base, gap = self.local.largest_gap()
            if not gap:
                raise self._no_local_memory(f"moving output {quote(entry.name)}", 1, free=gap)
            for start in range(0, tensor.vectors, gap):
                count = min(gap, tensor.vectors - start)
                self.emitter.dram(MoveKind.DRAM0_TO_LOCAL, base, tensor.dram + start, count)
                self.emitter.dram(MoveKind.LOCAL_TO_DRAM0, base, entry.base + start, count)

    # --- what is too small: the memory, what is there, who needs how much ---------------------------------------------

    def _no_local_memory(
        self, who: str, vectors: int, *, free: int | None = None, at: Origin | None = None
    ) -> CompileError:
        return CompileError(
            Code.TCU_LOCAL_MEMORY,
            f"local memory has {self.architecture.local_depth} vectors, {who} needs {vectors}"
            + ("" if free is None else f" free and finds {free}"),
            at=at,
            hint="use an architecture with a larger local_depth",
        )

    def _no_dram0(self, who: str, vectors: int, at: Origin) -> CompileError:
        return CompileError(
            Code.TCU_DRAM0,
            f"DRAM0 has {self.architecture.dram0_depth} vectors, {who} needs {vectors} free and finds "
            f"{self.dram0.largest_gap()[1]}",
            at=at,
            hint="use an architecture with a larger dram0_depth or local_depth",
        )

    # --- one group -----------------------------------------------------------------------------------------------

    def group(self, placed: PlacedGroup) -> None:
        """Place the result, make room, and emit the passes."""
        self.emitter.serve(placed.group.result)
        result = self.tensors[placed.group.result]
        reads = [self.tensors[name] for name in placed.tensors]
        tiles = tiles_of(placed, self.selection.layouts, self.a, self.unclean, bias_alone=False)
        for tensor in reads:
            self._fetch(tensor)
        needs = self._settle(placed, result, reads, sum(len(t.rows) for block in tiles for t in block))
        if needs.streamed_terms:
            tiles = tiles_of(placed, self.selection.layouts, self.a, self.unclean, bias_alone=True)
        capacity = self._load_channel_words(placed)
        base, gap = self.local.largest_gap()
        work = GroupPass(
            placed=placed,
            layouts=self.selection.layouts,
            architecture=self.architecture,
            emitter=self.emitter,
            capacity=capacity,
            tiles=tiles,
            views={name: self._view(self.tensors[name]) for name in (*placed.tensors, placed.group.result)},
            local={name for name in (*placed.tensors, placed.group.result) if self._is_local(name)},
            scratch=Scratch(base, gap),
            matrix_rows=self.matrix_rows,
            constants=self.constants,
            spare=self.spare,
        )
        work.emit(needs)
        for tensor in reads:
            tensor.readers -= 1
            if tensor.readers == 0:
                self._release(tensor)

    def _is_local(self, name: str) -> bool:
        return self.tensors[name].local is not None

    def _view(self, tensor: _Tensor) -> View:
        base = tensor.local if tensor.local is not None else tensor.dram
        assert base is not None
        return View.whole(base, tensor.layout)

    def _fetch(self, tensor: _Tensor) -> None:
        """Bring a tensor from DRAM0 into local memory if it fits beside a useful amount of free space."""
        if tensor.local is None and self.local.largest_gap()[1] >= 2 * tensor.vectors:
            tensor.local = self.local.allocate(tensor.vectors)
            assert tensor.local is not None
            assert tensor.dram is not None
            self.emitter.dram(MoveKind.DRAM0_TO_LOCAL, tensor.local, tensor.dram, tensor.vectors)

    def _settle(self, placed: PlacedGroup, result: _Tensor, reads: list[_Tensor], weight_rows: int) -> Needs:
        """Give the result a place, moving tensors to DRAM0 until the passes have the scratch that they need."""
        # Helpers live shortly: from the other end, they leave no gaps among the tensors that stay.
        result.local = self.local.allocate(result.vectors, at_end=placed.group.result.endswith(HELPERS))
        while True:
            names = placed.tensors
            needs = Needs.of(
                placed, self.selection.layouts, self.architecture, {n for n in names if not self._is_local(n)},
                result_in_dram=result.local is None, weight_rows=weight_rows,
            )  # fmt: skip
            gap = self.local.largest_gap()[1]
            if gap >= needs.comfortable or (gap >= needs.least and not self._can_spill(result, reads)):
                break
            if not self._spill_one(result, reads, placed.group.origin):
                if gap >= needs.least:
                    break
                raise self._no_local_memory("this layer", needs.least, free=gap, at=placed.group.origin)
        if result.local is None:
            self._give_dram(result, placed)
        return needs

    def _can_spill(self, result: _Tensor, reads: list[_Tensor]) -> bool:
        return any(t.local is not None for t in self.tensors.values() if t is not result and t not in reads)

    def _spill_one(self, result: _Tensor, reads: list[_Tensor], origin: Origin) -> bool:
        """Move one tensor out of local memory: a bystander first, then the result, then what the group reads."""
        bystanders = [t for t in self.tensors.values() if t.local is not None and t is not result and t not in reads]
        candidates = sorted(bystanders, key=lambda t: -t.vectors) or ([result] if result.local is not None else [])
        candidates = candidates or sorted((t for t in reads if t.local is not None), key=lambda t: -t.vectors)
        if not candidates:
            return False
        tensor = candidates[0]
        assert tensor.local is not None
        if tensor is not result and tensor.dram is None:
            tensor.dram = self._dram_address(tensor, origin)
            self.emitter.dram(MoveKind.LOCAL_TO_DRAM0, tensor.local, tensor.dram, tensor.vectors)
        self.local.release(tensor.local, tensor.vectors)
        tensor.local = None
        if tensor is not result and result.local is None:
            result.local = self.local.allocate(result.vectors)
        return True

    def _give_dram(self, result: _Tensor, placed: PlacedGroup) -> None:
        entry = next((e for e in self.outputs if e.tensor == placed.group.result), None)
        result.dram = entry.base if entry is not None else self._dram_address(result, placed.group.origin)

    def _dram_address(self, tensor: _Tensor, origin: Origin) -> int:
        base = self.dram0.allocate(tensor.vectors)
        if base is None:
            raise self._no_dram0("a tensor that leaves local memory", tensor.vectors, origin)
        return base

    def _release(self, tensor: _Tensor) -> None:
        if tensor.local is not None:
            self.local.release(tensor.local, tensor.vectors)
            tensor.local = None
        fixed = {e.base for e in (*self.inputs, *self.outputs)}
        if tensor.dram is not None and tensor.dram not in fixed:
            self.dram0.release(tensor.dram, tensor.vectors)


def _unclean_tensors(placed: Placed) -> set[str]:
    """Tensors whose lanes without a channel may not hold 0: a clip moved them off it, or what they are made from."""
    found: set[str] = set()
    for group in placed.groups:
        if group.carried:
            found.add(group.group.result)
        for step in group.steps:
            moved = (isinstance(step, Maximum) and step.word > 0) or (isinstance(step, Minimum) and step.word < 0)
            if moved or (isinstance(step, Accumulate) and step.tensor in found):
                found.add(group.group.result)
        if isinstance(group.group.head, MaxHead) and group.group.head.tensor in found:
            found.add(group.group.result)
    return found
