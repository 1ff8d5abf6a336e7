"""What the parts of a program cost: cycles by kind, bytes of DRAM, vectors alive in the memories, instructions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pefslc.artifacts.costs import Clock, Costs, MemorySize, PartCost
from pefslc.targets.tensil.cost.cycles import CycleReport
from pefslc.targets.tensil.cost.timelines import timelines
from pefslc.targets.tensil.machine.instructions import MoveKind, Opcode, Segment
from pefslc.targets.tensil.program.accesses import Access, AccessKind, Memory, accesses_of, depth_of, parts_of
from pefslc.targets.tensil.program.table import Column
from pefslc.targets.tensil.program.tmodel import TensilProgram

__all__ = ["live_vectors", "program_costs"]

_ON_CHIP = (Memory.LOCAL, Memory.ACCUMULATORS)
_DRAM_MOVES = {
    Memory.DRAM0: (MoveKind.DRAM0_TO_LOCAL, MoveKind.LOCAL_TO_DRAM0),
    Memory.DRAM1: (MoveKind.DRAM1_TO_LOCAL, MoveKind.LOCAL_TO_DRAM1),
}


def program_costs(
    program: TensilProgram,
    segments: Sequence[Segment],
    parts: Sequence[tuple[tuple[str, ...], tuple[str, ...]]],
    cycles: CycleReport,
    arch: str,
    clock_mhz: float | None = None,
    clock: Clock | None = None,
) -> Costs:
    """Costs of each part, a part being (the operations, the groups of instructions that compute them), and first of
    what serves none of them.
    """
    part_of = {group: 1 + i for i, (_, groups) in enumerate(parts) for group in groups}
    owner = np.repeat([part_of.get(s.group, 0) for s in segments], [s.end - s.first for s in segments])
    count = 1 + len(parts)
    framing = tuple(dict.fromkeys(s.group for s in segments if s.group not in part_of))
    spent = [cycles.of(groups) for _, groups in [((), framing), *parts]]
    held = {m: live_vectors(program, m) for m in _ON_CHIP}
    moved = {memory: _moved(program, kinds) for memory, kinds in _DRAM_MOVES.items()}
    traffic = {memory.value: _sums(column, owner, count) for memory, column in moved.items()}
    peaks = {memory.value: _peaks(column, owner, count) for memory, column in held.items()}
    begins = _begins(cycles.issued, owner, count)
    instructions = np.bincount(owner, minlength=count)
    architecture = program.architecture
    return Costs(
        parts=tuple(
            PartCost(
                ops=ops,
                what="constants, output",
                cycles={kind.value: number for kind, number in spent[i].items()},
                bytes={memory: int(found[i]) for memory, found in traffic.items()},
                peaks={memory: int(found[i]) for memory, found in peaks.items()},
                instructions=int(instructions[i]),
                begins=begins[i],
            )
            for i, (ops, _) in enumerate([((), framing), *parts])
        ),
        arch=arch,
        clock_mhz=clock_mhz,
        memories=tuple(MemorySize(m.value, "vectors", depth_of(architecture, m)) for m in _ON_CHIP),
        peak_macs=architecture.array_size**2,
        clock=clock,
        bytes_per_cycle=architecture.axi_bytes,
        timelines=timelines(cycles, held, moved),
    )


def _moved(program: TensilProgram, kinds: tuple[MoveKind, ...]) -> Column:
    """[instructions] the bytes that each moves."""
    table = program.table
    moves = (table.opcode == Opcode.DATA_MOVE) & np.isin(table.flags, [int(kind) for kind in kinds])
    return np.asarray(moves * table.vectors * program.architecture.vector_size_bytes, dtype=np.int64)


def _begins(times: NDArray[np.float64], owner: NDArray[np.int64], count: int) -> list[int | None]:
    """By owner, when its first instruction is issued; None for an owner without instructions."""
    found: list[int | None] = [None] * count
    owners, first = np.unique(owner, return_index=True)
    for o, i in zip(owners.tolist(), first.tolist(), strict=True):
        found[o] = round(times[i])
    return found


def _sums(column: Column, owner: NDArray[np.int64], count: int) -> Column:
    """[count] those of each owner's instructions together."""
    found = np.zeros(count, dtype=np.int64)
    np.add.at(found, owner, column)
    return found


def _peaks(live: Column, owner: NDArray[np.int64], count: int) -> Column:
    """[count] the largest of each owner's instructions."""
    found = np.zeros(count, dtype=np.int64)
    np.maximum.at(found, owner, live)
    return found


def live_vectors(program: TensilProgram, memory: Memory) -> Column:
    """[instructions] the vectors that hold, at each instruction, what it or a later one reads, or what it writes.

    A vector lives from a write to the last read before the next write; constants that stay in local memory from run to
    run always do. All ranges must have been checked.
    """
    count = len(program.table)
    stays = _resident(program) if memory is Memory.LOCAL else np.zeros(0, dtype=np.int64)
    accesses = [access for access in accesses_of(program.table) if access.memory is memory]
    change = np.zeros(count + 1, dtype=np.int64)
    touched = np.full(depth_of(program.architecture, memory), -1, dtype=np.int64)  # by address, the last instruction
    for part in parts_of(accesses):
        row, address, write = _in_order(part, stays)
        if not len(row):
            continue
        goes_on = np.append(False, address[1:] == address[:-1])
        before = np.where(goes_on, np.append(-1, row[:-1]), touched[address])
        # What an instruction writes where it reads is alive before and after: one life goes on.
        starts = (before < 0) | (write & (row != before))
        np.add.at(change, row[starts], 1)
        np.add.at(change, before[starts & (before >= 0)] + 1, -1)
        lasts = np.append(~goes_on[1:], True)
        touched[address[lasts]] = row[lasts]
    np.add.at(change, touched[touched >= 0] + 1, -1)
    return np.cumsum(change[:count]) + len(stays)


def _in_order(accesses: Sequence[Access], but: Column) -> tuple[Column, Column, NDArray[np.bool_]]:
    """Every single vector that is read or written, those at some addresses left out: by address, then by instruction;
    what one instruction reads it reads before it writes.
    """
    expanded = [access.expanded() for access in accesses]
    row, address = (np.concatenate(columns) for columns in zip(*expanded, strict=True))
    write = np.repeat([access.kind is AccessKind.WRITE for access in accesses], [len(rows) for rows, _ in expanded])
    order = np.lexsort((write, row, address))
    order = order[~np.isin(address[order], but)]
    return row[order], address[order], write[order]


def _resident(program: TensilProgram) -> Column:
    """The local addresses of constants that the driver puts there, once."""
    blocks = program.constants if program.load_consts_to_local else ()
    return np.concatenate([np.zeros(0, dtype=np.int64), *(np.arange(b.base, b.base + len(b.vectors)) for b in blocks)])
