"""The clock by which modelled cycles become times."""

from __future__ import annotations

from pefslc.artifacts.costs import Clock
from pefslc.targets.tensil.machine.boards import published_design

__all__ = ["clock_of"]


def clock_of(arch: str, mhz: float | None = None) -> Clock | None:
    """The clock that the user gave, else that of the architecture's published design; None where nobody knows it."""
    if mhz is not None:
        return Clock(mhz, "--clock-mhz")
    design = published_design(arch)
    return None if design is None else Clock(design.mhz, design.source)
