"""A program as columns: one row an instruction, one array a field.

Everything that looks at whole programs (encoder, decoder, checker, simulator, cycle model) works on this form, so that
100,000 instructions cost array operations and not Python objects; `instructions_of` gives the objects back.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.errors import InternalError
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.instructions import (
    Configure,
    DataMove,
    Instruction,
    Invalid,
    LoadWeights,
    MatMul,
    MoveKind,
    NoOp,
    Opcode,
    Simd,
    SimdOperation,
)

__all__ = [
    "LOAD_WEIGHTS_ZEROES",
    "MATMUL_ACCUMULATE",
    "MATMUL_ZEROES",
    "SIMD_ACCUMULATE",
    "SIMD_READ",
    "SIMD_WRITE",
    "InstructionRows",
    "InstructionTable",
    "instructions_of",
    "table_of",
]

Column = NDArray[np.int64]
_Row = tuple[int, int, int, int, int, int, int]

# Header flags.
MATMUL_ACCUMULATE, MATMUL_ZEROES = 1, 2
LOAD_WEIGHTS_ZEROES = 1
SIMD_READ, SIMD_WRITE, SIMD_ACCUMULATE = 1, 2, 4
_MATMUL, _SIMD = int(Opcode.MATMUL), int(Opcode.SIMD)  # plain numbers: to look a member up takes longer
_FIELDS = 7
_SIMD_ALL = SIMD_READ | SIMD_WRITE | SIMD_ACCUMULATE


@dataclass(frozen=True, slots=True, eq=False)
class InstructionTable:
    """Columns of equal length, int64.

    MatMul, DataMove   address0, stride0 (local); address1, stride1 (the other side); operand2 = vectors - 1
    LoadWeights        address0, stride0 (local); address1 = vectors - 1
    Simd               address0 = accumulator written, address1 = accumulator read, operand2 = sub-word
    everything else    address0, address1 and operand2 are the whole operands
    """

    opcode: Column
    flags: Column
    address0: Column
    stride0: Column
    address1: Column
    stride1: Column
    operand2: Column

    def __len__(self) -> int:
        return len(self.opcode)

    @property
    def vectors(self) -> Column:
        """Vectors that each instruction works on: 1 for Simd, 0 for what touches no memory."""
        sized = (self.opcode == Opcode.MATMUL) | (self.opcode == Opcode.DATA_MOVE)
        result = np.where(sized, self.operand2 + 1, 0)
        result[self.opcode == Opcode.LOAD_WEIGHTS] = self.address1[self.opcode == Opcode.LOAD_WEIGHTS] + 1
        result[self.opcode == Opcode.SIMD] = 1
        return result

    def simd_fields(self, architecture: Architecture) -> tuple[Column, Column, Column, Column]:
        """(operation, left, right, destination) of the SIMD sub-word in `operand2`; meaningless in other rows."""
        bits = architecture.simd_register_bits
        mask = (1 << bits) - 1
        word = self.operand2
        return word >> (3 * bits) & 15, word >> (2 * bits) & mask, word >> bits & mask, word & mask


class InstructionRows:
    """A program under construction, as the rows of a table. No field is checked but the SIMD sub-word, whose parts
    would mix.

    What programs have many of is appended field by field: an object for each takes longer than all that is done with
    it.
    """

    def __init__(self, architecture: Architecture) -> None:
        self._architecture = architecture
        self._flat = array("q")  # 64 bits a number, where a list would hold objects

    def __len__(self) -> int:
        return len(self._flat) // _FIELDS

    def append(self, instruction: Instruction) -> None:
        """Raises InternalError for a field of more than 63 bits."""
        try:
            self._flat.extend(_row(instruction, self._architecture))
        except OverflowError as error:
            raise InternalError("an instruction holds a number of more than 63 bits") from error

    def matmul(
        self,
        local: int,
        accumulator: int,
        vectors: int,
        local_stride: int = 0,
        accumulator_stride: int = 0,
        accumulate: bool = False,
        zeroes: bool = False,
    ) -> None:
        """As `append(MatMul(...))`."""
        flags = (MATMUL_ACCUMULATE if accumulate else 0) | (MATMUL_ZEROES if zeroes else 0)
        self._flat.extend((_MATMUL, flags, local, local_stride, accumulator, accumulator_stride, vectors - 1))

    def matmuls(self, local: Column, accumulator: Column, vectors: Column, *, accumulate: bool) -> None:
        """`matmul` for each element of the columns."""
        rows = np.zeros((len(local), _FIELDS), dtype=np.int64)
        rows[:, 0], rows[:, 1] = _MATMUL, MATMUL_ACCUMULATE if accumulate else 0
        rows[:, 2], rows[:, 4], rows[:, 6] = local, accumulator, vectors - 1
        self._flat.frombytes(rows.tobytes())

    def simd(
        self,
        operation: SimdOperation,
        left: int = 0,
        right: int = 0,
        destination: int = 0,
        read: int | None = None,
        write: int | None = None,
        accumulate: bool = False,
    ) -> None:
        """As `append(Simd(...))`."""
        registers = self._architecture.simd_register_bits
        self._flat.extend(_simd_row(operation, left, right, destination, read, write, accumulate, registers))

    def table(self) -> InstructionTable:
        """The columns."""
        rows = np.frombuffer(self._flat, dtype=np.int64).reshape(-1, _FIELDS)
        return InstructionTable(*np.ascontiguousarray(rows.T))


def table_of(architecture: Architecture, instructions: Iterable[Instruction]) -> InstructionTable:
    """The columns of a list of instructions. Raises InternalError as `InstructionRows` does."""
    rows = InstructionRows(architecture)
    for instruction in instructions:
        rows.append(instruction)
    return rows.table()


def _row(instruction: Instruction, architecture: Architecture) -> _Row:
    i = instruction
    if isinstance(i, MatMul):
        flags = (MATMUL_ACCUMULATE if i.accumulate else 0) | (MATMUL_ZEROES if i.zeroes else 0)
        return (_MATMUL, flags, i.local, i.local_stride, i.accumulator, i.accumulator_stride, i.vectors - 1)
    if isinstance(i, Simd):
        fields = i.operation, i.left, i.right, i.destination, i.read, i.write, i.accumulate
        return _simd_row(*fields, architecture.simd_register_bits)
    if isinstance(i, DataMove):
        return (2, i.kind, i.local, i.local_stride, i.other, i.other_stride, i.vectors - 1)
    if isinstance(i, LoadWeights):
        return (3, LOAD_WEIGHTS_ZEROES if i.zeroes else 0, i.local, i.local_stride, i.vectors - 1, 0, 0)
    if isinstance(i, NoOp):
        return (0, 0, i.thread, 0, 0, 0, 0)
    if isinstance(i, Configure):
        return _configure_row(i, architecture)
    return (i.header >> 4, i.header & 15, i.operand0, 0, i.operand1, 0, i.operand2)


def _simd_row(
    operation: SimdOperation,
    left: int,
    right: int,
    destination: int,
    read: int | None,
    write: int | None,
    accumulate: bool,
    register_bits: int,
) -> _Row:
    if (left | right | destination) >> register_bits:  # negative numbers too
        registers = f"{left}, {right} or {destination}"
        raise InternalError(f"{operation.name} names a SIMD register, {registers}, of more than {register_bits} bits")
    flags = SIMD_ACCUMULATE if accumulate else 0
    written, was_read = 0, 0
    if write is not None:
        written, flags = write, flags | SIMD_WRITE
    if read is not None:
        was_read, flags = read, flags | SIMD_READ
    word = ((operation << register_bits | left) << register_bits | right) << register_bits | destination
    return (_SIMD, flags, written, 0, was_read, 0, word)


def _configure_row(i: Configure, architecture: Architecture) -> _Row:
    """The argument (register in bits 0..3, value above) runs through all three operands."""
    argument = i.value << 4 | i.register & 15
    operand0 = argument & ((1 << architecture.operand0_bits) - 1)
    argument >>= architecture.operand0_bits
    operand1 = argument & ((1 << architecture.operand1_bits) - 1)
    return (15, 0, operand0, 0, operand1, 0, argument >> architecture.operand1_bits)


def instructions_of(architecture: Architecture, table: InstructionTable) -> list[Instruction]:
    """The instructions that the rows stand for. Address bits that no flag gives a meaning to are dropped."""
    bits = architecture.simd_register_bits
    columns = (table.opcode, table.flags, table.address0, table.stride0, table.address1, table.stride1, table.operand2)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [_instruction(row, bits, architecture) for row in rows]


def _instruction(row: _Row, register_bits: int, architecture: Architecture) -> Instruction:
    opcode, flags, address0, stride0, address1, stride1, operand2 = row
    if opcode == Opcode.MATMUL and flags <= 3:
        accumulate, zeroes = bool(flags & MATMUL_ACCUMULATE), bool(flags & MATMUL_ZEROES)
        return MatMul(address0, address1, operand2 + 1, stride0, stride1, accumulate, zeroes)
    if opcode == Opcode.SIMD and flags <= _SIMD_ALL and not (stride0 or stride1):
        mask = (1 << register_bits) - 1
        return Simd(
            SimdOperation(operand2 >> (3 * register_bits) & 15),
            operand2 >> (2 * register_bits) & mask,
            operand2 >> register_bits & mask,
            operand2 & mask,
            address1 if flags & SIMD_READ else None,
            address0 if flags & SIMD_WRITE else None,
            bool(flags & SIMD_ACCUMULATE),
        )
    if opcode == Opcode.DATA_MOVE and flags in _MOVE_KINDS:
        return DataMove(_MOVE_KINDS[flags], address0, address1, operand2 + 1, stride0, stride1)
    if opcode == Opcode.LOAD_WEIGHTS and flags <= LOAD_WEIGHTS_ZEROES:
        return LoadWeights(address0, address1 + 1, stride0, bool(flags))
    if opcode == Opcode.NOOP and not (flags or address1 or operand2):
        return NoOp(address0)
    if opcode == Opcode.CONFIGURE and not flags:
        argument = operand2 << architecture.operand1_bits | address1
        argument = argument << architecture.operand0_bits | address0
        return Configure(argument & 15, argument >> 4)
    operand0 = stride0 << architecture.address0_bits | address0
    operand1 = stride1 << architecture.address1_bits | address1
    return Invalid(opcode << 4 | flags, operand0, operand1, operand2)


_MOVE_KINDS = {int(kind): kind for kind in MoveKind}
