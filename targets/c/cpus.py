"""The processors that emitted C is laid out for: a row of data each.

What is laid out decides how fast the C is, never what it computes: each program compiles for each processor. docs/
c-performance.md tells how to add one.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BLOCKS", "CPUS", "FAST", "GENERIC", "ROWS", "SMALL", "Cpu", "WeightOrder", "cpu_named"]


FAST, SMALL = "fast", "small"  # what memory is planned for


@dataclass(frozen=True, slots=True)
class WeightOrder:
    """How the weights of a dot product lie: [outputs / o][taps / t][o][t], filled up with zeros.

    name     of the kernels that read them: kernels/FOLDER/dot_NAME.j2
    outputs  o: that lie together, so that a vector register has one sum for each
    taps     t: that lie together, which one instruction multiplies and sums
    """

    name: str
    outputs: int
    taps: int


ROWS = WeightOrder("rows", outputs=1, taps=1)  # each output's weights one after the other
BLOCKS = WeightOrder("blocks", outputs=16, taps=4)  # vpdpbusd: 16 sums of 4 products of bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """A processor, or a family of them. The counts that follow `sums` are for one output block of `order`.

    summary       for the table of processors
    order         of the weights
    outputs       that weights are filled up to: a multiple of `order.outputs`
    pixels        that one kernel computes, at most
    blocks        of outputs that one kernel computes, at most: a multiple of outputs / order.outputs
    sums          that its registers hold: pixels * blocks, at most
    multiplies    in a cycle
    loads         in a cycle
    latency       cycles from a sum to the next into the same register
    alignment     bytes that a row of taps is filled up to, so that no loop has a remainder
    copies_image  whether a window reads a padded copy of the whole image, rather than a patch that is gathered for each
                  pixel: less to copy, and more memory
    scratch_bytes that the sums of a tile may take, if it has more than one pixel; None: any
    unsigned      whether signed bytes become unsigned ones as they are copied, plus 128: what vpdpbusd multiplies
    """

    name: str
    summary: str
    order: WeightOrder = ROWS
    outputs: int = 4
    pixels: int = 4
    blocks: int = 4
    sums: int = 16
    multiplies: int = 1
    loads: int = 1
    latency: int = 1
    alignment: int = 32
    copies_image: bool = False
    scratch_bytes: int | None = None
    unsigned: bool = False


GENERIC = Cpu(name="generic", summary="any processor: tiles and rows that suit most")

CPUS = (
    GENERIC,
    Cpu(
        name="x86-64-v4",
        summary="x86-64 with AVX-512 (VNNI): servers since Ice Lake, Zen 4",
        order=BLOCKS,
        outputs=16,
        pixels=16,
        blocks=8,
        sums=24,
        multiplies=2,
        loads=2,
        latency=5,
        alignment=4,
        copies_image=True,
        unsigned=True,
    ),
)


def cpu_named(name: str) -> Cpu:
    """The row of that name. Raises KeyError."""
    return {cpu.name: cpu for cpu in CPUS}[name]
