"""State, drivers and refusals of the simulator: what the conformance cases do not show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pefslc.diagnostics.errors import CompileError, InternalError
from pefslc.targets.tensil.machine.architecture import Architecture, load_architecture
from pefslc.targets.tensil.machine.instructions import (
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
from pefslc.targets.tensil.program.tmodel import IoEntry, TensilProgram
from pefslc.targets.tensil.simulate.simulator import Driver, Machine

COPY = [DataMove(MoveKind.DRAM0_TO_LOCAL, 0, 0, 2), DataMove(MoveKind.LOCAL_TO_DRAM0, 0, 8, 2)]


def program_of(architecture: Architecture, instructions: Sequence[Instruction]) -> TensilProgram:
    return TensilProgram.assemble(
        architecture,
        "p",
        instructions,
        constants=np.arange(8).reshape(2, 4),
        inputs=[IoEntry("x", 1, 1), IoEntry("x", 0, 1)],
        outputs=[IoEntry("y", 8, 2)],
        load_consts_to_local=True,
    )


def test_entries_of_one_name_follow_each_other(small: Architecture) -> None:
    program = program_of(small, COPY)
    machine = Machine(small)
    codes = np.arange(8).reshape(2, 4)
    assert machine.infer(program, {"x": codes})["y"].tolist() == codes[::-1].tolist()


def test_poison_fills_everything_that_nobody_set(small: Architecture) -> None:
    program = program_of(small, COPY)
    machine, other = Machine(small, poison_seed=3), Machine(small, poison_seed=4)
    machine.load_constants(program)
    machine.write_input(program, "x", np.zeros((2, 4), dtype=np.int64))
    machine.run(program)
    assert machine.local[:2].tolist() == [[0] * 4] * 2
    assert machine.dram1[:2].tolist() == np.arange(8).reshape(2, 4).tolist()
    for memory in (machine.local[2:], machine.acc, machine.simd_registers, machine.weights, machine.dram0[2:8]):
        assert np.count_nonzero(memory) > 0.9 * memory.size
    assert (machine.acc != other.acc).any()


def test_unwritten_outputs_are_poison(small: Architecture) -> None:
    found = [Machine(small, seed).infer(program_of(small, [NoOp()]), {})["y"].tolist() for seed in (1, 2)]
    assert found[0] != found[1]


@pytest.mark.parametrize(("driver", "fill"), [(Driver.PYNQ, -1), (Driver.C, 0)])
def test_flush_probe_overwrites_its_vectors(small: Architecture, driver: Driver, fill: int) -> None:
    machine = Machine(small, poison_seed=1)
    machine.infer(program_of(small, COPY), {"x": np.ones((2, 4), dtype=np.int64)}, driver)
    assert machine.local[-1].tolist() == [fill] * 4
    assert machine.dram0[-2].tolist() == machine.dram0[-1].tolist() == [fill] * 4


@pytest.mark.parametrize(("driver", "fills"), [(Driver.PYNQ, [0, -1]), (Driver.C, [-1, 0])])
def test_a_program_finds_the_flush_probes_fills_and_poison_before_them(
    small: Architecture, driver: Driver, fills: list[int]
) -> None:
    copy = [DataMove(MoveKind.DRAM0_TO_LOCAL, 0, 61, 3), DataMove(MoveKind.LOCAL_TO_DRAM0, 0, 8, 3)]
    program = TensilProgram.assemble(small, "p", copy, outputs=[IoEntry("y", 8, 3)])
    found = [Machine(small, seed).infer(program, {}, driver)["y"].tolist() for seed in (1, 2)]
    assert [rows[1:] for rows in found] == [[[fill] * 4 for fill in fills]] * 2
    assert found[0][0] != found[1][0]


def test_the_c_drivers_probe_lands_lower_where_the_depth_is_no_power_of_two() -> None:
    architecture = load_architecture("ultra96v2")
    program = TensilProgram.assemble(architecture, "p", [NoOp()])
    machine = Machine(architecture, poison_seed=1)
    kept = machine.local[20479].copy()
    machine.infer(program, {}, Driver.C)
    assert not machine.local[4095].any()
    assert (machine.local[20479] == kept).all()


def test_register_and_write_follow_the_rtl(small: Architecture) -> None:
    """The accumulator accumulates, the register gets the plain result (Tensil's emulator writes the register only)."""
    machine = Machine(small)
    machine.acc[3], machine.acc[4] = 100, 7
    machine.run(
        program_of(
            small, [Simd(SimdOperation.INCREMENT, 0, 0, destination=2, read=3, write=4, accumulate=True), NoOp()]
        )
    )
    assert machine.simd_registers[1].tolist() == [356] * 4
    assert machine.acc[4].tolist() == [363] * 4


def test_saturating_instructions_are_counted(small: Architecture) -> None:
    machine = Machine(small)
    machine.local[0] = 32767
    add = DataMove(MoveKind.LOCAL_TO_ACCUMULATOR_ACCUMULATE, 0, 0, 1)
    double = Simd(SimdOperation.ADD, 0, 0, 0, read=0, write=1)
    machine.run(program_of(small, [add, NoOp(), add, double, Simd(SimdOperation.MOVE, 0, 0, 1, read=0)]))
    assert machine.saturated == [2, 3]
    machine.run(program_of(small, [NoOp()]))
    assert machine.saturated == []


def test_saturating_chains_are_counted(small: Architecture) -> None:
    machine = Machine(small)
    machine.local[:5] = np.array([[0] * 4, [32767] * 4, [32767] * 4, [-32767] * 4, [0] * 4])
    machine.local[5] = 256
    machine.run(program_of(small, [LoadWeights(0, 5), MatMul(5, 0, 1), MatMul(4, 1, 1)]))
    assert machine.saturated == [0 + 1]
    assert machine.acc[0].tolist() == [0] * 4  # and the sum alone would have been 32767


def test_what_the_rtl_skips_is_skipped(small: Architecture) -> None:
    machine = Machine(small, poison_seed=1)
    before = machine.local.copy(), machine.acc.copy()
    program = program_of(small, [Invalid(0x50, 3, 3, 3), Invalid(0x70), Invalid(0x2E), Simd(SimdOperation.NOOP)])
    machine.run(program)
    assert (machine.local == before[0]).all()
    assert (machine.acc == before[1]).all()


@pytest.mark.parametrize(
    "instruction",
    [
        MatMul(63, 0, 2),
        MatMul(0, 31, 2),
        MatMul(0, 0, 5, local_stride=4),
        LoadWeights(62, 3),
        DataMove(MoveKind.LOCAL_TO_DRAM0, 0, 62, 3),
        DataMove(MoveKind.DRAM1_TO_LOCAL, 0, 0, 2, other_stride=6),
    ],
)
def test_leaving_a_memory_is_refused(small: Architecture, instruction: Instruction) -> None:
    with pytest.raises(CompileError, match=r"instruction 1 .* beyond"):
        Machine(small).run(program_of(small, [NoOp(), instruction]))


def test_waiting_for_an_input_that_is_not_read_is_refused(small: Architecture) -> None:
    with pytest.raises(CompileError, match="SIMD ADD waits"):
        Machine(small).run(program_of(small, [Simd(SimdOperation.ADD, 0, 1, 1)]))
    with pytest.raises(CompileError, match="register above 2"):
        Machine(small).run(program_of(small, [Simd(SimdOperation.ADD, 3, 1, 1)]))


def test_wrong_inputs_are_refused(small: Architecture) -> None:
    program = program_of(small, COPY)
    with pytest.raises(InternalError, match="shape"):
        Machine(small).infer(program, {"x": np.zeros((3, 4), dtype=np.int64)})
    with pytest.raises(InternalError, match="FP16BP8"):
        Machine(small).infer(program, {"x": np.full((2, 4), 40000)})
    with pytest.raises(CompileError, match="'z'"):
        Machine(small).infer(program, {"z": np.zeros((2, 4), dtype=np.int64)})
