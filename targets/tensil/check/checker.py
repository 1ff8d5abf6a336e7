"""A static check that a program is legal on the RTL: what the emulator forgives and the hardware does not.

    require_valid(program)      # InternalError, for our own programs
    check_program(program)      # the findings, for anybody's

Judges the encoded bytes. Order of checks: encodings, ranges, SIMD rules; data flow and hazards only for programs whose
addresses are legal, for they index by them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.errors import InternalError
from pefslc.targets.tensil.check.dataflow import check_data_flow
from pefslc.targets.tensil.check.findings import Finding, Rule, distinct, findings_of
from pefslc.targets.tensil.check.hazards import accumulator_hazards
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.instructions import UNARY_OPERATIONS, MoveKind, Opcode, SimdOperation
from pefslc.targets.tensil.program.accesses import Access, Memory, accesses_of, depth_of
from pefslc.targets.tensil.program.table import SIMD_ACCUMULATE, SIMD_READ, SIMD_WRITE, InstructionTable
from pefslc.targets.tensil.program.tmodel import TensilProgram

__all__ = ["check_program", "require_valid"]

_SHOWN = 5


def require_valid(program: TensilProgram) -> None:
    """InternalError with the first few findings, if there are any."""
    findings = check_program(program)
    if findings:
        shown = "\n".join(f"  {finding}" for finding in findings[:_SHOWN])
        more = f"\n  and {len(findings) - _SHOWN} more" if len(findings) > _SHOWN else ""
        raise InternalError(f"the program '{program.name}' is not legal on the TCU:\n{shown}{more}")


def check_program(program: TensilProgram) -> list[Finding]:
    """Everything that is wrong with a program; empty if it is legal. At most 21 findings per kind of fault."""
    architecture, table = program.architecture, program.table
    accesses = accesses_of(table)
    ranges = _check_ranges(architecture, table, accesses) + _check_entries(program)
    findings = _check_encodings(table) + _check_strides(architecture, table) + ranges
    findings += _check_simd(architecture, table) + _check_reserved(program, accesses)
    if not ranges:
        findings += check_data_flow(program, accesses)
        hazards = accumulator_hazards(architecture, table, accesses)
        findings += findings_of(Rule.ACCUMULATOR_HAZARD, hazards, "accumulates to an address right after another")
    return findings


_KNOWN_FLAGS = {
    Opcode.NOOP: frozenset((0,)),
    Opcode.MATMUL: frozenset(range(4)),
    Opcode.DATA_MOVE: frozenset(int(kind) for kind in MoveKind),
    Opcode.LOAD_WEIGHTS: frozenset(range(2)),
    Opcode.SIMD: frozenset(range(8)),
}


def _check_encodings(table: InstructionTable) -> list[Finding]:
    """Opcodes and flags that a .tprog may hold. Configure is for drivers."""
    known = np.zeros(256, dtype=np.bool_)
    for opcode, flags in _KNOWN_FLAGS.items():
        known[[opcode << 4 | flag for flag in flags]] = True
    noop_operands = table.address0 | table.address1 | table.operand2
    bad = ~known[table.opcode << 4 | table.flags] | ((table.opcode == Opcode.NOOP) & (noop_operands != 0))
    return [
        finding
        for header in distinct((table.opcode << 4 | table.flags)[bad]).tolist()
        for finding in findings_of(
            Rule.INSTRUCTION,
            bad & ((table.opcode << 4 | table.flags) == header),
            f"opcode {header >> 4} with flags {header & 15} does not belong in a program",
        )
    ]


def _check_strides(architecture: Architecture, table: InstructionTable) -> list[Finding]:
    simd = table.opcode == Opcode.SIMD
    limit0 = np.where(simd, 1, architecture.stride0_depth)
    limit1 = np.where(simd, 1, architecture.stride1_depth)
    bad = (table.stride0 >= limit0) | (table.stride1 >= limit1)
    return findings_of(Rule.STRIDE, bad, "stride exponent too large")


def _check_ranges(architecture: Architecture, table: InstructionTable, accesses: Sequence[Access]) -> list[Finding]:
    """Sizes and strided extents. A size is below the depth of both memories, even where one is not accessed."""
    local, opcode = architecture.local_depth, table.opcode
    too_long = table.vectors > local
    too_long |= (opcode == Opcode.MATMUL) & (table.vectors > architecture.accumulator_depth)
    findings = findings_of(Rule.SIZE, too_long, "moves more vectors than a memory has")
    for access in accesses:
        depth = depth_of(architecture, access.memory)
        outside = access.rows[(access.ends() > depth) | (access.base >= depth)]
        what = f"{access.kind.value} {access.memory.value} beyond its {depth} vectors"
        findings += findings_of(Rule.ADDRESS, outside, what)
    return findings


def _check_entries(program: TensilProgram) -> list[Finding]:
    """Inputs, outputs and constants within their memories."""
    architecture = program.architecture
    findings = [
        Finding(Rule.ADDRESS, f"'{entry.name}' ends at vector {entry.base + entry.size} of DRAM0")
        for entry in (*program.inputs, *program.outputs)
        if entry.base < 0 or entry.base + entry.size > architecture.dram0_depth
    ]
    local = architecture.local_depth if program.load_consts_to_local else architecture.dram1_depth
    depth = min(architecture.dram1_depth, local)
    for block in program.constants:
        if block.base < 0 or block.base + len(block.vectors) > depth:
            findings.append(Finding(Rule.ADDRESS, f"constants end at vector {block.base + len(block.vectors)}"))
    return findings


def _check_reserved(program: TensilProgram, accesses: Sequence[Access]) -> list[Finding]:
    """The flush probe's vectors: never in DRAM0; in local memory, nothing that must outlive a run."""
    architecture = program.architecture
    usable = architecture.usable_dram0_vectors
    findings = [
        Finding(Rule.RESERVED, f"'{entry.name}' lies on the flush probe's DRAM0 vectors")
        for entry in (*program.inputs, *program.outputs)
        if entry.base + entry.size > usable
    ]
    for access in accesses:
        if access.memory is Memory.DRAM0:  # the last vector has the highest address
            reached = access.rows[access.ends() > usable]
            findings += findings_of(Rule.RESERVED, reached, f"{access.kind.value} the flush probe's DRAM0 vectors")
    if program.load_consts_to_local:
        for block in program.constants:
            hit = [a for a in sorted(architecture.reserved_local_vectors) if 0 <= a - block.base < len(block.vectors)]
            findings += [
                Finding(Rule.RESERVED, f"a constant lies on local {a}, which the probe overwrites") for a in hit
            ]
    return findings


def _check_simd(architecture: Architecture, table: InstructionTable) -> list[Finding]:
    """Spec 3: every violation was seen to hang the RTL, or to mean something else in the emulator."""
    simd = table.opcode == Opcode.SIMD
    operation, left, right, destination = table.simd_fields(architecture)
    read, write = table.flags & SIMD_READ != 0, table.flags & SIMD_WRITE != 0
    accumulate = table.flags & SIMD_ACCUMULATE != 0
    noop, zero = operation == SimdOperation.NOOP, operation == SimdOperation.ZERO
    unary = np.isin(operation, [int(op) for op in UNARY_OPERATIONS])
    binary = ~(noop | zero | unary)
    uses_input = (unary | binary) & (left == 0) | (binary & (right == 0))
    highest = np.maximum(np.maximum(left, right), destination)
    rules: list[tuple[NDArray[np.bool_], str]] = [
        (highest > architecture.simd_registers_depth, "names a SIMD register that does not exist"),
        (noop & (read | write | accumulate | (destination != 0)), "SIMD NoOp with flags or a destination"),
        (zero & read, "SIMD Zero reads an input: the RTL hangs"),
        (uses_input & ~read, "a SIMD source is the input, which is not read: the RTL hangs"),
        ((unary | binary) & ~uses_input & read, "SIMD reads an input that no source uses: the RTL hangs"),
        # The RTL counts right source 0 as "needs the input" for unary operations too.
        (unary & (left != 0) & (right == 0), "unary SIMD of a register with the input on the right: the RTL hangs"),
        (~noop & (destination != 0) & write, "SIMD writes a register and an accumulator: emulator and RTL differ"),
        (~noop & (destination == 0) & ~write, "SIMD result goes nowhere"),
        (accumulate & ~write, "SIMD accumulates without writing"),
    ]
    return [finding for broken, message in rules for finding in findings_of(Rule.SIMD, simd & broken, message)]
