"""Slopes of two words: what they compute, and when they are found."""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pefslc.numeric.affine_shift import AffineShift
from pefslc.numeric.format import Quantization
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.requantize import fit_affine_shift
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, ClipStage, LeakyReluStage, SnapStage, Stage
from pefslc.numeric.staircase import Staircase, agrees_everywhere, staircase_of
from pefslc.numeric.wide import WideAffine, fit_line

F = Fraction


def batch_norm(rng: np.random.Generator, channels: int, slope: float = 1.0) -> Affine:
    """Of both signs; the first channel's gamma is 0."""

    def numbers(values: np.ndarray) -> tuple[Fraction, ...]:
        return tuple(F(float(v)) for v in values.astype(np.float32))

    gamma = rng.normal(0, slope, channels)
    gamma[0] = 0
    parts = (gamma, gamma * rng.normal(0, 1, channels), rng.uniform(0.5, 2, channels), rng.normal(0, 1, channels))
    return Affine(*map(numbers, parts))


def staircase(stages: tuple[Stage, ...], bits: int, last: int, channels: int, mode: RoundingMode) -> Staircase:
    quantization = Quantization(bits=bits, signed=True, narrow=False, scale=Scale((F(float(np.float32(0.00073))),)))
    scale = Scale((F(float(np.float32(0.00091))),))
    return staircase_of(scale, stages, Quantizer(quantization, mode), -last, last, channels)


@given(st.data())
def test_a_wide_product_is_the_exact_floor(data: st.DataObject) -> None:
    last = data.draw(st.one_of(st.integers(1, 1 << 31), st.integers(1 << 31, 1 << 50))) - 1
    shift = data.draw(st.integers(20, 100))
    bound = min((1 << 90) // (last + 1), 1 << 88)
    lines = data.draw(st.lists(st.tuples(st.integers(-bound, bound), st.integers(-(1 << 89), 1 << 89)), min_size=1))
    domain = Staircase(-last - 1, last, -999, np.zeros((1, 1999), dtype=np.int64), np.ones(1, dtype=np.int64))
    wide = WideAffine.of(
        (domain.domain_low, domain.domain_high),
        (domain.low, domain.high),
        [m for m, _ in lines],
        [b for _, b in lines],
        shift,
    )
    if wide is None:
        return
    points = data.draw(st.lists(st.integers(-last - 1, last), min_size=1))
    found = wide(np.tile(np.array(points, dtype=np.int64), (len(lines), 1)))
    expected = [[min(max((a * m + b) >> shift, -999), 1000) for a in points] for m, b in lines]
    np.testing.assert_array_equal(found, expected)


def test_words_that_64_bits_do_not_hold_are_refused() -> None:
    def wide(last: int, multiplier: int, offset: int) -> WideAffine | None:
        return WideAffine.of((-last, last), (0, 1), [multiplier], [offset], 59)

    assert wide(1 << 20, 1 << 70, 1 << 89) is not None
    assert wide(1 << 20, 1 << 72, 0) is None
    assert wide(1 << 20, 1, 1 << 91) is None
    assert wide(1 << 48, 1, 0) is not None
    assert wide(1 << 49, 1, 0) is None, "its words are too short"


@pytest.mark.parametrize(("last_bits", "word_bits"), [(32, 29), (34, 27), (40, 21), (44, 17)])
def test_longer_accumulators_take_shorter_words(last_bits: int, word_bits: int) -> None:
    """16-bit codes times 16-bit weights, per channel another slope and another bias; some codes are saturated."""
    rng = np.random.default_rng(last_bits)
    last, channels = (1 << last_bits) - 1, 4
    biases = Affine.bias(tuple(F(float(v)) for v in rng.normal(0, 1, channels).astype(np.float32)))
    steps = [F(float(v)) / (1 << last_bits) for v in rng.uniform(16, 40, channels).astype(np.float32)]
    quantization = Quantization(bits=16, signed=True, narrow=False, scale=Scale((F(float(np.float32(0.00073))),)))
    wanted = staircase_of(Scale(tuple(steps)), (biases,), Quantizer(quantization), -last, last, channels)
    found = fit_line(wanted)
    assert isinstance(found, WideAffine)
    assert found.word_bits == word_bits
    assert found.words > 2 or word_bits > 26
    codes = rng.integers(-last, last, (channels, 3000))
    codes[:, :2000] = wanted.thresholds[:, ::32][:, :1000].repeat(2, axis=1) - np.tile([0, 1], 1000)
    codes = codes.clip(-last, last)  # some steps are taken nowhere
    np.testing.assert_array_equal(found(codes), wanted(codes))


@pytest.mark.parametrize("mode", [m for m in RoundingMode if m not in (RoundingMode.SIGN,)], ids=lambda m: m.value)
@pytest.mark.parametrize("bits", [8, 12])
def test_batch_norm_of_both_signs_is_a_line_code_for_code(bits: int, mode: RoundingMode) -> None:
    rng = np.random.default_rng(bits)
    wanted = staircase((batch_norm(rng, 5), ClipStage(F(-1), F(2))), bits, 4000, 5, mode)
    found = fit_line(wanted)
    if found is None:
        assert mode in (RoundingMode.TO_ZERO, RoundingMode.AWAY)  # they bend at 0
        return
    domain = np.tile(np.arange(-4000, 4001), (5, 1))
    np.testing.assert_array_equal(found(domain), wanted(domain))


def test_sixteen_bits_behind_batch_norm_take_two_words() -> None:
    wanted = staircase((batch_norm(np.random.default_rng(0), 24, 0.05),), 16, 1 << 22, 24, RoundingMode.HALF_EVEN)
    assert not wanted.is_listed
    assert fit_affine_shift(wanted) is None
    found = fit_line(wanted)
    assert isinstance(found, WideAffine)
    assert not wanted.is_listed, "nobody needed all thresholds at once"
    for a in np.random.default_rng(1).integers(-(1 << 22), 1 << 22, (4, 1000)):
        codes = np.tile(a, (24, 1))
        np.testing.assert_array_equal(found(codes), wanted(codes))


def test_a_shift_is_found_without_a_list_of_all_thresholds() -> None:
    bias = Affine.bias(tuple(F(i, 8) for i in range(40)))
    quantization = Quantization(bits=16, signed=True, narrow=False, scale=Scale((F(1, 2),)))
    wanted = staircase_of(Scale((F(1, 8),)), (bias,), Quantizer(quantization), -(1 << 18), 1 << 18, 40)
    found = fit_affine_shift(wanted, product_bits=32)
    assert isinstance(found, AffineShift)
    assert found.shift == 2
    assert not wanted.is_listed
    codes = np.tile(np.arange(-9000, 9000), (40, 1))
    np.testing.assert_array_equal(found(codes), wanted(codes))


def test_a_leaky_relu_is_a_line_on_each_side_of_0() -> None:
    stages = (batch_norm(np.random.default_rng(3), 4), LeakyReluStage((F(3, 10),)))
    wanted = staircase(stages, 9, 4000, 4, RoundingMode.HALF_EVEN)
    assert fit_line(wanted) is None
    below = -wanted.low
    parts = wanted.between(0, below, wanted.low), wanted.between(below, wanted.steps, 0)
    lower, upper = fit_line(parts[0], below=True), fit_line(parts[1])
    assert lower is not None
    assert upper is not None
    domain = np.tile(np.arange(-4000, 4001), (4, 1))
    np.testing.assert_array_equal(lower(domain) + upper(domain), wanted(domain))


def of_unit_steps(stages: tuple[Stage, ...], low: int, high: int, mode: RoundingMode, channels: int = 1) -> Staircase:
    quantization = Quantization(bits=8, signed=True, scale=Scale((F(1),)))
    return staircase_of(Scale((F(1),)), stages, Quantizer(quantization, mode), low, high, channels)


def line(*lines: tuple[Fraction, Fraction], radicand: int = 1) -> Affine:
    """slope * a / sqrt(radicand) + offset, per channel."""
    n = len(lines)
    slopes, offsets = zip(*lines, strict=True)
    return Affine(slopes, (F(0),) * n, (F(radicand),) * n, offsets)


@pytest.mark.parametrize(
    ("slope", "offset", "low", "high", "mode"),
    [
        (F(1), F(3, 2), 1, 2, RoundingMode.HALF_EVEN),
        (F(13, 10), F(11, 10), -2, 2, RoundingMode.TO_ZERO),
        (F(1 << 62), F(0), 0, 1, RoundingMode.FLOOR),
        (F(1 << 99), F(0), 0, 1, RoundingMode.FLOOR),
    ],
)
def test_what_no_words_hold_is_no_line(
    slope: Fraction, offset: Fraction, low: int, high: int, mode: RoundingMode
) -> None:
    """Two that are no floors, at a precision where a product fits 62 bits and a sum, or its half code, does not; and
    slopes beyond all words.
    """
    assert fit_line(of_unit_steps((line((slope, offset)),), low, high, mode)) is None


def test_a_line_with_a_root_is_not_moved() -> None:
    """Next to code 1 one channel is just below a bound, the other just above: moved to either side, one of them fails.

    So it is where all offsets are rational.
    """
    digits = 10**40
    root = F(isqrt(2 * digits**2), digits)  # of 2, nearly
    near = F(1, 1 << 79)  # two words tell that, one does not
    wanted = of_unit_steps(
        (line((F(1), 3 - root / 2 - near), (F(1), 3 - root / 2 + near), radicand=2),), -60, 60, RoundingMode.FLOOR, 2
    )
    assert wanted(np.array([[1], [1]])).tolist() == [[2], [3]]
    found = fit_line(wanted)
    assert found is not None
    domain = np.tile(np.arange(-60, 61), (2, 1))
    np.testing.assert_array_equal(found(domain), wanted(domain))


def test_steps_of_no_chain_and_chains_of_no_line_are_no_line() -> None:
    steps = np.array([[0, 1]]), np.array([1])
    assert fit_line(Staircase(-3, 3, 0, *steps)) is None
    assert fit_line(Staircase(-3, 3, 0, *steps, step=2)) is None
    stages = (SnapStage(F(2)), Affine.bias((F(1, 3),)))
    for mode in (RoundingMode.FLOOR, RoundingMode.HALF_EVEN):
        assert fit_line(of_unit_steps(stages, -9, 9, mode)) is None
    constant = of_unit_steps((ClipStage(F(1), F(1)),), -9, 9, RoundingMode.FLOOR)
    assert fit_line(constant) is None


def test_ties_to_even_are_no_line() -> None:
    quantization = Quantization(bits=8, signed=True, narrow=False, scale=Scale((F(3),)))
    wanted = staircase_of(Scale((F(1, 2),)), (), Quantizer(quantization), -300, 300, 1)
    assert fit_line(wanted) is None


@given(st.data())
def test_the_certificate_is_true_for_the_same_function_alone(data: st.DataObject) -> None:
    """Rising, falling and constant implementations against staircases of either direction, code by code."""
    low, steps = data.draw(st.integers(-3, 0)), data.draw(st.integers(0, 4))
    last = low + data.draw(st.integers(0, 6))
    direction = np.array(data.draw(st.lists(st.sampled_from([1, -1]), min_size=1, max_size=3)))
    threshold = st.integers(low - 2, last + 2)
    rows = [
        sorted(data.draw(st.lists(threshold, min_size=steps, max_size=steps)), reverse=bool(d < 0)) for d in direction
    ]
    wanted = Staircase(low, last, -1, np.array(rows, dtype=np.int64).reshape(len(rows), steps), direction)
    domain = np.tile(np.arange(low, last + 1), (len(rows), 1))
    table = wanted(domain)
    if data.draw(st.booleans()):
        code = st.integers(-1, -1 + steps)
        row = st.lists(code, min_size=len(domain[0]), max_size=len(domain[0]))
        table[0] = sorted(data.draw(row), reverse=data.draw(st.booleans()))
    agrees = agrees_everywhere(wanted, lambda a: np.take_along_axis(table, a - low, axis=1))
    assert agrees == bool((table == wanted(domain)).all())
