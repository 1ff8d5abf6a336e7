"""The integer types of emitted C. Loads nothing heavy: options of the target name processors by them."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["INT16", "INT32", "INT64", "LANE_WEIGHT", "WEIGHT", "CType"]


@dataclass(frozen=True, slots=True, order=True)
class CType:
    """An exact-width integer type of <stdint.h>; or, with an alias, a type of fixed.h that holds its codes."""

    bits: int
    signed: bool
    alias: str = ""

    def __str__(self) -> str:
        return self.alias or f"{'' if self.signed else 'u'}int{self.bits}_t"

    @property
    def short(self) -> str:
        """For names: s8, u16, and w8 for what is wider on some processors."""
        return f"{'w' if self.alias else 's' if self.signed else 'u'}{self.bits}"

    @property
    def described(self) -> str:
        """For reports, the same of its codes."""
        return f"{replace(self, alias='').short} (s16 {self.where_wide})" if self.alias else self.short

    @property
    def where_wide(self) -> str:
        """On which processors its codes have 16 bits, by fixed.h; "": on none."""
        return {"": "", WEIGHT.alias: "on x86 without VNNI", LANE_WEIGHT.alias: "on x86"}[self.alias]

    @property
    def bytes(self) -> int:
        return self.bits // 8

    def holds(self, low: int, high: int) -> bool:
        """Whether every code in [low, high] is of this type."""
        least = -(1 << (self.bits - 1)) if self.signed else 0
        return least <= low and high < least + (1 << self.bits)


INT16 = CType(16, True)
INT32 = CType(32, True)
INT64 = CType(64, True)
WEIGHT = CType(8, True, "pefslc_weight")  # 16 bits wide where compilers find the instructions for those
LANE_WEIGHT = CType(8, True, "pefslc_lane_weight")  # one for each lane of a vector
