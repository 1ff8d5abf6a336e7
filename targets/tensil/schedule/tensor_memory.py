"""Where tensors live: in local memory while they fit, else in DRAM0, and the moves between them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Origin, quote
from pefslc.targets.tensil.groups.group_program import Port, Role
from pefslc.targets.tensil.groups.layout import Layout, View
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.instructions import MoveKind
from pefslc.targets.tensil.schedule.allocator import Allocator
from pefslc.targets.tensil.schedule.emitter import Emitter
from pefslc.targets.tensil.schedule.in_place import is_high_digit, overwritten
from pefslc.targets.tensil.schedule.pass_plan import Needs
from pefslc.targets.tensil.words.word_group import WordGroup
from pefslc.targets.tensil.words.word_program import WordProgram

__all__ = ["Entry", "Tensor", "TensorMemory", "no_local_memory"]

_SHORT_LIVED = {Role.PACKED, Role.PARTIAL, Role.SUMS, Role.TRANSPOSED}


@dataclass(frozen=True, slots=True)
class Entry:
    """An input or output in DRAM0: its ONNX name and vectors [base, base + size)."""

    name: str
    tensor: str
    base: int
    size: int


@dataclass
class Tensor:
    """A live tensor: where it is. `dram` is kept once written, so that a spill happens once.

    lent  its place is its reader's result's, too, which it goes to when nobody reads it any more
    """

    layout: Layout
    vectors: int
    role: Role
    local: int | None = None
    dram: int | None = None
    readers: int = 0
    lent: bool = False


class TensorMemory:
    """The memories and what is in them. `emitter` receives the moves.

    resident  vectors at the start of local memory that hold constants
    """

    def __init__(self, architecture: Architecture, program: WordProgram, resident: int, emitter: Emitter) -> None:
        self._architecture, self._layouts, self._emitter = architecture, program.layouts, emitter
        self.local = Allocator(resident, architecture.local_depth)
        self._dram0 = Allocator(0, architecture.usable_dram0_vectors)
        self.tensors = {
            name: Tensor(tensor.layout, tensor.layout.vectors(architecture.array_size), tensor.stored.role)
            for name, tensor in program.tensors.items()
        }
        for group in program.groups:
            for name in group.tensors:
                self.tensors[name].readers += 1
        for port in program.outputs:
            self.tensors[port.tensor].readers += 1
        self.inputs = tuple(self._entry(port) for port in program.inputs)
        for entry in self.inputs:
            self.tensors[entry.tensor].dram = entry.base
        self.outputs = tuple(self._entry(port) for port in program.outputs)

    def _entry(self, port: Port) -> Entry:
        """A place in DRAM0 for an input or output."""
        vectors = self.tensors[port.tensor].vectors
        base = self._dram0.allocate(vectors)
        if base is None:
            raise self._no_dram0(f"tensor {quote(port.name)}", vectors, port.value.origin)
        return Entry(port.name, port.tensor, base, vectors)

    def write_output(self, entry: Entry) -> None:
        """Move an output to its place, if it is not there."""
        tensor = self.tensors[entry.tensor]
        if tensor.local is not None:
            self._emitter.dram(MoveKind.LOCAL_TO_DRAM0, tensor.local, entry.base, tensor.vectors)
        elif tensor.dram != entry.base:
            assert tensor.dram is not None
            base, gap = self.local.largest_gap()
            if not gap:
                raise no_local_memory(self._architecture, f"moving output {quote(entry.name)}", 1, free=gap)
            for start in range(0, tensor.vectors, gap):
                count = min(gap, tensor.vectors - start)
                self._emitter.dram(MoveKind.DRAM0_TO_LOCAL, base, tensor.dram + start, count)
                self._emitter.dram(MoveKind.LOCAL_TO_DRAM0, base, entry.base + start, count)

    def is_local(self, name: str) -> bool:
        """Whether a tensor is in local memory."""
        return self.tensors[name].local is not None

    def view(self, name: str) -> View:
        """Where a tensor lies: in local memory, else in DRAM0."""
        tensor = self.tensors[name]
        base = tensor.local if tensor.local is not None else tensor.dram
        assert base is not None
        return View.whole(base, tensor.layout)

    def fetch(self, tensor: Tensor, group: WordGroup) -> None:
        """Bring a tensor from DRAM0 into local memory if it fits beside a useful amount of free space.

        One that gets digits is read twice, and then overwritten: it comes wherever it fits.
        """
        share = 1 if is_high_digit(group, self._architecture.data_type) else 2
        if tensor.local is None and self.local.largest_gap()[1] >= share * tensor.vectors:
            tensor.local = self.local.allocate(tensor.vectors)
            assert tensor.local is not None
            assert tensor.dram is not None
            self._emitter.dram(MoveKind.DRAM0_TO_LOCAL, tensor.local, tensor.dram, tensor.vectors)

    def settle(self, group: WordGroup, result: Tensor, reads: list[Tensor], weight_rows: int, tile_rows: int) -> Needs:
        """Give the result a place, moving tensors to DRAM0 until the passes have the scratch that they need."""
        if group.reads_in_place and not all(tensor.local is not None for tensor in reads):
            vectors = sum(tensor.vectors for tensor in reads)
            raise no_local_memory(self._architecture, "what this layer reads", vectors, at=group.origin)
        if (needs := self._in_place(group, result, weight_rows, tile_rows)) is not None:
            return needs
        # Helpers live shortly: from the other end, they leave no gaps among the tensors that stay.
        result.local = self.local.allocate(result.vectors, at_end=result.role in _SHORT_LIVED)
        while True:
            needs = self._needs(group, result, weight_rows, tile_rows)
            gap = self.local.largest_gap()[1]
            if gap >= needs.comfortable or (gap >= needs.least and not self._can_spill(result, reads)):
                break
            if not self._spill_one(result, reads, group.origin, in_place=group.reads_in_place):
                if gap >= needs.least:
                    break
                raise no_local_memory(self._architecture, "this layer", needs.least, free=gap, at=group.origin)
        if result.local is None:
            self._give_dram(result, group)
        return needs

    def _needs(self, group: WordGroup, result: Tensor, weight_rows: int, tile_rows: int) -> Needs:
        in_dram = {name for name in group.tensors if not self.is_local(name)}
        return Needs.of(
            group, self._layouts, self._architecture, in_dram,
            result_in_dram=result.local is None, weight_rows=weight_rows, tile_rows=tile_rows,
        )  # fmt: skip

    def _in_place(self, group: WordGroup, result: Tensor, weight_rows: int, tile_rows: int) -> Needs | None:
        """What a group needs whose result lies where a tensor lies that it adds; None where it does not.

        Sums over both digits then pass through scratch, not through where the result goes.
        """
        name = overwritten(group, self._architecture.data_type)
        tensor = None if name is None else self.tensors[name]
        if tensor is None or tensor.local is None or tensor.readers != 1 or tensor.vectors != result.vectors:
            return None
        result.local = tensor.local
        needs = self._needs(group, result, weight_rows, tile_rows)
        if group.add_high is not None:
            needs = replace(needs, staging=True)
        if self.local.largest_gap()[1] < needs.comfortable:
            result.local = None
            return None
        tensor.lent = True
        return needs

    def _can_spill(self, result: Tensor, reads: list[Tensor]) -> bool:
        return any(t.local is not None for t in self.tensors.values() if t is not result and t not in reads)

    def _spill_one(self, result: Tensor, reads: list[Tensor], origin: Origin, *, in_place: bool) -> bool:
        """Move one tensor out of local memory: a bystander first, then the result, then what the group reads, if it
        need not be in place.
        """
        bystanders = [t for t in self.tensors.values() if t.local is not None and t is not result and t not in reads]
        candidates = sorted(bystanders, key=lambda t: -t.vectors) or ([result] if result.local is not None else [])
        if not candidates and not in_place:
            candidates = sorted((t for t in reads if t.local is not None), key=lambda t: -t.vectors)
        if not candidates:
            return False
        tensor = candidates[0]
        assert tensor.local is not None
        if tensor is not result and tensor.dram is None:
            tensor.dram = self._dram_address(tensor, origin)
            self._emitter.dram(MoveKind.LOCAL_TO_DRAM0, tensor.local, tensor.dram, tensor.vectors)
        self.local.release(tensor.local, tensor.vectors)
        tensor.local = None
        if tensor is not result and result.local is None:
            result.local = self.local.allocate(result.vectors)
        return True

    def _give_dram(self, result: Tensor, group: WordGroup) -> None:
        entry = next((e for e in self.outputs if e.tensor == group.result), None)
        result.dram = entry.base if entry is not None else self._dram_address(result, group.origin)

    def _dram_address(self, tensor: Tensor, origin: Origin) -> int:
        base = self._dram0.allocate(tensor.vectors)
        if base is None:
            raise self._no_dram0("a tensor that leaves local memory", tensor.vectors, origin)
        return base

    def release(self, tensor: Tensor) -> None:
        """Nobody reads the tensor any more."""
        if tensor.local is not None:
            if not tensor.lent:
                self.local.release(tensor.local, tensor.vectors)
            tensor.local = None
        fixed = {e.base for e in (*self.inputs, *self.outputs)}
        if tensor.dram is not None and tensor.dram not in fixed:
            self._dram0.release(tensor.dram, tensor.vectors)

    def _no_dram0(self, who: str, vectors: int, at: Origin) -> CompileError:
        return CompileError(
            Code.TCU_DRAM0,
            f"DRAM0 has {self._architecture.dram0_depth} vectors, {who} needs {vectors} free and finds "
            f"{self._dram0.largest_gap()[1]}",
            at=at,
            hint="use an architecture with a larger dram0_depth or local_depth",
        )


def no_local_memory(
    architecture: Architecture, who: str, vectors: int, *, free: int | None = None, at: Origin | None = None
) -> CompileError:
    """Local memory is too small: what is there, who needs how much."""
    return CompileError(
        Code.TCU_LOCAL_MEMORY,
        f"local memory has {architecture.local_depth} vectors, {who} needs {vectors}"
        + ("" if free is None else f" free and finds {free}"),
        at=at,
        hint="use an architecture with a larger local_depth",
    )
