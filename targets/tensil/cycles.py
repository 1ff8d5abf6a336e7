"""Modelled cycles of a program: an event model fitted to measurements of the custom_perf RTL.

Within 1.2 % of the RTL on 13 programs (spec 5). The model knows five clocks: the decoder, the systolic array, the
accumulator pipeline, the end of the last SIMD, and the queue of accumulator work that the decoder may run ahead of.
Only differences between such estimates mean much; they are never to be called measured.

Every cycle is spent by the decoder, on the instruction that it issues or waiting for what an earlier one left to do;
`Kind` says on what. The decoder waits for the SIMD unit in whatever comes next, so SIMD hidden behind other work costs
nothing, and exposed SIMD is SIMD's and not the next instruction's.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from pefslc.targets.tensil.architecture import Architecture
from pefslc.targets.tensil.instructions import MoveKind, Opcode, Segment
from pefslc.targets.tensil.table import LOAD_WEIGHTS_ZEROES, MATMUL_ZEROES, SIMD_READ, SIMD_WRITE
from pefslc.targets.tensil.tmodel import TensilProgram

__all__ = ["CycleReport", "Kind", "model_cycles"]


class Kind(Enum):
    """What a cycle goes to."""

    MATMUL = "MatMul"  # vectors through the array
    WEIGHTS = "weights"  # rows into the array
    DRAIN = "drain"  # waiting for the array and its pipeline to run empty
    SIMD = "SIMD"  # issuing SIMD, and waiting for it where nothing hides it
    DRAM0 = "DRAM0"
    DRAM1 = "DRAM1"
    MOVES = "moves"  # between local memory and accumulators
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class CycleReport:
    """Modelled cycles.

    total           until the accumulators are idle
    spent           by whom the instructions serve, and on what; they add up to `total` exactly
    by_instruction  decoder cycles per kind of instruction, largest first: the final drain is in none of them
    counts          instructions per kind
    """

    unit: ClassVar[str] = "modelled cycles"
    total: int
    spent: Mapping[str, Mapping[Kind, int]]
    by_instruction: dict[str, int]
    counts: dict[str, int]

    def of(self, groups: Sequence[str]) -> dict[Kind, int]:
        """What some groups spent together; without what is 0."""
        found = {kind: sum(self.spent.get(group, {}).get(kind, 0) for group in groups) for kind in Kind}
        return {kind: cycles for kind, cycles in found.items() if cycles}


def model_cycles(
    program: TensilProgram,
    segments: Sequence[Segment] = (),
    *,
    axi_bytes: int = 8,
    read_latency_cycles: int = 20,
) -> CycleReport:
    """The modelled cycles of one run. Defaults: PEFSL's board, 64-bit AXI and DRAM answering after 20 cycles.

    segments  whom the instructions serve: all of them, in order; none for a program of which that is not known
    """
    segments = segments or [Segment("", 0, len(program))]
    assert [0, *(s.end for s in segments)] == [*(s.first for s in segments), len(program)]
    clock = _Clock(program.architecture, axi_bytes, read_latency_cycles)
    table = program.table
    by_instruction: dict[str, float] = {}
    counts: Counter[str] = Counter()
    spent: dict[str, dict[Kind, float]] = {}
    rows = zip(table.opcode.tolist(), table.flags.tolist(), table.vectors.tolist(), table.stride1.tolist(), strict=True)
    for segment in segments:
        clock.spent = spent.setdefault(segment.group, dict.fromkeys(Kind, 0.0))
        for _, (opcode, flags, vectors, other_stride) in zip(range(segment.first, segment.end), rows, strict=False):
            before = clock.decoder
            kind = clock.step(opcode, flags, vectors, bool(other_stride))
            by_instruction[kind] = by_instruction.get(kind, 0.0) + (clock.decoder - before)
            counts[kind] += 1
    clock.finish()
    total = round(clock.decoder)
    return CycleReport(
        total=total,
        spent=_rounded(spent, total),
        by_instruction={
            kind: round(by_instruction[kind]) for kind in sorted(by_instruction, key=lambda kind: -by_instruction[kind])
        },
        counts=dict(counts),
    )


def _rounded(spent: Mapping[str, Mapping[Kind, float]], total: int) -> dict[str, dict[Kind, int]]:
    """Whole numbers that add up to `total`: the largest fractions are rounded up."""
    cells = [(group, kind, cycles) for group, kinds in spent.items() for kind, cycles in kinds.items() if cycles]
    found: dict[str, dict[Kind, int]] = {group: {} for group in spent}
    for group, kind, cycles in cells:
        found[group][kind] = int(cycles)
    missing = total - sum(int(cycles) for *_, cycles in cells)
    assert 0 <= missing <= len(cells)
    for group, kind, _ in sorted(cells, key=lambda cell: int(cell[2]) - cell[2])[:missing]:
        found[group][kind] += 1
    return found


class _Clock:
    """The state of the event model; all times in cycles. Numbers are fitted, those without a name too."""

    def __init__(self, architecture: Architecture, axi_bytes: int, read_latency_cycles: int) -> None:
        self._size = architecture.array_size
        self._beats = -(-architecture.vector_size_bytes // axi_bytes)  # AXI words of one vector
        self._read_latency = read_latency_cycles
        self._queue_length = 2 * self._size + 2
        self._queue: deque[tuple[float, Kind]] = deque()  # when the work is done, and what it is
        self.decoder = 0.0
        self.spent: dict[Kind, float] = {}
        self._accumulators = 0.0
        self._before_simd = 0.0  # when the accumulators would have been idle but for the SIMD issued last
        self._simd_end = 0.0
        self._array = 0.0
        self._array_rows = 0  # rows that the array, if busy, shifts in until it is free; 0: it multiplies
        self._last_vector = -1e9  # when the last MatMul vector was issued

    def step(self, opcode: int, flags: int, vectors: int, dram_strided: bool) -> str:
        """Advances over one instruction and returns the name of its kind."""
        if opcode == Opcode.MATMUL:
            return self._matmul_zeroes(vectors) if flags & MATMUL_ZEROES else self._matmul(vectors)
        if opcode == Opcode.SIMD:
            return self._simd(flags)
        if opcode == Opcode.DATA_MOVE:
            return self._move(flags, vectors, dram_strided)
        if opcode == Opcode.LOAD_WEIGHTS:
            return self._load_weights(flags, vectors)
        self._spend(Kind.OTHER, 1)
        return "NoOp"

    def finish(self) -> None:
        """Waits until the accumulators are idle."""
        self._wait_for_accumulators(self._accumulators)

    # --- on what the decoder spends its time ---------------------------------------------------------------------

    def _spend(self, kind: Kind, cycles: float) -> None:
        self.decoder += cycles
        self.spent[kind] += cycles

    def _wait(self, kind: Kind, until: float) -> None:
        if until > self.decoder:
            self.spent[kind] += until - self.decoder
            self.decoder = until

    def _wait_for_array(self) -> None:
        if self._array_rows:
            self._wait(Kind.DRAIN, self._array - self._array_rows)
        self._wait(Kind.WEIGHTS if self._array_rows else Kind.MATMUL, self._array)

    def _wait_for_accumulators(self, until: float) -> None:
        """Until they have done what keeps them busy to that time: a pipeline that runs empty, then SIMD."""
        self._wait(Kind.DRAIN, min(until, self._before_simd))
        self._wait(Kind.SIMD, until)

    def _wait_for_queue(self) -> None:
        while self._queue and self._queue[0][0] <= self.decoder:
            self._queue.popleft()
        if len(self._queue) >= self._queue_length:
            done, kind = self._queue.popleft()
            self._wait(kind, done)

    # --- instructions --------------------------------------------------------------------------------------------

    def _accumulate_until(self, done: float) -> None:
        self._accumulators = self._before_simd = done

    def _matmul(self, vectors: int) -> str:
        self._wait_for_array()
        self._wait(Kind.SIMD, self._simd_end)
        start = self.decoder
        filled = max(self._accumulators, start + 2 * self._size) + vectors
        self._wait(Kind.MATMUL, max(start + vectors, filled - (4 * self._size - 1)))
        self._accumulate_until(filled)
        self._array = self._last_vector = self.decoder
        return "MatMul"

    def _matmul_zeroes(self, vectors: int) -> str:
        self._wait_for_queue()
        self._spend(Kind.MATMUL, 1)
        start = max(self._array, self.decoder)
        self._array = self._last_vector = start + vectors
        self._array_rows = 0
        self._accumulate_until(max(self._accumulators, start + 2 * self._size) + vectors)
        self._queue.append((self._accumulators, Kind.MATMUL))
        return "MatMulZeroes"

    def _load_weights(self, flags: int, vectors: int) -> str:
        drained = self._last_vector + 2 * self._size
        if flags & LOAD_WEIGHTS_ZEROES:
            self._spend(Kind.WEIGHTS, 1)
            self._array = max(self._array, self.decoder, drained) + vectors
            self._array_rows = vectors
            return "LoadWeightsZeroes"
        self._wait_for_array()
        self._wait(Kind.DRAIN, drained)
        self._spend(Kind.WEIGHTS, vectors)
        self._array = self.decoder
        return "LoadWeights"

    def _simd(self, flags: int) -> str:
        self._wait_for_queue()
        self._spend(Kind.SIMD, 1)
        both = SIMD_READ | SIMD_WRITE
        cost = 4 if flags & both == both else 2 if flags & SIMD_READ else 1.5 if flags & SIMD_WRITE else 1
        self._accumulators = max(self._accumulators, self.decoder) + cost
        self._simd_end = self._accumulators
        self._queue.append((self._accumulators, Kind.SIMD))
        return "SIMD"

    def _move(self, kind: int, vectors: int, dram_strided: bool) -> str:
        match kind:
            case MoveKind.DRAM0_TO_LOCAL | MoveKind.DRAM1_TO_LOCAL:
                dram = Kind.DRAM0 if kind == MoveKind.DRAM0_TO_LOCAL else Kind.DRAM1
                if dram_strided:  # one burst a vector
                    self._spend(dram, max(self._beats, 8.33) * vectors + self._read_latency)
                else:
                    self._spend(dram, self._beats * vectors + self._read_latency + 6)
                return f"{dram.value}Read"
            case MoveKind.LOCAL_TO_DRAM0 | MoveKind.LOCAL_TO_DRAM1:
                dram = Kind.DRAM0 if kind == MoveKind.LOCAL_TO_DRAM0 else Kind.DRAM1
                if dram_strided:
                    self._spend(dram, max(self._beats, 4.67) * vectors)
                else:
                    self._spend(dram, max(self._beats * vectors, 4.67))
                return f"{dram.value}Write"
            case MoveKind.ACCUMULATOR_TO_LOCAL:
                self._wait_for_accumulators(self._accumulators)
                self._spend(Kind.MOVES, vectors + 2)
                self._accumulate_until(self.decoder)
                return "AccToLocal"
            case MoveKind.LOCAL_TO_ACCUMULATOR | MoveKind.LOCAL_TO_ACCUMULATOR_ACCUMULATE:
                self._wait_for_accumulators(self._accumulators - 2 * self._size)
                self._spend(Kind.MOVES, vectors)
                if self.decoder > self._accumulators:
                    self._accumulate_until(self.decoder)
                return "LocalToAcc"
            case _:
                self._spend(Kind.OTHER, 1)
                return "NoOp"
