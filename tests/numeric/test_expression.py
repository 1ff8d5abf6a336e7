"""Functions: bounds against the oracle's series, codes against its rounding, exact where they are rational."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from oracle import quantize_value
from oracle_functions import FUNCTIONS, PI, error_function, exponential, logarithm
from pefslc.numeric import table as table_module
from pefslc.numeric.enclosure import (
    DecimalArithmetic,
    FloatArithmetic,
    FunctionValue,
    Interval,
    UndecidedError,
    enclose,
    nearest_floats,
)
from pefslc.numeric.expression import Call, Expression, Function, NotANumberError, X, direction_of, number, rational
from pefslc.numeric.format import Quantization
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, ClipStage, FunctionStage, LeakyReluStage, SnapStage, Stage
from pefslc.numeric.staircase import staircase_of
from pefslc.numeric.table import staircase_of_table, table_of

F = Fraction
POINTS = [F(n, 16) for n in (-131, -64, -17, -16, -3, -1, 0, 1, 2, 16, 40, 111)]
SIGMOID = Call(Function.SIGMOID, (X,))
SILU = Call(Function.MUL, (X, SIGMOID))
PRIMITIVES = {Function.EXP: exponential, Function.ERF: error_function, Function.LOG: logarithm}
DEFINED = {
    "Abs": Call(Function.ABS, (X,)),
    "Celu": Call(Function.CELU, (X, number(2))),
    "Elu": Call(Function.ELU, (X, number(F(3, 2)))),
    "HardSigmoid": Call(Function.HARD_SIGMOID, (X, number(F(1, 3)), number(F(1, 4)))),
    "Sigmoid": SIGMOID,
    "Softplus": Call(Function.SOFTPLUS, (X,)),
    "Softsign": Call(Function.SOFTSIGN, (X,)),
    "Tanh": Call(Function.TANH, (X,)),
}
PARAMETERS = {"Celu": (F(2),), "Elu": (F(3, 2),), "HardSigmoid": (F(1, 3), F(1, 4))}


@pytest.mark.parametrize("function", PRIMITIVES, ids=lambda f: f.value)
@pytest.mark.parametrize("digits", [24, 48, 96])
def test_decimal_bounds_hold_the_value_and_are_narrow(function: Function, digits: int) -> None:
    arithmetic = DecimalArithmetic(digits)
    for x in POINTS:
        if function is Function.LOG and x <= 0:
            continue
        bounds = enclose(Call(function, (X,)), arithmetic.number(x), arithmetic)
        value = PRIMITIVES[function](x)
        assert bounds.low <= value <= bounds.high
        assert F(bounds.high) - F(bounds.low) <= abs(value) * F(1, 10 ** (digits - 6)) + F(1, 10 ** (digits - 2))


@pytest.mark.parametrize("x", [F(12), F(-12), F(40), F(3, 10**30)])
def test_the_error_function_far_out_and_near_0(x: Fraction) -> None:
    """1 - erf(12) is about 1e-64: 24 digits cannot tell it from 1, and 96 can."""
    value = FunctionValue(Call(Function.ERF, (X,)), x)
    assert value.compare(F(1)) == -1
    assert value.compare(F(-1)) == 1
    assert value.compare(F(0)) == (1 if x > 0 else -1)


@pytest.mark.parametrize("digits", [24, 48, 96, 192, 384])
@pytest.mark.parametrize("x", [F(11), F(-12), F(15), F(20)])
def test_bounds_of_the_error_function_far_out_hold_what_its_series_says(x: Fraction, digits: int) -> None:
    erf = Call(Function.ERF, (X,))
    bounds, series = (enclose(erf, a.number(x), a) for a in (DecimalArithmetic(digits), DecimalArithmetic(768)))
    assert bounds.low <= series.low < series.high <= bounds.high
    # 1 - erf is not only bounded by 0, but known to one part in a hundred, or to the last digit.
    assert F(bounds.high) - F(bounds.low) <= (1 - abs(F(series.low))) * F(1, 100) + F(2, 10**digits)


def test_far_out_a_value_is_told_from_its_limit() -> None:
    """Gelu(32) is 32 less 1e-221, and Gelu(-32) is -1e-223: FLOOR must see both."""
    erf = Call(Function.ERF, (Call(Function.DIV, (X, Call(Function.SQRT, (number(2),)))),))
    gelu = Call(Function.MUL, (Call(Function.DIV, (X, number(2))), Call(Function.ADD, (number(1), erf))))
    assert FunctionValue(gelu, F(32)).compare(F(32)) == -1
    assert FunctionValue(gelu, F(-32)).compare(F(0)) == -1
    near = nearest_floats(gelu, np.array([-32.0, 32.0]))
    assert -1e-200 < near[0] < 0
    assert near[1] == np.nextafter(32, 0)


@pytest.mark.parametrize("name", DEFINED)
def test_definitions(name: str) -> None:
    arithmetic = DecimalArithmetic(60)
    for x in POINTS:
        exact = rational(DEFINED[name], x)
        expected = FUNCTIONS[name](x, *PARAMETERS.get(name, ()))
        if exact is not None:
            assert abs(exact - expected) < F(1, 10**80)
        bounds = enclose(DEFINED[name], arithmetic.number(x), arithmetic)
        assert bounds.low <= expected + F(1, 10**80)
        assert bounds.high >= expected - F(1, 10**80)
        assert F(bounds.high) - F(bounds.low) < F(1, 10**40)


@pytest.mark.parametrize("name", DEFINED)
def test_float_bounds_hold_the_value(name: str) -> None:
    x = np.array([float(p) for p in POINTS])
    bounds = enclose(DEFINED[name], Interval(x, x), FloatArithmetic())
    for p, low, high in zip(
        POINTS, np.broadcast_to(bounds.low, x.shape), np.broadcast_to(bounds.high, x.shape), strict=True
    ):
        expected = FUNCTIONS[name](p, *PARAMETERS.get(name, ()))
        assert F(float(low)) <= expected <= F(float(high))
        assert high - low < 1e-9


@pytest.mark.parametrize("name", DEFINED)
def test_float64_values_lie_on_their_side_of_short_numbers(name: str) -> None:
    """Far out float64 overflows, and 1 - 4e-18 is 1; a Quant that rounds down must see that it is less."""
    points = np.array([[-1000, -720, -40.0, -20, -1, -0.125], [0, 0.125, 3, 40, 720, 1000]])
    values = nearest_floats(DEFINED[name], points)
    for x, found in zip(points.ravel().tolist(), values.ravel().tolist(), strict=True):
        value = FunctionValue(DEFINED[name], F(x))
        tolerance = abs(F(found)) * F(1, 2**40) + F(1, 10**300)
        assert value.compare(F(found) - tolerance) > 0 > value.compare(F(found) + tolerance)
        for k in range(-16, 17):
            assert value.compare(F(k, 16)) == (found > k / 16) - (found < k / 16)


def test_float64_values_where_there_is_none() -> None:
    logarithms = nearest_floats(Call(Function.LOG, (X,)), np.array([-1.0, 1.0, np.nan]))
    assert np.isnan(logarithms).tolist() == [True, False, True]
    assert nearest_floats(Call(Function.EXP, (X,)), np.array([1e4, -1e4])).tolist() == [np.inf, 5e-324]


@pytest.mark.parametrize("x", [-1e9, -800.0, 800.0, 1e9])
def test_float_bounds_of_what_overflows_on_the_way(x: float) -> None:
    """exp(800) has no float64, sigmoid(-800) nearly has: codes far below 0 would all go to the decimals."""
    points = np.array([x])
    sigmoid, silu = (enclose(e, Interval(points, points), FloatArithmetic()) for e in (SIGMOID, SILU))
    assert sigmoid.low[0] <= float(x > 0) <= sigmoid.high[0] <= sigmoid.low[0] + 1e-12
    assert silu.low[0] <= max(x, 0.0) <= silu.high[0] <= silu.low[0] + 1e-12 * max(x, 1.0)
    over = enclose(Call(Function.EXP, (X,)), Interval(np.abs(points), np.abs(points)), FloatArithmetic())
    assert 1e308 < over.low[0] < over.high[0] == np.inf


def test_what_is_rational_is_compared_exactly() -> None:
    assert FunctionValue(SIGMOID, F(0)).compare(F(1, 2)) == 0
    assert FunctionValue(Call(Function.EXP, (X,)), F(0)).compare(F(1)) == 0
    assert FunctionValue(SILU, F(0)).compare(F(0)) == 0
    hard = Call(Function.MUL, (X, DEFINED["HardSigmoid"]))
    assert FunctionValue(hard, F(3, 4)).compare(F(3, 8)) == 0  # a tie that no decimal expansion of 1/3 decides


def test_pi_is_bounded_and_never_rational() -> None:
    pi = Call(Function.PI, ())
    assert rational(pi, F(0)) is None
    assert direction_of(Call(Function.MUL, (number(2), pi))) == 0
    for digits in (24, 96):
        bounds = enclose(pi, DecimalArithmetic(digits).number(F(0)), DecimalArithmetic(digits))
        assert bounds.low <= PI <= bounds.high
        assert F(bounds.high) - F(bounds.low) < F(1, 10 ** (digits - 4))
    low = FloatArithmetic().pi().low
    assert F(float(low)) < PI < F(float(low)) + F(1, 10**12)


def test_a_value_next_to_a_bound_is_decided_by_more_digits() -> None:
    near = F(str(Decimal(1).exp()))  # e to 28 digits
    assert FunctionValue(Call(Function.EXP, (X,)), F(1)).compare(near) == (1 if exponential(F(1)) > near else -1)


def test_what_cannot_be_decided_is_an_error_and_not_a_guess() -> None:
    """sigmoid(x) + sigmoid(-x) is 1, which no rule here knows."""
    mirrored = Call(Function.SIGMOID, (Call(Function.SUB, (number(0), X)),))
    with pytest.raises(UndecidedError):
        FunctionValue(Call(Function.ADD, (SIGMOID, mirrored)), F(1)).compare(F(1))


@pytest.mark.parametrize("function", [Function.LOG, Function.SQRT])
def test_functions_are_undefined_where_they_are(function: Function) -> None:
    with pytest.raises(NotANumberError):
        rational(Call(function, (X,)), F(-1))
    with pytest.raises(NotANumberError):
        rational(Call(Function.DIV, (number(1), X)), F(0))


@pytest.mark.parametrize(
    ("function", "at", "value"), [(Function.EXP, 0, 1), (Function.ERF, 0, 0), (Function.LOG, 1, 0)]
)
def test_each_transcendental_function_is_rational_at_one_rational(function: Function, at: int, value: int) -> None:
    for x in (F(n, 2) for n in range(-4, 5)):
        if x > 0 or function is not Function.LOG:
            exact = rational(Call(function, (X,)), x)
            assert exact == (value if x == at else None)
            assert exact is None or abs(exact - PRIMITIVES[function](x)) < F(1, 10**80)


def test_roots_of_squares_are_rational_below_1_too() -> None:
    root = Call(Function.SQRT, (X,))
    for value in (F(0), F(1, 4), F(9, 16), F(1), F(49, 4)):
        found = rational(root, value)
        assert found is not None
        assert found >= 0
        assert found * found == value
    assert rational(root, F(1, 2)) is None


CHAINS: list[tuple[tuple[Stage, ...], int | None]] = [
    ((FunctionStage(SIGMOID),), 1),
    ((FunctionStage(SILU),), None),
    ((FunctionStage(Call(Function.SUB, (number(0), SIGMOID))),), -1),
    ((Affine((F(-1),), (F(1, 3),), (F(2),), (F(1, 7),)), FunctionStage(DEFINED["Tanh"])), -1),
    ((FunctionStage(DEFINED["Elu"]), LeakyReluStage((F(1, 10),)), ClipStage(F(-1, 5), F(2))), 1),
    ((FunctionStage(SILU), SnapStage(F(1, 4), 1)), None),
    ((FunctionStage(DEFINED["Abs"]),), None),
    ((LeakyReluStage((F(-1, 3),)),), None),
    ((Affine((F(-1),), (F(1, 3),), (F(2),), (F(1, 7),)), LeakyReluStage((F(-1),)), ClipStage(F(-1), F(1))), None),
]


@pytest.mark.parametrize(("stages", "direction"), CHAINS)
def test_tables_are_the_rounded_function_at_every_code(stages: tuple[Stage, ...], direction: int | None) -> None:
    quantizer = Quantizer(Quantization(bits=6, signed=True, scale=Scale((F(1, 16),))))
    table = table_of(Scale((F(1, 9),)), stages, quantizer, -60, 70, 1)
    expected = [_code(stages, F(a, 9), quantizer) for a in range(-60, 71)]
    assert table[0].tolist() == expected
    staircase = staircase_of_table(table, -60)
    assert (staircase is None) == (direction is None)
    if staircase is not None:
        assert staircase(np.arange(-60, 71)).tolist() == expected
        searched = staircase_of(Scale((F(1, 9),)), stages, quantizer, -60, 70, 1)
        assert searched(np.arange(-60, 71)).tolist() == expected


@pytest.mark.parametrize("name", ["HALF_EVEN", "FLOOR", "CEIL", "UP", "ROUND_TO_ZERO"])
def test_few_codes_of_a_rising_function_are_decided_by_digits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of codes lie where sigmoid and tanh are nearly at their limits, as far as no digits tell."""
    decided: list[int] = []
    decide = table_module._decide_monotone
    monkeypatch.setattr(
        table_module, "_decide_monotone",
        lambda row, first, last, at: decide(row, first, last, lambda i: decided.append(i) or at(i)),  # type: ignore[func-returns-value]
    )  # fmt: skip
    rounding = RoundingMode.from_qonnx(name)
    assert rounding is not None
    step = F(1, 16)
    quantizer = Quantizer(Quantization(bits=6, signed=True, scale=Scale((step,))), rounding)
    for function, ends in {"Sigmoid": (F(0), F(1)), "Tanh": (F(-1), F(1))}.items():
        (row,) = table_of(Scale((F(2),)), (FunctionStage(DEFINED[function]),), quantizer, -5000, 5000, 1)
        beyond = [
            quantize_value(end, step, 6, True, False, name) for end in (ends[0] + F(1, 10**9), ends[1] - F(1, 10**9))
        ]
        assert set(row[: 5000 - 12]) == {beyond[0]}
        assert set(row[5000 + 13 :]) == {beyond[1]}
    assert (name != "HALF_EVEN") <= len(decided) < 100  # no half code lies near a limit


def test_tables_per_channel_and_without_the_float_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = (Affine((F(1), F(-2)), (F(0), F(1)), (F(1), F(3)), (F(0), F(1, 2))), FunctionStage(SILU))
    quantizer = Quantizer(Quantization(bits=7, signed=True, scale=Scale((F(1, 11),))))
    filtered = table_of(Scale((F(1, 9),)), stages, quantizer, -60, 70, 2)
    q = quantizer.quantization
    nothing = lambda y, *_: (np.full(y.low.shape, q.low), np.full(y.low.shape, q.high))  # noqa: E731
    monkeypatch.setattr(table_module, "codes_within", nothing)
    np.testing.assert_array_equal(table_of(Scale((F(1, 9),)), stages, quantizer, -60, 70, 2), filtered)
    assert len(filtered) == 2
    assert (filtered[0] != filtered[1]).any()


@pytest.mark.parametrize("x", [X, Call(Function.SUB, (number(1), X)), number(-2), number(F(1, 3))], ids=str)
def test_directions_are_those_of_the_values(x: Expression) -> None:
    """Known of what is linear, and of activations whose parameters are not negative."""
    numbers = [number(n) for n in (F(-2), F(0), F(1, 3), F(2))]
    for a in numbers:
        linear = [Call(f, pair) for f in (Function.ADD, Function.SUB, Function.MUL) for pair in ((x, a), (a, x))]
        linear += [Call(Function.DIV, (x, a))] if a.value else []
        for expression in linear:
            assert direction_of(expression) == np.sign(_values(expression, 0, 1)[1] - _values(expression, 0, 1)[0])
        for b in numbers:
            for expression, least in (
                (Call(Function.RELU, (x, a)), a.value),
                (Call(Function.HARD_SIGMOID, (x, a, b)), min(a.value, b.value)),
            ):
                direction, values = direction_of(expression), _values(expression, -4, 4)
                assert (direction is None) == (least < 0)
                if direction == 0:
                    assert len(set(values)) == 1
                elif direction is not None:
                    assert values == sorted(values, reverse=direction < 0)
    assert direction_of(Call(Function.DIV, (x, number(0)))) is None
    assert direction_of(Call(Function.DIV, (number(1), X))) is None


def _values(expression: Expression, first: int, last: int) -> list[Fraction]:
    values = [rational(expression, F(x)) for x in range(first, last + 1)]
    return [value for value in values if value is not None]


def test_directions() -> None:
    assert direction_of(SIGMOID) == 1
    assert direction_of(SILU) is None
    assert direction_of(Call(Function.MUL, (number(-2), SIGMOID))) == -1
    assert direction_of(Call(Function.DIV, (SIGMOID, number(-2)))) == -1
    assert direction_of(Call(Function.SUB, (SIGMOID, Call(Function.TANH, (X,))))) is None
    assert direction_of(Call(Function.ADD, (SIGMOID, X))) == 1
    assert direction_of(Call(Function.ELU, (X, number(-1)))) is None
    assert direction_of(number(3)) == 0


def _code(stages: tuple[Stage, ...], x: Fraction, quantizer: Quantizer) -> int:
    from oracle import round_by_name, square_root

    for stage in stages:
        match stage:
            case FunctionStage():
                x = _by_series(stage.expression, x)
            case Affine():
                x = (stage.factor[0] * x + stage.addend[0]) / square_root(stage.radicand[0]) + stage.offset[0]
            case LeakyReluStage():
                x = x if x >= 0 else x * stage.alpha(0)
            case ClipStage():
                x = min(max(x, stage.low), stage.high)  # type: ignore[type-var]
            case SnapStage():
                x = (round_by_name(x / stage.step + stage.zero_point, "ROUND") - stage.zero_point) * stage.step
    q = quantizer.quantization
    return quantize_value(x, q.scale.step, q.bits, q.signed, q.narrow, "ROUND")


def _by_series(expression: Expression, x: Fraction) -> Fraction:
    named = {str(e): (lambda t, n=n: FUNCTIONS[n](t, *PARAMETERS.get(n, ()))) for n, e in DEFINED.items()}
    named |= {str(SILU): lambda t: t * FUNCTIONS["Sigmoid"](t)}
    negated = Call(Function.SUB, (number(0), SIGMOID))
    named |= {str(negated): lambda t: -FUNCTIONS["Sigmoid"](t)}
    return named[str(expression)](x)
