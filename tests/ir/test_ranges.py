"""Bounds of convolutions: those of a plain sum of integers, however many channels are looked at together; of tables."""

from __future__ import annotations

import numpy as np
import pytest

from pefslc.analysis import ranges
from pefslc.analysis.ranges import conv_bounds, result_range
from pefslc.diagnostics.errors import Origin
from pefslc.geometry.shapes import Window
from pefslc.ir.integer import Lookup
from pefslc.ir.value import CodeRange, IntArray, TensorType, Value
from pefslc.numeric.scale import Scale

ORIGIN = Origin("n", "Op")


@pytest.mark.parametrize("at_once", [0, 1, 7, 8, 12, 16, 24, 28, 1 << 20])
@pytest.mark.parametrize("channels", [1, 2, 3, 6, 7])
def test_bounds_do_not_depend_on_how_many_channels_are_looked_at_together(
    channels: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four weights a channel: from less than one channel at a time to all at once, and a rest."""
    monkeypatch.setattr(ranges, "_AT_ONCE", at_once)
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


def value(name: str, low: int = 0, high: int = 0) -> Value:
    return Value(name, TensorType((1, 2, 1, 1), CodeRange(low=low, high=high, scale=Scale.power_of_two(0))), ORIGIN)
