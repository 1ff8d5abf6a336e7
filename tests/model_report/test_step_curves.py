"""Step curves against the staircases that they are drawn from, at every accumulator code."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pefslc.diagnostics.errors import Origin
from pefslc.ir.integer import Lookup, Requantize
from pefslc.ir.value import CodeRange, IntArray, TensorType, Value
from pefslc.model_report.step_curves import StepCurve, step_curve_of
from pefslc.numeric.scale import Scale
from pefslc.numeric.staircase import Staircase

LOW, HIGH = -20, 30


def value(name: str, channels: int, low: int, high: int) -> Value:
    element = CodeRange(low=low, high=high, scale=Scale.power_of_two(0))
    return Value(name, TensorType((1, channels, 1, 1), element), Origin("n", "Quant"))


def curve_of(staircase: Staircase) -> StepCurve:
    channels = staircase.channels
    source, result = value("a", channels, LOW, HIGH), value("b", channels, -2000, 2000)
    found = step_curve_of(Requantize(input=source, result=result, staircase=staircase))
    assert found is not None
    return found


def drawn(curve: StepCurve, code: int) -> int:
    """What the curve says at an accumulator code."""
    codes = [c for at, c in zip(curve.at, curve.codes, strict=True) if at <= code]
    return codes[-1] if codes else curve.start


@st.composite
def staircases(draw: st.DrawFn) -> Staircase:
    channels, steps = draw(st.integers(1, 4)), draw(st.integers(1, 7))
    direction = [draw(st.sampled_from((1, -1))) for _ in range(channels)]
    rows = []
    for d in direction:
        points = draw(st.lists(st.integers(LOW - 5, HIGH + 5), min_size=steps, max_size=steps))
        rows.append(sorted(points, reverse=d < 0))
    low, step = draw(st.integers(-9, 9)), draw(st.sampled_from((1, 2)))
    return Staircase(LOW, HIGH, low, np.array(rows), np.array(direction), step)


@given(staircases())
def test_the_curve_is_the_staircase_of_its_channel_at_every_code(staircase: Staircase) -> None:
    curve = curve_of(staircase)
    codes = np.arange(LOW, HIGH + 1)
    wanted = staircase(np.tile(codes, (staircase.channels, 1)), 0)
    wanted = wanted[curve.channel] if staircase.channels > 1 else wanted[0]
    assert [drawn(curve, int(code)) for code in codes] == wanted.tolist()
    assert curve.left_out == 0
    assert all(LOW < at <= HIGH for at in curve.at)


@given(staircases())
def test_the_others_lie_between_the_earliest_and_the_latest(staircase: Staircase) -> None:
    curve = curve_of(staircase)
    alike = np.flatnonzero(staircase.direction == staircase.direction[0])
    if staircase.channels == 1:
        assert curve.least == curve.most == ()
        return
    rising = staircase.direction[0] > 0
    for code, least, most in zip(curve.codes, curve.least, curve.most, strict=True):
        step = (code - staircase.low) // staircase.step
        taken = staircase.thresholds[alike, step - 1] if rising else staircase.thresholds[alike, step] + 1
        assert (least, most) == (taken.min(), taken.max())


def test_of_many_steps_some_are_shown_and_the_others_counted() -> None:
    staircase = Staircase(0, 5000, 0, np.arange(1, 4001)[None], np.array([1]))
    curve = curve_of(staircase)
    assert len(curve.at) == 256
    assert (curve.at[0], curve.at[-1], curve.left_out) == (1, 4000, 4000 - 256)
    assert list(curve.at) == list(curve.codes)


def test_a_table_is_drawn_where_its_codes_change() -> None:
    table = IntArray(np.array([[3, 3, 1, 1, 2], [0, 0, 0, 0, 0]]))
    op = Lookup(input=value("a", 2, -2, 2), result=value("b", 2, 0, 3), low=-2, table=table)
    curve = step_curve_of(op)
    assert curve is not None
    assert (curve.start, curve.at, curve.codes) == (3, (0, 2), (1, 2))
    assert [drawn(curve, code) for code in range(-2, 3)] == [3, 3, 1, 1, 2]
