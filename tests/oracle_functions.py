"""Real functions at rationals, as rationals within 2^-600: that decides every comparison that is not a tie.

Shares no code with pefslc. Slow and plain on purpose.
"""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

import numpy as np

__all__ = ["FUNCTIONS", "PI", "error_function", "exponential", "logarithm", "square_root", "tanh_gelu", "written"]

HALF = Fraction(1, 2)


def square_root(x: Fraction) -> Fraction:
    """Exact where it is rational, else within 2^-600."""
    n, d = isqrt(x.numerator), isqrt(x.denominator)
    if n * n == x.numerator and d * d == x.denominator:
        return Fraction(n, d)
    return Fraction(isqrt((x.numerator << 1400) // x.denominator), 1 << 700)


_GRID = 2**500


def _rounded(x: Fraction) -> Fraction:
    """Within 2^-501: so that denominators stay short."""
    return Fraction(round(x * _GRID), _GRID)


def exponential(x: Fraction) -> Fraction:
    """exp(x) by its series, at x / 2^k, squared k times; relatively within 2^-400 for |x| below 40. exp(0) is 1."""
    halvings = max(int(abs(x)).bit_length() + 2, 0)
    y, term, total = x / 2**halvings, Fraction(1), Fraction(1)
    for n in range(1, 120):
        term = _rounded(term * y / n)
        total += term
    for _ in range(halvings):
        total = _rounded(total * total)
    return total


def logarithm(x: Fraction) -> Fraction:
    """ln(x) by Halley's iteration on exp."""
    y = Fraction(int(np.log(float(x)) * 2**40), 2**40)
    for _ in range(4):
        e = exponential(y)
        y = _rounded(y + 2 * (x - e) / (x + e))
    return y


def error_function(x: Fraction) -> Fraction:
    """erf(x) by its alternating series (Abramowitz and Stegun, 7.1.5), for |x| below 10."""
    total, power = Fraction(0), x
    for n in range(600):
        total += _rounded(power / (2 * n + 1))
        power = _rounded(-power * x * x / (n + 1))
    return _rounded(2 * total / square_root(PI))


def _arctangent(inverse: int) -> Fraction:
    return sum(((-1) ** n * Fraction(1, (2 * n + 1) * inverse ** (2 * n + 1)) for n in range(200)), Fraction(0))


PI = _rounded(16 * _arctangent(5) - 4 * _arctangent(239))


def _sigmoid(x: Fraction) -> Fraction:
    return 1 / (1 + exponential(-x))


def _tanh(x: Fraction) -> Fraction:
    return 1 - 2 / (exponential(2 * x) + 1)


def _softplus(x: Fraction) -> Fraction:
    return logarithm(1 + exponential(x))


def written(value: float) -> Fraction:
    """The number whose float32 an attribute is: a short fraction, or a decimal as it prints."""
    short = Fraction(float(np.float32(value))).limit_denominator(1000)
    return short if np.float32(float(short)) == np.float32(value) else Fraction(str(np.float32(value)))


_SELU = written(1.67326319), written(1.05070102)


def tanh_gelu(x: Fraction) -> Fraction:
    return x / 2 * (1 + _tanh(square_root(2 / PI) * (x + Fraction(44715, 10**6) * x**3)))


# ONNX's definitions, on one number; parameters by attribute name.
FUNCTIONS = {
    "Abs": abs,
    "Celu": lambda x, alpha=1: max(x, 0) + min(0, alpha * (exponential(x / alpha) - 1)),
    "Elu": lambda x, alpha=1: x if x >= 0 else alpha * (exponential(x) - 1),
    "Erf": error_function,
    "Exp": exponential,
    "Gelu": lambda x: x / 2 * (1 + error_function(x / square_root(Fraction(2)))),
    "HardSigmoid": lambda x, alpha=Fraction(1, 5), beta=HALF: max(0, min(1, alpha * x + beta)),
    "HardSwish": lambda x: x * max(0, min(1, x / 6 + HALF)),
    "Log": logarithm,
    "Mish": lambda x: x * _tanh(_softplus(x)),
    "Neg": lambda x: -x,
    "QuickGelu": lambda x, alpha=Fraction("1.702"): x * _sigmoid(alpha * x),
    "Reciprocal": lambda x: 1 / x,
    "Selu": lambda x, alpha=_SELU[0], gamma=_SELU[1]: gamma * (x if x > 0 else alpha * (exponential(x) - 1)),
    "Sigmoid": _sigmoid,
    "Softplus": _softplus,
    "Softsign": lambda x: x / (1 + abs(x)),
    "Sqrt": square_root,
    "Swish": lambda x, alpha=1: x * _sigmoid(alpha * x),
    "Tanh": _tanh,
}
