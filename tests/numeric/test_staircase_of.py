"""Staircases of chains of stages against brute force: every code, in exact rationals, with the filter and without."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from staircase_oracle import MODES, chain_value, check

from oracle import quantize_value, round_by_name, square_root
from pefslc.numeric import chain as chain_module
from pefslc.numeric import stages as stages_module
from pefslc.numeric import staircase as staircase_module
from pefslc.numeric.format import Quantization
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.requantize import fit_affine_shift, fit_offset, takes_line
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, ClipStage, LeakyReluStage, Root, SnapStage, Stage, apply_stages
from pefslc.numeric.staircase import Staircase, agrees_in_blocks, staircase_of
from pefslc.numeric.steps import Steps, corner_steps
from quantizers import QONNX_NAME

F = Fraction
ONE = F(1)


def quantizer(
    bits: int = 4, step: Fraction | Scale = ONE, *, signed: bool = True, narrow: bool = False,
    rounding: RoundingMode = RoundingMode.HALF_EVEN,
) -> Quantizer:  # fmt: skip
    scale = step if isinstance(step, Scale) else Scale((step,))
    return Quantizer(Quantization(bits=bits, signed=signed, narrow=narrow, scale=scale), rounding)


all_modes = pytest.mark.parametrize("mode", MODES, ids=lambda m: m.value)


@all_modes
@pytest.mark.parametrize(("signed", "narrow"), [(True, False), (True, True), (False, False), (False, True)])
def test_shifts_tie_as_the_mode_says(mode: RoundingMode, signed: bool, narrow: bool) -> None:
    for shift in range(4):
        check(Scale.power_of_two(-shift), (), quantizer(signed=signed, narrow=narrow, rounding=mode), -90, 90)


@all_modes
@pytest.mark.parametrize("step", [F(1, 3), F(3, 8), F(float(np.float32(0.1))), F(7), F(float(np.float32(0.3)))])
def test_scales_of_any_kind(mode: RoundingMode, step: Fraction) -> None:
    check(Scale((step,)), (), quantizer(rounding=mode), -60, 60)
    check(Scale((F(1, 8),)), (), quantizer(step=step, rounding=mode), -130, 130)
    check(Scale((step,)), (), quantizer(step=step * 2, rounding=mode), -60, 60)  # every odd code is a tie


@all_modes
@pytest.mark.parametrize(
    "stages",
    [
        (LeakyReluStage(),),
        (LeakyReluStage((F(1, 10),)),),
        (LeakyReluStage((F(1),)),),
        (ClipStage(F(0), F(6)),),
        (ClipStage(F(1, 2), F(5, 2)),),
        (ClipStage(F(-3, 2), None),),
        (ClipStage(None, F(3)),),
        (ClipStage(F(2), F(2)),),
        (LeakyReluStage(), ClipStage(F(1, 10), F(29, 10))),
        (Affine.bias((F(1, 2),)), LeakyReluStage()),
        (LeakyReluStage(), Affine.bias((F(-3, 2),))),
        (LeakyReluStage((F(1, 10),)), Affine.bias((F(1, 20),)), ClipStage(F(-1), F(2))),
    ],
    ids=str,
)
def test_activations(mode: RoundingMode, stages: tuple[Stage, ...]) -> None:
    for signed in (True, False):
        check(Scale((F(1, 8),)), stages, quantizer(signed=signed, rounding=mode), -100, 100)
        check(Scale((F(1, 64),)), stages, quantizer(5, F(1, 4), signed=signed, rounding=mode), -250, 250)


def test_a_limit_of_clip_that_float64_misses_is_still_a_tie() -> None:
    """0.3 is on the grid of scale 0.1 exactly as a rational, and an ulp beside it in float64."""
    for mode in MODES:
        for step in (F(1, 10), F(3, 10), F(1, 7)):
            for k in range(1, 8):
                limit = k * step
                check(Scale((step / 4,)), (ClipStage(limit, None),), quantizer(step=step, rounding=mode), -20, 50)
                check(Scale((step / 4,)), (ClipStage(None, limit),), quantizer(step=step, rounding=mode), -20, 50)
                half = limit - step / 2
                check(Scale((step / 4,)), (ClipStage(half, half + step),), quantizer(step=step, rounding=mode), -20, 50)


def test_relu_reaches_zero_only_from_above_where_the_mode_rounds_up() -> None:
    """max(x, 0) > 0 does not hold for negative x: CEIL and UP must not count them as a step."""
    for mode in (RoundingMode.CEIL, RoundingMode.AWAY):
        found = check(Scale((F(1, 8),)), (LeakyReluStage(),), quantizer(4, signed=False, rounding=mode), -40, 40)
        assert found.thresholds[0, 0] == 1
        assert check(Scale((F(1, 8),)), (LeakyReluStage(),), quantizer(rounding=mode), -8, 8).thresholds == 1


@all_modes
def test_channels_of_every_direction(mode: RoundingMode) -> None:
    """gamma positive, negative and zero; variances with rational and with irrational roots."""
    bn = Affine(
        (F(1), F(-1), F(0), F(3, 8), F(-5, 16), F(0), F(0)),
        (F(1, 2), F(1, 4), F(0), F(-1, 8), F(0), F(3), F(0)),
        (F(4), F(1, 4), F(2), F(2), F(3) + F(1, 10**5), F(5), F(1)),
        (F(0), F(1, 2), F(5, 2), F(1, 4), F(-1, 4), F(-1, 2), F(0)),
    )
    for after in ((), (LeakyReluStage(),), (LeakyReluStage((F(1, 10),)),), (ClipStage(F(0), F(6)),)):
        for signed in (True, False):
            found = check(Scale((F(1, 8),)), (bn, *after), quantizer(signed=signed, rounding=mode), -70, 70, 7)
            assert (found.direction == [1, -1, 1, 1, -1, 1, 1]).all()


@pytest.mark.parametrize("after", [(), (LeakyReluStage(),), (LeakyReluStage((F(1, 10),)),)])
@pytest.mark.parametrize("factors", [(F(1), F(1), F(1)), (F(1), F(3, 8), F(2, 3)), (F(1), F(-3, 8), F(0))])
def test_lines_are_the_same_by_corners_of_what_is_not_listed(
    factors: tuple[Fraction, ...], after: tuple[Stage, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    ones, addends = (F(1),) * 3, (F(1, 3), F(1, 7), F(5, 9))  # no ties: those of half to even are no floor
    chain = Scale((F(1, 8),)), (Affine(factors, (F(0),) * 3, ones, addends), *after), quantizer(), -70, 70, 3
    listed = staircase_of(*chain)
    monkeypatch.setattr(staircase_module, "_MOST_LISTED", 0)
    monkeypatch.setattr(chain_module, "_BLOCK", 1)  # a channel at a time
    unlisted = staircase_of(*chain)
    corners, all_steps = corner_steps(unlisted), Steps.of(listed)
    fitted = fit_affine_shift(listed, corners=all_steps)
    assert takes_line(unlisted, corners) == takes_line(listed, all_steps) == (fitted is not None)
    by_corners = fit_affine_shift(unlisted)
    assert (by_corners is None) == (fitted is None)
    assert by_corners is None or agrees_in_blocks(listed, by_corners)
    for shift in range(7):
        offsets = fit_offset(unlisted, 8, shift, corners), fit_offset(listed, 8, shift)
        assert (offsets[0] is None) == (offsets[1] is None)
        assert offsets[0] is None or agrees_in_blocks(listed, offsets[0])
    if len(set(factors)) == 1 and not after:
        assert fit_offset(unlisted, 8, 6, corners) is not None
    np.testing.assert_array_equal(unlisted.rows(0, 3), listed.thresholds)
    assert not unlisted.is_listed


def _unlisted(bias: Affine, *after: Stage) -> Staircase:
    """Of a / 8, a channel at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staircase_module, "_MOST_LISTED", 0)
        return staircase_of(Scale((F(1, 8),)), (bias, *after), quantizer(), -70, 70, bias.channels)


def test_ties_are_no_reason_to_rule_out_an_offset() -> None:
    """The corners are those of the floor: where half to even ties, it may demand one numerator more."""
    ties = _unlisted(Affine.bias((F(0), F(1), F(-2))))
    fitted = fit_offset(ties, 1, 3, corner_steps(ties))
    assert fitted is not None
    assert fitted.offset.tolist() == [0, 8, -16]


def test_a_channel_that_is_no_line_is_refused_before_others_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    bent = _unlisted(Affine.bias((F(1, 3), F(1, 7), F(5, 9))), LeakyReluStage((F(1, 10),)))
    looked_at: list[tuple[int, int]] = []

    def thresholds(chains: chain_module.Chains, first: int, last: int) -> np.ndarray:
        looked_at.append((first, last))
        return of_channels(chains, first, last)

    of_channels = chain_module.Chains.thresholds
    monkeypatch.setattr(chain_module.Chains, "thresholds", thresholds)
    monkeypatch.setattr(staircase_module, "_MOST_LISTED", 0)
    monkeypatch.setattr(chain_module, "_BLOCK", 1)
    assert fit_affine_shift(bent) is None
    assert set(looked_at) == {(0, 1)}


def test_one_scale_per_channel() -> None:
    steps = tuple(F(float(np.float32(s))) for s in (0.011, 0.1, 0.25, 0.3))
    for mode in MODES:
        check(Scale(steps), (LeakyReluStage(),), quantizer(step=F(1, 4), rounding=mode), -50, 50, 4)
        check(Scale((F(1, 8),)), (), quantizer(step=Scale(steps), rounding=mode), -50, 50, 4)


def test_a_slope_below_zero_per_channel() -> None:
    bn = Affine((F(-1), F(0), F(1, 3)), (F(0), F(1), F(-2)), (F(2), F(2), F(1)), (F(1), F(0), F(1)))
    prelu = LeakyReluStage((F(1, 10), F(0), F(5, 2)))
    for mode in MODES:
        check(Scale((F(1, 8),)), (prelu,), quantizer(rounding=mode), -70, 70, 3)
        check(Scale((F(1, 8),)), (bn, prelu), quantizer(rounding=mode), -70, 70, 3)
        check(Scale((F(1, 8),)), (prelu, bn), quantizer(rounding=mode), -70, 70, 3)


def test_an_activation_before_the_batch_norm() -> None:
    bn = Affine((F(-1), F(0)), (F(0), F(1)), (F(2), F(2)), (F(1), F(0)))
    for mode in MODES:
        check(Scale((F(1, 8),)), (LeakyReluStage(), bn), quantizer(rounding=mode), -70, 70, 2)
        check(Scale((F(1, 8),)), (ClipStage(F(-1), F(1)), bn, LeakyReluStage()), quantizer(rounding=mode), -70, 70, 2)


def test_equal_channels_collapse_into_one() -> None:
    same = Affine((F(1),) * 3, (F(0),) * 3, (F(2),) * 3, (F(1),) * 3)
    assert check(Scale((F(1, 8),)), (same,), quantizer(), -30, 30, 3).channels == 1


def test_a_domain_of_one_code() -> None:
    found = check(Scale((F(1),)), (), quantizer(), 3, 3)
    assert found.thresholds.shape == (1, 0)
    assert found.low == found.high == 3


def test_the_filter_survives_extreme_parameters() -> None:
    """Scales of the size of the smallest float32, and factors that overflow a float64 when inverted."""
    tiny = F(2) ** -126
    for mode in MODES:
        check(Scale((F(1, 8),)), (Affine((tiny,), (F(0),), (F(1),), (F(1, 2),)),), quantizer(rounding=mode), -9, 9)
        check(Scale((tiny,)), (), quantizer(step=F(2) ** 100, rounding=mode), -9, 9)
        check(Scale((F(2) ** 100,)), (), quantizer(step=tiny, rounding=mode), -9, 9)
        check(Scale((tiny,)), (), quantizer(step=tiny * 3, rounding=mode), -9, 9)


@pytest.mark.parametrize("closed", [True, False])
def test_the_filter_leaves_the_kink_of_a_leaky_relu_to_the_exact_search(
    closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At y = 0 float64 may take the wrong branch, whose error 1/alpha multiplies: here 2^-58 is 300 codes.

    The step to code 1/2 asks of leaky_relu for 1/8 - offset = -2^-58, which is 0 in float64.
    """
    if not closed:
        monkeypatch.setattr(chain_module.Chain, "closed_thresholds", lambda *_: None)
    offset = F(1, 8) + F(1, 1 << 58)
    stages = (Affine.bias((F(3, 10),)), LeakyReluStage((F(1, 10**11),)), Affine.bias((offset,)))
    step, out, last = F(11, 10**10), quantizer(step=F(1, 4)), 1 << 29
    found = staircase_of(Scale((step,)), stages, out, -last, last, 1)
    for threshold in found.thresholds[0].tolist():
        for a in range(max(threshold - 2, -last), min(threshold + 2, last) + 1):
            assert found(np.array([a]))[0] == out.code_of(apply_stages(stages, step * a, 0), 0)


@pytest.mark.parametrize("alpha", [F(1, 3 * 10**9), F(1, 7 * 10**9)])
def test_the_filter_knows_that_a_small_slope_magnifies_its_error(alpha: Fraction) -> None:
    """The step to code 1/2 is at a whole accumulator code: float64 is off by 2^-54, which is 2^-23 codes and more."""
    for code in range(-40, 0):
        stages = (LeakyReluStage((alpha,)), Affine.bias((F(1, 2) - code * alpha,)))
        check(Scale((ONE,)), stages, quantizer(rounding=RoundingMode.HALF_AWAY), -50, -1)


def test_a_quantizer_of_16_bits_needs_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """65,535 steps in closed form; the exact predicate would be asked for each of them, ties as they all are."""
    monkeypatch.setattr(chain_module.Chain, "search", None)
    out, last = quantizer(16, F(1, 256)), 1 << 38
    stages = (Affine.bias((F(1, 1 << 40),)), LeakyReluStage((F(1, 10),)), ClipStage(None, F(100)))
    found = staircase_of(Scale((F(1, 1 << 16),)), stages, out, -last, last, 1)
    assert (found.low, found.high) == (-(1 << 15), 25600)
    for threshold in found.thresholds[0][::997].tolist():
        for a in (threshold - 1, threshold):
            assert found(np.array([a]))[0] == out.code_of(apply_stages(stages, F(a, 1 << 16), 0), 0)


def dyadic(low: int, high: int, most_bits: int = 6) -> st.SearchStrategy[Fraction]:
    return st.builds(lambda n, e: F(n, 1 << e), st.integers(low, high), st.integers(0, most_bits))


float32 = st.floats(2**-6, 4, width=32).map(F)
steps = st.one_of(dyadic(1, 9), float32, st.fractions(F(1, 20), 3, max_denominator=40))
numbers = st.one_of(dyadic(-40, 40), st.floats(-4, 4, width=32).map(F), st.fractions(-3, 3, max_denominator=20))
affines = st.sampled_from((1, 3)).flatmap(
    lambda n: st.builds(
        Affine,
        *(
            st.tuples(*[part] * n)
            for part in (numbers, numbers, st.one_of(steps, st.sampled_from([F(4), F(1, 9)])), numbers)
        ),
    )
)
slopes = st.one_of(st.just(F(0)), st.just(F(1)), st.fractions(0, 3, max_denominator=10))
activations = st.one_of(
    st.just(LeakyReluStage()),
    st.builds(LeakyReluStage, st.tuples(slopes)),
    st.builds(LeakyReluStage, st.tuples(slopes, slopes, slopes)),
    st.tuples(numbers, numbers).map(lambda v: ClipStage(min(v), max(v))),
)
chains = st.tuples(
    st.lists(activations, max_size=1), st.lists(affines, max_size=1), st.lists(activations, max_size=2)
).map(lambda parts: tuple(stage for part in parts for stage in part))


@settings(max_examples=400)
@given(step=steps, stages=chains, out=steps, mode=st.sampled_from(MODES), signed=st.booleans(), data=st.data())
def test_any_chain(
    step: Fraction, stages: tuple[Stage, ...], out: Fraction, mode: RoundingMode, signed: bool, data: st.DataObject
) -> None:
    channels = max((getattr(s, "channels", 1) for s in stages), default=1)
    low = data.draw(st.integers(-60, 20))
    high = low + data.draw(st.integers(0, 60))
    check(Scale((step,)), stages, quantizer(3, out, signed=signed, rounding=mode), low, high, channels)


@settings(max_examples=150)
@given(stages=chains, data=st.data())
def test_ties_placed_on_purpose(stages: tuple[Stage, ...], data: st.DataObject) -> None:
    """The quantizer's grid is shifted so that a code of the domain falls on a tie, or 10^-30 beside it."""
    stages = tuple(s for s in stages if not (isinstance(s, Affine) and s.has_root))
    channels = max((getattr(s, "channels", 1) for s in stages), default=1)
    a = data.draw(st.integers(-20, 20))
    y = chain_value(stages, F(a, 8), 0)
    nudge = data.draw(st.sampled_from([F(0), F(1, 10**30), F(-1, 10**30)]))
    mode = data.draw(st.sampled_from(MODES))
    bias = Affine.bias((F(1, 2) + data.draw(st.integers(-3, 3)) - y + nudge,))
    check(Scale((F(1, 8),)), (*stages, bias), quantizer(rounding=mode), -25, 25, channels)


@settings(max_examples=200)
@given(numbers, numbers, steps, numbers)
def test_roots_compare_exactly(rational: Fraction, coefficient: Fraction, radicand: Fraction, other: Fraction) -> None:
    exact = rational + coefficient * square_root(radicand)
    sign = Root(rational, coefficient, radicand).compare(other)
    assert sign == (exact > other) - (exact < other)


@pytest.mark.parametrize("coefficient", [F(1, 4), F(-1, 4)])
def test_the_nearest_integer_of_a_root_ties_to_even(coefficient: Fraction) -> None:
    for twice in range(-9, 10):
        expected = round(F(twice, 2))  # Python's round, half to even
        assert Root(F(twice, 2) - coefficient * 2, coefficient, F(4)).nearest() == expected


def test_a_root_that_is_rational_ties() -> None:
    assert Root(F(-3), F(3, 2), F(4)).sign() == 0
    assert Root(F(3), F(-3, 2), F(4)).sign() == 0
    assert Root(F(0), F(0), F(2)).sign() == 0
    assert apply_stages((Affine((F(3),), (F(0),), (F(9),), (F(0),)),), F(5), 0).compare(F(5)) == 0


def test_the_zero_point_is_added_before_or_after_rounding() -> None:
    """QONNX rounds x/s + zp, ONNX rounds x/s and adds zp: they differ on ties with an odd zero point."""
    for zero_point in (-3, 1, 2):
        for signed in (True, False):
            q = Quantization(bits=4, signed=signed, scale=Scale((F(1, 4),)), zero_point=zero_point)
            for mode in MODES:
                for last in (False, True):
                    found = staircase_of(Scale((F(1, 16),)), (), Quantizer(q, mode, last), -60, 60, 1)
                    for a in range(-60, 61):
                        x = F(a, 4)
                        inside, after = (0, zero_point) if last else (zero_point, 0)
                        code = quantize_value(x + inside, F(1), 40, True, False, QONNX_NAME[mode]) + after
                        assert found(np.array([a]))[0] == min(max(code, q.low), q.high)


def test_the_filter_is_generous() -> None:
    """The margin stays thousands of times above float64's rounding: a change here needs a new argument."""
    assert stages_module.FILTER == 2.0**-40
    assert stages_module._FILTER_OF_STAGE == 2.0**-49, "of a stage in a chain with a function: 16 roundings"


@pytest.mark.parametrize("factor", [F(1), F(-3, 7), F(0)])
def test_the_sign_takes_both_steps_at_once(factor: Fraction) -> None:
    """BipolarQuant: -1 below 0, 1 from 0 on, never 0."""
    bipolar = Quantizer(Quantization(bits=2, signed=True, narrow=True, scale=Scale((ONE,))), RoundingMode.SIGN)
    stage = Affine((factor,), (F(0),), (F(2),), (F(1, 3),))
    staircase = staircase_of(Scale((F(1, 5),)), (stage,), bipolar, -20, 20, 1)
    expected = [1 if chain_value((stage,), F(a, 5), 0) >= 0 else -1 for a in range(-20, 21)]
    assert staircase(np.arange(-20, 21)).tolist() == expected


@pytest.mark.parametrize("zero_point", [0, 1])
@pytest.mark.parametrize("step", [F(1, 2), F(3, 10)])
def test_snapping_rounds_twice(step: Fraction, zero_point: int) -> None:
    """Trunc rounds to its input's scale before it truncates: 1.26 -> 1.5 -> 1, where the floor of 1.26 / 0.5 is 2."""
    floor = quantizer(6, step * 4, rounding=RoundingMode.FLOOR)
    for stages in ((SnapStage(step, zero_point),), (Affine((F(2),), (F(0),), (F(7),), (F(0),)), SnapStage(step))):
        staircase = staircase_of(Scale((F(1, 25),)), stages, floor, -300, 300, 1)
        for a in range(-300, 301):
            x = F(a, 25) if len(stages) == 1 else F(2 * a, 25) / square_root(F(7))
            z = zero_point if len(stages) == 1 else 0
            snapped = (round_by_name(x / step + z, "ROUND") - z) * step
            assert staircase(np.array([a]))[0] == quantize_value(snapped, step * 4, 6, True, False, "FLOOR"), a
