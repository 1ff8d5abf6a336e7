"""The instructions of the TCU, as frozen values.

Building one checks nothing (a program has up to 100,000): fields are checked by the encoder, meaning by the checker.
`vectors` counts vectors (the encoded size is one less); a stride is an exponent e: vector i is at address + i * 2^e.
Source: Tensil's Opcode.scala, DataMoveFlags.scala, SIMDOp.scala.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

__all__ = [
    "UNARY_OPERATIONS",
    "Configure",
    "DataMove",
    "Instruction",
    "Invalid",
    "LoadWeights",
    "MatMul",
    "MoveKind",
    "NoOp",
    "Opcode",
    "Segment",
    "Simd",
    "SimdOperation",
]


class Opcode(IntEnum):
    """Header bits 4..7. The RTL skips every other value."""

    NOOP = 0
    MATMUL = 1
    DATA_MOVE = 2
    LOAD_WEIGHTS = 3
    SIMD = 4
    CONFIGURE = 15


class MoveKind(IntEnum):
    """What a DataMove copies: its flags. The other values are invalid."""

    DRAM0_TO_LOCAL = 0
    LOCAL_TO_DRAM0 = 1
    DRAM1_TO_LOCAL = 2
    LOCAL_TO_DRAM1 = 3
    ACCUMULATOR_TO_LOCAL = 12
    LOCAL_TO_ACCUMULATOR = 13
    LOCAL_TO_ACCUMULATOR_ACCUMULATE = 15


class SimdOperation(IntEnum):
    """The lane-wise operations. Tensil's emulator knows only ZERO, MOVE, ADD, SUBTRACT, MULTIPLY, MIN and MAX."""

    NOOP = 0
    ZERO = 1
    MOVE = 2
    NOT = 3
    AND = 4
    OR = 5
    INCREMENT = 6
    DECREMENT = 7
    ADD = 8
    SUBTRACT = 9
    MULTIPLY = 10
    ABS = 11
    GREATER_THAN = 12
    GREATER_THAN_EQUAL = 13
    MIN = 14
    MAX = 15


# Operations of the left source alone.
UNARY_OPERATIONS = frozenset(
    {
        SimdOperation.MOVE,
        SimdOperation.NOT,
        SimdOperation.INCREMENT,
        SimdOperation.DECREMENT,
        SimdOperation.ABS,
    }
)


@dataclass(frozen=True, slots=True)
class NoOp:
    """Does nothing for one cycle (Tensil: Wait). `thread` is what a two-thread Wait awaits; 0 otherwise."""

    thread: int = 0


@dataclass(frozen=True, slots=True)
class MatMul:
    """accumulators[i] = bias + local[i] @ weights for each of `vectors` vectors; `accumulate` adds to them instead.

    `zeroes`: the input vectors are all zero and `local` is ignored, so the bias row is written.
    """

    local: int
    accumulator: int
    vectors: int
    local_stride: int = 0
    accumulator_stride: int = 0
    accumulate: bool = False
    zeroes: bool = False


@dataclass(frozen=True, slots=True)
class DataMove:
    """Copies vectors between `local` and `other`: an address in DRAM0, DRAM1 or the accumulators, as `kind` says."""

    kind: MoveKind
    local: int
    other: int
    vectors: int
    local_stride: int = 0
    other_stride: int = 0


@dataclass(frozen=True, slots=True)
class LoadWeights:
    """Shifts `vectors` rows into the weights, last vector first: local[a] ends in row 0, the bias.

    `zeroes`: shifts in zero rows and ignores `local`.
    """

    local: int
    vectors: int
    local_stride: int = 0
    zeroes: bool = False


@dataclass(frozen=True, slots=True)
class Simd:
    """One lane-wise operation on one vector.

    left, right   0 is the accumulator vector at `read`, k >= 1 register k
    destination   0 is the accumulator vector at `write`, k >= 1 register k
    read, write   accumulator addresses; None leaves the flag unset
    accumulate    add the result to the accumulator instead of overwriting it
    """

    operation: SimdOperation
    left: int = 0
    right: int = 0
    destination: int = 0
    read: int | None = None
    write: int | None = None
    accumulate: bool = False


@dataclass(frozen=True, slots=True)
class Configure:
    """Sets a register of the TCU (DRAM bases, timeouts): for drivers, never in a .tprog."""

    register: int
    value: int


@dataclass(frozen=True, slots=True)
class Invalid:
    """An encoding that names no instruction: the RTL skips it, the checker refuses it."""

    header: int
    operand0: int = 0
    operand1: int = 0
    operand2: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """Instructions [first, end) that serve `group`, a result's name; "" for input, output and constants."""

    group: str
    first: int
    end: int


Instruction: TypeAlias = NoOp | MatMul | DataMove | LoadWeights | Simd | Configure | Invalid
