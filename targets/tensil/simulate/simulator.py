"""An exact simulator of the TCU: any program, any state, to the bit.

    machine = Machine(program.architecture, poison_seed=1)
    machine.load_constants(program)
    outputs = machine.infer(program, {"x": codes})

Architectural semantics of Tensil's emulator: strictly sequential. The accumulator hazard is not simulated; the checker
refuses programs that have it. Where Tensil's emulator and the RTL differ, the RTL is followed and a comment says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, InternalError, quote
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.arithmetic import saturate, simd
from pefslc.targets.tensil.machine.instructions import UNARY_OPERATIONS, MoveKind, Opcode, SimdOperation
from pefslc.targets.tensil.program.accesses import Memory, accesses_of, depth_of
from pefslc.targets.tensil.program.table import (
    LOAD_WEIGHTS_ZEROES,
    MATMUL_ACCUMULATE,
    MATMUL_ZEROES,
    SIMD_ACCUMULATE,
    SIMD_READ,
    SIMD_WRITE,
)
from pefslc.targets.tensil.program.tmodel import IoEntry, TensilProgram
from pefslc.targets.tensil.simulate.systolic_array import SystolicArray

__all__ = ["Driver", "Machine"]

Codes = NDArray[np.int64]


class Driver(Enum):
    """Whose flush probe surrounds a run: they differ in fill values, and in the local vector that they overwrite."""

    PYNQ = "pynq"
    C = "c"


class Machine:
    """A TCU with its memories, as arrays [depth, A] of codes that may be read and written freely.

    local, acc            int64
    dram0, dram1          int32, which holds every data type; allocated lazily by the operating system
    simd_registers        int64 [n, A], register k in row k - 1
    saturated             indices of the instructions of the last run in which some lane saturated
    poison_seed           None: all zero at power-up, as in Tensil's emulator. Otherwise everything starts as random
                          codes, as on hardware after other work: a program must not depend on what it did not write
    """

    def __init__(self, architecture: Architecture, poison_seed: int | None = None) -> None:
        size = architecture.array_size
        self.architecture = architecture
        self.local: Codes = np.zeros((architecture.local_depth, size), dtype=np.int64)
        self.acc: Codes = np.zeros((architecture.accumulator_depth, size), dtype=np.int64)
        self.simd_registers: Codes = np.zeros((architecture.simd_registers_depth, size), dtype=np.int64)
        self.dram0 = np.zeros((architecture.dram0_depth, size), dtype=np.int32)
        self.dram1 = np.zeros((architecture.dram1_depth, size), dtype=np.int32)
        self.array = SystolicArray(architecture)
        self.saturated: list[int] = []
        self._poison: np.random.Generator | None = None
        # Vectors of the DRAMs that hold data or poison: random codes for a million vectors would cost a second.
        self._known0 = np.zeros(architecture.dram0_depth, dtype=np.bool_)
        self._known1 = np.zeros(architecture.dram1_depth, dtype=np.bool_)
        if poison_seed is not None:
            self._poison = np.random.default_rng(poison_seed)
            self.array.load(self._garbage(size + 1))
            for memory in (self.local, self.acc, self.simd_registers):
                memory[:] = self._garbage(len(memory))

    @property
    def weights(self) -> Codes:
        """[A + 1, A]; row 0 is the bias."""
        return self.array.weights

    # The host's side

    def load_constants(self, program: TensilProgram) -> None:
        """What the driver does once per model: constants to DRAM1 and, where the model says so, on to local memory."""
        for block in program.constants:
            rows = slice(block.base, block.base + len(block.vectors))
            self.dram1[rows] = block.vectors
            self._known1[rows] = True
            if program.load_consts_to_local:
                self.local[rows] = block.vectors

    def write_input(self, program: TensilProgram, name: str, codes: Codes) -> None:
        """Puts codes [vectors, A] where the entries of this name lie in DRAM0, in their order."""
        entries = _entries(program.inputs, name)
        data_type = self.architecture.data_type
        expected = (sum(entry.size for entry in entries), self.architecture.array_size)
        if codes.shape != expected:
            raise InternalError(f"input {quote(name)} has shape {codes.shape}, the program reads {expected}")
        if codes.size and not data_type.min_code <= int(codes.min()) <= int(codes.max()) <= data_type.max_code:
            raise InternalError(f"input {quote(name)} holds {codes.min()}..{codes.max()}: not {data_type.value} codes")
        position = 0
        for entry in entries:
            rows = slice(entry.base, entry.base + entry.size)
            self.dram0[rows] = codes[position : position + entry.size]
            self._known0[rows] = True
            position += entry.size

    def read_output(self, program: TensilProgram, name: str) -> Codes:
        """The codes [vectors, A] of the entries of this name, in their order."""
        entries = _entries(program.outputs, name)
        return np.concatenate([self.dram0[entry.base : entry.base + entry.size] for entry in entries]).astype(np.int64)

    def infer(
        self,
        program: TensilProgram,
        inputs: Mapping[str, Codes],
        driver: Driver = Driver.PYNQ,
        before: Mapping[int, Callable[[], None]] | None = None,
    ) -> dict[str, Codes]:
        """One inference as a driver does it: inputs, program, flush probe, outputs. State stays for the next one.

        before  what to call before the instruction of that index, or (their number) after all
        """
        for name, codes in inputs.items():
            self.write_input(program, name, codes)
        last0 = self.architecture.dram0_depth - 1
        filled, cleared = (-1, 0) if driver is Driver.PYNQ else (0, -1)
        self.dram0[last0], self.dram0[last0 - 1] = filled, cleared
        self._known0[last0 - 1 :] = True
        self.run(program, before)
        reserved = self.architecture.reserved_local_vectors
        probe = max(reserved) if driver is Driver.PYNQ else min(reserved)
        self.local[probe] = self.dram0[last0]
        self.dram0[last0 - 1] = self.local[probe]
        return {name: self.read_output(program, name) for name in dict.fromkeys(e.name for e in program.outputs)}

    # The program's side

    def run(self, program: TensilProgram, before: Mapping[int, Callable[[], None]] | None = None) -> None:
        """Executes the program once. CompileError where it leaves a memory or hangs the hardware."""
        before = before or {}
        if program.architecture != self.architecture:
            raise InternalError("the program was made for another architecture")
        self._check_and_poison(program)
        self.saturated = []
        table = program.table
        operations, lefts, rights, destinations = (c.tolist() for c in table.simd_fields(self.architecture))
        opcodes, flags = table.opcode.tolist(), table.flags.tolist()
        slices0 = _slices(table.address0, table.stride0, table.vectors)
        slices1 = _slices(table.address1, table.stride1, table.vectors)
        for index, opcode in enumerate(opcodes):
            if index in before:
                before[index]()
            if opcode == Opcode.MATMUL:
                self._matmul(index, flags[index], slices0[index], slices1[index])
            elif opcode == Opcode.SIMD:
                word = (operations[index], lefts[index], rights[index], destinations[index])
                self._simd(index, flags[index], word, slices0[index].start, slices1[index].start)
            elif opcode == Opcode.DATA_MOVE:
                self._move(index, flags[index], slices0[index], slices1[index])
            elif opcode == Opcode.LOAD_WEIGHTS:
                # operand 1 holds no address here: the rows are the local slice
                self._load_weights(flags[index], slices0[index])
            # Everything else leaves the state alone: NoOp, Configure, and what the RTL skips.
        if len(opcodes) in before:
            before[len(opcodes)]()

    def _matmul(self, index: int, flags: int, source: slice, target: slice) -> None:
        if flags & MATMUL_ZEROES:
            result, saturated = self.array.weights[0], False
        else:
            result, saturated = self.array.multiply(self.local[source])
        if flags & MATMUL_ACCUMULATE:
            result, clipped = saturate(self.acc[target] + result, self.architecture.data_type)
            saturated |= clipped
        self.acc[target] = result
        if saturated:
            self.saturated.append(index)

    def _load_weights(self, flags: int, source: slice) -> None:
        rows = self.local[source]
        self.array.load(np.zeros_like(rows) if flags & LOAD_WEIGHTS_ZEROES else rows)

    def _move(self, index: int, kind: int, local: slice, other: slice) -> None:
        match kind:
            case MoveKind.DRAM0_TO_LOCAL:
                self.local[local] = self.dram0[other]
            case MoveKind.LOCAL_TO_DRAM0:
                self.dram0[other] = self.local[local]
            case MoveKind.DRAM1_TO_LOCAL:
                self.local[local] = self.dram1[other]
            case MoveKind.LOCAL_TO_DRAM1:
                self.dram1[other] = self.local[local]
            case MoveKind.ACCUMULATOR_TO_LOCAL:
                self.local[local] = self.acc[other]
            case MoveKind.LOCAL_TO_ACCUMULATOR:
                self.acc[other] = self.local[local]
            case MoveKind.LOCAL_TO_ACCUMULATOR_ACCUMULATE:
                total, saturated = saturate(self.acc[other] + self.local[local], self.architecture.data_type)
                self.acc[other] = total
                if saturated:
                    self.saturated.append(index)
            case _:
                pass  # an invalid kind: the RTL skips it

    def _simd(self, index: int, flags: int, word: tuple[int, int, int, int], write: int, read: int) -> None:
        operation, left, right, destination = word
        if max(left, right, destination) > len(self.simd_registers):
            raise CompileError(
                Code.TCU_PROGRAM, f"instruction {index} names a SIMD register above {len(self.simd_registers)}"
            )
        if operation == SimdOperation.NOOP:
            return
        code = SimdOperation(operation)
        left_value = self._simd_source(index, code, left, flags, read)
        # The right source of a unary operation is not used, though the RTL waits for it if it is the input.
        unused = code in UNARY_OPERATIONS or code is SimdOperation.ZERO
        right_value = left_value if unused else self._simd_source(index, code, right, flags, read)
        result, saturated = simd(code, left_value, right_value, self.architecture.data_type)
        if flags & SIMD_WRITE:
            # With a register as destination the RTL writes the register and the accumulator, and accumulates to the
            # latter only. (Tensil's emulator writes only the register, and accumulates to that.)
            total = result
            if flags & SIMD_ACCUMULATE:
                total, clipped = saturate(self.acc[write] + result, self.architecture.data_type)
                saturated |= clipped
            self.acc[write] = total
        if destination:
            self.simd_registers[destination - 1] = result
        if saturated:
            self.saturated.append(index)

    def _simd_source(self, index: int, operation: SimdOperation, source: int, flags: int, read: int) -> Codes:
        if source or flags & SIMD_READ or operation is SimdOperation.ZERO:
            value: Codes = self.simd_registers[source - 1] if source else self.acc[read]
            return value
        raise CompileError(
            Code.TCU_PROGRAM, f"instruction {index}: SIMD {operation.name} waits for an input that it does not read"
        )

    def _check_and_poison(self, program: TensilProgram) -> None:
        """Refuses programs that leave a memory; gives random codes to the DRAM that this one touches and nobody set."""
        ends = {
            Memory.DRAM0: max((entry.base + entry.size for entry in program.outputs), default=0),
            Memory.DRAM1: 0,
        }
        for access in accesses_of(program.table):
            depth = depth_of(self.architecture, access.memory)
            outside = np.flatnonzero((access.ends() > depth) | (access.base >= depth))
            if outside.size:
                row = int(access.rows[outside[0]])
                raise CompileError(
                    Code.TCU_PROGRAM,
                    f"instruction {row} {access.kind.value} {access.memory.value} beyond its {depth} vectors",
                )
            if access.memory in ends:
                ends[access.memory] = max(ends[access.memory], int(access.ends().max()))
        if self._poison is not None:
            self._poison_dram(self.dram0, self._known0, ends[Memory.DRAM0])
            self._poison_dram(self.dram1, self._known1, ends[Memory.DRAM1])

    def _poison_dram(self, dram: NDArray[np.int32], known: NDArray[np.bool_], end: int) -> None:
        unset = np.flatnonzero(~known[:end])
        dram[unset] = self._garbage(len(unset))
        known[:end] = True

    def _garbage(self, vectors: int) -> Codes:
        assert self._poison is not None
        data_type, size = self.architecture.data_type, self.architecture.array_size
        return self._poison.integers(data_type.min_code, data_type.max_code, size=(vectors, size), endpoint=True)


def _slices(base: Codes, stride: Codes, vectors: Codes) -> list[slice]:
    """The vectors of each instruction as a slice of its memory; where a row is not addressed it is never looked at."""
    stride = np.minimum(stride, 32)
    ends = base + (np.maximum(vectors, 1) - 1 << stride) + 1
    columns: Iterable[tuple[int, int, int]] = zip(base.tolist(), ends.tolist(), (1 << stride).tolist(), strict=True)
    return [slice(*row) for row in columns]


def _entries(entries: tuple[IoEntry, ...], name: str) -> list[IoEntry]:
    found = [entry for entry in entries if entry.name == name]
    if not found:
        known = ", ".join(sorted({entry.name for entry in entries})) or "none"
        raise CompileError(
            Code.INPUT_ARRAY, f"the program has no input or output {quote(name)}", hint=f"it has: {known}"
        )
    return found
