"""Instructions, bytes and text: each form becomes each other without loss."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pefslc.diagnostics.errors import CompileError, InternalError
from pefslc.targets.tensil.machine.architecture import Architecture, load_architecture
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
from pefslc.targets.tensil.program.encoding import decode, decode_table, encode, encode_table
from pefslc.targets.tensil.program.listing import disassemble, parse_listing

BOARDS = [load_architecture(name) for name in ("pynqz1", "custom_perf", "ultra96v2", "zcu104_uram", "cmoda7")]
BOARDS.append(dataclasses.replace(BOARDS[0], simd_registers_depth=3, stride0_depth=2, stride1_depth=1))


@st.composite
def programs(draw: st.DrawFn) -> tuple[Architecture, list[Instruction]]:
    """Any architecture with any instructions that it can encode."""
    a = draw(st.sampled_from(BOARDS))
    return a, draw(st.lists(instruction(a), max_size=8))


def instruction(a: Architecture) -> st.SearchStrategy[Instruction]:
    local, acc = st.integers(0, a.local_depth - 1), st.integers(0, a.accumulator_depth - 1)
    stride0, stride1 = st.integers(0, a.stride0_depth - 1), st.integers(0, a.stride1_depth - 1)
    register = st.integers(0, a.simd_registers_depth)
    rows = st.integers(1, min(a.local_depth, a.accumulator_depth))
    flag = st.booleans()
    depths = {0: a.dram0_depth, 1: a.dram0_depth, 2: a.dram1_depth, 3: a.dram1_depth}
    moves = [
        st.builds(
            DataMove,
            st.just(kind),
            local,
            st.integers(0, depths.get(kind, a.accumulator_depth) - 1),
            st.integers(1, min(a.local_depth, depths.get(kind, a.accumulator_depth))),
            stride0,
            stride1,
        )
        for kind in MoveKind
    ]
    maybe = st.none() | acc
    return st.one_of(
        st.just(NoOp()),
        st.builds(MatMul, local, acc, rows, stride0, stride1, flag, flag),
        st.builds(LoadWeights, local, st.integers(1, a.local_depth), stride0, flag),
        st.builds(Simd, st.sampled_from(SimdOperation), register, register, register, maybe, maybe, flag),
        st.builds(Configure, st.integers(0, 15), st.integers(0, 2**40 - 1)),
        *moves,
    )


@given(programs())
def test_encoding_round_trip(program: tuple[Architecture, list[Instruction]]) -> None:
    architecture, instructions = program
    code = encode(architecture, instructions)
    assert len(code) == len(instructions) * architecture.instruction_size_bytes
    assert decode(architecture, code) == instructions


@given(programs())
def test_listing_round_trip(program: tuple[Architecture, list[Instruction]]) -> None:
    _, instructions = program
    assert parse_listing(disassemble(instructions)) == instructions


@given(st.binary(max_size=64), st.sampled_from(BOARDS))
def test_any_bytes_decode_to_something_printable(data: bytes, architecture: Architecture) -> None:
    data = data[: len(data) // architecture.instruction_size_bytes * architecture.instruction_size_bytes]
    instructions = decode(architecture, data)
    assert parse_listing(disassemble(instructions)) == instructions


@pytest.mark.parametrize(
    ("instruction", "code"),
    [  # pynqz1, by hand: 13 + 3 bits, 20 + 3 bits padded to 24, 16 bits, header
        (NoOp(), "0000000000000000"),
        (MatMul(0x1234, 0x567, 0x100), "34126705 00ff0010"),
        (MatMul(1, 2, 3, 7, 5, accumulate=True, zeroes=True), "01e00200 50020013"),
        (DataMove(MoveKind.LOCAL_TO_DRAM0, 5, 0xABCDE, 4, other_stride=1), "0500debc 1a030021"),
        (DataMove(MoveKind.LOCAL_TO_ACCUMULATOR_ACCUMULATE, 5, 6, 7), "05000600 0006002f"),
        (LoadWeights(8, 9, local_stride=2, zeroes=True), "08400800 00000031"),
        # destination 1 (bit 0), right 1 (bit 1), left 0, multiply 10 << 3; read and write flags
        (Simd(SimdOperation.MULTIPLY, 0, 1, 1, read=3, write=4), "04000300 00530043"),
        (Configure(4, 0x12), "24010000 000000f0"),
    ],
)
def test_known_encodings(instruction: Instruction, code: str) -> None:
    assert encode(BOARDS[0], [instruction]) == bytes.fromhex(code)


def test_every_small_header_survives() -> None:
    for header in range(256):
        code = bytes(7) + bytes([header])
        table = decode_table(BOARDS[0], code)
        if header >> 4 != 2 or (header & 15) in list(MoveKind):
            assert encode_table(BOARDS[0], table) == code


def test_unknown_encodings_decode_as_invalid() -> None:
    for header in (0x50, 0x70, 0x24, 0x2E, 0x14, 0x32, 0x48, 0x01):
        code = bytes([1, 2, 3, 4, 5, 6, 0, header])
        (instruction,) = decode(BOARDS[0], code)
        assert isinstance(instruction, Invalid)
        assert instruction.header == header


@pytest.mark.parametrize(
    ("instruction", "field"),
    [
        (MatMul(8192, 0, 1), "address0"),
        (MatMul(-1, 0, 1), "address0"),
        (MatMul(0, 2048, 1), "address1"),
        (MatMul(0, 0, 0), "operand2"),
        (MatMul(0, 0, 2049), "operand2"),
        (MatMul(0, 0, 1, 8), "stride0"),
        (MatMul(0, 0, 1, 0, 8), "stride1"),
        (DataMove(MoveKind.DRAM0_TO_LOCAL, 0, 1048576, 1), "address1"),
        (DataMove(MoveKind.ACCUMULATOR_TO_LOCAL, 0, 2048, 1), "address1"),
        (LoadWeights(0, 8193), "address1"),
        (Simd(SimdOperation.MOVE, write=2048), "address0"),
        (Simd(SimdOperation.MOVE, read=2048), "address1"),
        (Simd(SimdOperation.MOVE, left=2), "register"),
        (Simd(SimdOperation.MOVE, left=-1), "register"),
        (MatMul(1 << 70, 0, 1), "63 bits"),
        (Configure(0, 1 << 60), "operand2"),
    ],
)
def test_fields_out_of_range_are_named(instruction: Instruction, field: str) -> None:
    with pytest.raises(InternalError, match=field):
        encode(BOARDS[0], [NoOp(), instruction])


def test_half_an_instruction_is_refused() -> None:
    with pytest.raises(CompileError, match="12 bytes"):
        decode(BOARDS[0], bytes(12))


@pytest.mark.parametrize(
    "line",
    [
        "matmul src=local[0:+3] dst=acc[0:+1] n=1",
        "matmul src=acc[0:+1] dst=acc[0:+1] n=1",
        "matmul src= dst=acc[0:+1] n=1",
        "move src=dram0[0:+1] dst=dram1[0:+1] n=1",
        "move accumulate src=acc[0:+1] dst=local[0:+1] n=1",
        "simd sqrt dest=out left=in right=in",
        "loadweights src=zeroes/ n=1",
        "jump 3",
    ],
)
def test_lines_that_are_no_instruction_are_refused(line: str) -> None:
    with pytest.raises(CompileError, match="is not a TCU instruction") as caught:
        parse_listing(f"noop // first\n  7  {line}\n")
    assert "line 2" in str(caught.value)
