"""Modelled cycles of a program: an event model of the RTL of custom_perf, with the numbers of `timing`.

Within 0.2 % of that RTL on programs of this project, 0.6 % on small MLPs and on a MobileNetV2
(tests/tensil/test_cycles.py). The model knows five clocks: the decoder, the systolic array, the
accumulator pipeline, the end of the last SIMD, and the queue of accumulator work that the decoder may run ahead of. It
is never to be called measured.

Every cycle is spent by the decoder, on the instruction that it issues or waiting for what an earlier one left to do;
`Kind` says on what. The decoder waits for the SIMD unit in whatever comes next, so SIMD hidden behind other work costs
nothing, and exposed SIMD is SIMD's and not the next instruction's.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.instructions import MoveKind, Opcode, Segment
from pefslc.targets.tensil.machine.timing import (
    READ_LATENCY_CYCLES,
    SIMD_CYCLES,
    SIMD_READ_CYCLES,
    SIMD_REGISTER_CYCLES,
    SIMD_WRITE_CYCLES,
    STORE_CYCLES,
    drain_cycles,
    load_cycles,
    matmul_lead_cycles,
    read_cycles,
    simd_queue_length,
    vector_beats,
    write_cycles,
)
from pefslc.targets.tensil.program.table import (
    LOAD_WEIGHTS_ZEROES,
    MATMUL_ZEROES,
    SIMD_READ,
    SIMD_WRITE,
    InstructionTable,
)
from pefslc.targets.tensil.program.tmodel import TensilProgram

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


_MATMUL, _WEIGHTS, _DRAIN, _SIMD, _DRAM0, _DRAM1, _MOVES, _OTHER = range(len(Kind))  # their order in Kind
# Plain numbers: a program has 100,000 instructions, and to look a member up takes as long as what is done with one.
_IS_MATMUL, _IS_SIMD, _IS_LOAD, _IS_MOVE = (
    int(opcode) for opcode in (Opcode.MATMUL, Opcode.SIMD, Opcode.LOAD_WEIGHTS, Opcode.DATA_MOVE)
)
_SIMD_CYCLES = {  # by what it does to accumulators
    SIMD_READ | SIMD_WRITE: SIMD_CYCLES,
    SIMD_READ: SIMD_READ_CYCLES,
    SIMD_WRITE: SIMD_WRITE_CYCLES,
    0: SIMD_REGISTER_CYCLES,
}


@dataclass(frozen=True, slots=True)
class CycleReport:
    """Modelled cycles.

    total   until the accumulators are idle
    spent   by whom the instructions serve, and on what; they add up to `total` exactly
    issued  by instruction: when the decoder issues it, or waits until it can
    """

    unit: ClassVar[str] = "modelled cycles"
    total: int
    spent: Mapping[str, Mapping[Kind, int]]
    issued: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), compare=False, repr=False)

    def of(self, groups: Sequence[str]) -> dict[Kind, int]:
        """What some groups spent together; without what is 0."""
        found = {kind: sum(self.spent.get(group, {}).get(kind, 0) for group in groups) for kind in Kind}
        return {kind: cycles for kind, cycles in found.items() if cycles}


def model_cycles(
    program: TensilProgram,
    segments: Sequence[Segment] = (),
    *,
    read_latency_cycles: int = READ_LATENCY_CYCLES,
) -> CycleReport:
    """The modelled cycles of one run, with the architecture's AXI, and DRAM that answers as fast as PEFSL's board's.

    segments  whom the instructions serve: all of them, in order; none for a program of which that is not known
    """
    segments = segments or [Segment("", 0, len(program))]
    assert [0, *(s.end for s in segments)] == [*(s.first for s in segments), len(program)]
    clock = _Clock(program.architecture, read_latency_cycles)
    table, vectors = program.table, program.table.vectors
    spent: dict[str, list[float]] = {}
    # Programs are MatMuls for the most part. All that follow one, of the same segment, are one step.
    follows = _follows_matmul(table, segments)
    own, following = np.flatnonzero(~follows), np.where(follows, vectors, 0)
    behind = np.add.reduceat(following, own) if len(own) else following
    columns = [column[own] for column in (table.opcode, table.flags, vectors, table.stride1)]
    begun, done = array("d"), array("d")
    ends = np.searchsorted(own, [segment.end for segment in segments]).tolist()
    for segment, first, end in zip(segments, [0, *ends], ends, strict=False):
        clock.spent = spent.setdefault(segment.group, [0.0] * len(Kind))
        step, begin, finish = clock.step, begun.append, done.append
        for *row, more in zip(*(column[first:end].tolist() for column in (*columns, behind)), strict=True):
            begin(clock.decoder)
            step(*row)
            finish(clock.decoder)
            if more:
                clock.go_on(more)
    clock.finish()
    total = round(clock.decoder)
    issued = np.repeat(np.frombuffer(done), np.diff(own, append=len(table)))
    before = np.cumsum(following) - following
    issued += before - np.repeat(before[own], np.diff(own, append=len(table)))
    issued[own] = np.frombuffer(begun)
    return CycleReport(total, _rounded(spent, total), issued)


def _follows_matmul(table: InstructionTable, segments: Sequence[Segment]) -> NDArray[np.bool_]:
    """Whether each instruction is a MatMul, not of zeroes, behind another one of its segment that has waited for SIMD.

    One right behind SIMD need not have: then the next one waits.
    """
    is_matmul = (table.opcode == _IS_MATMUL) & (table.flags & MATMUL_ZEROES == 0)
    follows = np.zeros(len(table), dtype=np.bool_)
    follows[1:] = is_matmul[1:] & is_matmul[:-1]
    follows[2:] &= table.opcode[:-2] != _IS_SIMD
    follows[[segment.first for segment in segments if segment.first < len(table)]] = False
    return follows


def _rounded(spent: Mapping[str, list[float]], total: int) -> dict[str, dict[Kind, int]]:
    """Whole numbers that add up to `total`: the largest fractions are rounded up."""
    cells = [
        (group, kind, cycles)
        for group, kinds in spent.items()
        for kind, cycles in zip(Kind, kinds, strict=True)
        if cycles
    ]
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

    def __init__(self, architecture: Architecture, read_latency_cycles: int) -> None:
        self._size = architecture.array_size
        self._beats = vector_beats(architecture)
        self._read_latency = read_latency_cycles
        self._drain = drain_cycles(self._size)
        self._lead = matmul_lead_cycles(self._size)
        self._queue_length = simd_queue_length(self._size)
        self._queue: deque[tuple[float, int]] = deque()  # when the work is done, and what it is
        self.decoder = 0.0
        self.spent = [0.0] * len(Kind)
        self._accumulators = 0.0
        self._before_simd = 0.0  # when the accumulators would have been idle but for the SIMD issued last
        self._simd_end = 0.0
        self._simd_after_matmul: int | None = None  # how many follow the last MatMul and nothing else; None: others do
        self._array = 0.0
        self._array_rows = 0  # rows that the array, if busy, shifts in until it is free; 0: it multiplies
        self._last_vector = -1e9  # when the last MatMul vector was issued

    def step(self, opcode: int, flags: int, vectors: int, dram_stride: int) -> None:
        """Advances over one instruction."""
        directly, self._simd_after_matmul = self._simd_after_matmul, None
        if opcode == _IS_MATMUL:
            if flags & MATMUL_ZEROES:
                self._matmul_zeroes(vectors)
            else:
                self._matmul(vectors, directly or 0)
                self._simd_after_matmul = 0
        elif opcode == _IS_SIMD:
            self._simd(flags)
            if directly is not None:
                self._simd_after_matmul = directly + 1
        elif opcode == _IS_LOAD:
            self._load_weights(flags, vectors)
        elif opcode == _IS_MOVE:
            self._move(flags, vectors, dram_stride)
        else:
            self._spend(_OTHER, 1)

    def go_on(self, vectors: int) -> None:
        """Advances over so many vectors of MatMuls behind a MatMul.

        That one's sums are complete `lead` cycles after it at most, and so are these: they take a cycle a vector.
        """
        filled = max(self._accumulators, self.decoder + self._drain) + vectors
        self._spend(_MATMUL, vectors)
        self._accumulate_until(filled)
        self._array = self._last_vector = self.decoder

    def finish(self) -> None:
        """Waits until the accumulators are idle."""
        self._wait_for_accumulators(self._accumulators)

    # --- on what the decoder spends its time ---------------------------------------------------------------------

    def _spend(self, kind: int, cycles: float) -> None:
        self.decoder += cycles
        self.spent[kind] += cycles

    def _wait(self, kind: int, until: float) -> None:
        if until > self.decoder:
            self.spent[kind] += until - self.decoder
            self.decoder = until

    def _wait_for_array(self) -> None:
        if self._array_rows:
            self._wait(_DRAIN, self._array - self._array_rows)
        self._wait(_WEIGHTS if self._array_rows else _MATMUL, self._array)

    def _wait_for_accumulators(self, until: float) -> None:
        """Until they have done what keeps them busy to that time: a pipeline that runs empty, then SIMD."""
        self._wait(_DRAIN, min(until, self._before_simd))
        self._wait(_SIMD, until)

    def _wait_for_queue(self) -> None:
        while self._queue and self._queue[0][0] <= self.decoder:
            self._queue.popleft()
        if len(self._queue) >= self._queue_length:
            done, kind = self._queue.popleft()
            self._wait(kind, done)

    # --- instructions --------------------------------------------------------------------------------------------

    def _accumulate_until(self, done: float) -> None:
        self._accumulators = self._before_simd = done

    def _matmul(self, vectors: int, simd: int) -> None:
        """`simd` operations lie directly between it and the last MatMul: then it need not wait for that one's sums."""
        if self._array > self.decoder:
            self._wait_for_array()
        if self._simd_end > self.decoder:
            self._wait(_SIMD, min(self._simd_end, self.decoder + simd * SIMD_CYCLES) if simd else self._simd_end)
        start = self.decoder
        filled = start + self._drain
        if self._accumulators > filled:
            filled = self._accumulators
        filled += vectors
        until, behind = start + vectors, filled - self._lead
        if behind > until:
            until = behind
        self.spent[_MATMUL] += until - start
        self._accumulators = self._before_simd = filled
        self.decoder = self._array = self._last_vector = until

    def _matmul_zeroes(self, vectors: int) -> None:
        self._wait_for_queue()
        start = max(self._array, self._simd_end, self.decoder)
        self._spend(_MATMUL, 1)
        self._array = self._last_vector = start + vectors
        self._array_rows = 0
        self._accumulate_until(max(self._accumulators, start + self._drain) + vectors)
        self._queue.append((self._accumulators, _MATMUL))

    def _load_weights(self, flags: int, vectors: int) -> None:
        drained = self._last_vector + self._drain
        if flags & LOAD_WEIGHTS_ZEROES:
            self._array = max(self._array, self.decoder, drained) + vectors
            self._spend(_WEIGHTS, 1)
            self._array_rows = vectors
            return
        goes_on = self._array >= max(self.decoder, drained)  # right behind another load
        if self._array > self.decoder:
            self._wait_for_array()
        self._wait(_DRAIN, drained)
        self._spend(_WEIGHTS, vectors if goes_on else load_cycles(vectors))
        self._array = self.decoder

    def _simd(self, flags: int) -> None:
        self._wait_for_queue()
        self._spend(_SIMD, 1)
        self._accumulators = max(self._accumulators, self.decoder) + _SIMD_CYCLES[flags & (SIMD_READ | SIMD_WRITE)]
        self._simd_end = self._accumulators
        self._queue.append((self._accumulators, _SIMD))

    def _move(self, kind: int, vectors: int, dram_stride: int) -> None:
        match kind:
            case MoveKind.DRAM0_TO_LOCAL | MoveKind.DRAM1_TO_LOCAL:
                dram = _DRAM0 if kind == MoveKind.DRAM0_TO_LOCAL else _DRAM1
                self._spend(dram, read_cycles(self._beats, vectors, self._read_latency, strided=dram_stride > 0))
            case MoveKind.LOCAL_TO_DRAM0 | MoveKind.LOCAL_TO_DRAM1:
                dram = _DRAM0 if kind == MoveKind.LOCAL_TO_DRAM0 else _DRAM1
                self._spend(dram, write_cycles(self._beats, vectors, strided=dram_stride > 0))
            case MoveKind.ACCUMULATOR_TO_LOCAL:
                self._wait_for_accumulators(self._accumulators - 1)
                self._spend(_MOVES, vectors + STORE_CYCLES)
                self._accumulate_until(self.decoder)
            case MoveKind.LOCAL_TO_ACCUMULATOR | MoveKind.LOCAL_TO_ACCUMULATOR_ACCUMULATE:
                early = 1 if kind == MoveKind.LOCAL_TO_ACCUMULATOR else 0  # it need not read them
                self._wait_for_accumulators(self._accumulators - early)
                self._spend(_MOVES, vectors)
                if self.decoder > self._accumulators:
                    self._accumulate_until(self.decoder)
            case _:
                self._spend(_OTHER, 1)
