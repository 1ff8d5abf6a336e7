"""Functions that turn once are two staircases: on every code of small domains, at the steps of wide ones."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pefslc.numeric import turning
from pefslc.numeric.enclosure import FunctionValue
from pefslc.numeric.expression import Call, Expression, Function, X, number, substitute
from pefslc.numeric.format import Quantization
from pefslc.numeric.polynomial import fit_polynomial
from pefslc.numeric.quantizer import Quantizer, chain_value
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.runs import Runs, staircase_of_runs
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, ClipStage, FunctionStage, LeakyReluStage, Root, SnapStage, Stage
from pefslc.numeric.table import table_of
from pefslc.numeric.turning import parted_staircases, turning_staircases

F = Fraction
SIGMOID = Call(Function.SIGMOID, (X,))
SILU = Call(Function.MUL, (X, SIGMOID))
FALLING_LINE = Affine((F(-1),), (F(1, 3),), (F(2),), (F(1, 7),))
CHAINS: list[tuple[Stage, ...]] = [
    (FunctionStage(SIGMOID),),
    (FunctionStage(SILU),),
    (FunctionStage(Call(Function.SUB, (number(0), SIGMOID))),),
    (FALLING_LINE, FunctionStage(Call(Function.TANH, (X,)))),
    (FunctionStage(SILU), SnapStage(F(1, 4), 1)),
    (FunctionStage(Call(Function.ABS, (X,))),),
    (LeakyReluStage((F(-1, 3),)),),
    (FALLING_LINE, LeakyReluStage((F(-1),)), ClipStage(F(-1), F(1))),
]


def quantizer(bits: int) -> Quantizer:
    return Quantizer(Quantization(bits=bits, signed=True, scale=Scale((F(1, 16),))))


@pytest.mark.parametrize("size", [1, 2, 3, 511, 512, 513, 1025])
@pytest.mark.parametrize("low", [-300, 7])
def test_domains_of_any_size_are_two_staircases(low: int, size: int) -> None:
    """Of one code, of as many as are looked at first, and of one more."""
    arguments = Scale((F(1, 9),)), (FunctionStage(SILU),), quantizer(6), low, low + size - 1, 1
    parts = turning_staircases(*arguments)
    assert parts is not None
    codes = np.arange(low, low + size)
    assert (parts[0](codes) + parts[1](codes)).tolist() == table_of(*arguments)[0].tolist()


@pytest.mark.parametrize("size", [101, 1201])
def test_only_ties_are_decided_by_digits_and_each_once(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of |a| / 2 those are the odd codes, as far as the quantizer does not saturate."""
    decided: list[Fraction] = []

    def value(stages: tuple[Stage, ...], x: Fraction, channel: int) -> Root | FunctionValue:
        decided.append(x)
        return chain_value(stages, x, channel)

    monkeypatch.setattr(turning, "chain_value", value)
    stages, last = (FunctionStage(Call(Function.ABS, (X,))),), size // 2
    assert turning_staircases(Scale((F(1, 32),)), stages, quantizer(6), -last, last, 1) is not None
    assert sorted(decided) == [F(a, 32) for a in range(-last, last + 1) if a % 2 and abs(a) < 62]


@pytest.mark.parametrize("stages", CHAINS)
def test_two_staircases_that_add_up_to_the_table(stages: tuple[Stage, ...]) -> None:
    quantizer = Quantizer(Quantization(bits=6, signed=True, scale=Scale((F(1, 16),))))
    table = table_of(Scale((F(1, 9),)), stages, quantizer, -60, 70, 1)
    parts = turning_staircases(Scale((F(1, 9),)), stages, quantizer, -60, 70, 1)
    assert parts is not None
    codes = np.arange(-60, 71)
    assert (parts[0](codes) + parts[1](codes) == table[0]).all()


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=30), st.integers(-9, 9))
def test_a_row_that_turns_once_is_the_sum_of_two_staircases(changes: list[int], low: int) -> None:
    """Rising, falling, a valley, a peak: and what turns twice is none."""
    row = np.cumsum(changes)
    parts = Runs.of(row, low).parts()
    signs = np.sign(np.diff(row))
    turns = np.count_nonzero(np.diff(signs[signs != 0]))
    assert (parts is None) == (turns > 1)
    if parts is not None:
        domain = low + np.arange(len(row))
        before, after = (staircase_of_runs([part]) for part in parts)
        assert before is not None
        assert after is not None
        assert (before(domain) + after(domain) == row).all()


def test_a_wide_domain_of_several_channels_takes_few_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    """2^40 codes: the sum of the staircases is the code, at the steps and everywhere between."""
    monkeypatch.setattr(turning, "_MOST_BLOCKS", 30_000)
    factor, offset = (F(1), F(-2), F(0), F(1, 3)), (F(0), F(1), F(-1), F(2))
    stages = (Affine(factor, offset, (F(1), F(3), F(1), F(2)), (F(0),) * 4), FunctionStage(SILU))
    quantizer = Quantizer(Quantization(bits=7, signed=True, scale=Scale((F(1, 11),))))
    scale, low, high = Scale((F(1, 2**35),)), -(2**40), 2**40 - 1
    parts = turning_staircases(scale, stages, quantizer, low, high, 4)
    assert parts is not None
    points = np.unique(np.concatenate([part.critical_codes().reshape(-1) for part in parts] + [np.arange(-3, 4)]))
    for c in range(4):
        expected = [quantizer.code_of(chain_value(stages, scale.step * int(a), c), c) for a in points]
        assert (sum(part(np.tile(points, (part.channels, 1)))[c % part.channels] for part in parts) == expected).all()


def test_what_turns_twice_or_takes_too_many_evaluations_is_no_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    quantizer = Quantizer(Quantization(bits=6, signed=True, scale=Scale((F(1, 16),))))
    cubic = Call(Function.SUB, (Call(Function.MUL, (X, Call(Function.MUL, (X, X)))), X))
    assert turning_staircases(Scale((F(1, 9),)), (FunctionStage(cubic),), quantizer, -60, 70, 1) is None
    silu = (Scale((F(1, 9),)), (FunctionStage(SILU),), quantizer, -60, 70, 1)
    for limit in ("_MOST_BLOCKS", "_MOST_DECISIONS"):
        monkeypatch.undo()
        assert turning_staircases(*silu) is not None
        monkeypatch.setattr(turning, limit, -1)
        assert turning_staircases(*silu) is None


def mul(*factors: Expression) -> Expression:
    return Call(Function.MUL, factors)


def plus(*terms: Expression) -> Expression:
    return Call(Function.ADD, terms)


def scaled(function: Expression, by: Fraction) -> Expression:
    return substitute(function, mul(number(by), X))


# Valleys, a peak, kinks; what the halves of each are for their own sake is of no account here.
FUNCTIONS: dict[str, Expression] = {
    "silu": SILU,
    "silu upside down": Call(Function.SUB, (number(0), SILU)),
    "gelu": mul(X, plus(number(F(1, 2)), mul(number(F(1, 2)), scaled(Call(Function.ERF, (X,)), F(5, 7))))),
    "mish": mul(X, Call(Function.TANH, (Call(Function.SOFTPLUS, (X,)),))),
    "hard swish": mul(X, Call(Function.HARD_SIGMOID, (X, number(F(1, 6)), number(F(1, 2))))),
    "hard swish of other slopes": mul(X, Call(Function.HARD_SIGMOID, (X, number(F(1, 5)), number(F(1, 2))))),
    "parabola": plus(mul(X, X), X),
    "two parabolas": Call(Function.MAX, (mul(X, X), plus(mul(X, X), X))),
    "bell": Call(Function.EXP, (Call(Function.SUB, (number(1), mul(X, X))),)),
}
SLOPES = (F(1), F(-3, 4), F(5, 9), F(-1, 8))
OFFSETS = (F(0), F(1, 3), F(-1, 2), F(1, 7))
ROUNDINGS = ("HALF_EVEN", "HALF_AWAY", "CEIL", "TO_ZERO")
STAYS_AT_0 = ("hard swish", "hard swish of other slopes", "two parabolas")


def behind_four_lines(
    function: Stage, last: int, bits: int, rounding: str = "HALF_EVEN"
) -> tuple[Scale, tuple[Stage, ...], Quantizer, int, int, int]:
    """Four channels of other slopes, of both signs, that reach 6 at most."""
    line = Affine(SLOPES, (F(0),) * 4, (F(1),) * 4, OFFSETS)
    unit = Scale((F(float(np.float32(10.97 / (1 << bits)))),))
    found = Quantizer(Quantization(bits=bits, signed=True, scale=unit), RoundingMode[rounding])
    return Scale((F(11, 2 * last),)), (line, function), found, -last, last, 4


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_parted_at_its_turn_a_function_is_its_table_at_every_code(name: str, rounding: str) -> None:
    last = 1500
    arguments = behind_four_lines(FunctionStage(FUNCTIONS[name]), last, 11, rounding)
    parts = parted_staircases(*arguments)
    if rounding == "CEIL" and name in STAYS_AT_0:  # on a bound: no float says on which side of it
        assert parts is None
        return
    assert parts is not None
    codes = np.tile(np.arange(-last, last + 1), (4, 1))
    np.testing.assert_array_equal(parts[0](codes) + parts[1](codes), table_of(*arguments))


@pytest.mark.parametrize("alphas", [(F(-1),), (F(-1, 3),), (F(1, 2), F(-1, 4), F(0), F(-2)), (F(1), F(2), F(-1), F(3))])
@pytest.mark.parametrize("behind", [(), (ClipStage(F(-1), F(3)),), (Affine.bias((F(2, 3),)), LeakyReluStage())])
def test_two_lines_that_meet_at_0_are_parted_there(alphas: tuple[Fraction, ...], behind: tuple[Stage, ...]) -> None:
    last = 700
    scale, stages, *rest = behind_four_lines(LeakyReluStage(alphas), last, 10)
    parts = parted_staircases(scale, (*stages, *behind), *rest)
    assert parts is not None
    codes = np.tile(np.arange(-last, last + 1), (4, 1))
    wanted = table_of(scale, (*stages, *behind), *rest)
    np.testing.assert_array_equal(parts[0](codes) + parts[1](codes), np.broadcast_to(wanted, codes.shape))


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "bell"])
def test_both_parts_are_polynomials_at_every_code_of_a_small_domain(name: str) -> None:
    last = 3000
    parts = parted_staircases(*behind_four_lines(FunctionStage(FUNCTIONS[name]), last, 12))
    assert parts is not None
    codes = np.tile(np.arange(-last, last + 1), (4, 1))
    for part in parts:
        if part.steps > 100:
            found = fit_polynomial(part)
            assert found is not None
            np.testing.assert_array_equal(found(codes), part(codes))


@pytest.mark.parametrize("name", ["silu", "gelu", "hard swish"])
def test_16_bits_behind_35_are_few_kilobytes_that_digits_agree_with(name: str) -> None:
    """At codes drawn anywhere, at the steps, and about the turn, where thousands of sums have one code."""
    last, rng = 1 << 34, np.random.default_rng(3)
    scale, stages, quantizer, *rest = behind_four_lines(FunctionStage(FUNCTIONS[name]), last, 16)
    parts = parted_staircases(scale, stages, quantizer, *rest)
    assert parts is not None
    fitted = [fit_polynomial(part) for part in parts]
    assert all(found is not None and found.coefficients.nbytes <= 1 << 15 for found in fitted)
    steps = np.concatenate([part.critical_codes()[:, rng.integers(0, 2 * part.steps, 20)] for part in parts], axis=1)
    turn = [int((F(-13, 10) - offset) / slope / scale.step) for slope, offset in zip(SLOPES, OFFSETS, strict=True)]
    codes = np.concatenate(
        [
            steps,
            rng.integers(-last, last, (4, 20)),
            np.clip(np.array(turn)[:, None] + np.arange(-5, 5) * 2**20, -last, last),
        ],
        axis=1,
    )
    found = sum(part(codes) for part in fitted if part is not None)
    wanted = [
        [quantizer.code_of(chain_value(stages, scale.step * a, c), c) for a in row]
        for c, row in enumerate(codes.tolist())
    ]
    np.testing.assert_array_equal(found, wanted)


def test_channels_that_differ_behind_the_function_are_not_parted() -> None:
    scale, stages, *rest = behind_four_lines(FunctionStage(SILU), 900, 12)
    assert parted_staircases(scale, (*stages, Affine.bias((F(0), F(1), F(0), F(0)))), *rest) is None
    leaky = (*stages[:1], LeakyReluStage((F(-1),)), Affine.bias((F(0), F(1), F(0), F(0))))
    assert parted_staircases(scale, leaky, *rest) is None
