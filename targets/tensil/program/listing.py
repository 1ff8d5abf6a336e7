"""A program as text, one line an instruction, and back.

    0  move src=dram0[0:+1] dst=local[0:+1] n=64
    1  loadweights src=local[328:+1] n=3
    2  matmul accumulate src=local[164:+8] dst=acc[16:+64] n=7
    3  simd multiply dest=out left=in right=r1 write=acc[127] read=acc[69]

`memory[base:+step]` with n vectors: vector i is at base + i * step. The number in front is the instruction's index;
the assembler ignores it, and everything from `//` on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.targets.tensil.machine.instructions import (
    Configure,
    DataMove,
    Instruction,
    Invalid,
    LoadWeights,
    MatMul,
    MoveKind,
    NoOp,
    Simd,
    SimdOperation,
)

__all__ = ["disassemble", "format_instruction", "parse_instruction", "parse_listing"]

_MOVE_TEXTS = {  # kind -> (source, destination, accumulate)
    MoveKind.DRAM0_TO_LOCAL: ("dram0", "local", ""),
    MoveKind.LOCAL_TO_DRAM0: ("local", "dram0", ""),
    MoveKind.DRAM1_TO_LOCAL: ("dram1", "local", ""),
    MoveKind.LOCAL_TO_DRAM1: ("local", "dram1", ""),
    MoveKind.ACCUMULATOR_TO_LOCAL: ("acc", "local", ""),
    MoveKind.LOCAL_TO_ACCUMULATOR: ("local", "acc", ""),
    MoveKind.LOCAL_TO_ACCUMULATOR_ACCUMULATE: ("local", "acc", " accumulate"),
}
_MOVE_KINDS = {text: kind for kind, text in _MOVE_TEXTS.items()}


def disassemble(instructions: Iterable[Instruction]) -> str:
    """The listing, each line with its index and a newline."""
    return "".join(f"{index:6d}  {format_instruction(i)}\n" for index, i in enumerate(instructions))


def format_instruction(instruction: Instruction) -> str:
    """One line, without index and newline."""
    match instruction:
        case MatMul():
            i = instruction
            target = _range("acc", i.accumulator, i.accumulator_stride)
            accumulate = " accumulate" if i.accumulate else ""
            return f"matmul{accumulate} src={_source(i.zeroes, i.local, i.local_stride)} dst={target} n={i.vectors}"
        case DataMove(kind, local, other, vectors, local_stride, other_stride):
            source, target, accumulate = _MOVE_TEXTS[kind]
            places = {"local": _range("local", local, local_stride)}
            places |= {name: _range(name, other, other_stride) for name in (source, target) if name != "local"}
            return f"move{accumulate} src={places[source]} dst={places[target]} n={vectors}"
        case LoadWeights(local, vectors, stride, zeroes):
            return f"loadweights src={_source(zeroes, local, stride)} n={vectors}"
        case Simd():
            return _format_simd(instruction)
        case NoOp(thread):
            return f"noop thread={thread}" if thread else "noop"
        case Configure(register, value):
            return f"configure register={register} value={value}"
        case Invalid(header, operand0, operand1, operand2):
            return f"invalid header={header} operand0={operand0} operand1={operand1} operand2={operand2}"


def _range(memory: str, base: int, stride: int) -> str:
    return f"{memory}[{base}:+{1 << stride}]"


def _source(zeroes: bool, local: int, stride: int) -> str:
    """Of a MatMul or LoadWeights. An address that zeroes make meaningless is shown where it is not 0."""
    if not zeroes:
        return _range("local", local, stride)
    return f"zeroes/{_range('local', local, stride)}" if local or stride else "zeroes"


def _format_simd(i: Simd) -> str:
    destination = f"r{i.destination}" if i.destination else "out"
    left, right = (f"r{source}" if source else "in" for source in (i.left, i.right))
    accumulate = " accumulate" if i.accumulate else ""
    write = "" if i.write is None else f" write=acc[{i.write}]"
    read = "" if i.read is None else f" read=acc[{i.read}]"
    return f"simd {i.operation.name.lower()}{accumulate} dest={destination} left={left} right={right}{write}{read}"


def parse_listing(text: str) -> list[Instruction]:
    """The instructions of a listing; CompileError with the line number for a line that is none."""
    instructions = []
    for number, line in enumerate(text.splitlines(), start=1):
        statement = re.sub(r"^\s*\d+\s", "", line.split("//")[0]).strip()
        if statement:
            instructions.append(parse_instruction(statement, at=f"line {number}"))
    return instructions


_RANGE = r"(\w+)\[(\d+):\+(\d+)\]"
_PATTERNS = {
    "matmul": re.compile(rf"matmul( accumulate)? src=(zeroes/?)?(?:{_RANGE})? dst=acc\[(\d+):\+(\d+)\] n=(\d+)"),
    "move": re.compile(rf"move( accumulate)? src={_RANGE} dst={_RANGE} n=(\d+)"),
    "loadweights": re.compile(rf"loadweights src=(zeroes/?)?(?:{_RANGE})? n=(\d+)"),
    "simd": re.compile(
        r"simd (\w+)( accumulate)? dest=(out|r\d+) left=(in|r\d+) right=(in|r\d+)"
        r"(?: write=acc\[(\d+)\])?(?: read=acc\[(\d+)\])?"
    ),
    "noop": re.compile(r"noop(?: thread=(\d+))?"),
    "configure": re.compile(r"configure register=(\d+) value=(\d+)"),
    "invalid": re.compile(r"invalid header=(\d+) operand0=(\d+) operand1=(\d+) operand2=(\d+)"),
}


def parse_instruction(text: str, at: str | None = None) -> Instruction:
    """The instruction that `format_instruction` writes as `text`."""
    word = text.split(" ")[0]
    matched = _PATTERNS[word].fullmatch(text) if word in _PATTERNS else None
    instruction = _build(word, matched.groups()) if matched else None
    if instruction is None:
        raise CompileError(Code.TCU_PROGRAM, f"'{text[:60]}' is not a TCU instruction", at=at)
    return instruction


def _build(word: str, groups: tuple[str | None, ...]) -> Instruction | None:
    """The instruction of a matched line; None where its parts do not fit each other."""
    if word == "simd":
        return _build_simd(groups)
    if word in ("matmul", "loadweights"):
        return _build_array(word, groups)
    if word == "move":
        return _build_move(groups)
    numbers = [int(group or 0) for group in groups]
    if word == "noop":
        return NoOp(*numbers)
    return Configure(*numbers) if word == "configure" else Invalid(*numbers)


def _build_array(word: str, groups: tuple[str | None, ...]) -> Instruction | None:
    accumulate, *rest = groups if word == "matmul" else (None, *groups)
    zeroes, memory, base, step, *others = rest
    if (memory is None) != (zeroes == "zeroes") or memory not in (None, "local"):
        return None
    local, stride, numbers = int(base or 0), _exponent(step or "1"), [int(other or 0) for other in others]
    if word == "loadweights":
        return None if stride is None else LoadWeights(local, numbers[0], stride, zeroes is not None)
    target_stride = _exponent(others[1] or "")
    if stride is None or target_stride is None:
        return None
    return MatMul(local, numbers[0], numbers[2], stride, target_stride, accumulate is not None, zeroes is not None)


def _build_move(groups: tuple[str | None, ...]) -> Instruction | None:
    accumulate, source, base0, step0, target, base1, step1, vectors = (group or "" for group in groups)
    kind = _MOVE_KINDS.get((source, target, accumulate))
    strides = _exponent(step0), _exponent(step1)
    if kind is None or strides[0] is None or strides[1] is None:
        return None
    if source == "local":
        return DataMove(kind, int(base0), int(base1), int(vectors), strides[0], strides[1])
    return DataMove(kind, int(base1), int(base0), int(vectors), strides[1], strides[0])


def _build_simd(groups: tuple[str | None, ...]) -> Instruction | None:
    name, accumulate, destination, left, right, write, read = groups
    operation = SimdOperation.__members__.get((name or "").upper())
    if operation is None:
        return None
    return Simd(
        operation,
        left=_register(left),
        right=_register(right),
        destination=_register(destination),
        read=None if read is None else int(read),
        write=None if write is None else int(write),
        accumulate=accumulate is not None,
    )


def _register(place: str | None) -> int:
    """k of `rk`; 0 of `in` and `out`."""
    return int(place[1:]) if place and place[0] == "r" else 0


def _exponent(step: str) -> int | None:
    """e of a step 2^e; None for any other number."""
    value = int(step or 0)
    return value.bit_length() - 1 if value > 0 and value & (value - 1) == 0 else None
