"""Reads before writes, overwritten constants and unwritten outputs: what a program finds and leaves in each memory.

On hardware every memory keeps what the last program left, so whatever is read must have been written in this run, be
an input, or be a constant. All vectors of all instructions are looked at, by array operations: a program has a
million of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.check.findings import Finding, Rule, distinct, findings_of
from pefslc.targets.tensil.machine.instructions import UNARY_OPERATIONS, Opcode, SimdOperation
from pefslc.targets.tensil.program.accesses import Access, AccessKind, Memory, depth_of, parts_of
from pefslc.targets.tensil.program.table import MATMUL_ZEROES, Column
from pefslc.targets.tensil.program.tmodel import TensilProgram

__all__ = ["check_data_flow"]

_NEVER = np.iinfo(np.int64).max
_BEFORE_THE_PROGRAM = -1


def check_data_flow(program: TensilProgram, accesses: Sequence[Access]) -> list[Finding]:
    """All findings about the order of reads and writes. `accesses` are the program's, and their ranges checked."""
    findings: list[Finding] = []
    for memory in Memory:
        here = [access for access in accesses if access.memory is memory]
        written = _first_writes(here, depth_of(program.architecture, memory))
        findings += _check_constants(program, memory, here)
        if memory is Memory.DRAM0:
            findings += _check_outputs(program, written)
        for start, end in _preset(program, memory):
            written[start:end] = _BEFORE_THE_PROGRAM
        findings += _check_reads(memory, here, written)
    return findings + _check_weights(program) + _check_registers(program)


def _first_writes(accesses: list[Access], depth: int) -> Column:
    """[depth] the first instruction that writes each vector, or _NEVER."""
    first = np.full(depth, _NEVER, dtype=np.int64)
    for part in parts_of([access for access in accesses if access.kind is not AccessKind.READ]):
        for access in part:
            rows, addresses = access.expanded()
            # Of several values for one index NumPy keeps the last: backwards, the earliest instruction.
            latest = np.full(depth, _NEVER, dtype=np.int64)
            latest[addresses[::-1]] = rows[::-1]
            np.minimum(first, latest, out=first)
    return first


def _preset(program: TensilProgram, memory: Memory) -> list[tuple[int, int]]:
    """The vectors [start, end) that hold data when the program starts."""
    if memory is Memory.DRAM0:
        return [(entry.base, entry.base + entry.size) for entry in program.inputs]
    if memory is Memory.DRAM1 or (memory is Memory.LOCAL and program.load_consts_to_local):
        return [(block.base, block.base + len(block.vectors)) for block in program.constants]
    return []


def _check_reads(memory: Memory, accesses: list[Access], written: Column) -> list[Finding]:
    findings: list[Finding] = []
    for access in accesses:
        if access.kind is not AccessKind.WRITE:
            early = [_early(some, written) for (some,) in parts_of([access])]
            what = f"{access.kind.value} {memory.value} never written"
            findings += findings_of(Rule.READ_BEFORE_WRITE, np.concatenate(early), what)
    return findings


def _early(access: Access, written: Column) -> NDArray[np.intp]:
    """The instructions that read what is not written before them."""
    rows, addresses = access.expanded()
    # >= and not >: what an instruction writes itself comes after its own reads.
    return distinct(rows[written[addresses] >= rows])


def _check_constants(program: TensilProgram, memory: Memory, accesses: list[Access]) -> list[Finding]:
    """Constants in DRAM1, and in local memory if copied there, are loaded once and serve every inference."""
    if memory is Memory.DRAM0:
        return []
    findings: list[Finding] = []
    for start, end in _preset(program, memory):
        for access in accesses:
            if access.kind is not AccessKind.READ:
                rows, addresses = access.expanded()
                inside = distinct(rows[(addresses >= start) & (addresses < end)])
                findings += findings_of(Rule.CONSTANTS, inside, f"overwrites constants in {memory.value}")
    return findings


def _check_outputs(program: TensilProgram, written: Column) -> list[Finding]:
    findings = []
    for entry in program.outputs:
        missing = np.flatnonzero(written[entry.base : entry.base + entry.size] == _NEVER)
        if missing.size:
            what = f"{missing.size} of {entry.size} vectors of output '{entry.name}' are never written"
            findings.append(Finding(Rule.OUTPUT, f"{what}, the first at DRAM0 {entry.base + missing[0]}"))
    return findings


def _check_weights(program: TensilProgram) -> list[Finding]:
    """A MatMul uses all A + 1 rows, its zeroes form the bias row only; partial loads shift older rows up."""
    table = program.table
    loaded = np.cumsum(np.where(table.opcode == Opcode.LOAD_WEIGHTS, table.vectors, 0))
    needed = np.where(table.flags & MATMUL_ZEROES != 0, 1, program.architecture.array_size + 1)
    early = (table.opcode == Opcode.MATMUL) & (loaded < needed)
    return findings_of(Rule.READ_BEFORE_WRITE, early, "uses weight rows never loaded")


def _check_registers(program: TensilProgram) -> list[Finding]:
    table = program.table
    operation, left, right, destination = table.simd_fields(program.architecture)
    active = (table.opcode == Opcode.SIMD) & (operation != SimdOperation.NOOP)
    uses_left = active & (operation != SimdOperation.ZERO)
    uses_right = uses_left & ~np.isin(operation, [int(op) for op in UNARY_OPERATIONS])
    early: NDArray[np.bool_] = np.zeros(len(table), dtype=np.bool_)
    for register in range(1, program.architecture.simd_registers_depth + 1):
        reads = (uses_left & (left == register)) | (uses_right & (right == register))
        writes = np.flatnonzero(active & (destination == register))
        first = writes[0] if writes.size else len(table)
        early |= reads & (np.arange(len(table)) <= first)
    return findings_of(Rule.READ_BEFORE_WRITE, early, "reads a SIMD register never written")
