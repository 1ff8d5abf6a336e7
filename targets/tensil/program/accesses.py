"""Which vectors of which memory each instruction of a program reads and writes.

The one list that range checks, the checker's data flow and the simulator's poison rest on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.instructions import MoveKind, Opcode
from pefslc.targets.tensil.program.table import (
    LOAD_WEIGHTS_ZEROES,
    MATMUL_ACCUMULATE,
    MATMUL_ZEROES,
    SIMD_ACCUMULATE,
    SIMD_READ,
    SIMD_WRITE,
    Column,
    InstructionTable,
)

__all__ = ["Access", "AccessKind", "Memory", "accesses_of", "depth_of", "parts_of"]

_AT_ONCE = 1 << 17  # vectors


class Memory(Enum):
    LOCAL = "local"
    ACCUMULATORS = "accumulators"
    DRAM0 = "DRAM0"
    DRAM1 = "DRAM1"


class AccessKind(Enum):
    READ = "reads"
    WRITE = "writes"
    ACCUMULATE = "accumulates to"  # reads, adds and writes


@dataclass(frozen=True, slots=True, eq=False)
class Access:
    """Instructions `rows` access base + i * 2^stride for i < vectors, in one memory and in one way."""

    memory: Memory
    kind: AccessKind
    rows: NDArray[np.intp]
    base: Column
    stride: Column
    vectors: Column

    def ends(self) -> NDArray[np.float64]:
        """The first address after the last vector of each. In float64, where no stride can overflow."""
        return np.asarray(self.base + (self.vectors - 1) * np.exp2(self.stride) + 1, dtype=np.float64)

    def between(self, first: int, end: int) -> Access:
        """Those of the instructions first..end - 1."""
        some = slice(*np.searchsorted(self.rows, (first, end)).tolist())
        return replace(
            self, rows=self.rows[some], base=self.base[some], stride=self.stride[some], vectors=self.vectors[some]
        )

    def expanded(self) -> tuple[Column, Column]:
        """(instruction, address) of every single vector, instructions in order. Ranges must have been checked."""
        starts = np.cumsum(self.vectors) - self.vectors
        within = np.arange(int(self.vectors.sum())) - np.repeat(starts, self.vectors)
        addresses = np.repeat(self.base, self.vectors) + (within << np.repeat(self.stride, self.vectors))
        return np.repeat(self.rows, self.vectors), addresses


def parts_of(accesses: Sequence[Access]) -> Iterator[list[Access]]:
    """The accesses of some instructions after the others: those that may be expanded at once, for the memory of it."""
    last = max((int(access.rows[-1]) for access in accesses), default=-1)
    vectors = np.zeros(last + 1, dtype=np.int64)
    for access in accesses:
        vectors[access.rows] += access.vectors
    before, first = np.cumsum(vectors), 0
    while first <= last:
        done = int(before[first - 1]) if first else 0
        end = max(int(np.searchsorted(before, done + _AT_ONCE, "right")), first + 1)
        part = [access.between(first, end) for access in accesses]
        yield [access for access in part if access.rows.size]
        first = end


def depth_of(architecture: Architecture, memory: Memory) -> int:
    """Vectors in a memory."""
    match memory:
        case Memory.LOCAL:
            return architecture.local_depth
        case Memory.ACCUMULATORS:
            return architecture.accumulator_depth
        case Memory.DRAM0:
            return architecture.dram0_depth
        case Memory.DRAM1:
            return architecture.dram1_depth


_MOVES = {  # kind -> (other memory, access to local, access to the other)
    MoveKind.DRAM0_TO_LOCAL: (Memory.DRAM0, AccessKind.WRITE, AccessKind.READ),
    MoveKind.LOCAL_TO_DRAM0: (Memory.DRAM0, AccessKind.READ, AccessKind.WRITE),
    MoveKind.DRAM1_TO_LOCAL: (Memory.DRAM1, AccessKind.WRITE, AccessKind.READ),
    MoveKind.LOCAL_TO_DRAM1: (Memory.DRAM1, AccessKind.READ, AccessKind.WRITE),
    MoveKind.ACCUMULATOR_TO_LOCAL: (Memory.ACCUMULATORS, AccessKind.WRITE, AccessKind.READ),
    MoveKind.LOCAL_TO_ACCUMULATOR: (Memory.ACCUMULATORS, AccessKind.READ, AccessKind.WRITE),
    MoveKind.LOCAL_TO_ACCUMULATOR_ACCUMULATE: (Memory.ACCUMULATORS, AccessKind.READ, AccessKind.ACCUMULATE),
}


def accesses_of(table: InstructionTable) -> list[Access]:
    """All memory accesses. Where one instruction reads and writes the same memory (Simd), the read comes first."""
    opcode, flags = table.opcode, table.flags
    matmul, simd, weights = opcode == Opcode.MATMUL, opcode == Opcode.SIMD, opcode == Opcode.LOAD_WEIGHTS
    simd_write = simd & (flags & SIMD_WRITE != 0)
    picks = [  # memory, kind, is on operand 0, rows
        (Memory.LOCAL, AccessKind.READ, True, matmul & (flags & MATMUL_ZEROES == 0)),
        (Memory.ACCUMULATORS, AccessKind.WRITE, False, matmul & (flags & MATMUL_ACCUMULATE == 0)),
        (Memory.ACCUMULATORS, AccessKind.ACCUMULATE, False, matmul & (flags & MATMUL_ACCUMULATE != 0)),
        (Memory.LOCAL, AccessKind.READ, True, weights & (flags & LOAD_WEIGHTS_ZEROES == 0)),
        (Memory.ACCUMULATORS, AccessKind.READ, False, simd & (flags & SIMD_READ != 0)),
        (Memory.ACCUMULATORS, AccessKind.WRITE, True, simd_write & (flags & SIMD_ACCUMULATE == 0)),
        (Memory.ACCUMULATORS, AccessKind.ACCUMULATE, True, simd_write & (flags & SIMD_ACCUMULATE != 0)),
    ]
    for kind, (other, local_access, other_access) in _MOVES.items():
        move = (opcode == Opcode.DATA_MOVE) & (flags == kind)
        picks += [(Memory.LOCAL, local_access, True, move), (other, other_access, False, move)]
    vectors = table.vectors
    found = []
    for memory, access, first, mask in picks:
        rows = np.flatnonzero(mask)
        base = table.address0 if first else table.address1
        stride = table.stride0 if first else table.stride1
        found.append(Access(memory, access, rows, base[rows], stride[rows], vectors[rows]))
    return [access for access in found if access.rows.size]
