"""Certified requantization: what the search returns is the staircase, tried at every code of the domain."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pefslc.numeric.accumulate import bits_for_range
from pefslc.numeric.affine_shift import AffineShift
from pefslc.numeric.format import Quantization, saturate
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.requantize import _Search, fit_affine_shift, fit_bent, takes_line
from pefslc.numeric.rounding import RoundingMode, round_fraction, round_shift
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, ClipStage, LeakyReluStage, Stage
from pefslc.numeric.staircase import Staircase, staircase_of
from pefslc.numeric.steps import corner_steps

F = Fraction
UNIT = Scale.of([F(1)])
ZERO = F(0)
_rationals = st.fractions(min_value=-4, max_value=4, max_denominator=97)


# Round toward or away from zero: two lines that meet at 0.
_BENT_AT_ZERO = {RoundingMode.TO_ZERO, RoundingMode.AWAY}


def _affine(*factors: Fraction, offset: Fraction = ZERO) -> Affine:
    n = len(factors)
    return Affine(factors, (F(0),) * n, (F(1),) * n, (offset,) * n)


def _staircase(stages: list[Stage], low: int, high: int, bits: int = 5, mode: RoundingMode = RoundingMode.HALF_EVEN,
               channels: int = 1, signed: bool = True) -> Staircase:  # fmt: skip
    q = Quantizer(Quantization(bits=bits, signed=signed, scale=UNIT), mode)
    return staircase_of(UNIT, stages, q, low, high, channels)


def _every_code(staircase: Staircase) -> np.ndarray:
    codes = np.arange(staircase.domain_low, staircase.domain_high + 1, dtype=np.int64)
    return np.tile(codes, (staircase.channels, 1))


def _equal_everywhere(fitted: AffineShift, staircase: Staircase) -> bool:
    codes = _every_code(staircase)
    return bool((np.broadcast_to(fitted(codes), codes.shape) == staircase(codes)).all())


def _exact(fitted: AffineShift, code: int, channel: int) -> int:
    """What the docstring says, in rationals."""
    c = channel if fitted.channels > 1 else 0
    numerator = code * int(fitted.multiplier[c]) + int(fitted.offset[c])
    return saturate(round_fraction(F(numerator, 2**fitted.shift), fitted.rounding), fitted.low, fitted.high)


@pytest.mark.parametrize("shift", range(7))
@pytest.mark.parametrize("signed", [False, True])
def test_a_power_of_two_is_a_round_shift(shift, signed):  # type: ignore[no-untyped-def]
    fitted = fit_affine_shift(_staircase([_affine(F(1, 2**shift))], -300, 300, signed=signed))
    assert fitted is not None
    assert fitted.is_shift
    assert (fitted.shift, fitted.rounding) == (shift, RoundingMode.HALF_EVEN)
    assert str(fitted) == (f"round-shift {shift}" if shift else "copy")


@pytest.mark.parametrize("mode", sorted(set(RoundingMode) - _BENT_AT_ZERO - {RoundingMode.SIGN}, key=lambda m: m.value))
def test_every_small_ratio_is_found_and_equal_at_every_code(mode):  # type: ignore[no-untyped-def]
    missing = []
    for numerator in range(-20, 21):
        for denominator in (3, 7, 8, 13, 16):
            staircase = _staircase([_affine(F(numerator, denominator), offset=F(1, 5))], -60, 61, mode=mode)
            fitted = fit_affine_shift(staircase)
            if fitted is None:
                missing.append((numerator, denominator))
                continue
            assert _equal_everywhere(fitted, staircase)
            assert all(_exact(fitted, a, 0) == staircase(np.array([a]))[0] for a in range(-60, 62))
    assert missing == []


def test_a_bias_of_each_channel_needs_no_multiplier() -> None:
    stages: list[Stage] = [_affine(F(1, 16)), Affine.bias((F(3, 8), F(-2, 16), F(0)))]
    fitted = fit_affine_shift(_staircase(stages, -500, 500, channels=3))
    assert fitted is not None
    assert (fitted.multiplier == 1).all()
    assert not fitted.is_shift


def test_rising_falling_and_constant_channels_share_one_shift() -> None:
    staircase = _staircase([_affine(F(3, 17), F(-5, 29), F(0), F(1, 1000))], -400, 300, channels=4)
    fitted = fit_affine_shift(staircase)
    assert fitted is not None
    assert _equal_everywhere(fitted, staircase)
    assert fitted.multiplier[0] > 0 > fitted.multiplier[1]


def test_a_bend_is_not_affine() -> None:
    assert fit_affine_shift(_staircase([_affine(F(1, 4)), LeakyReluStage((F(1, 10),))], -500, 500, bits=8)) is None


@pytest.mark.parametrize("mode", [RoundingMode.TO_ZERO, RoundingMode.AWAY, RoundingMode.HALF_EVEN])
def test_a_bend_at_zero_is_the_sum_of_two(mode: RoundingMode) -> None:
    stages: list[Stage] = [_affine(F(3, 14), F(-1, 9), F(0), offset=F(1, 70)), LeakyReluStage((F(1, 10),))]
    staircase = _staircase(stages, -500, 400, bits=6, mode=mode, channels=3)
    assert fit_affine_shift(staircase) is None
    parts = fit_bent(staircase)
    assert parts is not None
    codes = _every_code(staircase)
    assert (parts[0](codes) + parts[1](codes) == staircase(codes)).all()


@pytest.mark.parametrize("channels", [2, 3])
def test_what_is_the_same_in_all_channels_is_one_channel(channels: int) -> None:
    """Above 0 the channels are alike, below each has its slope; and equal offsets alone are no reason."""
    slopes = LeakyReluStage((F(1, 10), F(1, 7), F(1, 5))[:channels])
    staircase = _staircase([_affine(F(3, 14), offset=F(1, 70)), slopes], -500, 400, bits=6, channels=channels)
    parts = fit_bent(staircase)
    assert parts is not None
    below, above = parts
    codes = _every_code(staircase)
    assert (below(codes) + above(codes) == staircase(codes)).all()
    assert (below.channels, above.channels) == (channels, 1)
    factors = (F(2), F(3), F(5))[:channels]
    of_each = fit_affine_shift(_staircase([_affine(*factors)], -9, 9, bits=8, channels=channels))
    assert of_each is not None
    assert (of_each.multiplier.tolist(), of_each.offset.tolist()) == ([2, 3, 5][:channels], [0] * channels)


def test_a_jump_that_no_multiplier_takes_is_no_line() -> None:
    """Three steps at once take a slope of 3, and with it the domain's products leave 62 bits: at no shift at all."""
    last = 1 << 60
    jump = Staircase(-last, last - 1, 0, np.zeros((1, 3), dtype=np.int64), np.ones(1, dtype=np.int64))
    assert not takes_line(jump, corner_steps(jump))
    assert fit_affine_shift(jump) is None
    single = Staircase(-last, last - 1, 0, np.zeros((1, 1), dtype=np.int64), np.ones(1, dtype=np.int64))
    assert takes_line(single, corner_steps(single))


def _may_bend(staircase: Staircase) -> bool:
    assert staircase.chains is not None
    return staircase.chains.may_bend


@given(
    _rationals,
    _rationals,
    st.none() | st.integers(-4, 4),
    st.sampled_from(sorted(RoundingMode, key=str)),
    st.booleans(),
)
def test_what_cannot_bend_is_a_line(factor, offset, limit, mode, leaky):  # type: ignore[no-untyped-def]
    """But for ties that half to even breaks: 1/7919 more, and the accumulators here meet none."""
    stages: list[Stage] = [_affine(factor / 16, offset=offset + F(1, 7919))]
    stages += [] if limit is None else [ClipStage(F(limit), None)]
    stages += [LeakyReluStage((F(1, 4),))] if leaky else []
    staircase = _staircase(stages, -300, 300, bits=2 if mode is RoundingMode.SIGN else 6, mode=mode)
    if _may_bend(staircase):
        assert leaky or mode in (*_BENT_AT_ZERO, RoundingMode.SIGN)
    else:
        assert fit_affine_shift(staircase, product_bits=62, multiplier_bits=62, largest_shift=61) is not None


def test_what_bends_may_bend() -> None:
    for stages, mode in (([LeakyReluStage((F(1, 4),))], RoundingMode.FLOOR), *(([], mode) for mode in _BENT_AT_ZERO)):
        assert _may_bend(_staircase([_affine(F(1, 4)), *stages], -300, 300, bits=6, mode=mode))


def test_ties_of_a_ratio_that_is_no_shift_are_not_affine() -> None:
    # -a/6 ties at a = -3, 3 and 9, and half to even takes them down, up, down: no slope but 1/6 itself does that.
    assert fit_affine_shift(_staircase([_affine(F(-1, 6))], -4, 9, bits=2)) is None


def test_bipolar_steps_are_left_to_the_caller() -> None:
    one = np.array([1], dtype=np.int64)
    assert fit_affine_shift(Staircase(-9, 9, -1, np.array([[0]], dtype=np.int64), one, step=2)) is None


def test_a_staircase_without_steps_is_a_constant() -> None:
    empty = np.empty((1, 0), dtype=np.int64)
    staircase = Staircase(-9, 9, 4, empty, np.array([1], dtype=np.int64))
    fitted = fit_affine_shift(staircase)
    assert fitted is None or _equal_everywhere(fitted, staircase)


def test_ties_to_even_and_the_floor_are_told_apart() -> None:
    floor = fit_affine_shift(_staircase([_affine(F(1, 8))], -100, 100, mode=RoundingMode.FLOOR))
    assert floor is not None
    assert (floor.rounding, floor.shift, floor.is_shift) == (RoundingMode.FLOOR, 3, True)


@settings(max_examples=150)
@given(
    st.lists(_rationals, min_size=1, max_size=4),
    _rationals,
    st.integers(-3000, 0),
    st.integers(1, 3000),
    st.integers(2, 8),
    st.sampled_from([16, 24, 32, 62]),
    st.booleans(),
)
def test_what_is_found_is_the_staircase_within_the_widths(factors, offset, low, high, bits, width, bent):  # type: ignore[no-untyped-def]
    stages: list[Stage] = [_affine(*(f / 16 for f in factors), offset=offset)]
    if bent:
        stages.append(LeakyReluStage())
    staircase = _staircase(stages, low, high, bits, channels=len(factors))
    fitted = fit_affine_shift(staircase, product_bits=width)
    if fitted is not None:
        assert _equal_everywhere(fitted, staircase)
        assert bits_for_range(*fitted.numerators) <= width
        unclipped = [
            round_fraction(F(a * m + b, 2**fitted.shift), fitted.rounding)
            for m, b in zip(fitted.multiplier.tolist(), fitted.offset.tolist(), strict=True)
            for a in (low, high)
        ]
        assert fitted.clamps == (min(unclipped) < fitted.low or max(unclipped) > fitted.high)


@pytest.mark.parametrize(("factor", "offset", "low", "high", "width"), [
    (F(1, 10), F(16, 7), -29, 26, 10), (F(4, 38), F(12, 7), -25, 30, 9), (F(9, 39), F(16, 7), -49, 59, 11),
    (F(2, 11), F(-13, 7), -4, 10, 7), (F(1, 12), F(-13, 7), -26, 17, 9), (F(1, 15), F(4, 7), -19, 16, 10),
])  # fmt: skip
def test_the_smallest_shift_that_works_is_found_up_to_the_widest(factor, offset, low, high, width):  # type: ignore[no-untyped-def]
    """All shifts, multipliers and offsets are tried one by one. In the first cases none works at the widest shift of
    all, but at the next one; in the others none but at the widest.
    """
    staircase = _staircase([_affine(factor, offset=offset)], low, high, bits=2)
    codes = np.arange(low, high + 1)
    wanted = staircase(codes[None, :])[0]
    works = []
    for shift in range(9):
        for m in range(16):
            products = codes * m + np.arange(-(1 << width), 1 << width)[:, None]
            half = 1 << (width - 1)
            inside = (products.min(axis=1) >= -half) & (products.max(axis=1) + (1 << shift) // 2 < half)
            found = np.clip(products >> shift, staircase.low, staircase.high)
            if (inside & (found == wanted).all(axis=1)).any():
                works.append(shift)
    assert works
    fitted = fit_affine_shift(staircase, product_bits=width, multiplier_bits=5)
    assert fitted is not None
    assert fitted.rounding is RoundingMode.FLOOR
    assert fitted.shift == min(works)
    assert _equal_everywhere(fitted, staircase)


@pytest.mark.parametrize("mode", [RoundingMode.FLOOR, RoundingMode.HALF_EVEN])
@pytest.mark.parametrize("factors", [(F(5, 7),), (F(5, 7), F(-4, 9)), (F(1, 3), F(0))])
def test_a_multiplier_is_found_exactly_where_one_works(factors: tuple[Fraction, ...], mode: RoundingMode) -> None:
    """At each shift: all multipliers of 5 bits with all offsets that keep a code within reach are tried."""
    low, high, bits = -11, 9, 3
    multipliers, offsets = np.arange(16)[:, None, None], np.arange(-220, 220)[None, :, None]
    outcomes = set()
    for alpha, offset, shift in product((F(1), F(2, 3)), (F(0), F(1, 5), F(-7, 4)), range(5)):
        stages: list[Stage] = [_affine(*factors, offset=offset), LeakyReluStage((alpha,))]
        staircase = _staircase(stages, low, high, bits, channels=len(factors))
        codes, works = np.arange(low, high + 1), True
        for wanted, direction in zip(staircase(_every_code(staircase)), staircase.direction, strict=True):
            rounded = round_shift(codes * direction * multipliers + offsets, shift, mode)
            works &= bool((saturate(rounded, staircase.low, staircase.high) == wanted).all(axis=2).any())
        candidate = _Search(staircase, 62, 5).any_multiplier(shift, mode)
        assert (candidate is not None) == works
        assert candidate is None or _equal_everywhere(candidate, staircase)
        outcomes.add(works)
    assert outcomes == {True, False}


def test_a_whole_multiple_needs_no_shift_and_no_wider_multiplier() -> None:
    fitted = fit_affine_shift(_staircase([_affine(F(3))], -20, 20), multiplier_bits=3)
    assert fitted is not None
    assert (fitted.multiplier.tolist(), fitted.offset.tolist(), fitted.shift) == ([3], [0], 0)


def test_only_what_is_the_staircase_is_certified() -> None:
    """Every parameter off by one, against every code of the domain."""
    staircase = _staircase([_affine(F(3, 17), F(-5, 29), offset=F(1, 5))], -60, 61, channels=2)
    fitted = fit_affine_shift(staircase)
    assert fitted is not None
    search = _Search(staircase, 62, 32)
    refused = 0
    for name in ("multiplier", "offset", "shift", "low", "high"):
        for by in (-9, -1, 0, 1, 9):
            value = getattr(fitted, name) + by
            if name in ("multiplier", "offset"):
                value = np.array([value[0], value[1] - by])  # of one channel
            elif name == "shift" and value < 0:
                continue
            changed = replace(fitted, **{name: value})
            certified = search.certified(changed)
            assert (certified is changed) == _equal_everywhere(changed, staircase)
            refused += certified is None
    assert refused >= 10
    assert search.certified(None) is None


@pytest.mark.parametrize(("low", "high"), [(-9, 7), (-8, 4), (3, 8)])
def test_a_candidate_is_refused_where_a_number_that_it_forms_does_not_fit(low: int, high: int) -> None:
    """The product, and the product and the offset, both with half an output code: at every code of the domain."""
    ones, no_steps = np.ones(1, dtype=np.int64), np.empty((1, 0), dtype=np.int64)
    searches = {bits: _Search(Staircase(low, high, 0, no_steps, ones), bits, 62) for bits in range(3, 9)}
    for m, b, shift in product(range(-3, 4), range(-9, 10), range(4)):
        half = 2**shift // 2
        formed = [a * m + addend for a in range(low, high + 1) for addend in (0, half, b, b + half)]
        for bits, search in searches.items():
            fits = -(2 ** (bits - 1)) <= min(formed) <= max(formed) < 2 ** (bits - 1)
            assert (search._candidate(m * ones, b * ones, shift, RoundingMode.FLOOR) is not None) == fits
            # The widest channel decides, wherever it stands.
            for multiplier in ([m, 0], [0, m]):
                offset = [b if x else 0 for x in multiplier]
                both = search._candidate(np.array(multiplier), np.array(offset), shift, RoundingMode.FLOOR)
                assert m == 0 or (both is not None) == (fits and half < 2 ** (bits - 1))


@settings(max_examples=100)
@given(
    st.lists(_rationals, min_size=1, max_size=4),
    _rationals,
    st.integers(-3000, 0),
    st.integers(1, 3000),
    st.integers(2, 8),
    st.booleans(),
)
def test_the_corners_of_its_hulls_decide_whether_a_staircase_is_a_line(factors, offset, low, high, bits, bent):  # type: ignore[no-untyped-def]
    """Every step that is left out lies between corners: what serves the corners is certified at all codes."""
    stages: list[Stage] = [_affine(*(f / 16 for f in factors), offset=offset)]
    if bent:
        stages.append(LeakyReluStage((F(1, 4),)))
    staircase = _staircase(stages, low, high, bits, channels=len(factors))
    fitted = fit_affine_shift(staircase, corners=corner_steps(staircase))
    if fitted is None:
        everything = fit_affine_shift(staircase)
        assert everything is None or everything.rounding is RoundingMode.HALF_EVEN
    else:
        assert _equal_everywhere(fitted, staircase)


def test_slopes_that_31_bits_miss_are_lines_with_more() -> None:
    """What a table of thresholds is replaced by in C, where that is large."""
    r = np.random.default_rng(1)
    slopes = [F(int(x), 2**60) for x in r.integers(2**55, 2**56, 8)]
    staircase = _staircase([_affine(*slopes, offset=F(1, 3))], -(1 << 20), 1 << 20, bits=16, channels=8)
    assert fit_affine_shift(staircase) is None
    fitted = fit_affine_shift(staircase, product_bits=64, multiplier_bits=64, largest_shift=62)
    assert fitted is not None
    assert bits_for_range(*fitted.numerators) <= 62
    for c in range(8):
        for code in r.integers(-(1 << 20), 1 << 20, 50).tolist():
            assert _exact(fitted, code, c) == staircase(np.full((8, 1), code))[c, 0]


@pytest.mark.parametrize("product_bits", [8, 12, 16, 32])
def test_what_is_formed_fits_the_width_asked_for(product_bits: int) -> None:
    """At both ends of the domain, with half an output code; and with more bits there would be an implementation."""
    r = np.random.default_rng(product_bits)
    narrow = 0
    for _ in range(60):
        slope, offset = F(int(r.integers(1, 99)), int(r.integers(100, 999))), F(int(r.integers(-9, 10)), 7)
        staircase = _staircase(
            [_affine(slope, offset=offset)], -int(r.integers(1, 120)), int(r.integers(1, 120)), bits=4
        )
        fitted = fit_affine_shift(staircase, product_bits=product_bits)
        if fitted is None:
            narrow += fit_affine_shift(staircase) is not None
            continue
        ends = [a * int(fitted.multiplier[0]) + int(fitted.offset[0]) for a in (fitted.domain_low, fitted.domain_high)]
        assert bits_for_range(min(ends), max(ends) + (1 << fitted.shift) // 2) <= product_bits
        assert _equal_everywhere(fitted, staircase)
    assert narrow or product_bits > 12
