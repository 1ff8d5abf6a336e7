"""Where functions turn, and what that is proved from: bounds of their slope, the ends of their pieces."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pefslc.numeric.enclosure import FunctionValue, Interval
from pefslc.numeric.expression import Call, Expression, Function, X, number, substitute
from pefslc.numeric.format import Quantization
from pefslc.numeric.kinks import kinks
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale
from pefslc.numeric.slope import enclose_slope
from pefslc.numeric.stages import Root
from pefslc.numeric.turn import turn_of

F = Fraction


def call(function: str, *arguments: Expression) -> Expression:
    return Call(Function[function.upper()], arguments)


SILU = call("mul", X, call("sigmoid", X))
SQUARE = call("mul", X, X)
ONE = number(1)
HARD_SWISH = call("mul", X, call("hard_sigmoid", X, number(F(1, 6)), number(F(1, 2))))
SMOOTH: dict[str, Expression] = {
    "silu": SILU,
    "gelu": call("mul", X, call("add", ONE, call("erf", X))),
    "mish": call("mul", X, call("tanh", call("softplus", X))),
    "elu": call("elu", X, number(F(1, 3))),
    "hard swish": HARD_SWISH,
    "smaller of two": call("min", SQUARE, call("add", X, ONE)),
    "logarithm": call("log", call("add", SQUARE, ONE)),
    "root": call("sqrt", call("add", SQUARE, ONE)),
    "quotient": call("div", X, call("add", SQUARE, ONE)),
    "difference": call("sub", call("exp", call("div", X, number(3))), call("mul", Call(Function.PI, ()), X)),
}


@given(st.sampled_from(sorted(SMOOTH)), st.floats(-6, 6), st.sampled_from([2.0**-30, 0.01, 0.7, 3]), st.data())
def test_the_slope_between_any_two_points_lies_within_its_bounds(
    name: str, low: float, width: float, data: st.DataObject
) -> None:
    high = low + width
    a, b = sorted(F(data.draw(st.floats(low, high))) for _ in range(2))
    found = enclose_slope(SMOOTH[name], Interval(np.array([low]), np.array([high])))
    if a < b and np.isfinite(found.low[0]) and np.isfinite(found.high[0]):
        at_a, at_b = (FunctionValue(SMOOTH[name], x)._bounds(48) for x in (a, b))
        assert F(at_b.high) - F(at_a.low) >= F(float(found.low[0])) * (b - a)
        assert F(at_b.low) - F(at_a.high) <= F(float(found.high[0])) * (b - a)


@pytest.mark.parametrize("name", SMOOTH)
def test_slopes_at_points_are_known_to_many_digits(name: str) -> None:
    x = np.linspace(-5.01, 5.02, 40)
    found = enclose_slope(SMOOTH[name], Interval(x, x))
    assert ((found.high - found.low) <= 1e-9 * (1 + np.abs(found.low))).all()


@pytest.mark.parametrize(
    ("function", "low", "high"),
    [
        (call("log", X), -2, -1), (call("log", X), -1, 1), (call("sqrt", X), -2, -1), (call("sqrt", X), 0, 1),
        (call("div", ONE, X), -1, 1), (call("round", X), 0.25, 2),
    ],
)  # fmt: skip
def test_no_slope_is_known_where_there_is_no_value_or_a_jump(function: Expression, low: float, high: float) -> None:
    found = enclose_slope(function, Interval(np.array([low], dtype=float), np.array([high], dtype=float)))
    assert not (np.isfinite(found.low[0]) and np.isfinite(found.high[0]))


def quantizer(rounding: RoundingMode = RoundingMode.HALF_EVEN) -> Quantizer:
    return Quantizer(Quantization(bits=16, signed=True, scale=Scale((F(1, 3000),))), rounding)


def ends(low: Fraction | int, high: Fraction | int) -> list[Root]:
    return [Root(F(low)), Root(F(high))]


@pytest.mark.parametrize(
    ("function", "place", "before"),
    [
        (SILU, -1.2784645427610738, -1), (HARD_SWISH, -1.5, -1), (call("sub", number(0), SQUARE), 0, 1),
        (call("max", call("sub", ONE, X), SQUARE), 0.6180339887498949, -1),
    ],
)  # fmt: skip
def test_a_function_turns_where_its_code_is_the_lowest_or_the_highest(
    function: Expression, place: float, before: int
) -> None:
    turn = turn_of(function, quantizer(), ends(-4, 7))
    assert turn is not None
    assert turn.before == before
    assert turn.first < -4 < turn.at < 7 < turn.last
    codes = [quantizer().code_of(FunctionValue(function, x), 0) for x in (turn.at, F(place))]
    assert codes[0] == codes[1]


def test_a_function_that_does_not_turn_in_the_range_is_all_on_one_side() -> None:
    for low, high, rises in ((0, 5, True), (-6, -2, False)):
        turn = turn_of(SILU, quantizer(), ends(low, high))
        assert turn is not None
        assert turn.at == turn.first
        assert turn.before == (-1 if rises else 1), "behind its first end it goes the other way"


def test_functions_that_turn_twice_or_jump_or_have_no_value_have_no_turn() -> None:
    cubic = call("sub", call("mul", X, SQUARE), X)
    assert turn_of(cubic, quantizer(), ends(-2, 2)) is None
    assert turn_of(cubic, quantizer(), ends(0, 2)) is not None
    assert turn_of(call("round", X), quantizer(), ends(-2, 2)) is None
    assert turn_of(call("div", ONE, X), quantizer(), ends(-2, 2)) is None
    assert turn_of(SILU, quantizer(), ends(1, 1)) is None


def test_a_turn_on_a_bound_is_not_proved() -> None:
    """Rounded down, x^2 is on the bound of code 0 at its turn: no float says that it does not fall below."""
    assert turn_of(SQUARE, quantizer(), ends(-1, 2)) is not None
    assert turn_of(SQUARE, quantizer(RoundingMode.FLOOR), ends(-1, 2)) is None


@pytest.mark.parametrize(
    ("function", "places"),
    [
        (X, []), (SILU, []), (call("relu", X, number(F(1, 9))), [0]), (HARD_SWISH, [-3, 3]),
        (substitute(HARD_SWISH, call("sub", ONE, call("mul", number(2), X))), [-1, 2]),
        (call("max", call("min", X, number(F(7, 2))), number(F(1, 5))), [F(1, 5), F(7, 2)]),
        (substitute(HARD_SWISH, call("max", X, number(-1))), [-1, 3]),
        (call("min", call("abs", X), call("div", call("add", X, number(3)), number(2))), [-1, 0, 3]),
        (call("softplus", X), [0]),
    ],
)  # fmt: skip
def test_pieces_end_where_one_line_crosses_the_other(function: Expression, places: list[Fraction]) -> None:
    assert kinks(function) == places
