"""Published designs of boards: which bitstream belongs to which architecture, the clock that it gives the TCU, and the
bus that it has to the DRAMs.

No .tarch file has them: they are set where the bitstream is made, and another bitstream may run faster.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["WITHOUT_LINUX", "PublishedDesign", "axi_bytes_of", "published_design"]

_AXI_BYTES = 8  # where nobody knows it: 64 bits, as on the boards with the smallest chips


@dataclass(frozen=True, slots=True)
class PublishedDesign:
    """A design that others published.

    mhz        of the TCU
    source     who publishes it
    bitstream  the file's name in its instructions; the .hwh has the same name before the dot
    axi_bytes  the width of the AXI bus between the TCU and the DRAMs
    """

    mhz: float
    source: str
    bitstream: str
    axi_bytes: int = _AXI_BYTES


WITHOUT_LINUX = ("cmoda7",)  # built-in architectures of boards that PYNQ does not run on


_DESIGNS = {
    # FCLK_CLK3 of vivado_project/base.tcl
    "custom_perf": PublishedDesign(50.0, "PEFSL's Vivado project", "design.bit"),
    # FCLK_CLK0
    "pynqz1": PublishedDesign(50.0, "Tensil's tutorial for the PYNQ-Z1", "tensil_pynqz1.bit"),
    # PL0
    "ultra96v2": PublishedDesign(100.0, "Tensil's tutorial for the Ultra96-V2", "tensil_ultra96v2.bit", axi_bytes=16),
    "zcu104": PublishedDesign(100.0, "Tensil's tutorial for the ZCU104", "tensil_zcu104.bit", axi_bytes=16),
    "zcu104_uram": PublishedDesign(100.0, "Tensil's tutorial for the ZCU104", "tensil_zcu104.bit", axi_bytes=16),
}


def published_design(arch: str) -> PublishedDesign | None:
    """Of a built-in architecture, by its name; None where no published design is known."""
    return _DESIGNS.get(arch)


def axi_bytes_of(arch: str | None) -> int:
    """The width of the bus to the DRAMs: of the architecture's published design; else of the smallest boards."""
    design = None if arch is None else published_design(arch)
    return _AXI_BYTES if design is None else design.axi_bytes
