"""One table of a function for all channels, at both sides of each step."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from pefslc.numeric.expression import Call, Expression, Function, X, number
from pefslc.numeric.format import Quantization
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.scale import Scale
from pefslc.numeric.shared import SharedTable, fit_shared
from pefslc.numeric.stages import Affine, FunctionStage, Stage
from pefslc.numeric.staircase import Staircase, staircase_of

F = Fraction
TANH = Call(Function.TANH, (X,))
FALLING = Call(Function.SUB, (number(1), Call(Function.SIGMOID, (X,))))


def staircase(function: Expression, last: int, *, behind: tuple[Stage, ...] = ()) -> Staircase:
    """Four channels of other slopes, of both signs, and other biases."""
    rng = np.random.default_rng(last)
    factors, offsets = rng.uniform(0.3, 2, 4) * [1, -1, 1, -1], rng.normal(0, 0.3, 4)
    parts = (tuple(F(float(v)) for v in part.astype(np.float32)) for part in (factors, np.zeros(4), offsets))
    factor, addend, offset = parts
    stages = (Affine(factor, addend, (F(1),) * 4, offset), FunctionStage(function), *behind)
    quantizer = Quantizer(Quantization(bits=16, signed=True, scale=Scale((F(float(np.float32(0.0007))),))))
    return staircase_of(Scale((F(3, last),)), stages, quantizer, -last, last, 4)


@pytest.mark.parametrize("function", [TANH, FALLING], ids=["tanh", "falling sigmoid"])
@pytest.mark.parametrize("last", [3000, 1 << 27])
def test_a_shared_table_is_the_staircase_at_both_sides_of_each_step(function: Expression, last: int) -> None:
    wanted = staircase(function, last)
    found = fit_shared(wanted)
    assert isinstance(found, SharedTable)
    codes = wanted.critical_codes() if last > 3000 else np.tile(np.arange(-last, last + 1), (4, 1))
    np.testing.assert_array_equal(found(codes), wanted(codes))


def test_channels_that_differ_behind_the_function_share_no_table() -> None:
    behind = Affine.bias((F(0), F(1, 3), F(0), F(0)))
    assert fit_shared(staircase(TANH, 3000, behind=(behind,))) is None


def test_a_table_that_would_be_off_at_one_step_is_refused() -> None:
    """A chain that is not the staircase's: the same thresholds, but one of them moved."""
    wanted = staircase(TANH, 1 << 27)
    moved = wanted.thresholds.copy()
    moved[0, 1000] = moved[0, 1001]
    other = Staircase(
        wanted.domain_low, wanted.domain_high, wanted.low, moved, wanted.direction.copy(), 1, wanted.chains
    )
    assert fit_shared(other) is None
