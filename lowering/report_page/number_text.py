"""Numbers as the page writes them."""

from __future__ import annotations

from math import isfinite

__all__ = ["decibels", "times"]


def times(shape: tuple[int, ...]) -> str:
    """16x32x32, with the sign."""
    return "\u00d7".join(map(str, shape)) or "1"


def decibels(value: float) -> str:
    """One digit after the point; infinite where nothing differs."""
    return f"{value:.1f}" if isfinite(value) else "\u221e" if value > 0 else "\u2212\u221e"
