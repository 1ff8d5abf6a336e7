"""Half-lines and their preimages, against the stages' own values at many rationals."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from pefslc.numeric.expression import Call, Function, X
from pefslc.numeric.preimage import HalfLines, preimage
from pefslc.numeric.stages import Affine, ClipStage, FunctionStage, LeakyReluStage, SnapStage, Stage, apply_stages

F = Fraction
POINTS = sorted({F(n, d) for d in (1, 4, 6) for n in range(-8 * d, 8 * d + 1)})


def half_lines() -> HalfLines:
    """From every multiple of 1/2 in [-4, 4] on, with the end and without it."""
    numerators = np.repeat(np.arange(-8, 9), 2)
    return HalfLines.at_least(numerators, 2, np.tile([True, False], 17))


def members(sets: HalfLines, value: Fraction) -> list[bool]:
    """Which sets hold the value, as the docstring defines them."""
    ends = [F(int(n), sets.denominator) for n in sets.numerators]
    rows = zip(ends, sets.inclusive, sets.everywhere, sets.nowhere, strict=True)
    return [bool(everywhere or (not none and (value > end or (closed and value == end))))
            for end, closed, everywhere, none in rows]  # fmt: skip


def test_half_lines_hold_what_is_not_below_them() -> None:
    sets = half_lines()
    for value in POINTS:
        assert sets.hold(value).tolist() == members(sets, value)


def bent(*alphas: Fraction) -> LeakyReluStage:
    return LeakyReluStage(alphas)


@pytest.mark.parametrize(
    "stages",
    [
        (),
        (Affine((F(2, 3),), (F(1, 2),), (F(1),), (F(-1, 3),)),),
        (bent(F(0)),),
        (bent(F(1, 4)),),
        (bent(F(3)),),
        (ClipStage(F(-1), None),),
        (ClipStage(None, F(3, 2)),),
        (ClipStage(F(-1), F(3, 2)),),
        (ClipStage(F(1), F(1)),),
        (ClipStage(None, F(1)), ClipStage(F(2), None)),
        (ClipStage(F(2), None), ClipStage(None, F(1))),
        (ClipStage(None, F(2)), bent(F(0)), ClipStage(None, F(1))),
        (Affine.bias((F(1, 4),)), bent(F(1, 2)), ClipStage(F(-1, 2), F(2)), Affine.bias((F(1, 2),))),
    ],
    ids=str,
)
def test_a_preimage_holds_what_the_chain_takes_into_the_set(stages: tuple[Stage, ...]) -> None:
    sets = half_lines()
    found = preimage(stages, 0, sets)
    assert found is not None
    for x in POINTS:
        assert members(found, x) == members(sets, apply_stages(stages, x, 0).rational)
    for low, high in ((-8, 8), (-1, 2), (3, 3)):
        inside = [[a for a in range(low, high + 1) if members(found, F(a))[i]] for i in range(34)]
        assert found.first_integers(low, high).tolist() == [min(codes, default=high + 1) for codes in inside]


def test_each_channel_has_its_own_preimage() -> None:
    bias = Affine.bias((F(1, 4),))  # that all channels share
    stages = Affine((F(1), F(2)), (F(0), F(1)), (F(1), F(1)), (F(0), F(0))), bent(F(0), F(1, 2)), bias
    for channel in (0, 1):
        found = preimage(stages, channel, half_lines())
        assert found is not None
        for x in POINTS:
            assert members(found, x) == members(half_lines(), apply_stages(stages, x, channel).rational)


@pytest.mark.parametrize(
    "stage",
    [
        Affine((F(1),), (F(0),), (F(2),), (F(0),)),
        Affine((F(-1),), (F(0),), (F(1),), (F(0),)),
        Affine((F(0),), (F(0),), (F(1),), (F(0),)),
        bent(F(-1, 2)),
        SnapStage(F(1, 2)),
        FunctionStage(Call(Function.EXP, (X,))),
    ],
    ids=str,
)
def test_what_has_no_rational_inverse_has_no_preimage_here(stage: Stage) -> None:
    assert preimage((stage,), 0, half_lines()) is None
    assert preimage((bent(F(1, 2)), stage, ClipStage(F(0), None)), 0, half_lines()) is None


@pytest.mark.parametrize("factor", [F(1 << 61), F(3, 1 << 61), F((1 << 61) + 1, (1 << 60) - 1)])
def test_numbers_beyond_64_bits_stay_exact(factor: Fraction) -> None:
    stages = Affine((factor,), (F(0),), (F(1),), (F(1, 3),)), bent(F(1, (1 << 40) + 1))
    sets = half_lines()
    found = preimage(stages, 0, sets)
    assert found is not None
    for y in POINTS:
        for x in ((y - F(1, 3)) / factor, (y * ((1 << 40) + 1) - F(1, 3)) / factor):
            expected = members(sets, apply_stages(stages, x, 0).rational)
            assert members(found, x) == expected
            assert (found.everywhere | (~found.nowhere & found.hold(x))).tolist() == expected
