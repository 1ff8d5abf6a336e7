"""Published designs of boards: which bitstream belongs to which architecture, and the clock that it gives the TCU.

No .tarch file has a clock: it is set where the bitstream is made, and another bitstream may run faster.
"""

from __future__ import annotations

from dataclasses import dataclass

from pefslc.artifacts.costs import Clock

__all__ = ["WITHOUT_LINUX", "Clock", "PublishedDesign", "clock_of", "published_design"]


@dataclass(frozen=True, slots=True)
class PublishedDesign:
    """A design that others published.

    mhz        of the TCU
    source     who publishes it
    bitstream  the file's name in its instructions; the .hwh has the same name before the dot
    """

    mhz: float
    source: str
    bitstream: str


WITHOUT_LINUX = ("cmoda7",)  # built-in architectures of boards that PYNQ does not run on


_DESIGNS = {
    # FCLK_CLK3 of vivado_project/base.tcl
    "custom_perf": PublishedDesign(50.0, "PEFSL's Vivado project", "design.bit"),
    # FCLK_CLK0
    "pynqz1": PublishedDesign(50.0, "Tensil's tutorial for the PYNQ-Z1", "tensil_pynqz1.bit"),
    # PL0
    "ultra96v2": PublishedDesign(100.0, "Tensil's tutorial for the Ultra96-V2", "tensil_ultra96v2.bit"),
    "zcu104": PublishedDesign(100.0, "Tensil's tutorial for the ZCU104", "tensil_zcu104.bit"),
    "zcu104_uram": PublishedDesign(100.0, "Tensil's tutorial for the ZCU104", "tensil_zcu104.bit"),
}


def published_design(arch: str) -> PublishedDesign | None:
    """Of a built-in architecture, by its name; None where no published design is known."""
    return _DESIGNS.get(arch)


def clock_of(arch: str, mhz: float | None = None) -> Clock | None:
    """The clock that the user gave, else that of the architecture's published design; None where nobody knows it."""
    if mhz is not None:
        return Clock(mhz, "--clock-mhz")
    design = published_design(arch)
    return None if design is None else Clock(design.mhz, design.source)
