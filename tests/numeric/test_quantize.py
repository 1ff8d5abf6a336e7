"""Floats to codes: equal, for every float, to the quantizer's formula in exact rationals."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from oracle import round_by_name
from pefslc.numeric.format import Quantization
from pefslc.numeric.quantize import between_halves, quantize_array, round_floats
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.rounding import RoundingMode, round_fraction
from pefslc.numeric.scale import Scale
from quantizers import QONNX_NAME, floats, quantizers

Floats = NDArray[np.floating]

all_modes = pytest.mark.parametrize("mode", list(RoundingMode), ids=lambda m: m.value)


def exact_code(quantizer: Quantizer, x: float, channel: int = 0) -> int:
    """clip(round(x / scale + zero_point)), or ONNX's clip(round(x / scale) + zero_point), in rationals."""
    q, name = quantizer.quantization, QONNX_NAME[quantizer.rounding]
    y = Fraction(x) / q.scale.channel(channel)
    if quantizer.adds_zero_point_last:
        code = round_by_name(y, name) + q.zero_point
    else:
        code = round_by_name(y + q.zero_point, name)
    return min(max(code, q.low), q.high)


def exact_codes(quantizer: Quantizer, x: Floats) -> list[int]:
    return [exact_code(quantizer, v) for v in x.tolist()]


def quantizer_of(
    scale: float | Fraction, bits: int, mode: RoundingMode, zero_point: int = 0, *, signed: bool = True,
    last: bool = False,
) -> Quantizer:  # fmt: skip
    if mode is RoundingMode.SIGN:
        bits, signed, zero_point = 2, True, 0
    q = Quantization(
        bits=bits, signed=signed, narrow=mode is RoundingMode.SIGN, scale=Scale.of([Fraction(scale)]),
        zero_point=zero_point,
    )  # fmt: skip
    return Quantizer(q, mode, last)


def test_a_sum_with_the_zero_point_is_not_rounded_before_the_floor() -> None:
    """-1e-20 / scale + 5 lies below 5, but float64 has no number there."""
    quantizer = quantizer_of(0.125, 8, RoundingMode.FLOOR, 5, signed=False)
    assert quantize_array(quantizer, np.array([-1e-20], dtype=np.float32), 0).tolist() == [4]


def test_a_sum_with_the_zero_point_is_not_rounded_to_a_tie() -> None:
    """x / scale lies just below 1.5; with 128 more, float64 rounds it to the tie 129.5, whose even neighbour is 130."""
    quantizer = quantizer_of(0.125, 8, RoundingMode.HALF_EVEN, 128, signed=False)
    assert quantize_array(quantizer, np.nextafter([1.5 / 8], 0), 0).tolist() == [129]


def test_a_quotient_is_not_rounded_to_an_integer_before_the_floor() -> None:
    """3 * 0.1 in float64 lies above three times the float64 next to 0.1, and 7 * 0.1 lies above seven times it."""
    for k in range(1, 200):
        x = np.array([k * 0.1])
        quantizer = quantizer_of(0.1, 16, RoundingMode.FLOOR)
        assert quantize_array(quantizer, x, 0).tolist() == [int(Fraction(float(x[0])) / Fraction(0.1) // 1)]


@all_modes
@pytest.mark.parametrize("scale", [0.125, 8.0, 0.1, float(np.float32(0.1)), Fraction(1, 10), Fraction(10, 3)])
def test_the_neighbours_of_every_boundary(mode: RoundingMode, scale: float | Fraction) -> None:
    zero_points = [(0, False), (1, False), (1, True), (-6, False), (128, False)]
    for kind, (zero_point, last), signed in product((np.float32, np.float64), zero_points, (True, False)):
        quantizer = quantizer_of(scale, 3, mode, zero_point, signed=signed, last=last)
        q = quantizer.quantization
        halves = range(2 * (q.low - q.zero_point) - 4, 2 * (q.high - q.zero_point) + 5)
        x = np.array([float(h * q.scale.step / 2) for h in halves], dtype=kind)
        near = [x]
        for direction in (-np.inf, np.inf):
            one = np.nextafter(x, kind(direction))
            near += [one, np.nextafter(one, kind(direction))]
        values = np.concatenate(near)
        assert quantize_array(quantizer, values, 0).tolist() == exact_codes(quantizer, values)


EXTREMES = [
    *(0.0, 5e-324, 1e-310, 2.0**-149, 2.0**-1022, 1e-20, 0.25, 0.5, 1.0, 1.5, 2.5, 2.0**31 - 0.5, 2.0**31),
    *(2.0**32 - 0.5, 2.0**52 + 1, 2.0**53, 2.0**63, 2.0**64, 3.4e38, 1e300, np.finfo(np.float64).max, np.inf),
]


@all_modes
@pytest.mark.parametrize("scale", [1.0, 0.1, 2.0**-126, 2.0**127, 3e38, 1e300, 1.7e308, Fraction(1, 3)])
def test_extremes_of_both_signs(mode: RoundingMode, scale: float | Fraction) -> None:
    finite = np.array(EXTREMES[:-1])
    x = np.concatenate([finite, -finite])
    zero_points = [(0, False), (3, False), (3, True), (2**31, False), (-(2**31), False)]
    for bits, (zero_point, last) in product((2, 32), zero_points):
        quantizer = quantizer_of(scale, bits, mode, zero_point, last=last)
        q = quantizer.quantization
        assert quantize_array(quantizer, x, 0).tolist() == exact_codes(quantizer, x)
        assert quantize_array(quantizer, np.array([np.inf, -np.inf]), 0).tolist() == [q.high, q.low]


@given(quantizers(), st.data())
def test_any_float_of_any_quantizer(quantizer: Quantizer, data: st.DataObject) -> None:
    kind, values = data.draw(floats(quantizer))
    x = np.array(values, dtype=kind)
    assert quantize_array(quantizer, x, 0).tolist() == exact_codes(quantizer, x)


@given(st.lists(quantizers(mode=RoundingMode.FLOOR), min_size=2, max_size=4), st.data())
def test_each_channel_by_its_own_scale(parts: list[Quantizer], data: st.DataObject) -> None:
    first = parts[0].quantization
    steps = tuple(part.quantization.scale.step for part in parts)
    quantizer = Quantizer(
        Quantization(bits=first.bits, signed=first.signed, scale=Scale(steps), zero_point=first.zero_point),
        data.draw(st.sampled_from([mode for mode in RoundingMode if mode is not RoundingMode.SIGN])),
    )
    rows = [data.draw(floats(part, kind=np.float64, size=4))[1] for part in parts]
    expected = [[exact_code(quantizer, v, c) for v in row] for c, row in enumerate(rows)]
    assert quantize_array(quantizer, np.array(rows), 0).tolist() == expected
    assert quantize_array(quantizer, np.array([rows]), 1).tolist() == [expected]
    assert quantize_array(quantizer, np.array(rows).T, 1).T.tolist() == expected


def test_arrays_of_no_axes_and_of_no_elements() -> None:
    quantizer = quantizer_of(0.1, 8, RoundingMode.FLOOR)
    for x in (0.1, np.nextafter(0.1, 0)):
        assert int(quantize_array(quantizer, np.array(x), 0)) == exact_code(quantizer, float(x))
    assert quantize_array(quantizer, np.zeros((0, 3)), 1).shape == (0, 3)


@pytest.mark.filterwarnings("error")
def test_inputs_are_not_changed_and_nothing_warns() -> None:
    x = np.array([0.3, 0.1, 1e308, -np.inf, 5e-324, -0.0])
    before = x.copy()
    x.setflags(write=False)
    for scale in (0.1, 2.0**-100, 1e-38):
        quantize_array(quantizer_of(scale, 8, RoundingMode.FLOOR, 7), x, 0)
    assert x.tobytes() == before.tobytes()


@all_modes
def test_floats_round_as_the_exact_numbers_that_they_hold(mode: RoundingMode) -> None:
    eighths = np.arange(-80, 81) / 8
    below_half = np.nextafter(0.5, 0)
    others = [below_half, -below_half, 2.0**52 + 0.5, -(2.0**52) - 0.5, 2.0**53 - 1, 1e300, -1e300, 4503599627370497.5]
    x = np.concatenate([eighths, others])
    expected = [round_fraction(Fraction(float(v)), mode) for v in x]
    assert [int(v) for v in round_floats(x, mode)] == expected


@all_modes
@given(y=st.floats(-(2.0**40), 2.0**40), integer=st.integers(-(2**33), 2**33))
@example(y=float(np.nextafter(0.5, 0)), integer=2**33)
@example(y=-5e-324, integer=2**33)
@example(y=2.0**40 - 2.0**-12, integer=1)
def test_between_halves_rounds_like_the_float_and_so_do_its_sums(mode: RoundingMode, y: float, integer: int) -> None:
    (found,) = round_floats(between_halves(np.array([y])) + integer, mode).tolist()
    assert found == round_fraction(Fraction(y) + integer, mode)


def test_the_oracle_here_is_the_staircase_of_one_code() -> None:
    """`Quantizer.reaches` is the definition that thresholds are made from."""
    rationals = [Fraction(n, 8) for n in range(-36, 37)]
    for mode in RoundingMode:
        for zero_point, last in ((0, False), (1, False), (1, True)):
            quantizer = quantizer_of(0.5, 4, mode, zero_point, last=last)
            q = quantizer.quantization
            for x in map(float, rationals):
                reached = [c for c in range(q.low + 1, q.high + 1) if quantizer.reaches(c, 0).contains(Fraction(x))]
                if mode is not RoundingMode.SIGN:
                    assert exact_code(quantizer, x) == q.low + len(reached)


@pytest.mark.parametrize("axis", [0, 1])
def test_more_numbers_than_one_block_are_each_quantized_as_in_a_small_array(axis: int) -> None:
    rng = np.random.default_rng(0)
    scale = Scale.of(Fraction(float(np.float32(s))) for s in rng.uniform(0.01, 0.2, 300))
    quantizer = Quantizer(Quantization(bits=8, signed=True, scale=scale))
    x = rng.normal(size=(300, 300, 2))
    whole = quantize_array(quantizer, x, axis)
    for row in (0, 1, 149, 298, 299):
        own = scale if axis == 1 else Scale.of([scale.channel(row)])
        part = Quantizer(Quantization(bits=8, signed=True, scale=own))
        assert (whole[row : row + 1] == quantize_array(part, x[row : row + 1], axis)).all()
