"""Where tensors live: in local memory while they fit, else in DRAM0, and the moves between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Origin, quote
from pefslc.targets.tensil.groups.group_program import Port, Role
from pefslc.targets.tensil.groups.layout import Layout, View
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.instructions import MoveKind
from pefslc.targets.tensil.schedule.allocator import Allocator
from pefslc.targets.tensil.schedule.in_place import is_high_digit, overwritten
from pefslc.targets.tensil.schedule.pass_plan import Needs
from pefslc.targets.tensil.words.word_group import WordGroup
from pefslc.targets.tensil.words.word_program import WordProgram

__all__ = ["SHORT_LIVED", "DramMoves", "Entry", "OfPicture", "Tensor", "TensorMemory", "no_local_memory"]

OfPicture: TypeAlias = tuple[str, int]  # a tensor by its name, and the picture of the batch whose tensor it is

SHORT_LIVED = {Role.PACKED, Role.PARTIAL, Role.SUMS, Role.TRANSPOSED}


class DramMoves(Protocol):
    """Receives moves between local memory and a DRAM, contiguous on both sides."""

    def dram(self, kind: MoveKind, local: int, dram: int, vectors: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """An input or output in DRAM0: its ONNX name and vectors [base, base + size), those of each picture in turn."""

    name: str
    tensor: str
    base: int
    size: int
    pictures: int = 1

    def of(self, picture: int) -> int:
        """Where the vectors of a picture begin."""
        return self.base + picture * (self.size // self.pictures)


@dataclass
class Tensor:
    """A live tensor: where it is. `dram` is kept once written, so that a spill happens once.

    local  where each of its blocks begins in local memory
    whole  whether somebody reads it who needs its blocks one behind the other
    lent   its place is that of its reader's results, too, whose it is when nobody reads it any more
    """

    name: str
    layout: Layout
    vectors: int
    role: Role
    picture: int = 0
    local: tuple[int, ...] | None = None
    dram: int | None = None
    readers: int = 0
    whole: bool = False
    lent: bool = False


class TensorMemory:
    """The memories and what is in them.

    moves     receives the moves
    resident  vectors at the start of local memory that hold constants
    size      pictures of the batch: each has tensors of its own, which lie where there is room
    """

    def __init__(
        self, architecture: Architecture, program: WordProgram, resident: int, moves: DramMoves, size: int = 1
    ) -> None:
        self._architecture, self._layouts, self._moves = architecture, program.layouts, moves
        self.local = Allocator(resident, architecture.local_depth)
        self._dram0 = Allocator(0, architecture.usable_dram0_vectors)
        self._size = size
        self.tensors: dict[OfPicture, Tensor] = {
            (name, picture): Tensor(
                name, tensor.layout, tensor.layout.vectors(architecture.array_size), tensor.stored.role, picture
            )
            for name, tensor in program.tensors.items()
            for picture in range(size)
        }
        for name in (
            *(name for group in program.groups for name in group.tensors),
            *(port.tensor for port in program.outputs),
        ):
            for picture in range(size):
                self.tensors[name, picture].readers += 1
        for group in program.groups:
            for name in group.tensors if group.reads_in_place else ():
                for picture in range(size):
                    self.tensors[name, picture].whole = True
        self.inputs = tuple(self._entry(port) for port in program.inputs)
        for entry in self.inputs:
            for picture in range(size):
                self.tensors[entry.tensor, picture].dram = entry.of(picture)
        self.outputs = tuple(self._entry(port) for port in program.outputs)
        self._fixed = {e.of(picture) for e in (*self.inputs, *self.outputs) for picture in range(size)}

    def _entry(self, port: Port) -> Entry:
        """A place in DRAM0 for an input or output."""
        vectors = self.tensors[port.tensor, 0].vectors * self._size
        base = self._dram0.allocate(vectors)
        if base is None:
            raise self._no_dram0(f"tensor {quote(port.name)}", vectors, port.value.origin)
        return Entry(port.name, port.tensor, base, vectors, self._size)

    def write_output(self, entry: Entry, picture: int) -> None:
        """Move an output to its place, if it is not there."""
        tensor, place = self.tensors[entry.tensor, picture], entry.of(picture)
        if tensor.local is not None:
            self._move(MoveKind.LOCAL_TO_DRAM0, self._pieces(tensor, place))
        elif tensor.dram != place:
            assert tensor.dram is not None
            base, gap = self.local.largest_gap()
            if not gap:
                raise no_local_memory(self._architecture, f"moving output {quote(entry.name)}", 1, free=gap)
            for start in range(0, tensor.vectors, gap):
                count = min(gap, tensor.vectors - start)
                self._moves.dram(MoveKind.DRAM0_TO_LOCAL, base, tensor.dram + start, count)
                self._moves.dram(MoveKind.LOCAL_TO_DRAM0, base, place + start, count)

    def is_local(self, tensor: OfPicture) -> bool:
        """Whether a tensor is in local memory."""
        return self.tensors[tensor].local is not None

    def view(self, name: OfPicture) -> View:
        """Where a tensor lies: in local memory, else in DRAM0."""
        tensor = self.tensors[name]
        if tensor.local is not None:
            return View.whole(tensor.local, tensor.layout)
        assert tensor.dram is not None
        return View.whole(range(tensor.dram, tensor.dram + tensor.vectors, tensor.layout.pixels), tensor.layout)

    def allocate(self, tensor: Tensor, *, at_end: bool = False, apart: bool = False) -> tuple[int, ...] | None:
        """Local memory for a tensor, one block behind the other; with `apart` each where there is room, if need be.
        Where the blocks begin; None for no room.
        """
        pixels = tensor.layout.pixels
        base = self.local.allocate(tensor.vectors, at_end=at_end)
        if base is not None:
            return tuple(range(base, base + tensor.vectors, pixels))
        found: list[int] = []
        for _ in range(0, tensor.vectors if apart and not tensor.whole else 0, pixels):
            place = self.local.allocate(pixels, at_end=at_end)
            if place is None:
                self.give_back(found, pixels)
                return None
            found.append(place)
        return tuple(found) or None

    def give_back(self, places: Iterable[int], pixels: int) -> None:
        """Release blocks of so many vectors, rising neighbours at once."""
        begin = end = -1
        for place in places:
            if place != end:
                if begin >= 0:
                    self.local.release(begin, end - begin)
                begin = place
            end = place + pixels
        if begin >= 0:
            self.local.release(begin, end - begin)

    def _pieces(self, tensor: Tensor, dram: int) -> Iterator[tuple[int, int, int]]:
        """(place in local memory, that in DRAM0, vectors) of its blocks."""
        assert tensor.local is not None
        pixels = tensor.layout.pixels
        return ((place, dram + i * pixels, pixels) for i, place in enumerate(tensor.local))

    def _move(self, kind: MoveKind, pieces: Iterable[tuple[int, int, int]]) -> None:
        """Between local memory and DRAM0: pieces that lie one behind the other on both sides by one move."""
        local = dram = vectors = 0
        for place, other, count in pieces:
            if vectors and (place, other) == (local + vectors, dram + vectors):
                vectors += count
                continue
            if vectors:
                self._moves.dram(kind, local, dram, vectors)
            local, dram, vectors = place, other, count
        if vectors:
            self._moves.dram(kind, local, dram, vectors)

    def load(self, tensors: Iterable[Tensor]) -> None:
        """Copy tensors from DRAM0 to the places that they were given."""
        self._move(MoveKind.DRAM0_TO_LOCAL, (p for t in tensors if t.dram is not None for p in self._pieces(t, t.dram)))

    def fetch(self, tensor: Tensor, group: WordGroup, reads: Sequence[Tensor], times: int, scratch: int) -> None:
        """Bring a tensor from DRAM0 into local memory if it fits beside a useful amount of free space; or beside the
        least scratch, where passes would read it several times. Then what nobody reads now may make room for it, if
        that moves less. One that gets digits is read twice, and then overwritten: it comes wherever it fits.
        """
        if tensor.local is not None:
            return
        useful = tensor.vectors if self._size == 1 else self._architecture.local_depth // 16  # of many small ones
        useful = 0 if is_high_digit(group, self._architecture.data_type) else useful
        needed = tensor.vectors + (scratch if times > 1 else useful)
        while self.local.largest_gap()[1] < needed:
            others = [t for t in self.tensors.values() if t.local is not None and t not in reads]
            largest = max(others, key=lambda t: t.vectors, default=None)
            room = self.local.largest_gap_without(
                (place, place + t.layout.pixels) for t in others if t.local is not None for place in t.local
            )
            if largest is None or room < needed or 2 * largest.vectors >= (times - 1) * tensor.vectors:
                return
            self.spill(largest, group.origin)
        tensor.local = self.allocate(tensor)
        self.load([tensor])

    def settle(
        self, group: WordGroup, pictures: range, weight_rows: int, tile_rows: int, *, waits: bool = False
    ) -> Needs:
        """Give the results of some pictures places, moving tensors to DRAM0 until the passes have the scratch that they
        need.

        waits  whether a later group reads the results together with those of other pictures
        """
        names = group.tensors
        results = [self.tensors[group.result, picture] for picture in pictures]
        reads = [self.tensors[name, picture] for name in names for picture in pictures]
        if group.reads_in_place and not all(tensor.local is not None for tensor in reads):
            vectors = sum(tensor.vectors for tensor in reads)
            raise no_local_memory(self._architecture, "what this layer reads", vectors, at=group.origin)
        if (in_place := self._in_place(group, pictures, weight_rows, tile_rows)) is not None:
            return in_place
        for result in results:
            # Helpers live shortly: from the other end, they leave no gaps among the tensors that stay. Nor does what
            # waits while others come and go.
            result.local = self.allocate(result, at_end=waits or result.role in SHORT_LIVED)
        while True:
            needs = self.needs_of(group, pictures, weight_rows, tile_rows)
            gap = self.local.largest_gap()[1]
            waiting = any(t.picture not in pictures for t in self.bystanders(results, reads))
            if needs.staging and waiting and self._spill_one(pictures, results, reads, group.origin, in_place=True):
                continue  # what waits for a later group makes room for the result
            if gap >= needs.comfortable or (gap >= needs.least and not self.bystanders(results, reads)):
                break
            if not self._spill_one(pictures, results, reads, group.origin, in_place=group.reads_in_place):
                if gap >= needs.least:
                    break
                raise no_local_memory(self._architecture, "this layer", needs.least, free=gap, at=group.origin)
        for picture, result in zip(pictures, results, strict=True):
            if result.local is None:
                self._give_dram(result, picture, group)
        return needs

    def needs_of(self, group: WordGroup, pictures: range, weight_rows: int, tile_rows: int) -> Needs:
        results = [self.tensors[group.result, picture] for picture in pictures]
        in_dram = {name for name in group.tensors if not all(self.is_local((name, picture)) for picture in pictures)}
        return Needs.of(
            group, self._layouts, self._architecture, in_dram,
            result_in_dram=any(result.local is None for result in results),
            weight_rows=weight_rows, tile_rows=tile_rows, pictures=len(pictures),
        )  # fmt: skip

    def _in_place(self, group: WordGroup, pictures: range, weight_rows: int, tile_rows: int) -> Needs | None:
        """What a group needs whose result lies where a tensor lies that it adds; None where it does not.

        Sums over both digits then pass through scratch, not through where the result goes. Not of a batch: there a pass
        may hold several pictures.
        """
        name = overwritten(group, self._architecture.data_type) if self._size == 1 else None
        if name is None:
            return None
        tensor, result = self.tensors[name, pictures[0]], self.tensors[group.result, pictures[0]]
        if tensor.local is None or tensor.readers != 1 or tensor.vectors != result.vectors:
            return None
        result.local = tensor.local
        needs = self.needs_of(group, pictures, weight_rows, tile_rows)
        if group.add_high is not None:
            needs = replace(needs, staging=True)
        if self.local.largest_gap()[1] < needs.comfortable:
            result.local = None
            return None
        tensor.lent = True
        return needs

    def bystanders(self, results: Sequence[Tensor], reads: Sequence[Tensor]) -> list[Tensor]:
        taking_part = {id(tensor) for tensor in (*results, *reads)}
        return [t for t in self.tensors.values() if t.local is not None and id(t) not in taking_part]

    def _spill_one(
        self, pictures: range, results: Sequence[Tensor], reads: Sequence[Tensor], origin: Origin, *, in_place: bool
    ) -> bool:
        """Move one tensor out of local memory: a bystander first, of other pictures if there are some, then a result,
        then what the group reads, if it need not be in place.
        """
        candidates = sorted(self.bystanders(results, reads), key=lambda t: (t.picture in pictures, -t.vectors))
        candidates = candidates or [result for result in reversed(results) if result.local is not None]
        if not candidates and not in_place:
            candidates = sorted((t for t in reads if t.local is not None), key=lambda t: -t.vectors)
        if not candidates:
            return False
        tensor = candidates[0]
        is_result = any(tensor is result for result in results)
        self.spill(tensor, origin, keeps=not is_result)
        for result in () if is_result else results:
            if result.local is None:
                result.local = self.allocate(result)
        return True

    def spill(self, tensor: Tensor, origin: Origin, *, keeps: bool = True) -> None:
        """Give its local memory back. `keeps`: it holds something, which DRAM0 gets if it has not got it."""
        assert tensor.local is not None
        if keeps and tensor.dram is None:
            tensor.dram = self._dram_address(tensor, origin)
            self._move(MoveKind.LOCAL_TO_DRAM0, self._pieces(tensor, tensor.dram))
        self.give_back(tensor.local, tensor.layout.pixels)
        tensor.local = None

    def _give_dram(self, result: Tensor, picture: int, group: WordGroup) -> None:
        entry = next((e for e in self.outputs if e.tensor == group.result), None)
        result.dram = entry.of(picture) if entry is not None else self._dram_address(result, group.origin)

    def _dram_address(self, tensor: Tensor, origin: Origin) -> int:
        base = self._dram0.allocate(tensor.vectors)
        if base is None:
            raise self._no_dram0("a tensor that leaves local memory", tensor.vectors, origin)
        return base

    def release(self, tensor: Tensor) -> None:
        """Nobody reads the tensor any more."""
        if tensor.local is not None:
            if not tensor.lent:
                self.give_back(tensor.local, tensor.layout.pixels)
            tensor.local = None
        if tensor.dram is not None and tensor.dram not in self._fixed:
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
