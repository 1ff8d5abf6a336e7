"""Affine stages one after the other are one affine stage."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from pefslc.numeric.stages import Affine, apply_stages

RATIONALS = st.fractions(min_value=-4, max_value=4, max_denominator=12)


@st.composite
def affine(draw: st.DrawFn, channels: int) -> Affine:
    count = draw(st.sampled_from([1, channels]))
    factor, addend, offset = (tuple(draw(RATIONALS) for _ in range(count)) for _ in range(3))
    return Affine(factor, addend, (Fraction(1),) * count, offset)


@given(affine(3), affine(3), RATIONALS)
def test_one_after_the_other_is_one(first: Affine, second: Affine, x: Fraction) -> None:
    both = first.then(second)
    assert both.channels == max(first.channels, second.channels)
    for c in range(3):
        assert apply_stages((both,), x, c) == apply_stages((first, second), x, c)


def test_a_stage_for_several_channels_is_itself_in_each() -> None:
    stage = Affine(*((Fraction(n),) for n in (2, 3, 5, 7)))
    spread = Affine(*stage.for_channels(3))
    assert spread.channels == 3
    assert all(apply_stages((spread,), Fraction(4), c) == apply_stages((stage,), Fraction(4), 0) for c in range(3))
