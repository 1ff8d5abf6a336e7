"""Which blocks take SIMD steps and which matrix steps: by cost, in the cases that decide."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pefslc.targets.tensil.cost.cycles import model_cycles
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.instructions import (
    DataMove,
    Instruction,
    LoadWeights,
    MatMul,
    MoveKind,
    SimdOperation,
)
from pefslc.targets.tensil.matrix.matrix_plan import MatrixPlan
from pefslc.targets.tensil.matrix.matrix_steps import (
    AddByMatrix,
    AddWord,
    ChannelAddWord,
    ChannelDiagonal,
    Diagonal,
    DiagonalAgain,
    MatrixStep,
)
from pefslc.targets.tensil.matrix.step_choice import choose, matrix_cycles, simd_cycles
from pefslc.targets.tensil.program.tmodel import TensilProgram
from pefslc.targets.tensil.schedule.emitter import Emitter, SimdLater

PLAN = MatrixPlan(-32768, (Diagonal(32, 4096), AddWord(32736), AddWord(-32736)))


def test_cycles_are_those_of_the_instructions() -> None:
    # Per step the drain (24 on A = 12) and a cycle a vector; one row takes none. A diagonal moves the vectors first.
    assert matrix_cycles(PLAN.alone, 100, 12) == 3 * (24 + 100) + (23 + 102 + 13 + 100)
    assert matrix_cycles((), 100, 12) == 0


def instructions(step: MatrixStep, vectors: int, blocks: int) -> list[Instruction]:
    """What a step on blocks of so many vectors is made of (`group_pass`), on A = 12."""
    every = vectors * blocks
    store = [DataMove(MoveKind.ACCUMULATOR_TO_LOCAL, i * vectors, i * vectors, vectors) for i in range(blocks)]
    through = [MatMul(i * vectors, i * vectors, vectors) for i in range(blocks)]
    match step:
        case AddWord():
            return [LoadWeights(0, 1), MatMul(0, 0, every, accumulate=True, zeroes=True)]
        case ChannelAddWord():
            one = [LoadWeights(0, 1), MatMul(0, 0, vectors, accumulate=True, zeroes=True)]
            return one * blocks
        case Diagonal():
            return [*store, LoadWeights(0, 13), *through]
        case ChannelDiagonal():
            return [*store, *(i for move in through for i in (LoadWeights(0, 13), move))]
        case DiagonalAgain():
            return [LoadWeights(0, 13), *(replace(move, accumulate=True) for move in through)]
        case AddByMatrix(moves=True):
            return [DataMove(MoveKind.LOCAL_TO_ACCUMULATOR_ACCUMULATE, 0, 0, every)]
        case AddByMatrix():
            return [LoadWeights(0, 13), MatMul(0, 0, every, accumulate=True)]


CHANNELS = ChannelDiagonal((1, 2, 0), (3, 4, 0)), ChannelAddWord((5, 6, 0)), AddWord(7)


@pytest.mark.parametrize(
    "steps",
    [PLAN.alone, PLAN.steps, CHANNELS, (AddByMatrix(5), AddWord(1)), (Diagonal(32, 5), AddByMatrix(0), AddWord(1)),
     (Diagonal(32, 5), DiagonalAgain(-32, 7), AddWord(1))],
)  # fmt: skip
@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("vectors", [30, 100])
def test_cycles_are_those_of_the_cycle_model(
    custom_perf: Architecture, steps: tuple[MatrixStep, ...], blocks: int, vectors: int
) -> None:
    sums, result = MatMul(0, 0, vectors), DataMove(MoveKind.ACCUMULATOR_TO_LOCAL, 0, 0, vectors)
    middle = [i for step in steps for i in instructions(step, vectors, blocks)]
    with_steps, without = (
        model_cycles(TensilProgram.assemble(custom_perf, "p", program)).total
        for program in ([sums, *middle, result], [sums, result])
    )
    assert matrix_cycles(steps, vectors * blocks, 12, blocks) == with_steps - without


def test_simd_loads_its_constant_first(custom_perf: Architecture) -> None:
    emitter = Emitter(custom_perf, {5: 2000, 6: 2001})
    emitter.simd_later(SimdLater(SimdOperation.MAX, word, a, a) for word in (5, 6) for a in range(40))
    emitter.flush()
    program = TensilProgram.assemble(custom_perf, "p", emitter.instructions)
    assert simd_cycles(2, 40) == model_cycles(program).total - 1  # the first one is issued first


def test_steps_per_channel_load_rows_for_each_block() -> None:
    steps = ChannelDiagonal((1, 2, 0), (3, 4, 0)), ChannelAddWord((5, 6, 0)), AddWord(7)
    assert matrix_cycles(steps, 100, 12, blocks=3) == (23 + 3 * 2 + 100) + (3 * 13 + 2 * 24 + 100) + (3 * 24 + 100) + (
        24 + 100
    )


def test_rows_that_must_be_read_first_are_part_of_the_cost() -> None:
    choices = [choose(PLAN, 3, 40, [0], 12, carried=False, rows_cycles=cycles) for cycles in (0, 100, 200)]
    assert [choice.plan is not None for choice in choices] == [True, True, False]
    assert choices[1].cycles == choices[0].cycles + 100


def test_a_large_block_goes_by_matrix_and_a_tiny_one_by_simd() -> None:
    large, tiny = (choose(PLAN, 3, vectors, [0], 12, carried=False) for vectors in (1000, 4))
    assert (large.first, large.steps, large.cycles) == (0, PLAN.alone, matrix_cycles(PLAN.alone, 1000, 12))
    assert (tiny.first, tiny.plan, tiny.steps, tiny.cycles) == (1, None, (), 3 * (2 + 4 * 4))


def test_blocks_whose_simd_the_following_tiles_hide_keep_it() -> None:
    choice = choose(PLAN, 3, 64, [9999, 9999, 9999], 12, carried=False)
    assert choice.first == 2, "only the last block's steps have nothing to hide behind"
    assert choice.cycles == matrix_cycles(PLAN.alone, 64, 12)


def test_sums_that_carry_the_constant_save_its_step() -> None:
    choice = choose(PLAN, 3, 1000, [0], 12, carried=True)
    assert choice.steps == PLAN.steps
    assert choice.cycles == matrix_cycles(PLAN.steps, 1000, 12)
