"""What lies in local memory while the groups of a program run: matrix rows and weights that stay, tensors, scratch.

It moves tensors to and from DRAM0, and emits nothing else: so what a way to share a batch moves can be known without a
program (`batch_choice`).
"""

from __future__ import annotations

from pefslc.targets.tensil.matrix.matrix_steps import MatrixStep
from pefslc.targets.tensil.matrix.resident_rows import resident_rows
from pefslc.targets.tensil.schedule.batch_places import BatchPlaces
from pefslc.targets.tensil.schedule.pass_plan import Needs
from pefslc.targets.tensil.schedule.schedule_input import ScheduleInput
from pefslc.targets.tensil.schedule.tensor_memory import DramMoves, OfPicture, TensorMemory
from pefslc.targets.tensil.schedule.weight_stream import KeptWeights
from pefslc.targets.tensil.words.word_group import WordGroup

__all__ = ["Placing"]


class Placing:
    """Gives tensors places, run after run: `begin` before the instructions of a run, `end` after them.

    moves        receives the moves between local memory and DRAM0
    matrix_rows  the rows of all matrix steps, each step's from so many vectors behind `matrix_base` on
    runs         the groups in the order in which they run, and the pictures of each run
    kept         local memory for the weights of groups that keep them, by the group's result
    """

    def __init__(self, given: ScheduleInput, moves: DramMoves) -> None:
        program, architecture, resident, batches = given.program, given.architecture, given.resident, given.batches
        self._program, self._architecture, self._batches = program, architecture, batches
        self._passes, self._resident = given.passes, resident
        self.memory = TensorMemory(architecture, program, resident, moves, batches.size)
        self._written: set[tuple[str, int]] = set()  # outputs of pictures that are where the host reads them
        self.matrix_rows = resident_rows(program.groups, architecture)
        vectors = sum(map(len, self.matrix_rows.values()))
        base = self.memory.local.allocate(vectors) if vectors and not resident else 0
        assert base is not None
        self.matrix_base = base
        self._latest: dict[str, int] = {}  # by tensor, on how many pictures a reader of it works at once, at most
        for group in program.groups if batches.size > 1 else ():
            for tensor in group.tensors:
                self._latest[tensor] = max(self._latest.get(tensor, 0), batches.of(group))
        self._uses: dict[OfPicture, list[int]] = {}  # the numbers of the runs that read a tensor
        self._reads = {group.result: group.tensors for group in program.groups}
        self.runs = tuple(batches.runs(program.groups))
        for number, (group, pictures) in enumerate(self.runs if batches.size > 1 else ()):
            for name in self._reads[group.result]:
                for picture in pictures:
                    self._uses.setdefault((name, picture), []).append(number)
        self._run = -1  # the number of the run at hand
        self._places: BatchPlaces | None = None
        self.kept = {} if resident else self._places_of_kept_weights()

    def place_of_matrix_rows(self, base: int) -> dict[MatrixStep, int]:
        """Where the rows of each step lie, if those of all begin at `base`."""
        found: dict[MatrixStep, int] = {}
        for step, rows in self.matrix_rows.items():
            found[step], base = base, base + len(rows)
        return found

    def _places_of_kept_weights(self) -> dict[str, KeptWeights]:
        """Side by side: so no gap lies among tensors."""
        found: dict[str, KeptWeights] = {}
        for group in self._program.groups:
            if group.result in self._batches.kept:
                rows = sum(len(tile.rows) for block in self._passes.tiles(group, bias_alone=False) for tile in block)
                # Sums that carry a word have two bias rows a block.
                size = rows + 2 * group.layout.blocks(self._architecture.array_size)
                base = self.memory.local.allocate(size)
                if base is not None:
                    found[group.result] = KeptWeights(base, size)
        return found

    def begin(self, group: WordGroup, pictures: range) -> Needs:
        """Bring what the run reads, and place the results; what the run needs. Raises CompileError for no room."""
        memory, tile = self.memory, self._architecture.array_size + 1
        self._run += 1
        weight_rows, least = self._passes.weight_rows(group)
        waits = self._latest.get(group.result, 0) > self._batches.of(group)
        if self._batches.size > 1:
            is_read = not self._resident and group.result not in self.kept
            self._places = BatchPlaces(
                memory=memory,
                group=group,
                reads=[memory.tensors[name, picture] for name in self._reads[group.result] for picture in pictures],
                pictures=pictures,
                order=self._passes.order(group, len(pictures), is_read=is_read),
                next_use=self._next_use,
                weight_rows=weight_rows,
                tile_rows=least,
                waits=waits,
            )
            if (needs := self._places.settle()) is not None:
                return needs
        reads = [memory.tensors[name, picture] for name in group.tensors for picture in pictures]
        times, staged = self._reading(group)
        for tensor in reads:
            memory.fetch(tensor, group, reads, times, staged + 4 * tile)
        return memory.settle(group, pictures, weight_rows, least, waits=waits)

    def _next_use(self, tensor: OfPicture) -> int:
        uses = self._uses.get(tensor, [])
        return next((run for run in uses if run >= self._run), self._run)

    def end(self, group: WordGroup, pictures: range) -> None:
        """Release what nobody reads any more. Of a batch, what the host reads leaves local memory at once: other
        pictures need the room.
        """
        for entry in self.memory.outputs if self._batches.size > 1 else ():
            for picture in pictures if entry.tensor == group.result else ():
                self.memory.write_output(entry, picture)
                self._written.add((entry.name, picture))
                self._was_read(entry.tensor, picture)
        for name in self._reads[group.result]:
            for picture in pictures:
                self._was_read(name, picture)
        if self._places is not None:
            self._places.end()
        if group.result in self.kept and pictures.stop == self._batches.size:
            kept = self.kept[group.result]
            self.memory.local.release(kept.base, kept.size)

    def finish(self) -> None:
        """Write the outputs that no run wrote."""
        for entry in self.memory.outputs:
            for picture in range(self._batches.size):
                if (entry.name, picture) not in self._written:
                    self.memory.write_output(entry, picture)

    def _was_read(self, name: str, picture: int) -> None:
        tensor = self.memory.tensors[name, picture]
        tensor.readers -= 1
        if tensor.readers == 0:
            self.memory.release(tensor)

    def _reading(self, group: WordGroup) -> tuple[int, int]:
        """How often passes would read a tensor in DRAM0, and how much they may stage: a set of output blocks after the
        other, as many as the accumulators hold.
        """
        capacity = self._passes.accumulators.capacity
        blocks, pixels = group.layout.blocks(self._architecture.array_size), group.layout.pixels
        together = max(1, min(blocks, capacity // pixels))
        alone = group.terms and group.stationary is None and self._batches.size == 1  # pictures of a batch come and go
        times = -(-blocks // together) if alone else 1
        return times, min(pixels * together, capacity) // 2  # smaller passes are better than reading again
