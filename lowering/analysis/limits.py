"""What a target can hold, as data: passes read it, they know no target."""

from __future__ import annotations

from dataclasses import dataclass

from pefslc.numeric.format import FixedPoint

__all__ = ["SplitWidths", "TargetLimits"]


@dataclass(frozen=True, slots=True)
class SplitWidths:
    """Of what sums a target surely makes words, for advice: of so many bits, of weights and inputs of so many."""

    weights: int
    inputs: int
    sums: int


@dataclass(frozen=True, slots=True)
class TargetLimits:
    """Widths of a target.

    accumulator_bits  two's complement width in which every partial sum must stay
    accumulator_name  what the target calls it, for messages
    native_format     of the target's own rounding and saturating arithmetic, which float models may run in; None
                      without one
    splits_sums       whether the target makes wider sums of its words, and proves itself that no sum overflows
    split_widths      what of them are made in any network, as far as was seen; None where nothing is known
    native_weights    the format of a float model's weights there, which the target rounds to words of its own; None for
                      `native_format`
    wider             what of the user's has wider accumulators, for advice; "" where nothing does
    """

    accumulator_bits: int
    accumulator_name: str
    native_format: FixedPoint | None = None
    wider: str = ""
    splits_sums: bool = False
    split_widths: SplitWidths | None = None
    native_weights: FixedPoint | None = None

    def saturates(self, uniform_format: FixedPoint | None) -> bool:
        """Whether a graph whose `uniform_format` is this runs in the target's own arithmetic: its sums saturate there,
        and need no room.
        """
        return uniform_format is not None and uniform_format == self.native_format
