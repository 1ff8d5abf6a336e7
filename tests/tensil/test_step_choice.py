"""Which blocks take SIMD steps and which matrix steps: by cost, in the cases that decide."""

from __future__ import annotations

from pefslc.targets.tensil.matrix.matrix_plan import MatrixPlan
from pefslc.targets.tensil.matrix.matrix_steps import AddWord, ChannelAddWord, ChannelDiagonal, Diagonal
from pefslc.targets.tensil.matrix.step_choice import choose, matrix_cycles

PLAN = MatrixPlan(-32768, (Diagonal(32, 4096), AddWord(32736), AddWord(-32736)))


def test_cycles_are_those_of_the_instructions() -> None:
    # Per step the drain (24 on A = 12), its rows, and a cycle a vector; a diagonal moves the vectors first.
    assert matrix_cycles(PLAN.alone, 100, 12) == 3 * (100 + 24 + 1) + (100 + 24 + 13 + 100)
    assert matrix_cycles((), 100, 12) == 0


def test_steps_per_channel_load_rows_for_each_block() -> None:
    steps = ChannelDiagonal((1, 2, 0), (3, 4, 0)), ChannelAddWord((5, 6, 0)), AddWord(7)
    assert matrix_cycles(steps, 100, 12, blocks=3) == 4 * 100 + 3 * (24 + 13) + 3 * (24 + 1) + (24 + 1)


def test_rows_that_must_be_read_first_are_part_of_the_cost() -> None:
    choices = [choose(PLAN, 3, 40, [0], 12, carried=False, rows_cycles=cycles) for cycles in (0, 100, 200)]
    assert [choice.plan is not None for choice in choices] == [True, True, False]
    assert choices[1].cycles == choices[0].cycles + 100


def test_a_large_block_goes_by_matrix_and_a_tiny_one_by_simd() -> None:
    large, tiny = (choose(PLAN, 3, vectors, [0], 12, carried=False) for vectors in (1000, 4))
    assert (large.first, large.steps, large.cycles) == (0, PLAN.alone, matrix_cycles(PLAN.alone, 1000, 12))
    assert (tiny.first, tiny.plan, tiny.steps, tiny.cycles) == (1, None, (), 3 * 4 * 4)


def test_blocks_whose_simd_the_following_tiles_hide_keep_it() -> None:
    choice = choose(PLAN, 3, 64, [9999, 9999, 9999], 12, carried=False)
    assert choice.first == 2, "only the last block's steps have nothing to hide behind"
    assert choice.cycles == matrix_cycles(PLAN.alone, 64, 12)


def test_sums_that_carry_the_constant_save_its_step() -> None:
    choice = choose(PLAN, 3, 1000, [0], 12, carried=True)
    assert choice.steps == PLAN.steps
    assert choice.cycles == matrix_cycles(PLAN.steps, 1000, 12)
