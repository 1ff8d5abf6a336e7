"""A compiled program and its three files: `.tmodel` (JSON), `.tprog` (instructions), `.tdata` (constants).

The encoded bytes are what a `TensilProgram` holds: simulator, checker and cycle model decode them, so they judge what
a board will execute. Source: Tensil's Model.scala and the PYNQ driver, which accepts no key beyond these.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, InternalError, Problem, quote
from pefslc.targets.tensil.machine.architecture import Architecture, DataType, architecture_from_json, read_json
from pefslc.targets.tensil.machine.instructions import Instruction
from pefslc.targets.tensil.program.encoding import decode_table, encode
from pefslc.targets.tensil.program.table import InstructionTable, instructions_of

__all__ = [
    "GIVE_A_TMODEL",
    "ConstantBlock",
    "IoEntry",
    "TensilProgram",
    "constant_blocks",
    "decode_vectors",
    "encode_vectors",
    "load_tmodel",
    "tmodel_files",
]

GIVE_A_TMODEL = "give a .tmodel, as `pefslc MODEL --target tensil` writes it"

Words = NDArray[np.int64]
Vectors: TypeAlias = Words | NDArray[np.int16 | np.int32]

_AT_ONCE = 1 << 16  # vectors that are encoded at once, for the memory of it


@dataclass(frozen=True, slots=True)
class IoEntry:
    """Part of an input or output: `size` vectors from DRAM0 vector `base`. Entries of one name follow each other."""

    name: str
    base: int
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class ConstantBlock:
    """Constants: codes [n, array_size], to be loaded at DRAM1 vector `base`."""

    base: int
    vectors: Vectors


@dataclass(frozen=True, eq=False)
class TensilProgram:
    """What a .tmodel and its files describe.

    code                    the encoded instructions
    constants               what DRAM1 holds before the first run
    load_consts_to_local    the driver also copies them to the same local addresses, once
    """

    architecture: Architecture
    name: str
    code: bytes
    constants: tuple[ConstantBlock, ...]
    inputs: tuple[IoEntry, ...]
    outputs: tuple[IoEntry, ...]
    load_consts_to_local: bool = False

    @classmethod
    def assemble(
        cls,
        architecture: Architecture,
        name: str,
        instructions: Iterable[Instruction],
        *,
        constants: Vectors | None = None,
        inputs: Iterable[IoEntry] = (),
        outputs: Iterable[IoEntry] = (),
        load_consts_to_local: bool = False,
    ) -> TensilProgram:
        """A program from instructions, and from constants [n, array_size] that lie from DRAM1 vector 0 on."""
        blocks = () if constants is None else constant_blocks(constants)
        code = encode(architecture, instructions)
        return cls(architecture, name, code, blocks, tuple(inputs), tuple(outputs), load_consts_to_local)

    @cached_property
    def table(self) -> InstructionTable:
        """The instructions as columns, decoded from `code`."""
        return decode_table(self.architecture, self.code)

    @property
    def instructions(self) -> list[Instruction]:
        return instructions_of(self.architecture, self.table)

    def __len__(self) -> int:
        return len(self.code) // self.architecture.instruction_size_bytes


def constant_blocks(constants: Vectors) -> tuple[ConstantBlock, ...]:
    """Constants [n, array_size] that lie from DRAM1 vector 0 on."""
    return (ConstantBlock(0, constants),) if len(constants) else ()


def encode_vectors(data_type: DataType, vectors: Vectors) -> bytes:
    """Codes [n, array_size] as DRAM and .tdata files hold them: little endian, bits above the width zero."""
    if vectors.size and not data_type.min_code <= int(vectors.min()) <= int(vectors.max()) <= data_type.max_code:
        raise InternalError(f"constants {vectors.min()}..{vectors.max()} do not fit {data_type.value}")
    mask, wide = (1 << data_type.width_bits) - 1, f"<u{data_type.bytes_per_scalar}"
    parts = (vectors[first : first + _AT_ONCE] for first in range(0, len(vectors), _AT_ONCE))
    return b"".join((part.astype(np.int64) & mask).astype(wide).tobytes() for part in parts)


def decode_vectors(data_type: DataType, data: bytes, array_size: int) -> Words:
    """The codes [n, array_size] in a .tdata file of whole vectors; CompileError for bits above the width (FP18BP10)."""
    words = np.frombuffer(data, dtype=f"<u{data_type.bytes_per_scalar}").astype(np.int64).reshape(-1, array_size)
    if words.size and int(words.max()) >> data_type.width_bits:
        # Tensil's emulator does not mask them, the hardware does: the two would disagree.
        raise CompileError(
            Code.TCU_MODEL_FILE, f"a constant has bits above the {data_type.width_bits} of {data_type.value}"
        )
    sign = 1 << (data_type.width_bits - 1)
    return (words ^ sign) - sign


def tmodel_files(program: TensilProgram) -> dict[str, bytes]:
    """The files of the program by name, the .tmodel last; the same program gives the same bytes."""
    architecture = program.architecture
    files = {f"{program.name}.tprog": program.code}
    constants = []
    for index, block in enumerate(program.constants):
        file_name = f"{program.name}.tdata" if index == 0 else f"{program.name}.{index}.tdata"
        files[file_name] = encode_vectors(architecture.data_type, block.vectors)
        constants.append({"file_name": file_name, "base": block.base, "size": len(block.vectors)})
    model = {
        "name": program.name,
        "prog": {"file_name": f"{program.name}.tprog", "size": len(program.code)},
        "consts": constants,
        "inputs": [{"name": e.name, "base": e.base, "size": e.size} for e in program.inputs],
        "outputs": [{"name": e.name, "base": e.base, "size": e.size} for e in program.outputs],
        "arch": architecture.to_json_dict(),
        "load_consts_to_local": program.load_consts_to_local,
    }
    files[f"{program.name}.tmodel"] = (json.dumps(model, indent=2) + "\n").encode()
    return files


def load_tmodel(path: str | Path) -> TensilProgram:
    """Reads a .tmodel, ours or Tensil's, and the files it names; every fault is a CompileError with its place."""
    path = Path(path)
    value = read_json(path, Code.TCU_MODEL_FILE, GIVE_A_TMODEL)
    if not isinstance(value, dict):
        raise CompileError(Code.TCU_MODEL_FILE, "the model must be a JSON object", at=str(path), hint=GIVE_A_TMODEL)
    return _Reader(path).read(value)


_MODEL_KEYS = ("name", "prog", "consts", "inputs", "outputs", "arch", "load_consts_to_local")


class _Reader:
    """Reads one .tmodel and collects its faults."""

    def __init__(self, path: Path) -> None:
        self.at = str(path)
        self.directory = path.parent.resolve()
        self.problems: list[Problem] = []

    def read(self, value: object) -> TensilProgram:
        model = self._object(value, "the model", _MODEL_KEYS)
        self._stop_at_problems()
        architecture = architecture_from_json(model["arch"], at=f"{self.at}, arch")
        name = self._string(model["name"], "name")
        code = self._program(model["prog"], architecture)
        constants = [
            self._constants(entry, f"consts[{index}]", architecture)
            for index, entry in enumerate(self._list(model["consts"], "consts"))
        ]
        inputs = self._entries(model["inputs"], "inputs", architecture)
        outputs = self._entries(model["outputs"], "outputs", architecture)
        to_local = model["load_consts_to_local"]
        if not isinstance(to_local, bool):
            self._problem("load_consts_to_local must be true or false")
        self._check_constants_fit(constants, architecture, bool(to_local))
        self._stop_at_problems()
        return TensilProgram(architecture, name, code, tuple(constants), inputs, outputs, bool(to_local))

    def _program(self, value: object, architecture: Architecture) -> bytes:
        entry = self._object(value, "prog", ("file_name", "size"))
        if len(entry) != 2:
            return b""
        size = self._integer(entry["size"], "prog.size")
        code = self._file(entry["file_name"], "prog.file_name", size)
        if len(code) % architecture.instruction_size_bytes:
            self._problem(
                f"the program has {len(code)} bytes, no multiple of the {architecture.instruction_size_bytes}"
                " of an instruction"
            )
        return code

    def _constants(self, value: object, where: str, architecture: Architecture) -> ConstantBlock:
        entry = self._object(value, where, ("file_name", "base", "size"))
        nothing = ConstantBlock(0, np.zeros((0, architecture.array_size), dtype=np.int64))
        if len(entry) != 3:
            return nothing
        base, size = self._integer(entry["base"], f"{where}.base"), self._integer(entry["size"], f"{where}.size")
        data = self._file(entry["file_name"], f"{where}.file_name", size * architecture.vector_size_bytes)
        if len(data) != size * architecture.vector_size_bytes:
            return nothing
        try:
            return ConstantBlock(base, decode_vectors(architecture.data_type, data, architecture.array_size))
        except CompileError as error:
            self._problem(f"{where}: {error.problems[0].message}")
            return nothing

    def _check_constants_fit(self, blocks: list[ConstantBlock], architecture: Architecture, to_local: bool) -> None:
        for index, block in enumerate(blocks):
            end = block.base + len(block.vectors)
            if end > architecture.dram1_depth:
                self._problem(f"consts[{index}] ends at vector {end}, DRAM1 has {architecture.dram1_depth}")
            if to_local and end > architecture.local_depth:
                self._problem(f"consts[{index}] ends at vector {end}, local memory has {architecture.local_depth}")

    def _entries(self, value: object, where: str, architecture: Architecture) -> tuple[IoEntry, ...]:
        result = []
        for index, item in enumerate(self._list(value, where)):
            here = f"{where}[{index}]"
            entry = self._object(item, here, ("name", "base", "size"))
            if len(entry) != 3:
                continue
            name = self._string(entry["name"], f"{here}.name")
            base, size = self._integer(entry["base"], f"{here}.base"), self._integer(entry["size"], f"{here}.size")
            if base + size > architecture.dram0_depth:
                self._problem(f"{here} ends at vector {base + size}, DRAM0 has {architecture.dram0_depth}")
            result.append(IoEntry(name, base, size))
        return tuple(result)

    def _file(self, name: object, where: str, size_bytes: int) -> bytes:
        """The contents of a file beside the model; b"" and a problem when it is not there or not of that size."""
        text = self._string(name, where)
        path = self.directory / text
        if not text or "\0" in text or not path.resolve().is_relative_to(self.directory):
            self._problem(f"{where} {quote(text)} leaves the model's directory")
            return b""
        try:
            found = path.stat().st_size
            if found == size_bytes:
                return path.read_bytes()
            self._problem(f"{quote(text)} has {found} bytes, the model says {size_bytes}")
        except OSError as error:
            self._problem(f"cannot read {quote(text)}: {error.strerror}")
        return b""

    def _object(self, value: object, where: str, keys: tuple[str, ...]) -> dict[str, object]:
        """`value` if it is an object with exactly these keys, else {} and the problems."""
        if not isinstance(value, dict):
            self._problem(f"{where} must be a JSON object")
            return {}
        missing = [f"{where} lacks key {quote(key)}" for key in keys if key not in value]
        extra = [f"{where} has unknown key {quote(str(key))}" for key in value if key not in keys]
        for message in missing + extra:
            self._problem(message)
        return {} if missing or extra else value

    def _list(self, value: object, where: str) -> list[object]:
        if isinstance(value, list):
            return value
        self._problem(f"{where} must be a list")
        return []

    def _string(self, value: object, where: str) -> str:
        if isinstance(value, str):
            return value
        self._problem(f"{where} must be a string")
        return ""

    def _integer(self, value: object, where: str) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        self._problem(f"{where} must be an integer >= 0")
        return 0

    def _problem(self, message: str) -> None:
        self.problems.append(Problem(Code.TCU_MODEL_FILE, message, self.at))

    def _stop_at_problems(self) -> None:
        if self.problems:
            raise CompileError.of(self.problems)
