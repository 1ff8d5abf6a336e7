"""Bounds of convolutions: those of a plain sum of integers, however many channels are looked at together; of tables."""

from __future__ import annotations

import numpy as np
import pytest

from pefslc.analysis.ranges import conv_bounds, result_range
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Origin
from pefslc.geometry.shapes import Window
from pefslc.ir.integer import Clamp, Lookup, Product, Rescale, Sum, SumPool
from pefslc.ir.structural import Pad
from pefslc.ir.value import CodeRange, IntArray, TensorType, Value
from pefslc.numeric import accumulate
from pefslc.numeric.scale import Scale

ORIGIN = Origin("n", "Op")


@pytest.mark.parametrize("at_once", [0, 1, 7, 8, 12, 16, 24, 28, 1 << 20])
@pytest.mark.parametrize("channels", [1, 2, 3, 6, 7])
def test_bounds_do_not_depend_on_how_many_channels_are_looked_at_together(
    channels: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four weights a channel: from less than one channel at a time to all at once, and a rest."""
    monkeypatch.setattr(accumulate, "_AT_ONCE", at_once)
    weight = np.random.default_rng(channels).integers(-9, 10, (channels, 2, 1, 2))
    low, high = conv_bounds(weight, Window(kernel=(1, 2)), -3, 5)
    for c in range(channels):
        own = weight[c].reshape(-1).tolist()
        assert int(low[c]) == sum(min(-3 * w, 5 * w, 0) for w in own)
        assert int(high[c]) == sum(max(-3 * w, 5 * w, 0) for w in own)


def test_no_inputs_make_sums_of_zero() -> None:
    low, high = conv_bounds(np.zeros((3, 0, 1, 1), dtype=np.int64), Window(kernel=(1, 1)), -3, 5)
    assert low.tolist() == high.tolist() == [0, 0, 0]


def test_a_table_makes_the_codes_of_its_entries_that_can_be_read() -> None:
    """Every range of codes of a table of two channels that begins at -2."""
    table = np.array([[5, -3, 8, 0, 2], [1, 1, -7, 4, 9]])
    for low in range(-2, 3):
        for high in range(low, 3):
            read = [int(table[c, code + 2]) for c in range(2) for code in range(low, high + 1)]
            op = Lookup(result=value("y"), input=value("x", low, high), low=-2, table=IntArray(table))
            assert result_range(op) == (min(read), max(read))


RANGES = [(low, high) for low in range(-3, 4) for high in range(low, 4)]


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_codes_of_two_operands_lie_between_the_least_and_the_most_of_all_pairs(low: int, high: int) -> None:
    for other in RANGES:
        pairs = [(a, b) for a in range(low, high + 1) for b in range(other[0], other[1] + 1)]
        operands = {"lhs": value("x", low, high), "rhs": value("z", *other)}
        sums, products = [a + b for a, b in pairs], [a * b for a, b in pairs]
        assert result_range(Sum(result=value("y"), **operands)) == (min(sums), max(sums))
        assert result_range(Product(result=value("y"), **operands)) == (min(products), max(products))
        clamped = [min(max(a, other[0]), other[1]) for a, _ in pairs]
        clamp = Clamp(result=value("y"), input=value("x", low, high), low=other[0], high=other[1])
        assert result_range(clamp) == (min(clamped), max(clamped))


@pytest.mark.parametrize("factor", [-3, -1, 1, 2])
def test_rescaled_codes_lie_between_both_ends(factor: int) -> None:
    for low, high in RANGES:
        scaled = [code * factor for code in (low, high)]
        assert result_range(Rescale(result=value("y"), input=value("x", low, high), factor=factor)) == (
            min(scaled),
            max(scaled),
        )


@pytest.mark.parametrize("factors", [None, [[6, 3], [2, 1]], [[1, 1], [1, 5]]])
def test_sums_of_windows_lie_between_those_of_the_least_and_the_most_taps(factors: list[list[int]] | None) -> None:
    """Windows of 2 x 2 over 3 x 3 pixels and a row and a column of padding: 1, 2, 2 and 4 taps inside."""
    window = Window(kernel=(2, 2), strides=(2, 2), pads=(1, 1, 0, 0))
    inside = np.array([[1, 2], [2, 4]])
    given = None if factors is None else IntArray(np.array(factors))
    for low, high in RANGES:
        x = Value("x", TensorType((1, 1, 3, 3), CodeRange(low=low, high=high, scale=Scale.power_of_two(0))), ORIGIN)
        found = result_range(SumPool(result=value("y"), input=x, window=window, factors=given))
        if given is None:  # whatever the padding covers
            assert found == (4 * min(low, 0), 4 * max(high, 0))
        else:
            ends = [int(n) * code for n in (inside * given.data).reshape(-1) for code in (low, high)]
            assert found == (min(ends), max(ends))


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_padding_is_one_more_code(low: int, high: int) -> None:
    for zero in range(-2, 3):
        element = CodeRange(low=-9, high=9, scale=Scale.power_of_two(0), zero_point=zero)
        padded = Value("y", TensorType((1, 2, 3, 3), element), ORIGIN)
        assert result_range(
            Pad(result=padded, input=value("x", low, high), before=(0, 0, 1, 1), after=(0, 0, 1, 1))
        ) == (
            min(low, zero),
            max(high, zero),
        )


@pytest.mark.parametrize("sign", [1, -1])
def test_codes_beyond_64_bits_are_refused_on_both_sides(sign: int) -> None:
    lhs, rhs = value("x", *sorted((0, sign << 40))), value("z", 0, 1 << 40)
    with pytest.raises(CompileError) as caught:
        result_range(Product(result=value("y"), lhs=lhs, rhs=rhs))
    assert caught.value.problems[0].code is Code.BEYOND_64_BITS


def value(name: str, low: int = 0, high: int = 0) -> Value:
    return Value(name, TensorType((1, 2, 1, 1), CodeRange(low=low, high=high, scale=Scale.power_of_two(0))), ORIGIN)
