"""The parameters of a Tensil Compute Unit: the `.tarch` file, and every width and limit that follows from it.

    architecture = load_architecture("custom_perf")       # a built-in board, or a path ending in .tarch

Source: Tensil's Architecture.scala and InstructionLayout.scala; the drivers' flush probe for the reserved vectors.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from enum import Enum
from functools import cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from pefslc.diagnostics.alike import alike
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem, quote
from pefslc.files.reading import unreadable
from pefslc.targets.tensil.machine.boards import axi_bytes_of

__all__ = [
    "Architecture",
    "DataType",
    "architecture_from_json",
    "built_in_architectures",
    "load_architecture",
    "read_json",
]

# Far above any board (DRAM 2^21 vectors, local memory 2^16, arrays of 32), and still simulated in a laptop's memory.
_LARGEST_DEPTH = 1 << 26
_LARGEST_ON_CHIP = 1 << 20
_LARGEST_ARRAY = 256


class DataType(Enum):
    """A fixed-point number format of the TCU: two's complement, `binary_point` fraction bits. The value is its name.

    bytes_per_scalar        in DRAM and in files, little endian; the bits above `width_bits` are zero
    min_code, max_code      the range of codes, where everything saturates
    one                     the code of 1.0
    """

    FP8BP4 = "FP8BP4", 8, 4, 1
    FP16BP8 = "FP16BP8", 16, 8, 2
    FP18BP10 = "FP18BP10", 18, 10, 4
    FP32BP16 = "FP32BP16", 32, 16, 4

    width_bits: int
    binary_point: int
    bytes_per_scalar: int
    min_code: int
    max_code: int
    one: int

    def __new__(cls, name: str, width_bits: int, binary_point: int, bytes_per_scalar: int) -> DataType:
        member = object.__new__(cls)
        member._value_ = name
        member.width_bits, member.binary_point = width_bits, binary_point
        member.bytes_per_scalar = bytes_per_scalar
        member.min_code, member.max_code = -(1 << (width_bits - 1)), (1 << (width_bits - 1)) - 1
        member.one = 1 << binary_point
        return member


@dataclass(frozen=True)
class Architecture:
    """One TCU. The first eleven fields are the keys of the .tarch file, in its order; depths count vectors.

    array_size              A: lanes of a vector, rows and columns of the systolic array
    stride0_depth           number of stride exponents that operand 0 (the local side) may use: 0..depth-1
    stride1_depth           the same for operand 1 (the accumulator or DRAM side)
    number_of_threads       1: the RTL has no thread field
    axi_bytes               the width of the bus to the DRAMs. It is the board's, and in the sidecar: Tensil's files
                            have eleven keys and no more. It changes what a move takes, and no word of what a program
                            computes, so that TCUs are equal without it
    """

    data_type: DataType
    array_size: int
    dram0_depth: int
    dram1_depth: int
    local_depth: int
    accumulator_depth: int
    simd_registers_depth: int
    stride0_depth: int
    stride1_depth: int
    number_of_threads: int
    thread_queue_depth: int
    axi_bytes: int = field(default=axi_bytes_of(None), compare=False)

    def to_json_dict(self) -> dict[str, str | int]:
        """The eleven keys, as a .tarch file and the `arch` entry of a .tmodel hold them."""
        values = {**asdict(self), "data_type": self.data_type.value}
        return {name: values[name] for name in _KEYS}

    # Field widths of an instruction. A stride exponent lies immediately above its address.

    @cached_property
    def address0_bits(self) -> int:
        return max(_bits(self.local_depth), _bits(self.accumulator_depth))

    @cached_property
    def address1_bits(self) -> int:
        depths = (self.local_depth, self.dram0_depth, self.dram1_depth, self.accumulator_depth)
        return max(_bits(depth) for depth in depths)

    @cached_property
    def operand0_bits(self) -> int:
        return _up_to_bytes(self.address0_bits + _bits(self.stride0_depth))

    @cached_property
    def operand1_bits(self) -> int:
        return _up_to_bytes(self.address1_bits + _bits(self.stride1_depth))

    @cached_property
    def operand2_bits(self) -> int:
        others = (self.accumulator_depth, self.dram0_depth, self.dram1_depth)
        size_bits = max(min(_bits(self.local_depth), _bits(other)) for other in others)
        return _up_to_bytes(max(size_bits, self.simd_word_bits))

    @cached_property
    def simd_register_bits(self) -> int:
        """Width of one source or destination: 0 is the input or output, k >= 1 register k."""
        return _bits(self.simd_registers_depth + 1)

    @cached_property
    def simd_word_bits(self) -> int:
        return 4 + 3 * self.simd_register_bits

    @cached_property
    def instruction_size_bytes(self) -> int:
        return (self.operand0_bits + self.operand1_bits + self.operand2_bits) // 8 + 1

    @property
    def vector_size_bytes(self) -> int:
        """Bytes of one vector in DRAM and in .tdata files."""
        return self.array_size * self.data_type.bytes_per_scalar

    # What the drivers' flush probe takes: it copies DRAM0[depth-1] -> local[depth-1] -> DRAM0[depth-2].

    @property
    def usable_dram0_vectors(self) -> int:
        """DRAM0 vectors [0, this) belong to the program."""
        return self.dram0_depth - 2

    @property
    def reserved_dram0_vectors(self) -> frozenset[int]:
        return frozenset((self.dram0_depth - 1, self.dram0_depth - 2))

    @property
    def reserved_local_vectors(self) -> frozenset[int]:
        """Local vectors that are overwritten before and after every run: free within a run, never persistent.

        The C driver rounds log2 of the depth down, so where the depth is no power of two its probe lands lower.
        """
        last = self.local_depth - 1
        masked = last % (1 << (self.local_depth.bit_length() - 1))
        return frozenset((last, masked))


_KEYS = tuple(f.name for f in fields(Architecture) if f.name != "axi_bytes")


def built_in_architectures() -> dict[str, Traversable]:
    """The boards that come with the package: name -> .tarch file, sorted by name."""
    files = {file.name: file for file in (resources.files("pefslc.targets.tensil.machine") / "arch").iterdir()}
    return {name.removesuffix(".tarch"): files[name] for name in sorted(files) if name.endswith(".tarch")}


def load_architecture(name_or_path: str | Path) -> Architecture:
    """The architecture of a built-in board, or of a file whose name ends in .tarch; CompileError if there is none."""
    text = str(name_or_path)
    if text.endswith(".tarch"):
        return architecture_from_json(read_json(Path(text)), at=text)
    known = built_in_architectures()
    if text not in known:
        meant = alike(text, known)
        raise CompileError(
            Code.UNKNOWN_ARCHITECTURE,
            f"unknown architecture {quote(text)}",
            hint=f"{f'did you mean {meant}? ' if meant else ''}one of {', '.join(known)}, or a path ending in .tarch",
        )
    return replace(architecture_from_json(read_json(known[text]), at=text), axi_bytes=axi_bytes_of(text))


def read_json(path: Path | Traversable, code: Code = Code.BAD_ARCHITECTURE, hint: str | None = None) -> object:
    """The JSON value in a file; CompileError when it cannot be read or, with `code` and `hint`, is not JSON."""
    try:
        value: object = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_duplicates)
    except OSError as error:
        raise unreadable(Path(str(path)), error) from None
    except (ValueError, RecursionError) as error:
        reason = "it holds no text" if isinstance(error, UnicodeDecodeError) else error
        raise CompileError(code, f"{_quoted(path)} is not JSON: {reason}", hint=hint) from error
    return value


def _quoted(path: Path | Traversable) -> str:
    return quote(path if isinstance(path, Path) else str(path))


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object. Of two equal keys Python would take the last, another reader the first."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {quote(twice)} stands there twice")
    return fields


def architecture_from_json(value: object, at: str) -> Architecture:
    """The architecture that a JSON object describes. All its faults are reported at once, with `at` as their place."""
    if not isinstance(value, dict):
        raise CompileError(Code.BAD_ARCHITECTURE, "an architecture must be a JSON object", at=at)
    missing = [quote(name) for name in _KEYS if name not in value]
    named = f"keys {', '.join(missing)} are" if len(missing) > 1 else f"key {''.join(missing)} is"
    hint = f"a .tarch file has {len(_KEYS)} keys, as Tensil writes it"
    problems = [Problem(Code.BAD_ARCHITECTURE, f"{named} missing", at, hint)] if missing else []
    problems += [
        Problem(Code.BAD_ARCHITECTURE, f"unknown key {quote(str(key))}", at) for key in value if key not in _KEYS
    ]
    problems += [problem for name in _KEYS if name in value for problem in _field_problems(name, value[name], at)]
    if problems:
        raise CompileError.of(problems)
    return Architecture(**{**value, "data_type": DataType[value["data_type"]]})


def _field_problems(name: str, value: object, at: str) -> list[Problem]:
    if name == "data_type":
        known = [data_type.value for data_type in DataType]
        if value == "FLOAT32":
            return [
                Problem(
                    Code.BAD_ARCHITECTURE,
                    "data_type FLOAT32 exists in Tensil's emulator only",
                    at,
                    f"use {', '.join(known)}",
                )
            ]
        if value not in known:
            return [
                Problem(
                    Code.BAD_ARCHITECTURE, f"data_type {quote(str(value))} is unknown", at, f"use {', '.join(known)}"
                )
            ]
        return []
    if not isinstance(value, int) or isinstance(value, bool):
        return [Problem(Code.BAD_ARCHITECTURE, f"{name} must be an integer, not {quote(json.dumps(value))}", at)]
    lowest, highest = _INTEGER_RANGES.get(name, (1, _LARGEST_DEPTH))
    if not lowest <= value <= highest:
        hint = "the RTL decodes no thread id" if name == "number_of_threads" else None
        return [Problem(Code.BAD_ARCHITECTURE, f"{name} is {value}, must be in {lowest}..{highest}", at, hint)]
    return []


_INTEGER_RANGES = {
    "array_size": (2, _LARGEST_ARRAY),
    "dram0_depth": (3, _LARGEST_DEPTH),  # two vectors belong to the flush probe
    "local_depth": (1, _LARGEST_ON_CHIP),
    "accumulator_depth": (1, _LARGEST_ON_CHIP),
    "simd_registers_depth": (1, 255),
    "stride0_depth": (1, 32),
    "stride1_depth": (1, 32),
    "number_of_threads": (1, 1),
}


def _bits(count: int) -> int:
    """ceil(log2 count): the width of an index below `count`; 0 for 1."""
    return (count - 1).bit_length()


def _up_to_bytes(bits: int) -> int:
    return -(-bits // 8) * 8
