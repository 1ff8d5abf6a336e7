"""Each rule of the checker with a program that breaks it and one that does not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pefslc.diagnostics.errors import InternalError
from pefslc.targets.tensil.check.checker import check_program, require_valid
from pefslc.targets.tensil.check.findings import Rule
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
    Simd,
    SimdOperation,
)
from pefslc.targets.tensil.program.table import table_of
from pefslc.targets.tensil.program.tmodel import ConstantBlock, IoEntry, TensilProgram, load_tmodel

TINY = Path(__file__).parents[1] / "data" / "tcu" / "tiny_conv_pynqz1.tmodel"
Op = SimdOperation

# A legal program on `small`: inputs in local 0..3, weights from constants, a SIMD, outputs from local 8..11.
START: list[Instruction] = [
    DataMove(MoveKind.DRAM0_TO_LOCAL, 0, 0, 4),
    DataMove(MoveKind.DRAM1_TO_LOCAL, 16, 0, 5),
    LoadWeights(16, 5),
    MatMul(0, 0, 4),
    Simd(Op.MOVE, 0, 0, 1, read=0),
]
END: list[Instruction] = [
    DataMove(MoveKind.ACCUMULATOR_TO_LOCAL, 8, 0, 4),
    DataMove(MoveKind.LOCAL_TO_DRAM0, 8, 4, 4),
]


def rules(
    architecture: Architecture,
    instructions: list[Instruction],
    *,
    outputs: tuple[IoEntry, ...] = (IoEntry("y", 4, 4),),
    inputs: tuple[IoEntry, ...] = (IoEntry("x", 0, 4),),
    to_local: bool = False,
    constants: int = 8,
) -> set[Rule]:
    vectors = np.ones((constants, architecture.array_size), dtype=np.int64)
    program = TensilProgram.assemble(
        architecture, "p", [], constants=vectors, inputs=inputs, outputs=outputs, load_consts_to_local=to_local
    )
    program = dataclasses.replace(program)
    # Past the encoder, which refuses some of these fields itself: decoded bytes can hold all of them.
    program.__dict__["table"] = table_of(architecture, instructions)
    return {finding.rule for finding in check_program(program)}


def test_a_legal_program_passes(small: Architecture) -> None:
    assert rules(small, START + END) == set()
    assert rules(small, START + END, to_local=True, constants=8) == {Rule.CONSTANTS}  # they lie where x is put
    program = load_tmodel(TINY)
    assert check_program(program) == []
    require_valid(program)


def with_middle(*middle: Instruction) -> list[Instruction]:
    return [*START, *middle, *END]


CASES: list[tuple[str, set[Rule], list[Instruction]]] = [
    ("NoOp", set(), with_middle(NoOp())),
    ("Configure is for drivers", {Rule.INSTRUCTION}, with_middle(Configure(0, 1))),
    ("opcode 5", {Rule.INSTRUCTION}, with_middle(Invalid(0x50))),
    ("move kind 14", {Rule.INSTRUCTION}, with_middle(Invalid(0x2E))),
    ("move kind 4", {Rule.INSTRUCTION}, with_middle(Invalid(0x24))),
    ("matmul flag 4", {Rule.INSTRUCTION}, with_middle(Invalid(0x14, 0, 16))),
    ("load flag 2", {Rule.INSTRUCTION}, with_middle(Invalid(0x32))),
    ("NoOp with an operand", {Rule.INSTRUCTION}, with_middle(NoOp(3))),
    ("largest stride", set(), with_middle(MatMul(0, 0, 1, 7, 7))),
    ("local stride", {Rule.STRIDE}, with_middle(MatMul(0, 0, 1, 8, 0))),
    ("accumulator stride", {Rule.STRIDE}, with_middle(MatMul(0, 0, 1, 0, 8))),
    ("too many vectors", {Rule.SIZE, Rule.ADDRESS}, with_middle(DataMove(MoveKind.LOCAL_TO_DRAM1, 0, 8, 65))),
    ("zeroes too many for local", {Rule.SIZE}, with_middle(LoadWeights(0, 65, zeroes=True), LoadWeights(16, 5))),
    ("last local vector", set(), with_middle(DataMove(MoveKind.DRAM0_TO_LOCAL, 60, 0, 4))),
    ("past local", {Rule.ADDRESS}, with_middle(DataMove(MoveKind.DRAM0_TO_LOCAL, 61, 0, 4))),
    ("strided past local", {Rule.ADDRESS}, with_middle(MatMul(1, 0, 4, 5))),
    ("strided past accumulators", {Rule.ADDRESS}, with_middle(MatMul(0, 1, 3, 0, 4))),
    ("past DRAM1", {Rule.ADDRESS}, with_middle(DataMove(MoveKind.LOCAL_TO_DRAM1, 0, 63, 2))),
    ("address far away", {Rule.ADDRESS}, with_middle(MatMul(0, 5000, 1))),
    ("last but two of DRAM0", set(), with_middle(DataMove(MoveKind.LOCAL_TO_DRAM0, 0, 60, 2))),
    ("last but one of DRAM0", {Rule.RESERVED}, with_middle(DataMove(MoveKind.LOCAL_TO_DRAM0, 0, 61, 2))),
    ("constants in DRAM1", {Rule.CONSTANTS}, with_middle(DataMove(MoveKind.LOCAL_TO_DRAM1, 0, 7, 1))),
    ("behind constants in DRAM1", set(), with_middle(DataMove(MoveKind.LOCAL_TO_DRAM1, 0, 8, 1))),
    ("unwritten local", {Rule.READ_BEFORE_WRITE}, with_middle(MatMul(3, 8, 2))),
    ("written local", set(), with_middle(MatMul(2, 8, 2))),
    ("unwritten accumulator", {Rule.READ_BEFORE_WRITE}, with_middle(MatMul(0, 3, 2, accumulate=True))),
    ("written accumulator", set(), with_middle(MatMul(0, 2, 2, accumulate=True))),
    ("unwritten read by SIMD", {Rule.READ_BEFORE_WRITE}, with_middle(Simd(Op.MAX, 0, 1, read=9, write=9))),
    ("unwritten accumulate by SIMD", {Rule.READ_BEFORE_WRITE}, with_middle(Simd(Op.ZERO, write=9, accumulate=True))),
    ("unwritten register", {Rule.READ_BEFORE_WRITE}, with_middle(Simd(Op.MAX, 0, 2, read=1, write=9))),
    ("register set from itself", {Rule.READ_BEFORE_WRITE}, with_middle(Simd(Op.MOVE, 2, 2, 2))),
    ("written register", set(), with_middle(Simd(Op.MOVE, 1, 1, 2), Simd(Op.MAX, 0, 2, read=1, write=9))),
    ("DRAM0 behind the inputs", {Rule.READ_BEFORE_WRITE}, with_middle(DataMove(MoveKind.DRAM0_TO_LOCAL, 20, 4, 1))),
    ("DRAM1 behind the constants", {Rule.READ_BEFORE_WRITE}, with_middle(DataMove(MoveKind.DRAM1_TO_LOCAL, 20, 8, 1))),
    (
        "spill through DRAM1",
        set(),
        with_middle(DataMove(MoveKind.LOCAL_TO_DRAM1, 0, 9, 1), DataMove(MoveKind.DRAM1_TO_LOCAL, 20, 9, 1)),
    ),
    ("too few weight rows", {Rule.READ_BEFORE_WRITE}, [*START[:2], LoadWeights(16, 4), *START[3:], *END]),
    ("rows in two loads", set(), [*START[:2], LoadWeights(16, 4), LoadWeights(20, 1), *START[3:], *END]),
    ("no bias row", {Rule.READ_BEFORE_WRITE}, [*START[:2], MatMul(0, 9, 1, zeroes=True), *START[2:], *END]),
    ("bias row alone", set(), [*START[:2], LoadWeights(16, 1), MatMul(0, 9, 1, zeroes=True), *START[2:], *END]),
    ("local is ignored with zeroes", set(), with_middle(MatMul(50, 9, 1, zeroes=True))),
    ("an output is missing", {Rule.OUTPUT}, [*START, END[0], DataMove(MoveKind.LOCAL_TO_DRAM0, 8, 4, 3)]),
    ("hazard", {Rule.ACCUMULATOR_HAZARD}, with_middle(*[MatMul(0, 0, 1, accumulate=True)] * 2)),
    ("no hazard", set(), with_middle(*[MatMul(0, 0, 2, accumulate=True)] * 2)),
]


@pytest.mark.parametrize(("expected", "program"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_rule(small: Architecture, expected: set[Rule], program: list[Instruction]) -> None:
    assert rules(small, program) == expected


SIMD_CASES: list[tuple[str, bool, Simd]] = [
    ("Zero", True, Simd(Op.ZERO, write=0)),
    ("Zero to a register", True, Simd(Op.ZERO, destination=1)),
    ("Zero must not read", False, Simd(Op.ZERO, read=0, write=0)),
    ("Move from the input", True, Simd(Op.MOVE, 0, 0, read=0, write=1)),
    ("Move from the input, a register on the right", True, Simd(Op.MOVE, 0, 1, read=0, write=1)),
    ("Move from a register", True, Simd(Op.MOVE, 1, 1, write=1)),
    ("Move from a register, the input on the right", False, Simd(Op.MOVE, 1, 0, write=1)),
    ("the same with read", False, Simd(Op.MOVE, 1, 0, read=0, write=1)),
    ("Abs from a register, the input on the right", False, Simd(Op.ABS, 1, 0, write=1)),
    ("Move from an input that is not read", False, Simd(Op.MOVE, 0, 0, write=1)),
    ("Move from a register that reads", False, Simd(Op.MOVE, 1, 1, read=0, write=1)),
    ("Add of two registers", True, Simd(Op.ADD, 1, 1, write=1)),
    ("Add of two registers that reads", False, Simd(Op.ADD, 1, 1, read=0, write=1)),
    ("Add of a register and the input", True, Simd(Op.ADD, 1, 0, read=0, write=1)),
    ("Add of the input that is not read", False, Simd(Op.ADD, 1, 0, write=1)),
    ("Max in place", True, Simd(Op.MAX, 0, 1, read=0, write=0)),
    ("register and write", False, Simd(Op.MOVE, 1, 1, 1, write=0)),
    ("nowhere", False, Simd(Op.MOVE, 1, 1)),
    ("accumulate without write", False, Simd(Op.MOVE, 1, 1, 1, accumulate=True)),
    ("NoOp", True, Simd(Op.NOOP)),
    ("NoOp that reads", False, Simd(Op.NOOP, read=0)),
    ("NoOp that writes", False, Simd(Op.NOOP, write=0)),
    ("register 3 of 2", False, Simd(Op.MOVE, 3, 3, 1)),
]


@pytest.mark.parametrize(("legal", "simd"), [case[1:] for case in SIMD_CASES], ids=[case[0] for case in SIMD_CASES])
def test_simd_rule(small: Architecture, legal: bool, simd: Simd) -> None:
    assert (Rule.SIMD in rules(small, with_middle(simd))) == (not legal)


def test_entries_stay_off_the_flush_probe(small: Architecture) -> None:
    assert Rule.RESERVED in rules(small, START + END, inputs=(IoEntry("x", 0, 4), IoEntry("w", 62, 1)))
    assert rules(small, START + END, inputs=(IoEntry("x", 0, 4), IoEntry("w", 61, 1))) == set()
    assert Rule.ADDRESS in rules(small, START + END, outputs=(IoEntry("y", 61, 4),))


def test_constants_in_local_memory(small: Architecture) -> None:
    use = [LoadWeights(0, 5), MatMul(0, 0, 4), Simd(Op.MOVE, 0, 0, 1, read=0)]
    moved = [DataMove(MoveKind.ACCUMULATOR_TO_LOCAL, 40, 0, 4), DataMove(MoveKind.LOCAL_TO_DRAM0, 40, 4, 4)]
    assert rules(small, use + moved, to_local=True) == set()
    assert rules(small, use + moved, to_local=False) == {Rule.READ_BEFORE_WRITE}
    assert rules(small, use + END, to_local=True, constants=8) == set()
    assert rules(small, use + END, to_local=True, constants=9) == {Rule.CONSTANTS}
    assert rules(small, use + END, to_local=True, constants=64) == {Rule.CONSTANTS, Rule.RESERVED}


def test_the_c_drivers_probe_address_holds_no_constant(small: Architecture) -> None:
    odd = dataclasses.replace(small, local_depth=40)  # masked to 32: 39 -> 7
    use = [LoadWeights(0, 5), MatMul(0, 0, 4), Simd(Op.MOVE, 0, 0, 1, read=0), *END]
    assert rules(odd, use, to_local=True, constants=7) == set()
    assert rules(odd, use, to_local=True, constants=8) == {Rule.RESERVED}


@pytest.mark.parametrize(("base", "reserved"), [(6, True), (7, True), (8, False), (38, True), (39, True)])
def test_a_block_of_constants_is_looked_at_where_it_lies(small: Architecture, base: int, reserved: bool) -> None:
    """Of 40 local vectors the probes overwrite the last one and, where the C driver masks the address, 7."""
    odd = dataclasses.replace(small, local_depth=40)
    size = min(2, 40 - base)
    block = ConstantBlock(base, np.ones((size, odd.array_size), dtype=np.int64))
    program = TensilProgram.assemble(odd, "p", [NoOp()], load_consts_to_local=True)
    program = dataclasses.replace(program, constants=(block,))
    assert {finding.rule for finding in check_program(program)} == ({Rule.RESERVED} if reserved else set())


def test_the_message_names_instruction_and_rule(small: Architecture) -> None:
    program = TensilProgram.assemble(small, "net", [NoOp(), *[MatMul(0, 0, 1)] * 30], outputs=[IoEntry("y", 0, 1)])
    with pytest.raises(InternalError) as caught:
        require_valid(program)
    assert "'net' is not legal" in str(caught.value)
    assert "instruction 1: reads local never written [READ_BEFORE_WRITE]" in str(caught.value)
    findings = check_program(program)
    assert [f"  {finding}" for finding in findings[:5]] == str(caught.value).splitlines()[1:6]
    assert str(caught.value).splitlines()[6].strip() == f"and {len(findings) - 5} more"
    assert len(findings) == 43  # 20 and a summary, for local and for weights; the output
