"""Which blocks take SIMD steps and which matrix steps: by cost, in the cases that decide."""

from __future__ import annotations

from pefslc.targets.tensil.matrix_steps import AddWord, Diagonal
from pefslc.targets.tensil.step_choice import Choice, choose, matrix_cycles

PLAN = (AddWord(-32768), Diagonal(32, 4096), AddWord(32736), AddWord(-32736))


def test_cycles_are_those_of_the_instructions() -> None:
    # Per step the drain (24 on A = 12), its rows, and a cycle a vector; a diagonal moves the vectors first.
    assert matrix_cycles(PLAN, 100, 12) == 3 * (100 + 24 + 1) + (100 + 24 + 13 + 100)
    assert matrix_cycles((), 100, 12) == 0


def test_a_large_block_goes_by_matrix_and_a_tiny_one_by_simd() -> None:
    assert choose(PLAN, 3, 1000, [0], 12, floors=False) == Choice(PLAN, 0, floors=False)
    assert choose(PLAN, 3, 4, [0], 12, floors=False) is None


def test_blocks_whose_simd_the_following_tiles_hide_keep_it() -> None:
    choice = choose(PLAN, 3, 64, [9999, 9999, 9999], 12, floors=False)
    assert choice is not None
    assert choice.first == 2, "only the last block's steps have nothing to hide behind"


def test_a_floor_saves_the_first_step() -> None:
    choice = choose(PLAN, 3, 1000, [0], 12, floors=True)
    assert choice is not None
    assert choice.steps == PLAN[1:]
    without = choose(PLAN[1:], 3, 1000, [0], 12, floors=True)
    assert without is not None
    assert without.steps == PLAN[1:], "a diagonal is no floor"
