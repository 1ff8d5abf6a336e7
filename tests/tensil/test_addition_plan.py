"""Matrix steps around the addition of a tensor: certified for every word with every addend, or there are none."""

from __future__ import annotations

import numpy as np
import pytest
from matrix_steps_by_hand import FP8, FP16, by_hand, clamp, holds_words_only, wanted

from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.matrix import addition_plan
from pefslc.targets.tensil.matrix.addition_plan import Addend, matrix_plan_with_addend
from pefslc.targets.tensil.matrix.matrix_plan import LARGEST_CHECK, MatrixPlan
from pefslc.targets.tensil.matrix.matrix_steps import AddByMatrix, AddWord, Diagonal, DiagonalAgain, apply_matrix_steps
from pefslc.targets.tensil.words.steps import Maximum, Minimum, Multiply, RawStep


@pytest.mark.parametrize("shift", [1, 2, 3])
@pytest.mark.parametrize("upper", [None, 3, 7, 15])
@pytest.mark.parametrize("addend", [Addend(-4, 3), Addend(0, 7), Addend(0, 15, ceiling=7), Addend(0, 12, ceiling=5)])
@pytest.mark.parametrize("trailing", [(), (Maximum(0),), (Maximum(0), Minimum(15)), (Minimum(11),), (Maximum(-3),)])
@pytest.mark.parametrize(("data_type", "reach"), [(FP8, 60), (FP16, 500)])
def test_a_plan_over_an_addition_is_exact_for_every_word_and_addend(
    shift: int, upper: int | None, addend: Addend, trailing: tuple[RawStep, ...], data_type: DataType, reach: int
) -> None:
    leading: tuple[RawStep, ...] = (Multiply(data_type.one >> shift), *([] if upper is None else [Minimum(upper)]))
    plan = matrix_plan_with_addend(leading, trailing, -reach, reach, addend, data_type)
    if plan is None:
        assert addend.ceiling is not None, "only a clamp of the addend may be impossible"
        return
    words = np.arange(-reach, reach + 1)
    expected = np.array([wanted(leading, int(word), data_type) for word in words])
    for tensor in range(addend.low, addend.high + 1):
        added = tensor if addend.ceiling is None else min(tensor, addend.ceiling)
        result = np.array([wanted(trailing, clamp(int(e) + added, data_type), data_type) for e in expected])
        assert np.array_equal(apply_matrix_steps(plan.alone, words, data_type, np.full_like(words, tensor)), result)
        assert by_hand(plan.alone, -reach, data_type, tensor) == result[0]
        assert by_hand(plan.alone, reach, data_type, tensor) == result[-1]


def test_the_residual_of_the_flagship_shape() -> None:
    """A ReLU after the sum of a clipped branch and a clamped one: seven cycles a vector, of which two are moves. What
    the branch is above its clip is taken off last.
    """
    plan = matrix_plan_with_addend(
        (Multiply(16), Minimum(31)), (Maximum(0),), -9852, 9869, Addend(0, 63, ceiling=31), FP16
    )
    assert plan is not None
    assert plan.carried == -32768 + (32 << 4)
    assert plan.steps == (
        Diagonal(16, -30720),
        AddByMatrix(32736),
        AddWord(-32768),
        DiagonalAgain(-16, 32767 + 31 - 2016),
        AddWord(1),
    )


@pytest.mark.parametrize("shift", [2, 3, 4])
@pytest.mark.parametrize("ceiling", [3, 7])
@pytest.mark.parametrize("trailing", [(), (Maximum(0),), (Maximum(0), Minimum(5)), (Maximum(-3),)])
def test_an_addend_of_sums_is_shifted_and_clipped_by_the_addition(
    shift: int, ceiling: int, trailing: tuple[RawStep, ...]
) -> None:
    """Its sums carry what makes those saturate that end above the ceiling."""
    leading: tuple[RawStep, ...] = Multiply(32), Minimum(15)
    carried = 32768 - (ceiling << shift)
    addend = Addend(-130, 140, ceiling, 256 >> shift, carried)
    plan = matrix_plan_with_addend(leading, trailing, -300, 300, addend, FP16)
    assert plan is not None
    words = np.arange(-300, 301)
    expected = np.array([wanted(leading, int(word), FP16) for word in words])
    for tensor in range(addend.low, addend.high + 1):
        added = wanted((Multiply(256 >> shift), Minimum(ceiling)), tensor, FP16)
        result = np.array([wanted(trailing, int(e) + added, FP16) for e in expected])
        stored = clamp(tensor + carried, FP16)
        assert np.array_equal(apply_matrix_steps(plan.alone, words, FP16, np.full_like(words, stored)), result)
        assert by_hand(plan.alone, -300, FP16, stored) == result[0]
        assert by_hand(plan.alone, 300, FP16, stored) == result[-1]


def test_a_relu_after_the_addition_of_sums_takes_two_constants() -> None:
    """The sum's offset is its way to the rail: half of it before the addition, half with the addend."""
    plan = matrix_plan_with_addend(
        (Multiply(32), Minimum(15)), (Maximum(0),), -900, 900, Addend(-700, 700, 15, 32, 32768 - (15 << 3)), FP16
    )
    assert plan is not None
    assert plan.carried
    assert [type(step) for step in plan.steps] == [Diagonal, AddByMatrix, AddWord, AddWord]


def test_an_addend_of_too_many_words_is_not_tried_word_by_word() -> None:
    """Sums of 32 bits: their words alone would fill the memory."""
    data_type, leading = DataType["FP32BP16"], (Multiply(4096), Minimum(127))

    def plan(reach: int) -> MatrixPlan | None:
        addend = Addend(-reach, reach, 127, 4096, (1 << 31) - (127 << 4))
        return matrix_plan_with_addend(leading, (Maximum(0),), -900, 900, addend, data_type)

    assert plan(LARGEST_CHECK // 2 - 1) is not None
    assert plan(LARGEST_CHECK // 2) is None
    assert plan(1 << 50) is None


@pytest.mark.parametrize("seed", range(4))
def test_any_steps_around_an_addition_have_an_exact_plan_or_none(seed: int) -> None:
    """Every word with every addend, in 8 bits, where much saturates on the way."""
    r = np.random.default_rng(seed)
    plans = 0
    for _ in range(40):
        leading: tuple[RawStep, ...] = (Multiply(FP8.one >> int(r.integers(1, 4))),)
        leading += () if r.random() < 0.4 else (Minimum(int(r.integers(-3, 16))),)
        trailing = [kind(int(r.integers(-8, 30))) for kind in r.permutation([Maximum, Minimum])[: int(r.integers(3))]]
        low, high = (int(r.choice([1, 8, 90])) for _ in range(2))
        ceiling = None if r.random() < 0.5 else int(r.integers(-2, 12))
        addend = Addend(-low, high, ceiling)
        plan = matrix_plan_with_addend(leading, tuple(trailing), -100, 100, addend, FP8)
        if plan is None:
            continue
        plans += 1
        assert holds_words_only(plan, FP8)
        words = np.arange(-100, 101)
        first = np.array([wanted(leading, int(word), FP8) for word in words])
        for tensor in range(-low, high + 1):
            added = tensor if ceiling is None else min(tensor, ceiling)
            result = np.array([wanted(tuple(trailing), clamp(int(e) + added, FP8), FP8) for e in first])
            assert np.array_equal(apply_matrix_steps(plan.alone, words, FP8, np.full_like(words, tensor)), result)
    assert plans >= 8


def test_pairs_of_words_and_addends_are_not_tried_beyond_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words that both ways treat alike are one: the 21 in [-10, 10] make 11 codes, the addends are 8."""
    for limit, exists in ((88, True), (87, False)):
        monkeypatch.setattr(addition_plan, "_LARGEST_GRID", limit)
        matrix_plan_with_addend.cache_clear()
        plan = matrix_plan_with_addend((Multiply(8),), (), -10, 10, Addend(-4, 3), FP8)
        assert (plan is not None) == exists
    matrix_plan_with_addend.cache_clear()


def test_many_words_with_many_addends_that_make_few_codes_are_tried() -> None:
    leading = Multiply(16), Minimum(31)
    assert matrix_plan_with_addend(leading, (), -9000, 9000, Addend(-300, 300), FP16) is not None


def test_pairs_of_words_of_32_bits_are_told_apart() -> None:
    r = np.random.default_rng(0)
    ends = np.array([-(1 << 31), -(1 << 30), -1, 0, 1, 1 << 30, (1 << 31) - 1])
    a, b = (r.choice(ends, 400) for _ in range(2))
    pairs = np.stack([a, b])
    first = addition_plan._first_of_each_pair(a, b)
    assert sorted(first) == sorted(np.unique(pairs, axis=1, return_index=True)[1])
