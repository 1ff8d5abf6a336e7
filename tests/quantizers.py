"""Hypothesis strategies: quantizers of every kind, and the floats that are hardest for one of them."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from pefslc.numeric.format import Quantization
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale

__all__ = ["dyadic_steps", "floats", "quantizers"]

Kind = type[np.float32] | type[np.float64]

_POWERS = st.integers(-100, 100).map(lambda e: Fraction(2) ** e)
_SINGLES = st.floats(2.0**-126, 2.0**120, width=32).map(Fraction)
_DOUBLES = st.floats(2.0**-126, 1e300).map(Fraction)
# What QONNX calls the modes; bipolar quantizers are nodes of their own.
QONNX_NAME = {
    RoundingMode.HALF_EVEN: "ROUND",
    RoundingMode.HALF_AWAY: "HALF_UP",
    RoundingMode.HALF_TO_ZERO: "HALF_DOWN",
    RoundingMode.FLOOR: "FLOOR",
    RoundingMode.CEIL: "CEIL",
    RoundingMode.TO_ZERO: "DOWN",
    RoundingMode.AWAY: "UP",
    RoundingMode.SIGN: "SIGN",
}

_PLAIN = st.sampled_from([0.1, 0.3, 1 / 255, 7.3]).map(Fraction)
_RATIOS = st.fractions(Fraction(1, 1000), 1000, max_denominator=1000).filter(lambda s: s > 0)

dyadic_steps = _POWERS | _SINGLES | _DOUBLES | _PLAIN


@st.composite
def quantizers(draw: st.DrawFn, mode: RoundingMode | None = None, steps: st.SearchStrategy[Fraction] | None = None):  # type: ignore[no-untyped-def]
    """A Quantizer with one scale."""
    mode = mode or draw(st.sampled_from(list(RoundingMode)))
    scale = Scale.of([draw(dyadic_steps | _RATIOS if steps is None else steps)])
    if mode is RoundingMode.SIGN:
        return Quantizer(Quantization(bits=2, signed=True, narrow=True, scale=scale), mode)
    bits = draw(st.sampled_from([2, 3, 8, 16, 32]))
    small = st.integers(-5, 5) | st.sampled_from([128, 2**bits - 1, -(2**31), 2**31])
    q = Quantization(bits=bits, signed=draw(st.booleans()), scale=scale, zero_point=draw(small))
    return Quantizer(q, mode, draw(st.booleans()))


@st.composite
def floats(draw: st.DrawFn, quantizer: Quantizer, *, kind: Kind | None = None, size: int = 20):  # type: ignore[no-untyped-def]
    """(float32 or float64, numbers of it): of any size, and multiples of half a step with their neighbours."""
    kind = kind or draw(st.sampled_from([np.float32, np.float64]))
    q = quantizer.quantization
    step = q.scale.step
    halves = st.integers(2 * (q.low - q.zero_point) - 3, 2 * (q.high - q.zero_point) + 3) | st.integers(-4, 4)

    def near(drawn: tuple[int, int]) -> float:
        x = kind(_nearest(drawn[0] * step / 2, kind))
        for _ in range(abs(drawn[1])):
            with np.errstate(over="ignore"):
                x = np.nextafter(x, kind(math.copysign(math.inf, drawn[1])))
        return float(x) if np.isfinite(x) else 0.0

    width = 32 if kind is np.float32 else 64
    anything = st.floats(width=width, allow_nan=False, allow_infinity=False)
    boundary = st.tuples(halves, st.integers(-3, 3)).map(near)
    return kind, draw(st.lists(boundary | anything, min_size=size, max_size=size))


def _nearest(value: Fraction, kind: Kind) -> float:
    """The float next to `value`, the largest one where it is too large."""
    largest = float(np.finfo(kind).max)
    return float(min(max(value, -Fraction(largest)), Fraction(largest)))
