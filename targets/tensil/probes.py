"""Small programs that try one part of a TCU each, for a board that gives other outputs than the simulator.

The board script writes DRAM0, streams a probe, reads DRAM0 back, and compares with what the simulator made of it here:
the first part that differs is named. A bitstream of another architecture reads addresses, strides or sizes otherwise,
and then some part holds what was meant for another place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.self_test import input_codes
from pefslc.targets.tensil.machine.architecture import Architecture, DataType
from pefslc.targets.tensil.machine.instructions import (
    DataMove,
    Instruction,
    LoadWeights,
    MatMul,
    MoveKind,
    Simd,
    SimdOperation,
)
from pefslc.targets.tensil.program.encoding import encode
from pefslc.targets.tensil.program.tmodel import IoEntry, TensilProgram
from pefslc.targets.tensil.simulate.simulator import Machine

__all__ = ["REACH", "Probe", "constants_probe", "probes_of"]

REACH = 600  # of the words that probes are given: no sum of products saturates, and some round
_WEIGHTS_AT = 8  # in DRAM0, behind the vectors that every probe is given


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """A program from DRAM0 to DRAM0.

    part      what it tries, as a message names it
    code      its instructions
    vectors   that the host writes from DRAM0 vector 0 on: `input_codes` within +-REACH, seed 0
    first     DRAM0 vector from which the host reads the results
    expected  [results, A], what the simulator makes of them
    """

    part: str
    code: bytes
    vectors: int
    first: int
    expected: NDArray[np.int64]


def probes_of(architecture: Architecture) -> tuple[Probe, ...]:
    """A probe for each part, in the order in which one rests on the other; none for words that no PYNQ driver knows."""
    if architecture.data_type is not DataType.FP16BP8:
        return ()
    vectors = _WEIGHTS_AT + architecture.array_size + 1
    parts = _Parts(architecture, first=vectors + 8)
    programs = {
        "local memory": parts.local_memory(),
        "the strides of moves": parts.strides(),
        "the accumulators": parts.accumulators(),
        "the array that multiplies": parts.array(),
        "the SIMD unit": parts.simd_unit(),
    }
    if vectors + 32 > min(architecture.usable_dram0_vectors, architecture.local_depth // 2):
        return ()  # a memory too small to be probed
    return tuple(_probe(architecture, part, list(code), vectors, parts.first) for part, code in programs.items())


def constants_probe(architecture: Architecture, vectors: int) -> tuple[bytes, int]:
    """Instructions that copy the first constants from DRAM1 to DRAM0, and how many: what the TCU itself reads there."""
    count = min(vectors, architecture.usable_dram0_vectors)
    piece = min(architecture.local_depth // 2, architecture.dram0_depth // 2)
    moves: list[Instruction] = []
    for start in range(0, count, piece):
        size = min(piece, count - start)
        moves.append(DataMove(kind=MoveKind.DRAM1_TO_LOCAL, local=0, other=start, vectors=size))
        moves.append(DataMove(kind=MoveKind.LOCAL_TO_DRAM0, local=0, other=start, vectors=size))
    return encode(architecture, moves), count


@dataclass(frozen=True, slots=True)
class _Parts:
    architecture: Architecture
    first: int

    def local_memory(self) -> Iterator[Instruction]:
        """Vectors at both ends and in the middle are still there when all were written."""
        depth = self.architecture.local_depth
        places = (0, depth // 2, depth // 4, depth - 2)
        yield from (self._in(place, i) for i, place in enumerate(places))
        yield from (self._out(place, i) for i, place in enumerate(places))

    def strides(self) -> Iterator[Instruction]:
        """Every second vector to every second place, as far as the architecture has strides."""
        local, other = (
            min(1, depth - 1) for depth in (self.architecture.stride0_depth, self.architecture.stride1_depth)
        )
        for kind, first in ((MoveKind.DRAM0_TO_LOCAL, 0), (MoveKind.LOCAL_TO_DRAM0, self.first)):
            yield DataMove(kind=kind, local=0, other=first, vectors=4, local_stride=local, other_stride=other)
        yield self._in(16, 7)
        yield self._out(16, 7)

    def accumulators(self) -> Iterator[Instruction]:
        """As local memory, and one vector added."""
        depth = self.architecture.accumulator_depth
        places = (0, depth // 2, depth - 1)
        yield from self._given()
        for i, place in enumerate(places):
            yield DataMove(kind=MoveKind.LOCAL_TO_ACCUMULATOR, local=i, other=place, vectors=1)
        yield DataMove(kind=MoveKind.LOCAL_TO_ACCUMULATOR_ACCUMULATE, local=3, other=places[1], vectors=1)
        for i, place in enumerate(places):
            yield DataMove(kind=MoveKind.ACCUMULATOR_TO_LOCAL, local=16 + i, other=place, vectors=1)
        yield self._out(16, 0, 3)

    def array(self) -> Iterator[Instruction]:
        """A full matrix with a bias: lanes, their order, rounding."""
        size = self.architecture.array_size
        yield from self._given()
        yield self._in(_WEIGHTS_AT, _WEIGHTS_AT, size + 1)
        yield LoadWeights(local=_WEIGHTS_AT, vectors=size + 1)
        yield MatMul(local=0, accumulator=0, vectors=4)
        yield DataMove(kind=MoveKind.ACCUMULATOR_TO_LOCAL, local=4, other=0, vectors=4)
        yield self._out(4, 0, 4)

    def simd_unit(self) -> Iterator[Instruction]:
        """The operations that programs have, between an accumulator and a register."""
        operations = SimdOperation.MULTIPLY, SimdOperation.MAX, SimdOperation.MIN, SimdOperation.ADD
        yield from self._given()
        yield DataMove(kind=MoveKind.LOCAL_TO_ACCUMULATOR, local=0, other=0, vectors=2)
        yield Simd(operation=SimdOperation.MOVE, destination=1, read=1)
        for i, operation in enumerate(operations):
            yield Simd(operation=operation, right=1, read=0, write=2 + i)
        yield DataMove(kind=MoveKind.ACCUMULATOR_TO_LOCAL, local=16, other=2, vectors=len(operations))
        yield self._out(16, 0, len(operations))

    def _given(self) -> Iterator[Instruction]:
        yield self._in(0, 0, 8)

    def _in(self, local: int, vector: int, vectors: int = 1) -> Instruction:
        return DataMove(kind=MoveKind.DRAM0_TO_LOCAL, local=local, other=vector, vectors=vectors)

    def _out(self, local: int, result: int, vectors: int = 1) -> Instruction:
        return DataMove(kind=MoveKind.LOCAL_TO_DRAM0, local=local, other=self.first + result, vectors=vectors)


def _probe(
    architecture: Architecture, part: str, instructions: Sequence[Instruction], vectors: int, first: int
) -> Probe:
    size = architecture.array_size
    program = TensilProgram.assemble(
        architecture, part, instructions, inputs=[IoEntry("in", 0, vectors)], outputs=[IoEntry("out", first, 8)]
    )
    given = input_codes(vectors * size, -REACH, REACH, 0).reshape(vectors, size)
    machine = Machine(architecture)
    results = machine.infer(program, {"in": given})["out"]
    return Probe(part, program.code, vectors, first, results)
