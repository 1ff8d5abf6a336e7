"""Modelled cycles of a program: an event model fitted to measurements of the custom_perf RTL.

Within 1.2 % of the RTL on 13 programs (spec 5). The model knows five clocks: the decoder, the systolic array, the
accumulator pipeline, the end of the last SIMD, and the queue of accumulator work that the decoder may run ahead of.
Only differences between such estimates mean much; they are never to be called measured.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pefslc.targets.tensil.architecture import Architecture
from pefslc.targets.tensil.instructions import MoveKind, Opcode
from pefslc.targets.tensil.table import LOAD_WEIGHTS_ZEROES, MATMUL_ZEROES, SIMD_READ, SIMD_WRITE
from pefslc.targets.tensil.tmodel import TensilProgram

__all__ = ["CycleReport", "Segment", "model_cycles"]


@dataclass(frozen=True, slots=True)
class Segment:
    """Instructions first..end-1, under a name: a layer."""

    label: str
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class CycleReport:
    """Modelled cycles.

    total       until the accumulators are idle
    by_kind     decoder cycles per kind of instruction, largest first; with the final drain they add up to `total`
    counts      instructions per kind
    by_label    decoder cycles per segment label, in the order of the segments
    """

    unit: ClassVar[str] = "modelled cycles"
    total: int
    by_kind: dict[str, int]
    counts: dict[str, int]
    by_label: dict[str, int]


def model_cycles(
    program: TensilProgram,
    segments: Sequence[Segment] = (),
    *,
    axi_bytes: int = 8,
    read_latency_cycles: int = 20,
) -> CycleReport:
    """The modelled cycles of one run. Defaults: PEFSL's board, 64-bit AXI and DRAM answering after 20 cycles."""
    clock = _Clock(program.architecture, axi_bytes, read_latency_cycles)
    table = program.table
    by_kind: dict[str, float] = {}
    counts: Counter[str] = Counter()
    elapsed = [0.0]  # decoder time before instruction i
    rows = zip(table.opcode.tolist(), table.flags.tolist(), table.vectors.tolist(), table.stride1.tolist(), strict=True)
    for opcode, flags, vectors, other_stride in rows:
        before = clock.decoder
        kind = clock.step(opcode, flags, vectors, bool(other_stride))
        by_kind[kind] = by_kind.get(kind, 0.0) + (clock.decoder - before)
        counts[kind] += 1
        elapsed.append(clock.decoder)
    by_label: dict[str, float] = {}
    for segment in segments:
        spent = elapsed[segment.end] - elapsed[segment.first]
        by_label[segment.label] = by_label.get(segment.label, 0.0) + spent
    return CycleReport(
        total=round(max(clock.decoder, clock.accumulators)),
        by_kind={kind: round(by_kind[kind]) for kind in sorted(by_kind, key=lambda kind: -by_kind[kind])},
        counts=dict(counts),
        by_label={label: round(cycles) for label, cycles in by_label.items()},
    )


class _Clock:
    """The state of the event model; all times in cycles. Numbers are fitted, those without a name too."""

    def __init__(self, architecture: Architecture, axi_bytes: int, read_latency_cycles: int) -> None:
        self._size = architecture.array_size
        self._beats = -(-architecture.vector_size_bytes // axi_bytes)  # AXI words of one vector
        self._read_latency = read_latency_cycles
        self._queue_length = 2 * self._size + 2
        self._queue: deque[float] = deque()
        self.decoder = 0.0
        self.accumulators = 0.0
        self._simd_end = 0.0
        self._array = 0.0
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
        self.decoder += 1
        return "NoOp"

    def _wait_for_queue(self) -> None:
        while self._queue and self._queue[0] <= self.decoder:
            self._queue.popleft()
        if len(self._queue) >= self._queue_length:
            self.decoder = max(self.decoder, self._queue.popleft())

    def _matmul(self, vectors: int) -> str:
        start = max(self.decoder, self._array, self._simd_end)
        filled = max(self.accumulators, start + 2 * self._size) + vectors
        self.decoder = max(start + vectors, filled - (4 * self._size - 1))
        self.accumulators = filled
        self._array = self._last_vector = self.decoder
        return "MatMul"

    def _matmul_zeroes(self, vectors: int) -> str:
        self._wait_for_queue()
        self.decoder += 1
        start = max(self._array, self.decoder)
        self._array = self._last_vector = start + vectors
        self.accumulators = max(self.accumulators, start + 2 * self._size) + vectors
        self._queue.append(self.accumulators)
        return "MatMulZeroes"

    def _load_weights(self, flags: int, vectors: int) -> str:
        drained = self._last_vector + 2 * self._size
        if flags & LOAD_WEIGHTS_ZEROES:
            self.decoder += 1
            self._array = max(self._array, self.decoder, drained) + vectors
            return "LoadWeightsZeroes"
        self.decoder = max(self.decoder, self._array, drained) + vectors
        self._array = self.decoder
        return "LoadWeights"

    def _simd(self, flags: int) -> str:
        self._wait_for_queue()
        self.decoder += 1
        both = SIMD_READ | SIMD_WRITE
        cost = 4 if flags & both == both else 2 if flags & SIMD_READ else 1.5 if flags & SIMD_WRITE else 1
        self.accumulators = max(self.accumulators, self.decoder) + cost
        self._simd_end = self.accumulators
        self._queue.append(self.accumulators)
        return "SIMD"

    def _move(self, kind: int, vectors: int, dram_strided: bool) -> str:
        match kind:
            case MoveKind.DRAM0_TO_LOCAL | MoveKind.DRAM1_TO_LOCAL:
                if dram_strided:  # one burst a vector
                    self.decoder += max(self._beats, 8.33) * vectors + self._read_latency
                else:
                    self.decoder += self._beats * vectors + self._read_latency + 6
                return "DRAM0Read" if kind == MoveKind.DRAM0_TO_LOCAL else "DRAM1Read"
            case MoveKind.LOCAL_TO_DRAM0 | MoveKind.LOCAL_TO_DRAM1:
                if dram_strided:
                    self.decoder += max(self._beats, 4.67) * vectors
                else:
                    self.decoder += max(self._beats * vectors, 4.67)
                return "DRAM0Write" if kind == MoveKind.LOCAL_TO_DRAM0 else "DRAM1Write"
            case MoveKind.ACCUMULATOR_TO_LOCAL:
                self.decoder = max(self.decoder, self.accumulators) + vectors + 2
                self.accumulators = self.decoder
                return "AccToLocal"
            case MoveKind.LOCAL_TO_ACCUMULATOR | MoveKind.LOCAL_TO_ACCUMULATOR_ACCUMULATE:
                self.decoder = max(self.decoder, self.accumulators - 2 * self._size) + vectors
                self.accumulators = max(self.accumulators, self.decoder)
                return "LocalToAcc"
            case _:
                self.decoder += 1
                return "NoOp"
