"""The clocks that the boards' published designs run the TCU with. No .tarch file has one: it is set where the bitstream
is made, and another bitstream may run faster.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["UsualClock", "usual_clock"]


@dataclass(frozen=True, slots=True)
class UsualClock:
    """mhz of the TCU, and the design that sets it."""

    mhz: float
    design: str


_PYNQZ1 = "Tensil's tutorial for the PYNQ-Z1"
_ZCU104 = "Tensil's tutorial for the ZCU104"
_CLOCKS = {
    "custom_perf": UsualClock(50.0, "PEFSL's Vivado project"),  # FCLK_CLK3 of vivado_project/base.tcl
    "pynqz1": UsualClock(50.0, _PYNQZ1),  # FCLK_CLK0
    "ultra96v2": UsualClock(100.0, "Tensil's tutorial for the Ultra96-V2"),  # PL0
    "zcu104": UsualClock(100.0, _ZCU104),
    "zcu104_uram": UsualClock(100.0, _ZCU104),
}


def usual_clock(arch: str) -> UsualClock | None:
    """Of a built-in architecture, by its name; None where no published design is known."""
    return _CLOCKS.get(arch)
