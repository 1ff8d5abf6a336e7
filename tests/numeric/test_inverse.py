"""Steps of functions by brackets in float64, against tables of every code, and how few steps take digits."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pefslc.numeric.chain import Chain
from pefslc.numeric.enclosure import FunctionValue
from pefslc.numeric.expression import Call, Expression, Function, X, direction_of, number
from pefslc.numeric.format import Quantization
from pefslc.numeric.inverse import inverse_bracket
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, ClipStage, FunctionStage, Stage
from pefslc.numeric.staircase import Staircase, staircase_of
from pefslc.numeric.table import table_of

F = Fraction

MONOTONE: dict[str, Expression] = {
    "tanh": Call(Function.TANH, (X,)),
    "sigmoid": Call(Function.SIGMOID, (X,)),
    "falling sigmoid": Call(Function.SUB, (number(1), Call(Function.SIGMOID, (X,)))),
    "elu": Call(Function.ELU, (X, number(F(1, 2)))),
    "selu": Call(Function.SELU, (X, number(F(5, 3)), number(F(21, 20)))),
    "softplus": Call(Function.SOFTPLUS, (X,)),
    "softsign": Call(Function.SOFTSIGN, (X,)),
    "erf": Call(Function.ERF, (X,)),
    "exp": Call(Function.EXP, (X,)),
    "hard sigmoid": Call(Function.HARD_SIGMOID, (X, number(F(1, 6)), number(F(1, 2)))),
}


def number_of(value: float) -> Fraction:
    return F(float(np.float32(value)))


def staircase(function: Expression, step: float, out: float, bits: int, last: int, biases: list[float]) -> Staircase:
    stages: tuple[Stage, ...] = (Affine.bias(tuple(map(number_of, biases))), FunctionStage(function))
    quantizer = Quantizer(Quantization(bits=bits, signed=True, narrow=False, scale=Scale((number_of(out),))))
    return staircase_of(Scale((number_of(step),)), stages, quantizer, -last, last, len(biases))


@pytest.mark.parametrize("name", MONOTONE)
def test_a_staircase_of_a_function_is_its_table(name: str) -> None:
    """Flat ends, steps beyond all values, and every step between, of three biases."""
    for step, out in ((0.003, 0.011), (0.02, 2.0**-7)):
        biases = [0.0, 0.4711, -1.25]
        found = staircase(MONOTONE[name], step, out, 8, 900, biases)
        stages = (Affine.bias(tuple(map(number_of, biases))), FunctionStage(MONOTONE[name]))
        quantizer = Quantizer(Quantization(bits=8, signed=True, narrow=False, scale=Scale((number_of(out),))))
        wanted = table_of(Scale((number_of(step),)), stages, quantizer, -900, 900, 3)
        np.testing.assert_array_equal(found(np.tile(np.arange(-900, 901), (3, 1))), wanted)


@pytest.mark.parametrize("name", ["sqrt", "log"])
def test_a_function_of_positive_numbers_alone_has_its_steps_there(name: str) -> None:
    function = FunctionStage(Call(Function[name.upper()], (X,)))
    stages: tuple[Stage, ...] = (ClipStage(F(1, 1000), None), function, ClipStage(F(-3), F(2)))
    scale, quantizer = Scale((number_of(0.01),)), Quantizer(Quantization(bits=8, signed=True, scale=Scale((F(1, 50),))))
    wanted = table_of(scale, stages, quantizer, -90, 900, 1)
    np.testing.assert_array_equal(staircase_of(scale, stages, quantizer, -90, 900, 1)(np.arange(-90, 901)), wanted[0])


@given(st.data())
def test_the_function_is_on_either_side_of_a_bracket_as_digits_say(data: st.DataObject) -> None:
    function = MONOTONE[data.draw(st.sampled_from(sorted(MONOTONE)))]
    sign = -1 if function == MONOTONE["falling sigmoid"] else 1
    y = np.array(data.draw(st.lists(st.floats(-3, 3), min_size=1, max_size=5)))
    low, high = inverse_bracket(function, direction_of(function), y, np.full(y.shape, 2.0**-50))
    for level, below, above in zip(y.tolist(), low.tolist(), high.tolist(), strict=True):
        if abs(below) < 100:
            assert FunctionValue(function, F(below)).compare(F(level)) == -sign
        if abs(above) < 100:
            assert FunctionValue(function, F(above)).compare(F(level)) == sign
        if 0.1 < level < 0.4 and np.isfinite(below):
            assert above - below < 1e-9, "of use only where it is narrow"


def test_a_tanh_of_16_bits_takes_digits_at_few_of_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    search = Chain.search

    def counted(self: Chain, *arguments) -> int:  # type: ignore[no-untyped-def]
        taken.append(self.channel)
        return search(self, *arguments)

    monkeypatch.setattr(Chain, "search", counted)
    rng = np.random.default_rng(0)
    found = staircase(MONOTONE["tanh"], 9.23e-7, 0.00021, 16, 1 << 26, rng.normal(0, 0.2, 4).tolist())
    assert found.channels * found.steps > 30_000
    assert len(taken) < found.channels * found.steps // 100
