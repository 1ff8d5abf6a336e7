"""What stands between an integer accumulator and its quantizer: a chain of monotone real functions, exactly.

BatchNorm, a bias, an activation are *stages*. A number on its way through a chain is u * sqrt(d) + v with rational u,
d, v: one square root (that of one BatchNorm) is enough, and comparing such a number with a rational needs no rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.expression import Call, Expression, Function, X, direction_of, number, substitute
from pefslc.numeric.inverse import inverse_bracket
from pefslc.numeric.rounding import round_fraction

__all__ = [
    "FILTER",
    "Affine",
    "ClipStage",
    "FunctionStage",
    "LeakyReluStage",
    "Root",
    "SnapStage",
    "Stage",
    "apply_stages",
    "chain_expression",
    "direction",
    "invert_estimate",
    "may_turn",
    "stage_expression",
]

Floats = NDArray[np.float64]

_HALF = Fraction(1, 2)

FILTER = 2.0**-40  # the relative error granted to `invert_estimate`
# The same for each stage of a chain with a function: a handful of operations of 2^-53 each, which 2^-49 covers.
# Behind a Tanh of 16 bits 2^-40 would leave thousands of steps in doubt.
_FILTER_OF_STAGE = 2.0**-49


@dataclass(frozen=True, slots=True)
class Root:
    """The real number coefficient * sqrt(radicand) + rational."""

    rational: Fraction
    coefficient: Fraction = Fraction(0)
    radicand: Fraction = Fraction(1)

    def sign(self) -> int:
        """-1, 0 or 1, decided by squaring."""
        root_sign = (self.coefficient > 0) - (self.coefficient < 0)
        rational_sign = (self.rational > 0) - (self.rational < 0)
        if root_sign == rational_sign or rational_sign == 0:
            return root_sign
        if root_sign == 0:
            return rational_sign
        root, rational = self.coefficient * self.coefficient * self.radicand, self.rational * self.rational
        return root_sign if root > rational else rational_sign if root < rational else 0

    def compare(self, other: Fraction) -> int:
        """The sign of self - other."""
        return Root(self.rational - other, self.coefficient, self.radicand).sign()

    def scaled(self, factor: Fraction) -> Root:
        return Root(self.rational * factor, self.coefficient * factor, self.radicand)

    def plus(self, addend: Fraction) -> Root:
        return Root(self.rational + addend, self.coefficient, self.radicand)

    def nearest(self) -> int:
        """The nearest integer, ties to even."""
        if self.coefficient == 0:
            return round_fraction(self.rational)
        square = self.coefficient * self.coefficient * self.radicand
        root = isqrt(square.numerator // square.denominator)  # |coefficient| * sqrt(radicand), rounded down
        guess = round_fraction(self.rational + (root if self.coefficient > 0 else -root))
        near = [n for n in range(guess - 2, guess + 3) if self.compare(n - _HALF) >= 0 >= self.compare(n + _HALF)]
        return min(near, key=lambda n: n % 2)  # two only at a tie

    def floor(self) -> int:
        """The largest integer that is not above it."""
        nearest = self.nearest()
        return nearest if self.compare(Fraction(nearest)) >= 0 else nearest - 1


@dataclass(frozen=True, slots=True)
class Affine:
    """y = (factor * x + addend) / sqrt(radicand) + offset, per channel or (length 1) per tensor.

    BatchNorm (ONNX BatchNormalization-15): factor gamma, addend -gamma * mean, radicand variance + epsilon, offset
    beta. A bias: factor 1, addend 0, radicand 1, offset the bias. All four have the same length.
    """

    factor: tuple[Fraction, ...]
    addend: tuple[Fraction, ...]
    radicand: tuple[Fraction, ...]
    offset: tuple[Fraction, ...]

    @classmethod
    def bias(cls, offset: tuple[Fraction, ...]) -> Affine:
        """x + offset."""
        n = len(offset)
        return cls((Fraction(1),) * n, (Fraction(0),) * n, (Fraction(1),) * n, offset)

    @classmethod
    def product(cls, factor: tuple[Fraction, ...]) -> Affine:
        """x * factor."""
        n = len(factor)
        return cls(factor, (Fraction(0),) * n, (Fraction(1),) * n, (Fraction(0),) * n)

    @property
    def channels(self) -> int:
        return len(self.factor)

    @property
    def has_root(self) -> bool:
        return any(r != 1 for r in self.radicand)

    @property
    def multiple(self) -> Fraction | None:
        """The factor, where the stage multiplies the whole tensor by a number other than 0 and does nothing else."""
        only = self.channels == 1 and not self.has_root and self.addend[0] == self.offset[0] == 0
        return self.factor[0] if only and self.factor[0] else None

    def then(self, after: Affine) -> Affine:
        """after(self(x)) as one stage x * factor + offset, for as many channels as either has; neither has a root."""
        assert not self.has_root
        assert not after.has_root
        count = max(self.channels, after.channels)
        (f, a, _, o), (g, b, _, p) = (stage.for_channels(count) for stage in (self, after))
        factor = tuple(f[c] * g[c] for c in range(count))
        offset = tuple((a[c] + o[c]) * g[c] + b[c] + p[c] for c in range(count))
        return Affine(factor, (Fraction(0),) * count, (Fraction(1),) * count, offset)

    def for_channels(self, count: int) -> tuple[tuple[Fraction, ...], ...]:
        """(factor, addend, radicand, offset), each [count]: one number per tensor is repeated."""
        times = count if self.channels == 1 else 1
        return self.factor * times, self.addend * times, self.radicand * times, self.offset * times

    def of_channels(self, channels: Sequence[int]) -> Affine:
        """The stage of a tensor whose channel i was channel `channels[i]`; per tensor it stays as it is."""
        if self.channels == 1:
            return self
        parts = (self.factor, self.addend, self.radicand, self.offset)
        return Affine(*(tuple(part[c] for c in channels) for part in parts))

    def apply(self, x: Root, channel: int) -> Root:
        c = channel if self.channels > 1 else 0
        x = x.scaled(self.factor[c])
        x = Root(x.rational + self.addend[c], x.coefficient, x.radicand)
        if self.radicand[c] != 1:
            assert x.coefficient == 0, "two square roots in one chain"
            # y / sqrt(d) = (y / d) * sqrt(d)
            x = Root(Fraction(0), x.rational / self.radicand[c], self.radicand[c])
        return Root(x.rational + self.offset[c], x.coefficient, x.radicand)

    def invert_estimate(self, y: Floats, magnitude: Floats, granted: float) -> tuple[Floats, Floats]:
        root, offset, addend, factor = (
            _column([np.sqrt(float(r)) for r in self.radicand]),
            _column([float(o) for o in self.offset]),
            _column([float(a) for a in self.addend]),
            _column([float(f) for f in self.factor]),
        )
        del granted
        with np.errstate(divide="ignore", invalid="ignore"):
            x = ((y - offset) * root - addend) / factor
            return x, ((magnitude + np.abs(offset)) * root + np.abs(addend)) / np.abs(factor)


@dataclass(frozen=True, slots=True)
class LeakyReluStage:
    """y = x for x >= 0, else alpha * x, per channel or (length 1) per tensor. Relu is alpha = 0.

    It rises where alpha >= 0; else it is neither rising nor falling.
    """

    alphas: tuple[Fraction, ...] = (Fraction(0),)

    @property
    def channels(self) -> int:
        return len(self.alphas)

    @property
    def rises(self) -> bool:
        """Whether it is non-decreasing in every channel."""
        return min(self.alphas) >= 0

    def alpha(self, channel: int) -> Fraction:
        """The slope below 0."""
        return self.alphas[channel if self.channels > 1 else 0]

    def apply(self, x: Root, channel: int) -> Root:
        return x if x.sign() >= 0 else x.scaled(self.alpha(channel))

    def invert_estimate(self, y: Floats, magnitude: Floats, granted: float) -> tuple[Floats, Floats]:
        alpha = _column([float(a) for a in self.alphas])
        if (alpha == 1).all():
            return y, magnitude
        with np.errstate(divide="ignore", invalid="ignore"):
            x = np.where(y <= 0, np.where(alpha > 0, y / alpha, -np.inf), y)  # NaN stays NaN
            found = np.where(y <= 0, magnitude / np.where(alpha > 0, alpha, 1.0), magnitude)
        return _undecided_at(0.0, y, magnitude * granted, x), found


@dataclass(frozen=True, slots=True)
class ClipStage:
    """y = min(max(x, low), high); None means no limit on that side."""

    low: Fraction | None
    high: Fraction | None

    def apply(self, x: Root, channel: int) -> Root:
        del channel
        if self.low is not None and x.compare(self.low) < 0:
            x = Root(self.low)
        if self.high is not None and x.compare(self.high) > 0:
            x = Root(self.high)
        return x

    def invert_estimate(self, y: Floats, magnitude: Floats, granted: float) -> tuple[Floats, Floats]:
        x = y
        if self.low is not None:
            x = _undecided_at(float(self.low), y, magnitude * granted, np.where(y <= float(self.low), -np.inf, x))
        if self.high is not None:
            x = _undecided_at(float(self.high), y, magnitude * granted, np.where(y > float(self.high), np.inf, x))
        return x, magnitude


@dataclass(frozen=True, slots=True)
class SnapStage:
    """The nearest number (n - zero_point) * step, ties to even n: what QONNX's Trunc does before it truncates."""

    step: Fraction
    zero_point: int = 0

    def apply(self, x: Root, channel: int) -> Root:
        del channel
        return Root((x.scaled(1 / self.step).plus(Fraction(self.zero_point)).nearest() - self.zero_point) * self.step)

    def invert_estimate(self, y: Floats, magnitude: Floats, granted: float) -> tuple[Floats, Floats]:
        del granted
        return np.full_like(y, np.nan), magnitude  # no estimate: a step function has no inverse


@dataclass(frozen=True, slots=True)
class FunctionStage:
    """y = expression(x): Sigmoid, SiLU and whatever else is no piecewise linear function.

    Chains with such a stage are decided as one expression (`chain_expression`), not by `Root`.

    proved  its direction, 1 or -1, where that is known for other reasons than those of `direction_of` (see `turning`)
    """

    expression: Expression
    proved: int | None = None

    @property
    def direction(self) -> int | None:
        """As `direction_of` has it."""
        return direction_of(self.expression) if self.proved is None else self.proved

    def apply(self, x: Root, channel: int) -> Root:
        del x, channel
        raise AssertionError("a function's value is no square root")

    def invert_estimate(self, y: Floats, magnitude: Floats, granted: float) -> tuple[Floats, Floats]:
        error = np.broadcast_to(magnitude * granted, y.shape)
        shared = bool((y == y[0]).all() and (error == error[0]).all())  # one inversion for all channels
        brackets = [
            inverse_bracket(self.expression, self.direction, y[c], error[c]) for c in range(1 if shared else len(y))
        ]
        low, high = (np.stack(ends) for ends in zip(*brackets, strict=True))
        with np.errstate(invalid="ignore"):
            x, half = low / 2 + high / 2, np.where(np.isinf(low), 0, high / 2 - low / 2)
            found = half / granted + np.where(np.isinf(low), 1, np.abs(x))
        return np.broadcast_to(x, y.shape), np.broadcast_to(found, y.shape)


Stage = Affine | LeakyReluStage | ClipStage | SnapStage | FunctionStage


def chain_expression(stages: Sequence[Stage], channel: int) -> Expression:
    """The whole chain as an expression of its argument."""
    y: Expression = X
    for stage in stages:
        y = substitute(stage_expression(stage, channel), y)
    return y


def stage_expression(stage: Stage, channel: int) -> Expression:
    """One stage as an expression of its argument."""
    match stage:
        case Affine():
            c = channel if stage.channels > 1 else 0
            scaled = Call(Function.ADD, (Call(Function.MUL, (number(stage.factor[c]), X)), number(stage.addend[c])))
            if stage.radicand[c] != 1:
                scaled = Call(Function.DIV, (scaled, Call(Function.SQRT, (number(stage.radicand[c]),))))
            return Call(Function.ADD, (scaled, number(stage.offset[c])))
        case LeakyReluStage():
            return Call(Function.RELU, (X, number(stage.alpha(channel))))
        case ClipStage():
            raised = X if stage.low is None else Call(Function.MAX, (X, number(stage.low)))
            return raised if stage.high is None else Call(Function.MIN, (raised, number(stage.high)))
        case SnapStage():
            index = Call(Function.ADD, (Call(Function.DIV, (X, number(stage.step))), number(stage.zero_point)))
            whole = Call(Function.SUB, (Call(Function.ROUND, (index,)), number(stage.zero_point)))
            return Call(Function.MUL, (whole, number(stage.step)))
        case FunctionStage():
            return stage.expression


def apply_stages(stages: Sequence[Stage], x: Fraction, channel: int) -> Root:
    """The exact value of the chain at `x`."""
    y = Root(x)
    for stage in stages:
        y = stage.apply(y, channel)
    return y


def direction(stages: Sequence[Stage], channel: int) -> int | None:
    """1 where the chain is non-decreasing, -1 where it is non-increasing, 0 where a factor of 0 makes it constant.

    None where a function in it is neither, or not known to be.
    """
    sign: int | None = 1
    for stage in stages:
        if isinstance(stage, Affine):
            factor = stage.factor[channel if stage.channels > 1 else 0]
            step: int | None = (factor > 0) - (factor < 0)
        else:
            step = _direction(stage, channel)
        sign = 0 if step == 0 or sign == 0 else None if step is None or sign is None else sign * step
    return sign


def _direction(stage: Stage, channel: int) -> int | None:
    """Of a stage other than an affine one."""
    if isinstance(stage, FunctionStage):
        return stage.direction
    return direction_of(stage_expression(stage, channel)) if may_turn(stage) else 1


def may_turn(stage: Stage) -> bool:
    """Whether the stage is one that may neither rise nor fall: a function, or a slope below 0 that is negative."""
    return isinstance(stage, FunctionStage) or (isinstance(stage, LeakyReluStage) and not stage.rises)


def invert_estimate(stages: Sequence[Stage], y: Floats) -> tuple[Floats, Floats]:
    """Approximate x with chain(x) = y (NaN: no estimate), and a bound of its error.

    y [channels, levels]; the bound has that shape, or [channels, 1]: the largest of a channel. It is a magnitude times
    the relative error that is granted. Each stage costs a handful of float64 operations of relative error 2^-53 on
    terms no larger than the magnitude, and passes the error it was given on by the factor by which it passes on the
    magnitude; so for chains of a few stages 2^-40 leaves a factor of hundreds. The second half holds within one piece
    of a piecewise linear stage only: where the error may reach over its kink or limit the estimate is NaN. Only a
    *filter* in front of the exact decision.
    """
    magnitude, granted = np.abs(y).max(axis=1, keepdims=True, initial=0), FILTER
    if any(isinstance(stage, FunctionStage) for stage in stages):
        magnitude, granted = np.abs(y), min(_FILTER_OF_STAGE * (len(stages) + 2), FILTER)
    for stage in reversed(stages):
        y, magnitude = stage.invert_estimate(y, magnitude, granted)
    return y, magnitude * granted


def _undecided_at(limit: float, y: Floats, error: Floats, x: Floats) -> Floats:
    """`x`, but NaN where y, which is off by `error` at most, is not certainly on one side of `limit`.

    There the preimage jumps (max(x, 0) >= 0 holds for every x, max(x, 0) > 0 only above 0), or its slope does: a
    leaky_relu amplifies the error by 1 / alpha on one side only.
    """
    return np.where(np.abs(y - limit) <= error, np.nan, x)


def _column(values: Sequence[float]) -> Floats:
    return np.asarray(values, dtype=np.float64)[:, None]
