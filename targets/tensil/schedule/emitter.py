"""The instruction stream under construction: what must hold between instructions is kept here.

- The accumulator hazard (`check.hazards`): an accumulating write must not follow one to the same address with no other
  accumulator access between. Where it would, a constant is read into the SIMD register first.
- The SIMD register: which constant it holds, so that it is loaded once for many vectors.
- SIMD operations that may wait: they run in the background of DRAM reads and of the array's drain (`machine.timing`).
- Whom each instruction serves: one that waited serves the group that it was made for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.groups.layout import Run
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.instructions import (
    DataMove,
    Instruction,
    LoadWeights,
    MoveKind,
    Segment,
    Simd,
    SimdOperation,
)
from pefslc.targets.tensil.machine.timing import (
    SIMD_CYCLES,
    healing_rows,
    simd_queue_length,
    streaming_cycles,
    vector_beats,
)
from pefslc.targets.tensil.program.table import InstructionRows, instructions_of

__all__ = ["Constant", "DenseRuns", "Emitter", "SimdLater"]

DenseRuns: TypeAlias = NDArray[np.int64]  # [runs, 3]: where each begins in either memory, and its vectors
Constant: TypeAlias = int | tuple[int, ...]  # the same word in every lane, or a word for each


@dataclass(frozen=True, slots=True)
class SimdLater:
    """accumulator[write] (+)= operation(accumulator[read], word), when there is time."""

    operation: SimdOperation
    word: Constant
    read: int
    write: int
    accumulate: bool = False


class Emitter:
    """Appends instructions. `constants` maps a constant to the accumulator address of a vector that holds it."""

    def __init__(self, architecture: Architecture, constants: dict[Constant, int]) -> None:
        self.architecture = architecture
        self.constants = constants
        self.rows = InstructionRows(architecture)
        self._pending: deque[tuple[SimdLater, str]] = deque()
        self._group = ""  # whom what is made now serves
        self._serving = [(0, "")]  # the first instruction of each segment, and whom it serves
        self._queue = simd_queue_length(architecture.array_size)
        self._register: Constant | None = None
        self._last: int | None = None  # the accumulator address accessed last
        self._tainted = False  # whether an accumulation to it may still be under way
        self._by_matmul = False  # whether that accumulation was a MatMul's
        self._healing_rows = healing_rows(architecture.array_size)

    def use_constants(self, constants: Mapping[tuple[int, ...], int]) -> None:
        """Vectors that accumulators hold from now on, in the place of those of the last call."""
        self.constants = {c: address for c, address in self.constants.items() if isinstance(c, int)}
        for words, address in constants.items():
            self.constants[words] = address
        if not isinstance(self._register, int):
            self._register = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def instructions(self) -> list[Instruction]:
        """What was appended, as objects."""
        return instructions_of(self.architecture, self.rows.table())

    def serve(self, group: str) -> None:
        """What is made from now on serves this group."""
        self._group = group
        self._segment(group)

    def segments(self) -> tuple[Segment, ...]:
        """All instructions, by whom they serve."""
        ends = [first for first, _ in self._serving[1:]] + [len(self.rows)]
        return tuple(Segment(group, first, end) for (first, group), end in zip(self._serving, ends, strict=True))

    def _segment(self, group: str) -> None:
        first, current = self._serving[-1]
        if group == current:
            return
        if first == len(self.rows):
            self._serving.pop()
        if not self._serving or self._serving[-1][1] != group:
            self._serving.append((len(self.rows), group))

    def load_weights(self, local: int, rows: int, *, has_bias: bool, pieces: Sequence[range] = ()) -> None:
        """Shift `rows` vectors from `local` into the array; where they hold no bias row, a zero row after them.

        pieces  of the rows those that lie there, rising and without gaps; the others are made zero. Empty: all lie
                there
        """
        pieces = pieces or [range(rows)]
        local += sum(map(len, pieces))
        for piece in reversed(pieces):  # the array takes the last row first
            if piece.stop < rows:
                self.rows.append(LoadWeights(0, rows - piece.stop, zeroes=True))
            local -= len(piece)
            self.rows.append(LoadWeights(local, len(piece)))
            rows = piece.start
        if missing := rows + (not has_bias):
            self.rows.append(LoadWeights(0, missing, zeroes=True))
        if self._by_matmul and max(map(len, pieces)) >= self._healing_rows:
            self._tainted = False

    def clear_weights(self) -> None:
        """Fill the array with zeros: later tiles load only the rows that matter."""
        self.rows.append(LoadWeights(0, self.architecture.array_size + 1, zeroes=True))

    def matmul(
        self,
        local: int,
        accumulator: int,
        vectors: int,
        local_stride: int,
        accumulator_stride: int,
        *,
        accumulate: bool,
    ) -> None:
        """accumulator[i] (+)= weights applied to local[i]."""
        self._before_write(accumulator, accumulate=accumulate)
        self.rows.matmul(local, accumulator, vectors, local_stride, accumulator_stride, accumulate)
        self._after_write(accumulator, vectors, accumulator_stride, accumulate=accumulate, by_matmul=True)

    def matmuls(self, runs: Sequence[Run], local: int, accumulator: int, *, accumulate: bool) -> None:
        """`matmul` for each of the runs, from these two bases on. No two runs reach the same accumulator."""
        if not runs:
            return
        self._before_write(runs[0].second + accumulator, accumulate=accumulate)
        append, last = self.rows.matmul, runs[-1]
        for run in runs:
            first, second = run.first + local, run.second + accumulator
            append(first, second, run.vectors, run.first_stride, run.second_stride, accumulate)
        if len(runs) > 1:
            self._tainted = False  # the runs before the last one reach other addresses than it does
        second = last.second + accumulator
        self._after_write(second, last.vectors, last.second_stride, accumulate=accumulate, by_matmul=True)

    def dense_matmuls(self, runs: DenseRuns, local: int, accumulator: int, *, accumulate: bool) -> None:
        """`matmul` for each of one run or more, from these two bases on; each begins behind the end of the last."""
        seconds, counts = runs[:, 1] + accumulator, runs[:, 2]
        ends = (seconds + counts - 1).tolist()
        self._before_write(int(seconds[0]), accumulate=accumulate)
        self.rows.matmuls(runs[:, 0] + local, seconds, counts, accumulate=accumulate)
        if len(ends) > 1:
            self._last, self._tainted = ends[-2], accumulate
        self._after_write(int(seconds[-1]), int(counts[-1]), 0, accumulate=accumulate, by_matmul=True)

    def matmul_zeroes(self, accumulator: int, vectors: int, stride: int = 0, *, accumulate: bool = False) -> None:
        """accumulator[i << stride] (+)= the bias row."""
        self._before_write(accumulator, accumulate=accumulate)
        self.rows.matmul(0, accumulator, vectors, 0, stride, accumulate, zeroes=True)
        self._after_write(accumulator, vectors, stride, accumulate=accumulate)

    def to_accumulators(
        self, local: int, accumulator: int, vectors: int, local_stride: int = 0, accumulator_stride: int = 0, *,
        accumulate: bool = False,
    ) -> None:  # fmt: skip
        """accumulator[i] (+)= local[i]."""
        kind = MoveKind.LOCAL_TO_ACCUMULATOR_ACCUMULATE if accumulate else MoveKind.LOCAL_TO_ACCUMULATOR
        self._before_write(accumulator, accumulate=accumulate)
        self.rows.append(DataMove(kind, local, accumulator, vectors, local_stride, accumulator_stride))
        self._after_write(accumulator, vectors, accumulator_stride, accumulate=accumulate)

    def from_accumulators(self, accumulator: int, local: int, vectors: int) -> None:
        """local[i] = accumulator[i]."""
        self.rows.append(DataMove(MoveKind.ACCUMULATOR_TO_LOCAL, local, accumulator, vectors))
        self._read(accumulator + vectors - 1)

    def dram(self, kind: MoveKind, local: int, dram: int, vectors: int) -> None:
        """A move between local memory and a DRAM, contiguous on both sides."""
        self.rows.append(DataMove(kind, local, dram, vectors))

    def simd_later(self, operations: Iterable[SimdLater]) -> None:
        """By later `fill`s or a `flush`, in this order."""
        self._pending.extend((operation, self._group) for operation in operations)

    @property
    def pending(self) -> int:
        """SIMD operations that wait."""
        return len(self._pending)

    @property
    def rows_that_hide_the_queue(self) -> int:
        """The fewest vectors from a DRAM whose read hides as many SIMD operations as the queue holds."""
        return -(-self._queue * SIMD_CYCLES // vector_beats(self.architecture))

    def fill(self, cycles: int) -> None:
        """Emit pending SIMD operations that run for about `cycles` in the background of what follows."""
        for _ in range(min(cycles // SIMD_CYCLES, len(self._pending), self._queue)):
            self._simd(*self._pending.popleft())
        self._segment(self._group)

    def fill_behind_read(self, vectors: int) -> None:
        """Emit pending SIMD operations that run while this many vectors come from a DRAM."""
        self.fill(streaming_cycles(self.architecture, vectors))

    def flush(self) -> None:
        """Emit all pending SIMD operations."""
        while self._pending:
            self._simd(*self._pending.popleft())
        self._segment(self._group)

    def _simd(self, later: SimdLater, group: str) -> None:
        self._segment(group)
        self._load_register(later.word)
        self.rows.simd(later.operation, 0, 1, 0, later.read, later.write, later.accumulate)
        self._read(later.read)
        if later.write != later.read:
            self._after_write(later.write, 1, 0, accumulate=later.accumulate)

    def simd_reduce(self, operation: SimdOperation, sources: Sequence[int], target: int) -> None:
        """accumulator[target] = the operation over accumulator[s] for all sources, which pass the SIMD register."""
        append = self.rows.append
        first, *rest = sources
        if not rest:
            append(Simd(SimdOperation.MOVE, left=0, destination=0, read=first, write=target))
        else:
            append(Simd(SimdOperation.MOVE, left=0, destination=1, read=first))
            for source in rest[:-1]:
                append(Simd(operation, left=0, right=1, destination=1, read=source))
            append(Simd(operation, left=0, right=1, destination=0, read=rest[-1], write=target))
            self._register = None
        self._read(sources[-1])  # the write to the target adds to nothing: it needs no guard

    # --- what holds between instructions -------------------------------------------------------------------------

    def _load_register(self, word: Constant) -> None:
        if self._register != word:
            address = self.constants[word]
            self.rows.simd(SimdOperation.MOVE, 0, 0, 1, address)
            self._register = word
            self._read(address)

    def _read(self, address: int) -> None:
        self._last, self._tainted = address, False

    def _before_write(self, address: int, *, accumulate: bool) -> None:
        if accumulate and self._tainted and self._last == address:
            self._register = None  # force the read
            self._load_register(next(iter(self.constants)))

    def _after_write(
        self, address: int, vectors: int, stride: int, *, accumulate: bool, by_matmul: bool = False
    ) -> None:
        last = address + ((vectors - 1) << stride)
        same = self._tainted and vectors == 1 and self._last == last
        self._last, self._tainted, self._by_matmul = last, accumulate or same, by_matmul
