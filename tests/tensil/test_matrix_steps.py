"""Requantization by matrix steps: certified against the SIMD steps, and refused where it differs."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from pefslc.numeric.rounding import round_fraction
from pefslc.targets.tensil.architecture import DataType
from pefslc.targets.tensil.matrix_steps import AddWord, Diagonal, MatrixStep, matrix_steps
from pefslc.targets.tensil.raw_steps import Maximum, Minimum, Multiply

FP16 = DataType["FP16BP8"]


def by_hand(steps: tuple[MatrixStep, ...], word: int, data_type: DataType) -> int:
    """The steps on one word, in exact rationals."""
    for step in steps:
        if isinstance(step, AddWord):
            word += step.word
        else:
            word = round_fraction(Fraction(word * step.word, data_type.one) + step.bias)
        word = min(max(word, data_type.min_code), data_type.max_code)
    return word


@pytest.mark.parametrize("data_type", [DataType["FP8BP4"], FP16])
@pytest.mark.parametrize("shift", [1, 2, 3, 4])
@pytest.mark.parametrize(("low", "high"), [(0, 31), (-16, 15), (0, 7), (-8, 7), (None, 3), (-4, None)])
def test_the_plan_is_round_shift_and_clip(data_type: DataType, shift: int, low: int | None, high: int | None) -> None:
    steps = (
        Multiply(data_type.one >> shift),
        *([] if low is None else [Maximum(low)]),
        *([] if high is None else [Minimum(high)]),
    )
    reach = 90 if data_type.width_bits == 8 else 6000
    plan = matrix_steps(steps, -reach, reach, data_type)
    if plan is None:
        assert low is not None
        assert low << shift < data_type.min_code, "the clip must lie within the data type"
        return
    for word in range(-reach, reach + 1):
        expected = round_fraction(Fraction(word, 1 << shift))
        expected = max(expected, low) if low is not None else expected
        expected = min(expected, high) if high is not None else expected
        assert by_hand(plan, word, data_type) == expected


@pytest.mark.parametrize(
    ("clips", "count"),
    [((Maximum(0),), 3), ((Minimum(31),), 2), ((Maximum(0), Minimum(31)), 4), ((Maximum(-16), Minimum(15)), 4)],
)
def test_clips_alone_go_to_the_rails_and_back(clips: tuple[Maximum | Minimum, ...], count: int) -> None:
    plan = matrix_steps(clips, -600, 600, FP16)
    assert plan is not None
    assert len(plan) == count
    for word in range(-600, 601):
        expected = word
        for clip in clips:
            expected = max(expected, clip.word) if isinstance(clip, Maximum) else min(expected, clip.word)
        assert by_hand(plan, word, FP16) == expected


def test_the_flagship_requantization_takes_four_steps() -> None:
    plan = matrix_steps((Multiply(32), Maximum(0), Minimum(31)), -4000, 4000, FP16)
    assert plan == (AddWord(-32768), Diagonal(32, 4096), AddWord(32736), AddWord(-32736))


def test_an_upper_clip_alone_needs_no_step_up_to_the_rail() -> None:
    plan = matrix_steps((Multiply(32), Minimum(31)), -4000, 4000, FP16)
    assert plan == (Diagonal(32, 32736), AddWord(-32736))


@pytest.mark.parametrize(
    "steps",
    [
        (),
        (Maximum(0), Multiply(32)),
        (Multiply(33), Maximum(0)),
        (Multiply(256), Maximum(0)),
    ],
)
def test_what_is_not_a_shift_then_clips_keeps_its_simd_steps(steps: tuple[Multiply | Maximum, ...]) -> None:
    assert matrix_steps(steps, -4000, 4000, FP16) is None


def test_rows_are_the_bias_and_the_diagonal() -> None:
    rows = Diagonal(32, 4096).rows(3)
    assert np.array_equal(rows, [[4096] * 3, [32, 0, 0], [0, 32, 0], [0, 0, 32]])
    assert np.array_equal(AddWord(-5).rows(3), [[-5] * 3])
