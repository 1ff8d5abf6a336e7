"""The accumulator hazard of the RTL: an accumulating write that reads a stale sum, so that a contribution is lost.

Found by experiment on the RTL (tests/data/tcu/rtl_hazards.txt); no document and no emulator knows it. Consider the
stream of accumulator
accesses, one per vector. Writes to one address X that follow each other with no read and no other address in between
form a group; the second *accumulating* write of a group is lost or reads stale data. So these are fine: overwrite X,
accumulate X. And these are not: accumulate, accumulate; accumulate, overwrite, accumulate.

A group also ends where enough happens between two of its writes that the first has landed. What is counted here is
what was measured, and no more:

- after a MatMul from local memory: 2A decoder cycles. Such a MatMul waits for all queued work, so its writes do not
  lag behind the decoder; those of SIMD and MatMul-zeroes may, by a whole queue, and time in the decoder says nothing.
- after any MatMul: LoadWeights of 5 local rows or more, because it waits for the array to drain (2 rows do not heal,
  3 and 4 were not tried). Measured with A = 12; larger arrays are held to the same share of A.
- between two MatMuls: LoadWeights zeroes of A + 1 rows or more, which occupies the array (A rows do not heal).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.check.findings import distinct
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.instructions import MoveKind, Opcode
from pefslc.targets.tensil.machine.timing import clearing_rows, drain_cycles, healing_rows
from pefslc.targets.tensil.program.accesses import Access, AccessKind, Memory, accesses_of, parts_of
from pefslc.targets.tensil.program.table import LOAD_WEIGHTS_ZEROES, MATMUL_ZEROES, Column, InstructionTable

__all__ = ["accumulator_hazards"]

_READ, _OVERWRITE, _ACCUMULATE = 0, 1, 2
_CODES = {AccessKind.READ: _READ, AccessKind.WRITE: _OVERWRITE, AccessKind.ACCUMULATE: _ACCUMULATE}


@dataclass(frozen=True, slots=True, eq=False)
class _Stream:
    """Accumulator accesses in the order of execution, one entry a vector."""

    instruction: Column
    address: Column
    kind: Column


def accumulator_hazards(
    architecture: Architecture, table: InstructionTable, accesses: Sequence[Access] | None = None
) -> NDArray[np.intp]:
    """The instructions that accumulate to an address too soon after another accumulation. Ranges must be legal.

    accesses  those of the table, where they are known
    """
    known = accesses_of(table) if accesses is None else accesses
    accesses = [access for access in known if access.memory is Memory.ACCUMULATORS]
    healing, lost = _Healing.of(architecture, table), [np.zeros(0, dtype=np.int64)]
    group: _Stream | None = None  # the last one so far, which may go on
    for part in parts_of(accesses):
        stream = _accumulator_stream(part, group)
        writes = stream.kind != _READ
        joined = (stream.address[1:] == stream.address[:-1]) & writes[1:] & writes[:-1]
        joined[joined] = ~healing.between(stream.instruction[:-1][joined], stream.instruction[1:][joined])
        group_start = np.concatenate(([True], ~joined))
        accumulates = stream.kind == _ACCUMULATE
        counted = np.cumsum(accumulates)
        before_group = (counted - accumulates)[group_start][np.cumsum(group_start) - 1]
        lost.append(distinct(stream.instruction[accumulates & (counted - before_group >= 2)]))
        last = int(np.flatnonzero(group_start)[-1])
        group = _Stream(stream.instruction[last:], stream.address[last:], stream.kind[last:])
    return distinct(np.concatenate(lost))


def _accumulator_stream(accesses: Sequence[Access], before: _Stream | None) -> _Stream:
    expanded = [access.expanded() for access in accesses]
    instruction = np.concatenate([rows for rows, _ in expanded])
    address = np.concatenate([addresses for _, addresses in expanded])
    kind = np.concatenate([np.full(len(rows), _CODES[a.kind]) for a, (rows, _) in zip(accesses, expanded, strict=True)])
    order = np.argsort(instruction, kind="stable")  # stable: a SIMD's read stays before its write
    found = instruction[order], address[order], kind[order]
    if before is None:
        return _Stream(*found)
    joined = zip((before.instruction, before.address, before.kind), found, strict=True)
    return _Stream(*(np.concatenate(both) for both in joined))


@dataclass(frozen=True, slots=True, eq=False)
class _Healing:
    """What happens between instructions: [instruction] how much of it before each; `size` of the array."""

    table: InstructionTable
    size: int
    cycles: Column
    drains: Column
    occupies: Column

    @classmethod
    def of(cls, architecture: Architecture, table: InstructionTable) -> _Healing:
        size, opcode, flags = architecture.array_size, table.opcode, table.flags
        zeroes = (opcode == Opcode.LOAD_WEIGHTS) & (flags & LOAD_WEIGHTS_ZEROES != 0)
        drains = (opcode == Opcode.LOAD_WEIGHTS) & ~zeroes & (table.vectors >= healing_rows(size))
        occupies = zeroes & (table.vectors >= clearing_rows(size))

        def total(amount: NDArray[np.int64] | NDArray[np.bool_]) -> Column:
            return np.concatenate(([0], np.cumsum(amount, dtype=np.int64)))

        return cls(table, size, total(_decoder_cycles(table)), total(drains), total(occupies))

    def between(self, first: Column, second: Column) -> NDArray[np.bool_]:
        """Whether what lies strictly between two instructions lets the accumulator write of the first one land."""
        opcode, flags = self.table.opcode, self.table.flags

        def amount(total: Column) -> Column:
            return np.asarray(total[second] - total[np.minimum(first + 1, second)], dtype=np.int64)

        after_matmul, before_matmul = opcode[first] == Opcode.MATMUL, opcode[second] == Opcode.MATMUL
        synchronous = after_matmul & (flags[first] & MATMUL_ZEROES == 0)
        by_time = synchronous & (amount(self.cycles) >= drain_cycles(self.size))
        by_drain = after_matmul & (amount(self.drains) > 0)
        by_array = after_matmul & before_matmul & (amount(self.occupies) > 0)
        healed: NDArray[np.bool_] = by_time | by_drain | by_array
        return healed


def _decoder_cycles(table: InstructionTable) -> Column:
    """The fewest cycles that each instruction can keep the decoder: one a vector for DRAM moves, else one."""
    to_dram = (table.opcode == Opcode.DATA_MOVE) & (table.flags <= MoveKind.LOCAL_TO_DRAM1)
    return np.where(to_dram, table.vectors, 1)
