"""A board for tests: flat memory, Tensil's driver as spec'd in its documents, and a simulated TCU behind both.

The driver knows the architecture that its .tmodel names; the hardware is what it is. So a wrong bitstream, memory that
another program overwrites and constants that never arrive show as they do on a board. The board answers like Tensil's:
`load_model`, `run`, DRAM as flat arrays of scalars, streams of instruction bytes that end in a flush probe.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.errors import CompileError
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.instructions import DataMove, MoveKind, Opcode
from pefslc.targets.tensil.program.encoding import encode
from pefslc.targets.tensil.program.tmodel import TensilProgram
from pefslc.targets.tensil.simulate.simulator import Machine

__all__ = ["Dram", "Hardware", "StockDriver"]

Words = NDArray[np.uint16]


@dataclass
class Dram:
    """A memory as the host sees it: scalars, of which vector v of the driver's architecture begins at v * A."""

    mem: Words
    data_type_numpy: type = np.uint16
    data_type_numpy_size_bytes: int = 2

    def write(self, offset: int, data: Words) -> None:
        assert data.dtype == np.uint16
        self.mem[offset : offset + data.size] = data.reshape(-1)

    def read(self, offset: int, size: int) -> Words:
        return self.mem[offset : offset + size].copy()

    def compare(self, offset: int, data: Words) -> bool:
        return np.array_equal(self.mem[offset : offset + data.size], data.reshape(-1))

    def write_bytes(self, offset_bytes: int, data: bytes) -> None:
        self.write(offset_bytes // 2, np.frombuffer(data, np.uint16))

    def read_bytes(self, offset_bytes: int, size_bytes: int) -> bytes:
        return self.read(offset_bytes // 2, size_bytes // 2).tobytes()


@dataclass
class Hardware:
    """A TCU of its own architecture. It reads the host's bytes as its own instructions, the host's memory as its own.

    before, after  called with the machine around each stream of instructions
    shift1         vectors by which it reads DRAM1 beside where the host writes
    """

    architecture: Architecture
    before: Callable[[Machine], None] = lambda _: None
    after: Callable[[Machine], None] = lambda _: None
    shift1: int = 0
    machine: Machine = field(init=False)

    def __post_init__(self) -> None:
        self.machine = Machine(self.architecture, poison_seed=7)

    def execute(self, code: bytes, dram0: Words, dram1: Words) -> None:
        """Run the instructions on the host's memories. What leaves a memory, or hangs, ends them where they are."""
        size = self.architecture.instruction_size_bytes
        program = _wrapping(TensilProgram(self.architecture, "stream", code[: len(code) // size * size], (), (), ()))
        machine = self.machine
        for ours, theirs, known in (
            (machine.dram0, dram0, machine._known0),
            (machine.dram1, np.roll(dram1, -self.shift1 * self.architecture.array_size), machine._known1),
        ):
            words = theirs.view(np.int16)[: ours.size]
            ours.reshape(-1)[: len(words)] = words
            known[:] = True
        self.before(machine)
        try:
            machine.run(program)
        except (CompileError, ValueError, IndexError, ZeroDivisionError):
            return
        self.after(machine)
        words = machine.dram0.reshape(-1).astype(np.int16).view(np.uint16)[: dram0.size]
        dram0[: len(words)] = words


def _wrapping(program: TensilProgram) -> TensilProgram:
    """The same with addresses as memories of two to some power take them: without the bits that are too high."""
    table, architecture = program.table, program.architecture
    acc_side = (table.opcode == Opcode.MATMUL) | ((table.opcode == Opcode.DATA_MOVE) & (table.flags >= 12))
    local, acc = architecture.local_depth, architecture.accumulator_depth
    first = np.where(table.opcode == Opcode.SIMD, table.address0 % acc, table.address0 % local)
    acc_side |= table.opcode == Opcode.SIMD
    second = np.where(acc_side, table.address1 % acc, table.address1)
    vars(program)["table"] = replace(table, address0=first, address1=second)
    return program


class _Layout:
    """How the driver encodes the moves that it makes itself."""

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.instruction_size_bytes = architecture.instruction_size_bytes

    @staticmethod
    def to_bytes(instruction: bytes) -> bytes:
        return instruction

    def move(self, kind: MoveKind, local: int, other: int, vectors: int = 1) -> bytes:
        return encode(self.architecture, [DataMove(kind=kind, local=local, other=other, vectors=vectors)])


class StockDriver:
    """What of Tensil's driver its users call, from its description: no padding, no checks, words that wrap around."""

    def __init__(self, architecture: Architecture, hardware: Hardware) -> None:
        self.ours, self.hardware = architecture, hardware
        self.arch = SimpleNamespace(**architecture.to_json_dict())
        self.layout = _Layout(architecture)
        a = architecture.array_size
        self.dram0, self.dram1 = (
            Dram(np.zeros(depth * a, np.uint16)) for depth in (architecture.dram0_depth, architecture.dram1_depth)
        )
        self.instruction_stream = SimpleNamespace(write=self._stream)
        self._stream(self._probe())
        self.wait_for_flush()

    def scalar_address(self, vectors: int) -> int:
        return vectors * self.ours.array_size

    def load_model(self, path: str) -> None:
        folder = Path(path).parent
        content = json.loads(Path(path).read_text())
        assert content["arch"] == vars(self.arch), "model requires another architecture"
        self.model = SimpleNamespace(
            consts=[SimpleNamespace(**c) for c in content["consts"]],
            inputs=[SimpleNamespace(**i) for i in content["inputs"]],
            outputs=[SimpleNamespace(**o) for o in content["outputs"]],
            load_consts_to_local=content["load_consts_to_local"],
        )
        for consts in self.model.consts:
            self.dram1.write_bytes(self.scalar_address(consts.base) * 2, (folder / consts.file_name).read_bytes())
            if self.model.load_consts_to_local:
                self._stream(
                    self.layout.move(MoveKind.DRAM1_TO_LOCAL, consts.base, consts.base, consts.size) + self._probe()
                )
                self.wait_for_flush()
        self.program = (folder / content["prog"]["file_name"]).read_bytes()

    def run(self, inputs: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
        for entry in self.model.inputs:
            words = np.round(inputs[entry.name] * 256).astype(np.int64)
            self.dram0.write(self.scalar_address(entry.base), (words & 0xFFFF).astype(np.uint16))
        self._stream(self.program + self._probe(), align=self.layout.instruction_size_bytes)
        self.wait_for_flush()
        found: dict[str, list[NDArray[np.float64]]] = {}
        for entry in self.model.outputs:
            words = self.dram0.read(self.scalar_address(entry.base), self.scalar_address(entry.size))
            found.setdefault(entry.name, []).append(words.view(np.int16) / 256.0)
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def _probe(self) -> bytes:
        return b"".join(self.prepare_flush_probe())

    def prepare_flush_probe(self) -> list[bytes]:
        last, a = self.ours.dram0_depth - 1, self.ours.array_size
        self.dram0.write(self.scalar_address(last), np.full(a, 0xFFFF, np.uint16))
        self.dram0.write(self.scalar_address(last - 1), np.zeros(a, np.uint16))
        local = self.ours.local_depth - 1
        return [
            self.layout.move(MoveKind.DRAM0_TO_LOCAL, local, last),
            self.layout.move(MoveKind.LOCAL_TO_DRAM0, local, last - 1),
        ]

    def _stream(self, code: bytes, align: int = 1) -> None:  # noqa: ARG002  # Tensil's pads it
        self.hardware.execute(code, self.dram0.mem, self.dram1.mem)

    def wait_for_flush(self) -> None:
        """Tensil's polls for ever: here, the time is up at once."""
        probe = np.full(self.ours.array_size, 0xFFFF, np.uint16)
        if not self.dram0.compare(self.scalar_address(self.ours.dram0_depth - 2), probe):
            signal.raise_signal(signal.SIGALRM)
            raise TimeoutError("the TCU does not answer")
