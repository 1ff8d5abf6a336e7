"""The number rules against exact rationals, over all small inputs."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pefslc.targets.tensil.machine.architecture import Architecture, DataType
from pefslc.targets.tensil.machine.arithmetic import multiply_accumulate, saturate, simd
from pefslc.targets.tensil.machine.instructions import SimdOperation
from pefslc.targets.tensil.simulate.systolic_array import SystolicArray

FP8 = DataType.FP8BP4
ALL = np.arange(-128, 128)
X, Y = (grid.ravel() for grid in np.meshgrid(ALL, ALL))


def clip(value: Fraction | int, data_type: DataType) -> int:
    """The code of an exact value in units of the last place: rounded half to even (as Python does), saturated."""
    return min(max(round(value), data_type.min_code), data_type.max_code)


def mac(x: int, w: int, z: int, data_type: DataType) -> int:
    return clip(Fraction(x * w, data_type.one) + z, data_type)


@pytest.mark.parametrize("z", [-128, -127, -65, -2, -1, 0, 1, 2, 3, 64, 126, 127])
def test_mac_over_all_codes(z: int) -> None:
    products = X * Y
    oracle = {int(p): mac(int(p), 1, z, FP8) for p in np.unique(products)}
    found, _ = saturate(multiply_accumulate(X, Y, z, FP8), FP8)
    assert found.tolist() == [oracle[p] for p in products.tolist()]


def test_the_tie_goes_to_the_even_sum() -> None:
    one, half = np.array([1]), np.array([8])  # 1/16 * 1/2: half a unit in the last place
    assert multiply_accumulate(one, half, 1, FP8).tolist() == [2]
    assert multiply_accumulate(one, half, 0, FP8).tolist() == [0]


ORACLES = {
    SimdOperation.ZERO: lambda _x, _y: 0,
    SimdOperation.MOVE: lambda x, _y: x,
    SimdOperation.NOT: lambda x, _y: 16 * (x == 0),
    SimdOperation.AND: lambda x, y: 16 * (x != 0 and y != 0),
    SimdOperation.OR: lambda x, y: 16 * (x != 0 or y != 0),
    SimdOperation.INCREMENT: lambda x, _y: x + 16,
    SimdOperation.DECREMENT: lambda x, _y: x - 16,
    SimdOperation.ADD: lambda x, y: x + y,
    SimdOperation.SUBTRACT: lambda x, y: x - y,
    SimdOperation.MULTIPLY: lambda x, y: Fraction(x * y, 16),
    SimdOperation.ABS: lambda x, _y: x if x == -128 else abs(x),
    SimdOperation.GREATER_THAN: lambda x, y: 16 * (x > y),
    SimdOperation.GREATER_THAN_EQUAL: lambda x, y: 16 * (x >= y),
    SimdOperation.MIN: min,
    SimdOperation.MAX: max,
}


@pytest.mark.parametrize("operation", list(ORACLES))
def test_simd_over_all_codes(operation: SimdOperation) -> None:
    found, saturated = simd(operation, X, Y, FP8)
    exact = [ORACLES[operation](x, y) for x, y in zip(X.tolist(), Y.tolist(), strict=True)]
    assert found.tolist() == [clip(value, FP8) for value in exact]
    assert saturated == any(not -128 <= round(value) <= 127 for value in exact)


@pytest.mark.parametrize("data_type", list(DataType))
def test_the_largest_products_are_exact(data_type: DataType) -> None:
    for x in (data_type.min_code, data_type.max_code):
        for z in (data_type.min_code, data_type.max_code):
            found = saturate(multiply_accumulate(np.array([x]), np.array([x]), z, data_type), data_type)[0]
            assert found.tolist() == [mac(x, x, z, data_type)]


def chain(x: NDArray[np.int64], weights: NDArray[np.int64], data_type: DataType) -> tuple[list[list[int]], bool]:
    """One MAC after the other in Python integers; and whether any sum left the range."""
    result, saturated = [], False
    for vector in x.tolist():
        lanes = []
        for lane in range(weights.shape[1]):
            total = int(weights[0, lane])
            for value, weight in zip(vector, weights[1:, lane].tolist(), strict=True):
                exact = round(Fraction(value * weight, data_type.one) + total)
                total = clip(exact, data_type)
                saturated |= exact != total
            lanes.append(total)
        result.append(lanes)
    return result, saturated


def architecture(data_type: DataType) -> Architecture:
    return Architecture(data_type, 3, 16, 16, 16, 16, 1, 1, 1, 1, 8)


@given(st.data(), st.sampled_from(DataType))
def test_products_with_weights_equal_the_chain(data: st.DataObject, data_type: DataType) -> None:
    """Both shortcuts and the chain, on data that is just inside and just outside their conditions."""

    def codes(rows: int) -> NDArray[np.int64]:
        shift = data.draw(st.integers(0, data_type.width_bits - 1))
        bits = data.draw(st.integers(0, data_type.width_bits - 1 - shift))
        value = st.sampled_from([0, 1]) | st.integers(-(1 << bits), (1 << bits) - 1)
        rows_ = data.draw(st.lists(st.lists(value, min_size=3, max_size=3), min_size=rows, max_size=rows))
        return np.clip(np.array(rows_, dtype=np.int64) << shift, data_type.min_code, data_type.max_code)

    array = SystolicArray(architecture(data_type))
    weights = np.concatenate((codes(1), codes(3)))
    array.load(weights)
    x = codes(data.draw(st.integers(1, 4)))
    found, saturated = array.multiply(x)
    expected, expected_saturated = chain(x, weights, data_type)
    assert found.tolist() == expected
    assert saturated == expected_saturated


def test_exact_products_at_the_edge_of_saturation() -> None:
    """One more unit in the input, the bias or a weight, and a prefix saturates though the sum would fit again."""
    for bias, x, w in [(0, 127, 256), (7, 127, 256), (-8, 127, 256), (1, 128, 256), (0, 128, 256)]:
        array = SystolicArray(architecture(DataType.FP16BP8))
        weights = np.array([[bias] * 3, [w * 127] * 3, [-w * 127] * 3, [w * 127] * 3])
        array.load(weights)
        vectors = np.array([[x, x, x], [2 * x, x, 1]])
        assert (array.multiply(vectors)[0].tolist(), array.multiply(vectors)[1]) == chain(
            vectors, weights, DataType.FP16BP8
        )


def test_the_lowest_code_times_minus_one_saturates() -> None:
    """The first input beyond the shortcut's bound: 32768 does not fit."""
    array = SystolicArray(architecture(DataType.FP16BP8))
    array.load(np.array([[0] * 3, [-256, 256, 0], [0] * 3, [0] * 3]))
    assert array.multiply(np.array([[-32768, 0, 0]]))[0].tolist() == [[32767, -32768, 0]]
    assert array.multiply(np.array([[-32767, 0, 0]]))[0].tolist() == [[32767, -32767, 0]]


def test_partial_loads_shift_older_rows_up() -> None:
    array = SystolicArray(architecture(DataType.FP16BP8))
    rows = np.arange(18).reshape(6, 3)
    array.load(rows[:4])
    array.load(rows[4:])
    assert array.weights.tolist() == rows[[4, 5, 0, 1]].tolist()
    array.load(rows)
    assert array.weights.tolist() == rows[:4].tolist()
