"""Exact scales: the step between neighbouring codes, per tensor or per channel.

A float32 scale is a dyadic rational and is kept as such; nothing here rounds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

__all__ = ["Scale", "common_grid", "power_of_two_exponent"]


def power_of_two_exponent(value: Fraction) -> int | None:
    """e with value = 2^e, or None."""
    if value <= 0 or value.numerator & (value.numerator - 1) or value.denominator & (value.denominator - 1):
        return None
    return value.numerator.bit_length() - value.denominator.bit_length()


@dataclass(frozen=True, slots=True)
class Scale:
    """One step for the whole tensor, or one for each channel. Steps are positive; equal steps collapse into one."""

    steps: tuple[Fraction, ...]

    @classmethod
    def of(cls, steps: Iterable[Fraction]) -> Scale:
        """The scale with these steps, one per channel. Raises ValueError for a step that is not positive."""
        found = tuple(steps)
        if not found or any(s <= 0 for s in found):
            raise ValueError("a scale is positive")
        return cls(found[:1]) if all(s == found[0] for s in found) else cls(found)

    @classmethod
    def power_of_two(cls, exponent: int) -> Scale:
        """The scale 2^exponent."""
        return cls((Fraction(2) ** exponent,))

    @property
    def per_channel(self) -> bool:
        return len(self.steps) > 1

    @property
    def step(self) -> Fraction:
        """The step of a per-tensor scale."""
        assert not self.per_channel
        return self.steps[0]

    def channel(self, index: int) -> Fraction:
        """The step of channel `index`."""
        return self.steps[index] if self.per_channel else self.steps[0]

    def channels(self, count: int) -> tuple[Fraction, ...]:
        """The step of each of `count` channels."""
        assert not self.per_channel or len(self.steps) == count
        return self.steps if self.per_channel else self.steps * count

    def of_channels(self, channels: Iterable[int]) -> Scale:
        """The scale of a tensor whose channel i was channel `channels[i]`: a part of them, or some repeated."""
        return Scale.of(self.steps[c] for c in channels) if self.per_channel else self

    def __mul__(self, other: Scale | Fraction) -> Scale:
        factors = other.steps if isinstance(other, Scale) else (other,)
        count = max(len(self.steps), len(factors))
        assert {len(self.steps), len(factors)} <= {1, count}
        left = self.steps * (count if len(self.steps) == 1 else 1)
        right = factors * (count if len(factors) == 1 else 1)
        return Scale.of(a * b for a, b in zip(left, right, strict=True))

    @property
    def is_power_of_two(self) -> bool:
        return all(power_of_two_exponent(s) is not None for s in self.steps)

    def __str__(self) -> str:
        return ",".join(_step_text(s) for s in self.steps)


def _step_text(step: Fraction) -> str:
    exponent = power_of_two_exponent(step)
    return f"2^{exponent}" if exponent is not None else f"{step.numerator}/{step.denominator}"


def common_grid(steps: Iterable[Fraction]) -> Fraction:
    """The coarsest step of which every given step is an integer multiple (the rational gcd)."""
    found = list(steps)
    denominator = lcm(*(s.denominator for s in found))
    return Fraction(gcd(*(s.numerator * (denominator // s.denominator) for s in found)), denominator)
