"""Requantization by matrix steps: certified against the SIMD steps, and refused where it differs."""

from __future__ import annotations

import numpy as np
import pytest
from matrix_steps_by_hand import FP8, FP16, by_hand, holds_words_only, wanted

from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.matrix.addition_plan import Addend, matrix_plan_with_addend
from pefslc.targets.tensil.matrix.matrix_plan import (
    LARGEST_CHECK,
    MatrixPlan,
    is_certified_chain,
    matrix_plan,
    plan_of_bare_sums,
)
from pefslc.targets.tensil.matrix.matrix_steps import (
    AddByMatrix,
    AddWord,
    Diagonal,
    DiagonalAgain,
)
from pefslc.targets.tensil.words.steps import Maximum, Minimum, Multiply, RawStep


@pytest.mark.parametrize("data_type", [FP8, FP16])
@pytest.mark.parametrize("shift", [1, 2, 3, 4])
@pytest.mark.parametrize(("low", "high"), [(0, 31), (-16, 15), (0, 7), (-8, 7), (None, 3), (-4, None)])
def test_the_plan_is_round_shift_and_clip(data_type: DataType, shift: int, low: int | None, high: int | None) -> None:
    steps = (
        Multiply(data_type.one >> shift),
        *([] if low is None else [Maximum(low)]),
        *([] if high is None else [Minimum(high)]),
    )
    reach = 90 if data_type.width_bits == 8 else 6000
    plan = matrix_plan(steps, -reach, reach, data_type)
    if plan is None:
        assert low is not None
        assert low << shift < data_type.min_code, "the clip must lie within the data type"
        return
    for word in range(-reach, reach + 1):
        assert by_hand(plan.alone, word, data_type) == wanted(steps, word, data_type)


@pytest.mark.parametrize(
    ("clips", "count"),
    [((Maximum(0),), 3), ((Minimum(31),), 2), ((Maximum(0), Minimum(31)), 4), ((Maximum(-16), Minimum(15)), 4)],
)
def test_clips_alone_go_to_the_rails_and_back(clips: tuple[Maximum | Minimum, ...], count: int) -> None:
    plan = matrix_plan(clips, -600, 600, FP16)
    assert plan is not None
    assert len(plan.alone) == count
    for word in range(-600, 601):
        assert by_hand(plan.alone, word, FP16) == wanted(clips, word, FP16)


def test_the_flagship_requantization_takes_three_steps_where_the_sums_carry_the_first() -> None:
    plan = matrix_plan((Multiply(32), Maximum(0), Minimum(31)), -4000, 4000, FP16)
    assert plan == MatrixPlan(-32768, (Diagonal(32, 4096), AddWord(32736), AddWord(-32736)))
    assert plan.alone == (AddWord(-32768), *plan.steps)


def test_an_upper_clip_alone_needs_no_step_up_to_the_rail() -> None:
    plan = matrix_plan((Multiply(32), Minimum(31)), -4000, 4000, FP16)
    assert plan == MatrixPlan(0, (Diagonal(32, 32736), AddWord(-32736)))


@pytest.mark.parametrize(
    "steps",
    [
        (),
        (Maximum(0), Multiply(32)),
        (Multiply(33), Maximum(0)),
        (Multiply(256), Maximum(0)),
        (Multiply(32), Multiply(256)),
        (Multiply(32), Maximum(0), Multiply(256)),
    ],
)
def test_what_is_not_a_shift_then_clips_keeps_its_simd_steps(steps: tuple[Multiply | Maximum, ...]) -> None:
    assert matrix_plan(steps, -4000, 4000, FP16) is None


def test_sums_of_too_many_words_are_not_tried_word_by_word() -> None:
    """Sums of 32 bits: their words alone would fill the memory."""
    data_type, half = DataType["FP32BP16"], LARGEST_CHECK // 2
    steps = Multiply(4096), Maximum(0), Minimum(127)
    assert matrix_plan(steps, -half, half - 1, data_type) is not None
    assert matrix_plan(steps, -half, half, data_type) is None
    assert matrix_plan(steps, 0, LARGEST_CHECK - 1, data_type) is not None
    assert matrix_plan(steps, -(1 << 40), 1 << 40, data_type) is None


@pytest.mark.parametrize("upper", [14, 15, 30])
def test_an_even_upper_clip_is_not_taken_off_last_for_ties_would_go_to_the_other_code(upper: int) -> None:
    plan = matrix_plan_with_addend(
        (Multiply(16), Minimum(upper)), (Maximum(0),), -900, 900, Addend(0, 63, ceiling=31), FP16
    )
    assert plan is not None
    assert any(isinstance(step, DiagonalAgain) for step in plan.steps) == (upper % 2 == 1)


@pytest.mark.parametrize("shift", [1, 2, 3, 4])
@pytest.mark.parametrize(("low", "high"), [(0, 31), (0, 7), (2, 9), (0, 30), (1, 3), (-1, 3)])
@pytest.mark.parametrize(("data_type", "reach"), [(FP8, 127), (FP16, 1200)])
def test_bare_sums_are_clipped_by_two_products_a_step_shorter(
    shift: int, low: int, high: int, data_type: DataType, reach: int
) -> None:
    """Where both offsets are even. A clip below 0 has no word for the second."""
    steps = Multiply(data_type.one >> shift), Maximum(low), Minimum(high)
    plan = plan_of_bare_sums(steps, -reach, reach, data_type)
    if low < 0 or low % 2 or not high % 2:
        assert plan is None
        return
    assert plan is not None
    assert [type(step) for step in plan.steps] == [Diagonal, DiagonalAgain, AddWord]
    assert holds_words_only(plan, data_type)
    assert plan == plan_of_bare_sums((steps[0], steps[2], steps[1]), -reach, reach, data_type)
    for word in range(-reach, reach + 1):
        assert by_hand(plan.alone, word, data_type) == wanted(steps, word, data_type)


def test_other_steps_and_too_many_words_have_no_plan_of_bare_sums() -> None:
    steps = Multiply(16), Maximum(0), Minimum(31)
    assert plan_of_bare_sums(steps, -9, 9, FP16) is not None
    assert plan_of_bare_sums(steps[:2], -9, 9, FP16) is None
    assert plan_of_bare_sums(steps[1:], -9, 9, FP16) is None
    assert plan_of_bare_sums((Multiply(17), *steps[1:]), -9, 9, FP16) is None
    assert plan_of_bare_sums(steps, -LARGEST_CHECK, LARGEST_CHECK, FP16) is None


def test_an_odd_offset_would_send_ties_to_the_other_code() -> None:
    """The tie goes to the even sum: with an odd bias 20/8 = 2.5 gives 3, not 2."""
    assert by_hand((Diagonal(32, -1), AddWord(1)), 20, FP16) == 3
    assert by_hand((Diagonal(32, -2), AddWord(2)), 20, FP16) == 2


# --- rows -------------------------------------------------------------------------------------------------------------


def test_rows_are_the_bias_and_the_diagonal() -> None:
    assert np.array_equal(Diagonal(32, 4096).rows(3, 256), [[4096] * 3, [32, 0, 0], [0, 32, 0], [0, 0, 32]])
    assert np.array_equal(AddByMatrix(7).rows(2, 256), [[7, 7], [256, 0], [0, 256]])
    assert np.array_equal(AddByMatrix(7, 32).rows(2, 256), [[7, 7], [32, 0], [0, 32]])
    assert np.array_equal(AddWord(-5).rows(3, 256), [[-5] * 3])


# --- certificates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "steps",
    [
        (Multiply(8), Minimum(2), Maximum(5)),  # the clips cross: the last one wins
        (Multiply(8), Maximum(5), Maximum(1)),  # the stronger clip comes first
        (Multiply(8), Minimum(1), Minimum(5)),
        (Multiply(8), Minimum(-3), Maximum(-3)),
        (Minimum(2), Maximum(5)),
        (Maximum(5), Minimum(2)),
        (Multiply(4), Maximum(-30), Minimum(40)),
    ],
)
def test_a_plan_that_is_not_the_steps_is_never_returned(steps: tuple[RawStep, ...]) -> None:
    """The search takes clips to be in order, with one of each kind: only the certificate sees the others."""
    plan = matrix_plan(steps, -120, 120, FP8)
    if plan is not None:
        found = [by_hand(plan.alone, word, FP8) for word in range(-120, 121)]
        assert found == [wanted(steps, word, FP8) for word in range(-120, 121)]


@pytest.mark.parametrize("steps", [(Multiply(8), Minimum(2), Maximum(5)), (Multiply(8), Maximum(5), Maximum(1))])
def test_clips_out_of_order_have_no_plan(steps: tuple[RawStep, ...]) -> None:
    assert matrix_plan(steps, -120, 120, FP8) is None


TO_AN_ODD_RAIL = Multiply(8), Minimum(30)  # 127 - 30 is odd: the tie at 1 goes to the other code


@pytest.mark.parametrize(
    ("steps", "low", "high", "exact"),
    [
        (TO_AN_ODD_RAIL, 0, 0, True),
        (TO_AN_ODD_RAIL, 0, 1, False),
        (TO_AN_ODD_RAIL, -1, 0, False),
        ((Multiply(8), Maximum(1), Maximum(0), Minimum(66)), 1, 2, False),  # only 0 differs
        ((Multiply(8), Minimum(-1), Minimum(30)), -2, -1, False),  # only 0 differs
    ],
)
def test_a_plan_is_exact_on_the_words_that_occur_and_on_0_which_lanes_without_a_channel_hold(
    steps: tuple[RawStep, ...], low: int, high: int, exact: bool
) -> None:
    assert (matrix_plan(steps, low, high, FP8) is not None) == exact


@pytest.mark.parametrize("reach", [1, 5, 60, 120])
def test_any_few_steps_have_an_exact_plan_or_none(reach: int) -> None:
    r = np.random.default_rng(reach)
    plans = 0
    for _ in range(150):
        clips = [kind(int(r.integers(-40, 41))) for kind in r.permutation([Maximum, Minimum])[: int(r.integers(3))]]
        first = [Multiply(FP8.one >> int(r.integers(1, 5)))] if r.random() < 0.7 else []
        steps: tuple[RawStep, ...] = (*first, *clips)
        low, high = -int(r.integers(reach + 1)), int(r.integers(reach + 1))
        plan = matrix_plan(steps, low, high, FP8)
        if plan is not None:
            plans += 1
            assert holds_words_only(plan, FP8)
            for word in range(low, high + 1):
                assert by_hand(plan.alone, word, FP8) == wanted(steps, word, FP8)
    assert plans >= 50


@pytest.mark.parametrize(
    ("words", "exact"), [((9, -9), True), ((9, -8), False), ((100, -100), False), ((-100, 100), False)]
)
def test_a_chain_is_certified_where_no_word_on_the_way_saturates(words: tuple[int, ...], exact: bool) -> None:
    """Words added one by one after the shift, whose own bias is left out."""
    plan = MatrixPlan(0, (Diagonal(8, 7),))
    assert is_certified_chain(plan, words, (Multiply(8),), -120, 120, FP8) == exact


def test_a_chain_may_clip_as_its_plan_does() -> None:
    steps = Multiply(4), Maximum(0), Minimum(7)
    plan = matrix_plan(steps, -100, 100, FP8)
    assert plan == MatrixPlan(-128, (Diagonal(4, 32), AddWord(120), AddWord(-120)))
    assert is_certified_chain(plan, (32, 120, -120), steps, -100, 100, FP8)
    assert not is_certified_chain(plan, (33, 120, -120), steps, -100, 100, FP8)
    assert not is_certified_chain(plan, (32, 120), steps, -100, 100, FP8)
