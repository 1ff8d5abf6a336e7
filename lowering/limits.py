"""What a target can hold, as data: passes read it, they know no target."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TargetLimits"]


@dataclass(frozen=True, slots=True)
class TargetLimits:
    """Widths of a target.

    accumulator_bits  two's complement width in which every partial sum must stay
    accumulator_name  what the target calls it, for messages
    """

    accumulator_bits: int
    accumulator_name: str
