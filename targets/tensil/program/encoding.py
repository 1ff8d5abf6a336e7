"""Instructions to bytes and back, bit by bit as Tensil's InstructionLayout.scala lays them out.

[operand 0][operand 1][operand 2][header: 8 bits], least significant bit first, packed back to back; the header holds
the flags in its low half and the opcode in its high half. A stride exponent lies immediately above its address.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, InternalError
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.instructions import Instruction, MoveKind, Opcode
from pefslc.targets.tensil.program.table import MATMUL_ZEROES, Column, InstructionTable, instructions_of, table_of

__all__ = ["decode", "decode_table", "encode", "encode_table"]


def encode(architecture: Architecture, instructions: Iterable[Instruction]) -> bytes:
    """The bytes of a .tprog. A field out of the assembler's range is an InternalError that names it."""
    return encode_table(architecture, table_of(architecture, instructions))


def decode(architecture: Architecture, code: bytes) -> list[Instruction]:
    """The instructions in a .tprog; what names none comes back as `Invalid`."""
    return instructions_of(architecture, decode_table(architecture, code))


def encode_table(architecture: Architecture, table: InstructionTable) -> bytes:
    """The bytes of the program in `table`, its fields checked."""
    _check_ranges(architecture, table)
    operands = (
        (table.address0 | table.stride0 << architecture.address0_bits, architecture.operand0_bits),
        (table.address1 | table.stride1 << architecture.address1_bits, architecture.operand1_bits),
        (table.operand2, architecture.operand2_bits),
        (table.opcode << 4 | table.flags, 8),
    )
    parts = [_to_bytes(values, bits) for values, bits in operands]
    return np.concatenate(parts, axis=1).tobytes()


def decode_table(architecture: Architecture, code: bytes) -> InstructionTable:
    """The columns of an encoded program; CompileError when `code` is not a whole number of instructions."""
    size = architecture.instruction_size_bytes
    if len(code) % size:
        raise CompileError(
            Code.TCU_PROGRAM, f"a program of {len(code)} bytes is not a whole number of {size}-byte instructions"
        )
    rows = np.frombuffer(code, dtype=np.uint8).reshape(-1, size)
    end0 = architecture.operand0_bits // 8
    end1 = end0 + architecture.operand1_bits // 8
    operand0, operand1, operand2 = (_from_bytes(part) for part in np.split(rows[:, :-1], (end0, end1), axis=1))
    opcode, flags = rows[:, -1].astype(np.int64) >> 4, rows[:, -1].astype(np.int64) & 15
    memory0 = (opcode >= Opcode.MATMUL) & (opcode <= Opcode.SIMD)
    memory1 = memory0 & (opcode != Opcode.LOAD_WEIGHTS)  # its operand 1 is one size field
    address0, stride0 = _split(operand0, architecture.address0_bits, memory0)
    address1, stride1 = _split(operand1, architecture.address1_bits, memory1)
    return InstructionTable(opcode, flags, address0, stride0, address1, stride1, operand2)


def _split(operand: Column, address_bits: int, has_stride: NDArray[np.bool_]) -> tuple[Column, Column]:
    address = np.where(has_stride, operand & ((1 << address_bits) - 1), operand)
    return address, np.where(has_stride, operand >> address_bits, 0)


def _to_bytes(values: Column, bits: int) -> NDArray[np.uint8]:
    words = np.ascontiguousarray(values, dtype="<i8")
    return words.view(np.uint8).reshape(-1, 8)[:, : bits // 8]


def _from_bytes(part: NDArray[np.uint8]) -> Column:
    words = np.zeros((len(part), 8), dtype=np.uint8)
    words[:, : part.shape[1]] = part
    return words.view("<i8").reshape(-1).astype(np.int64)


def _check_ranges(architecture: Architecture, table: InstructionTable) -> None:
    """Every field below its limit and not negative: the assembler's own limits, which are tighter than the widths."""
    limits = {name: np.full(len(table), limit) for name, limit in _width_limits(architecture).items()}
    for mask, name, limit in _assembler_limits(architecture, table):
        limits[name][mask] = limit
    for name, highest in limits.items():
        values: Column = getattr(table, name)
        wrong = np.flatnonzero((values < 0) | (values >= highest))
        if wrong.size:
            row = int(wrong[0])
            instruction = Opcode(table.opcode[row]).name if table.opcode[row] in set(Opcode) else "invalid"
            raise InternalError(
                f"instruction {row} ({instruction}): {name} is {values[row]}, must be in 0..{highest[row] - 1}"
                f" ({wrong.size} such instructions)"
            )


def _width_limits(architecture: Architecture) -> dict[str, int]:
    """Column -> first value that does not fit its field, for rows that no tighter limit covers."""
    return {
        "opcode": 16,
        "flags": 16,
        "address0": 1 << architecture.operand0_bits,
        "stride0": architecture.stride0_depth,
        "address1": 1 << architecture.operand1_bits,
        "stride1": architecture.stride1_depth,
        "operand2": 1 << architecture.operand2_bits,
    }


def _assembler_limits(architecture: Architecture, table: InstructionTable) -> list[tuple[NDArray[np.bool_], str, int]]:
    """(rows, column, first illegal value). Sizes are encoded as vectors - 1."""
    local, accumulators = architecture.local_depth, architecture.accumulator_depth
    opcode, flags = table.opcode, table.flags
    matmul, simd, weights = opcode == Opcode.MATMUL, opcode == Opcode.SIMD, opcode == Opcode.LOAD_WEIGHTS
    limits = [
        (matmul, "address0", 1 << architecture.address0_bits),
        (matmul & (flags & MATMUL_ZEROES == 0), "address0", local),
        (matmul, "address1", accumulators),
        (matmul, "operand2", min(local, accumulators)),
        (weights, "address0", local),
        (weights, "address1", local),
        (simd, "address0", accumulators),
        (simd, "address1", accumulators),
        (simd, "operand2", 1 << architecture.simd_word_bits),
    ]
    for kind, other in _other_depths(architecture).items():
        move = (opcode == Opcode.DATA_MOVE) & (flags == kind)
        limits += [(move, "address0", local), (move, "address1", other), (move, "operand2", min(local, other))]
    return limits


def _other_depths(architecture: Architecture) -> dict[MoveKind, int]:
    """The depth of the memory on the far side of each DataMove."""
    return {
        MoveKind.DRAM0_TO_LOCAL: architecture.dram0_depth,
        MoveKind.LOCAL_TO_DRAM0: architecture.dram0_depth,
        MoveKind.DRAM1_TO_LOCAL: architecture.dram1_depth,
        MoveKind.LOCAL_TO_DRAM1: architecture.dram1_depth,
        MoveKind.ACCUMULATOR_TO_LOCAL: architecture.accumulator_depth,
        MoveKind.LOCAL_TO_ACCUMULATOR: architecture.accumulator_depth,
        MoveKind.LOCAL_TO_ACCUMULATOR_ACCUMULATE: architecture.accumulator_depth,
    }
