"""The integer operations against naive loops, and their ranges against brute force."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pefslc.analysis.ranges import partial_sums, result_range
from pefslc.diagnostics.errors import CompileError, Origin
from pefslc.geometry.shapes import Window
from pefslc.ir.integer import Clamp, Conv2d, Dense, IntegerOp, Requantize, Rescale, Round, Sum, SumPool
from pefslc.ir.semantics import conv2d, dense, evaluate
from pefslc.ir.semantics import windows as taps_of
from pefslc.ir.structural import Concat, MaxPool, Reshape, Transpose
from pefslc.ir.value import CodeRange, IntArray, TensorType, Value
from pefslc.numeric.line import BentLine
from pefslc.numeric.scale import Scale
from pefslc.numeric.staircase import Staircase

Ints = NDArray[np.int64]

windows = st.builds(
    lambda kernel, strides, dilations, pads: Window(kernel=kernel, strides=strides, dilations=dilations, pads=pads),
    st.tuples(*[st.integers(1, 3)] * 2),
    st.tuples(*[st.integers(1, 3)] * 2),
    st.tuples(*[st.integers(1, 2)] * 2),
    st.tuples(*[st.integers(0, 2)] * 4),
)


def fitting(window: Window, shape: tuple[int, ...]) -> bool:
    return min(window.output_size(*shape[2:])) >= 1


def taps(x: Ints, window: Window, n: int, c: int, i: int, j: int, outside: int | None) -> list[int | None]:
    """The inputs under one window, row by row; None outside."""
    found: list[int | None] = []
    for u, v in product(range(window.kernel[0]), range(window.kernel[1])):
        row = i * window.strides[0] + u * window.dilations[0] - window.pads[0]
        column = j * window.strides[1] + v * window.dilations[1] - window.pads[1]
        inside = 0 <= row < x.shape[2] and 0 <= column < x.shape[3]
        assert (row, column) == tuple(
            p * s + o for p, s, o in zip((i, j), window.strides, window.tap_offset(u, v), strict=True)
        )
        found.append(int(x[n, c, row, column]) if inside else outside)
    return found


@settings(max_examples=150)
@given(windows, st.integers(1, 3), st.integers(1, 2), st.integers(1, 3), st.booleans(), st.integers(0, 2**32))
def test_convolution(window: Window, groups: int, per_group: int, outputs: int, with_bias: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-9, 9, (2, groups * per_group, 5, 4))
    if not fitting(window, x.shape):
        return
    weight = rng.integers(-9, 9, (groups * outputs, per_group, *window.kernel))
    bias = rng.integers(-99, 99, groups * outputs) if with_bias else None
    result = conv2d(x, weight, bias, window, groups)
    assert result.shape == (2, groups * outputs, *window.output_size(5, 4))
    assert result.dtype == np.int64
    for n, o, i, j in np.ndindex(result.shape):
        total = 0 if bias is None else int(bias[o])
        for k in range(per_group):
            inputs = taps(x, window, n, o // outputs * per_group + k, i, j, 0)
            total += sum(int(w) * a for w, a in zip(weight[o, k].reshape(-1), inputs, strict=True) if a is not None)
        assert result[n, o, i, j] == total


@settings(max_examples=100)
@given(windows, st.integers(0, 2**32))
def test_pools(window: Window, seed: int) -> None:
    x = np.random.default_rng(seed).integers(-9, -1, (2, 2, 5, 4))  # all negative: padding with 0 would win
    if not fitting(window, x.shape):
        return
    operand = value("x", -9, -2, x.shape)
    shape = (2, 2, *window.output_size(5, 4))
    totals = evaluate(SumPool(result=value("y", 0, 0, shape), input=operand, window=window), [x])
    maxima = evaluate(MaxPool(result=value("y", 0, 0, shape), input=operand, window=window), [x])
    assert totals.shape == maxima.shape == shape
    for n, c, i, j in np.ndindex(shape):
        inputs = [t for t in taps(x, window, n, c, i, j, None) if t is not None]
        assert totals[n, c, i, j] == sum(inputs)
        if inputs:
            assert maxima[n, c, i, j] == max(inputs)


def test_products_beyond_53_bits_are_exact() -> None:
    x, weight = np.array([[2**40 + 1, 3]]), np.array([[2**20 + 1, 7], [-(2**21) - 1, 1]])
    expected = [[(2**40 + 1) * (2**20 + 1) + 21, -(2**40 + 1) * (2**21 + 1) + 3]]
    assert dense(x, weight, None).tolist() == expected
    assert dense(x, weight, np.array([5, -5])).tolist() == [[expected[0][0] + 5, expected[0][1] - 5]]


@given(st.integers(0, 2**32))
def test_dense(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, weight, bias = rng.integers(-9, 9, (3, 4)), rng.integers(-9, 9, (2, 4)), rng.integers(-9, 9, 2)
    result = dense(x, weight, bias)
    for n, m in np.ndindex(3, 2):
        assert result[n, m] == sum(int(x[n, k]) * int(weight[m, k]) for k in range(4)) + bias[m]


def test_the_simple_operations() -> None:
    x = np.arange(-6, 6).reshape(1, 3, 2, 2)
    v = value("x", -6, 5, x.shape)
    same = value("y", -99, 99, x.shape)
    assert evaluate(Clamp(result=same, input=v, low=-2, high=3), [x]).tolist() == np.clip(x, -2, 3).tolist()
    assert evaluate(Rescale(result=same, input=v, factor=5), [x]).tolist() == (x * 5).tolist()
    assert evaluate(Sum(result=same, lhs=v, rhs=v), [x, x]).tolist() == (2 * x).tolist()
    joined = evaluate(Concat(result=same, inputs=(v, v), axis=1), [x, -x])
    assert joined.tolist() == np.concatenate([x, -x], axis=1).tolist()
    flat = evaluate(Reshape(result=value("y", -6, 5, (1, 12)), input=v), [np.concatenate([x, x])])
    assert flat.tolist() == [x.reshape(-1).tolist()] * 2, "any batch"
    assert evaluate(Transpose(result=same, input=v, permutation=(0, 2, 3, 1)), [x]).tolist() == (
        x.transpose(0, 2, 3, 1).tolist()
    )


def value(name: str, low: int, high: int, shape: tuple[int, ...]) -> Value:
    codes = CodeRange(low=low, high=high, scale=Scale.power_of_two(0))
    return Value(name, TensorType(shape, codes), Origin("node", "Op"))


def attained(op: IntegerOp) -> tuple[int, int]:
    """The lowest and the highest result over all inputs: operands of one or two elements, or one element repeated."""
    lowest, highest = None, None
    choices = [
        product(range(v.type.codes.low, v.type.codes.high + 1), repeat=int(np.prod(v.type.shape))) for v in op.operands
    ]
    for elements in product(*choices):
        arrays = [np.array(e).reshape(v.type.shape) for e, v in zip(elements, op.operands, strict=True)]
        result = evaluate(op, arrays)
        lowest = int(result.min()) if lowest is None else min(lowest, int(result.min()))
        highest = int(result.max()) if highest is None else max(highest, int(result.max()))
    assert lowest is not None
    assert highest is not None
    return lowest, highest


X = value("x", -2, 1, (1, 1, 2, 2))
POSITIVE = value("x", 1, 3, (1, 1, 2, 2))
Y = value("y", 0, 0, (1, 1, 1, 1))


def kernel(*weights: int, outputs: int = 1) -> IntArray:
    return IntArray(np.array(weights).reshape(outputs, 1, 2, 2))


FULL = Window(kernel=(2, 2))
PADDED = Window(kernel=(2, 2), pads=(1, 1, 1, 1))


def conv(x: Value, weight: IntArray, bias: list[int] | None = None, window: Window = FULL) -> Conv2d:
    biases = None if bias is None else IntArray(np.array(bias))
    shape = (1, weight.shape[0], *window.output_size(2, 2))
    return Conv2d(result=value("y", 0, 0, shape), input=x, weight=weight, bias=biases, window=window, groups=1)


STAIRCASE = Staircase(-5, 5, 3, np.array([[-3, -2, 0, 1, 5]]), np.array([1]))
FALLING = Staircase(-5, 5, 3, np.array([[3, 1, -2, -4]]), np.array([-1]))

EXACT: list[IntegerOp] = [
    conv(X, kernel(1, -2, 3, 0)),
    conv(X, kernel(1, -2, 3, 0), [5]),
    conv(X, kernel(1, 1, 2, 1), [-7]),
    conv(X, kernel(1, -2, 3, 0, 2, 2, -1, 1, outputs=2), [1, -1]),
    conv(X, kernel(1, -2, 3, 1), [2], PADDED),
    conv(POSITIVE, kernel(1, 2, 3, 1), [2], PADDED),
    SumPool(result=Y, input=X, window=FULL),
    SumPool(result=Y, input=POSITIVE, window=FULL),
    MaxPool(result=Y, input=X, window=FULL),
    MaxPool(result=Y, input=X, window=PADDED),
    Clamp(result=Y, input=X, low=-1, high=9),
    Clamp(result=Y, input=X, low=3, high=9),
    Rescale(result=Y, input=X, factor=3),
    Requantize(result=Y, input=X, staircase=STAIRCASE),
    Requantize(result=Y, input=X, staircase=FALLING),
    Round(result=Y, input=X, line=BentLine(Fraction(1, 2), Fraction(1, 4), -3, 9)),
    Round(result=Y, input=X, line=BentLine(Fraction(3, 4), Fraction(0), 0, 1)),
    Reshape(result=value("y", 0, 0, (1, 4)), input=X),
    Transpose(result=Y, input=X, permutation=(0, 1, 3, 2)),
    Sum(result=Y, lhs=value("a", -2, 1, (1, 2)), rhs=value("b", 3, 4, (1, 2))),
    Concat(result=Y, inputs=(value("a", -2, 1, (1, 2)), value("b", 3, 4, (1, 2))), axis=1),
    Dense(
        result=value("y", 0, 0, (1, 2)), input=value("x", -2, 1, (1, 3)), bias=IntArray(np.array([1, -2])),
        weight=IntArray(np.array([[1, -1, 2], [-3, 0, 1]])),
    ),
]  # fmt: skip


@pytest.mark.parametrize("op", EXACT, ids=lambda op: op.mnemonic)
def test_the_range_holds_every_result(op: IntegerOp) -> None:
    low, high = result_range(op)
    lowest, highest = attained(op)
    assert low <= lowest
    assert highest <= high


@pytest.mark.parametrize(
    "op",
    [
        op for op in EXACT
        # dot_bounds hold for every prefix, and 0 is one: where all inputs have one sign the end cannot be attained.
        if not (isinstance(op, Conv2d | Dense) and op.input.type.codes.low > 0)
    ],
    ids=lambda op: op.mnemonic,
)  # fmt: skip
def test_the_range_is_attained(op: IntegerOp) -> None:
    assert result_range(op) == attained(op)


def test_partial_sums_hold_every_prefix_with_the_bias_first_or_last() -> None:
    op = conv(value("x", 1, 2, (1, 1, 2, 2)), kernel(1, -2, 3, 0, -1, -1, 0, 2, outputs=2), [5, -9])
    low, high = partial_sums(op)
    seen = {0}
    for weights, bias in zip(op.weight.data.reshape(2, 4).tolist(), [5, -9], strict=True):
        for inputs in product((1, 2), repeat=4):
            terms = [w * x for w, x in zip(weights, inputs, strict=True)]
            for order in ([bias, *terms], [*terms, bias], [bias, *reversed(terms)], [*sorted(terms), bias]):
                seen.update(np.cumsum(order).tolist())
            seen.update(np.cumsum([bias, *sorted(terms)]).tolist())
            seen.update(np.cumsum([bias, *sorted(terms, reverse=True)]).tolist())
    assert (min(seen), max(seen)) == (low, high)


def test_padding_counts_as_zero_in_sums_and_never_in_maxima() -> None:
    assert result_range(SumPool(result=Y, input=POSITIVE, window=PADDED)) == (0, 12)
    assert result_range(MaxPool(result=Y, input=POSITIVE, window=PADDED)) == (1, 3)


def test_codes_beyond_64_bits_are_refused() -> None:
    huge = value("x", -(2**62), 2**62, (1, 1, 2, 2))
    for op in (
        Rescale(result=Y, input=huge, factor=4),
        Sum(result=Y, lhs=huge, rhs=huge),
        SumPool(result=Y, input=huge, window=FULL),
        conv(huge, kernel(1, 1, 1, 1)),
        conv(value("x", -1, 1, (1, 1, 2, 2)), kernel(1, 1, 1, 1), [2**63 - 2]),
    ):
        with pytest.raises(CompileError, match="64 bits"):
            result_range(op)


def test_a_window_that_sees_no_input_is_found() -> None:
    """Against the taps themselves, rows and columns of different sizes."""
    seen = set()
    for kernel, stride, dilation, pad, size in product((1, 2, 3), (1, 2, 3), (1, 2, 3, 4), (0, 1, 2, 3), (1, 2, 5)):
        window = Window(
            kernel=(kernel, 2), strides=(stride, 1), dilations=(dilation, 1), pads=(pad, 0, max(pad - 1, 0), 1)
        )
        if min(window.output_size(size, 4)) < 1:
            continue
        taps = taps_of(np.ones((1, 1, size, 4), dtype=np.int64), window)
        assert window.inside(size, 4) == taps.sum(), window
        inside = taps.any(axis=(4, 5)).all()
        assert window.always_sees(size, 4) == inside, window
        turned = Window(
            kernel=window.kernel[::-1], strides=window.strides[::-1], dilations=window.dilations[::-1],
            pads=(0, pad, 1, max(pad - 1, 0)),
        )  # fmt: skip
        assert turned.always_sees(4, size) == inside, turned
        seen.add(bool(inside))
    assert seen == {True, False}


@pytest.mark.parametrize("fan_in", [1, 4, 5, 64])
@pytest.mark.parametrize("largest", [2047, 2048, 4095, 4096])
def test_products_are_exact_on_both_sides_of_what_float32_holds(largest: int, fan_in: int) -> None:
    r = np.random.default_rng(largest + fan_in)
    x, weight = (r.integers(largest - 3, largest + 1, (3, fan_in)) * r.choice([-1, 1], (3, 1)) for _ in range(2))
    expected = [[sum(a * b for a, b in zip(row, own, strict=True)) for own in weight.tolist()] for row in x.tolist()]
    assert dense(x, weight, None).tolist() == expected
