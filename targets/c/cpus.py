"""The processors that emitted C is laid out for: a row of data each.

What is laid out decides how fast the C is, never what it computes: each program compiles for each processor. docs/
c-performance.md tells how to add one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from pefslc.targets.c.ctype import INT16, CType
from pefslc.targets.c.weight_orders import (
    BLOCKS,
    COLUMNS,
    DEPTHWISE_ORDERS,
    DOT_ORDERS,
    LANES,
    PAIRS,
    QUADS,
    ROWS,
    ROWS_OF_16,
    TAPS,
    TILES,
    WORDS,
    WeightOrder,
)

__all__ = ["CPUS", "FAST", "GENERIC", "SMALL", "Cpu", "adapted", "cpu_named"]

FAST, SMALL = "fast", "small"  # what memory is planned for

_SMALL_SCRATCH = 640  # bytes of sums: what a tile may need in small mode, if it has more than one pixel
_SMALL_RUN = 32  # pixels: packed weights are unpacked again for each run of them

_U8, _S8, _S16 = CType(8, signed=False), CType(8, signed=True), INT16


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """A processor, or a family of them. The counts that follow `sums` are for one output block of `order`.

    summary       which processors these are
    order         of the weights
    depthwise     the order of the weights of a depthwise convolution of lines of pixels on a padded copy of the image;
                  None: each pixel by itself, [rows][columns][channels]
    outputs       that weights are filled up to: a multiple of `order.outputs`
    pixels        that one kernel computes, at most
    tile          pixels whose taps are copied, and whose sums become codes, together, at most; 0: those of a kernel
    blocks        of outputs that one kernel computes, at most: a multiple of outputs / order.outputs
    sums          that its registers hold: pixels * blocks, at most
    registers     of vectors, which hold all sums, the taps or the weights of a step (whichever take fewer), one of the
                  others and a product; 0: `sums` alone counts
    per_block     registers that the sums of one pixel take, and the weights
    multiplies    in a cycle
    loads         in a cycle
    far           loads that take as long as that of a weight: taps were just copied, weights come from farther away
    latency       cycles from a sum to the next into the same register
    alignment     bytes that a row of taps is filled up to, so that no loop has a remainder
    copies_line   whether a line of a depthwise convolution reads a padded copy of the rows that it sees, rather than of
                  the whole image: little memory, and rows are copied again for each line
    copies_image  whether a window reads a padded copy of the whole image, rather than a patch that is gathered for each
                  pixel: less to copy, and more memory
    strip         channels of an image, at most, of which a window reads a strip that all pixels of a tile share, where
                  they lie side by side and no tap is filled up; 0: none
    cache         bytes that stay near. Where all weights are more, a pass over the pixels takes some outputs; 0: it
                  takes all of them
    depthwise_taps  the same as `taps`, of a depthwise convolution in an order; None: the same type
    taps          what its instruction multiplies weights of 8 bits by. Taps of another type become this one as they
                  are copied, if need be 128 more or less; None: they stay as they are
    packs         whether weights of fewer than 8 bits are packed
    line          bytes that weights begin at a multiple of, so that a vector lies in one cache line; 0: anywhere
    widens        whether weights of 8 bits are of 16 where the compiler's target multiplies those faster (`widened`)
    scratch_bytes that the sums of a tile may take, if it has more than one pixel; None: any
    run           pixels that all passes over packed weights compute before the next ones, so that results may lie
                  over what was read; None: all pixels
    lanes         of the vectors that compilers make of a depthwise convolution: where a pixel has fewer channels,
                  pixels side by side fill them, with weights for each, and pixels of few taps are copied to fill up
                  the narrowest; 0: neither
    halves        whether the weights of two outputs may be the halves of a word, where `certificates` proves that
                  their sums fit into 16 bits; segments are then rows of the kernel
    winograd      channels, and outputs, that a convolution of 3 x 3 must have at least to be computed by Winograd's
                  F(2x2, 3x3), on a copy of the image: fewer multiplications, and more to add and to store; 0: none is
    compiler      a command that makes objects for it, of which code and stack are told; (): this machine's
    narrow        the row for layers whose sums of 16 bits `certificates` proves to be exact; None:
                  as for all others
    least_pixels, least_taps  that a layer must have; 0: any
    few           the row for layers that have fewer, if it fills up no more outputs; None: there is none
    general       the row for layers whose types the kernels of the order do not take (those of ROWS take all); None:
                  GENERIC, to which `adapted` gives the same options
    """

    name: str
    summary: str
    order: WeightOrder = ROWS
    depthwise: WeightOrder | None = None
    outputs: int = 4
    pixels: int = 4
    blocks: int = 4
    sums: int = 16
    registers: int = 0
    per_block: int = 1
    multiplies: int | Fraction = 1
    loads: int = 1
    far: int = 1
    tile: int = 0
    latency: int = 1
    alignment: int = 32
    copies_line: bool = False
    depthwise_taps: CType | None = None
    copies_image: bool = False
    strip: int = 0
    cache: int = 0
    taps: CType | None = None
    scratch_bytes: int | None = None
    run: int | None = None
    packs: bool = False
    line: int = 0
    widens: bool = False
    lanes: int = 0
    halves: bool = False
    winograd: int = 0
    narrow: Cpu | None = None
    least_pixels: int = 0
    least_taps: int = 0
    few: Cpu | None = None
    general: Cpu | None = None
    compiler: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError for a row that no layout follows from."""
        unit = self.order.outputs
        wrong = {
            "outputs must be a multiple of order.outputs": self.outputs < 1 or self.outputs % unit,
            "blocks must be a multiple of outputs / order.outputs": self.blocks < 1
            or self.blocks * unit % max(self.outputs, 1),
            "pixels, sums, per_block, loads, latency and alignment must be at least 1": min(
                self.pixels, self.sums, self.per_block, self.loads, self.latency, self.alignment
            )
            < 1,
            "registers must hold what a pixel and `outputs` need": self.registers > 0
            and self.registers < self.outputs // unit * self.per_block + 3,
            "multiplies must be more than 0": self.multiplies <= 0,
            f"no kernel reads weights as {self.order.name}: it must be one of DOT_ORDERS": self.order not in DOT_ORDERS,
            "TILES take at most 16 pixels and 5 blocks": self.order == TILES and (self.pixels > 16 or self.blocks > 5),
            "depthwise must be TAPS, COLUMNS or None": self.depthwise not in (None, *DEPTHWISE_ORDERS),
            "taps must have 8 or 16 bits": self.taps is not None and self.taps.bits not in (8, 16),
            "winograd needs taps and weights of 16 bits": self.winograd > 0
            and not self.taps == self.order.weights == INT16,
            "a compiler widens no weights of this order": self.widens and self.order.widened is None,
        }
        for what, is_wrong in wrong.items():
            if is_wrong:
                raise ValueError(f"processor {self.name}: {what}")

    def suits(self, pixels: int, taps: int, outputs: int) -> bool:
        """Whether a layer of so many pixels together, and taps of each, is one for this row rather than for `few`."""
        if self.few is None or (pixels >= self.least_pixels and taps >= self.least_taps):
            return True
        return -(-outputs // self.few.outputs) * self.few.outputs > -(-outputs // self.outputs) * self.outputs


def _cortex_m(core: str) -> tuple[str, ...]:
    return "arm-none-eabi-gcc", f"-mcpu={core}", "-mthumb"


# gcc finds vpdpbusd in sums of uint8_t times int8_t, and pmaddwd in those of anything times int16_t. What it spends on
# adding up registers, which each sum takes, more sums at a time do not save; and two pixels are enough for the latency.
_SHORT_ROWS = Cpu(
    name="generic", summary="any processor: tiles and rows that suit most", outputs=2, pixels=2, blocks=8, sums=8,
    tile=8, taps=_U8, widens=True, depthwise=TAPS, depthwise_taps=_S16, copies_line=True, lanes=64,
    compiler=_cortex_m("cortex-m4"),
)  # fmt: skip
# Of few taps, adding up takes longer than multiplying lane by lane.
_LANES = replace(_SHORT_ROWS, order=LANES, outputs=16, pixels=8, blocks=1, tile=0, alignment=1, general=_SHORT_ROWS)
_ROWS = replace(_SHORT_ROWS, least_taps=12, few=_LANES)
# Weights of long rows do not all stay near: each serves more pixels, and 16 sums hide the latency.
GENERIC = replace(_ROWS, pixels=8, sums=16, far=3, least_taps=512, few=_ROWS)


def _with_dsp(name: str, summary: str) -> Cpu:
    """SMLAD multiplies two pairs of int16_t: taps are widened once for all outputs, weights as they are used."""
    return Cpu(
        name=name, summary=summary, order=PAIRS, outputs=2, pixels=2, blocks=1, sums=2, alignment=16, taps=_S16,
        compiler=_cortex_m(name),
    )  # fmt: skip


def _without_dsp(name: str, summary: str, core: str) -> Cpu:
    """Registers for four sums, or pairs of sums. core: of the compiler that tells code and stack."""
    row = Cpu(
        name=name, summary=summary, outputs=2, pixels=2, blocks=4, sums=4, alignment=4, compiler=_cortex_m(core)
    )  # fmt: skip
    return replace(row, narrow=replace(row, pixels=4, blocks=2, sums=8, halves=True))


def _with_neon(name: str, summary: str, *compiler: str) -> Cpu:
    """vmull.s8 multiplies signed bytes, vpadal adds pairs of 16 bits. 8 sums leave registers for taps and weights."""
    return Cpu(
        name=name, summary=summary, order=ROWS_OF_16, outputs=2, pixels=4, blocks=2, sums=8, alignment=16,
        copies_image=True, taps=_S8, depthwise=TAPS, compiler=compiler,
    )  # fmt: skip


def _with_ymm(name: str, summary: str) -> Cpu:
    """16 registers of 8 sums. vpmaddwd multiplies pairs of int16_t; vpmaddubsw pairs of bytes, where that is exact."""
    bytes_of_two = Cpu(
        name=name, summary=summary, order=BLOCKS, outputs=16, pixels=6, blocks=4, registers=16, per_block=2,
        multiplies=1, loads=2, latency=2, alignment=4, copies_image=True, cache=40 << 10, taps=_U8,
    )  # fmt: skip
    return Cpu(
        name=name, summary=summary, order=WORDS, outputs=8, pixels=12, blocks=6, registers=16, multiplies=1, loads=2,
        latency=4, alignment=4, copies_image=True, cache=40 << 10, taps=_S16, depthwise=TAPS, lanes=32,
        narrow=bytes_of_two, winograd=16,
    )  # fmt: skip


_V4 = Cpu(
    name="x86-64-v4",
    summary="x86-64 with AVX-512 (VNNI): servers since Ice Lake, Zen 4",
    order=BLOCKS,
    depthwise=COLUMNS,
    outputs=16,
    pixels=16,
    blocks=8,
    sums=24,
    multiplies=2,
    loads=2,
    latency=5,
    alignment=4,
    copies_image=True,
    cache=40 << 10,
    taps=_U8,
    line=64,
)


def _rv32() -> Cpu:
    """31 registers. A load's offset of 12 bits reaches 12 weights of each of 170 channels."""
    row = Cpu(
        name="rv32", summary="RISC-V of 32 bits without vectors", order=QUADS, outputs=4, pixels=4, blocks=1, sums=4,
        alignment=4, strip=170, taps=_U8, compiler=("riscv64-unknown-elf-gcc", "-march=rv32imc", "-mabi=ilp32"),
    )  # fmt: skip
    return replace(row, narrow=replace(row, halves=True))


CPUS = (
    GENERIC,
    Cpu(
        name="x86-64",
        summary="any x86-64 (SSE2)",
        order=WORDS,
        outputs=8,
        pixels=6,
        blocks=6,
        registers=16,
        per_block=2,
        multiplies=1,
        loads=2,
        latency=2,
        alignment=4,
        copies_image=True,
        cache=28 << 10,
        depthwise=TAPS,
        lanes=32,
        taps=_S16,
        winograd=16,
    ),
    _with_ymm("x86-64-v3", "x86-64 with AVX2: nearly all since 2015"),
    _V4,
    replace(
        _V4,
        name="x86-64-amx",
        summary="x86-64 with AMX: servers since Sapphire Rapids",
        order=TILES,
        blocks=5,
        sums=80,
        multiplies=1,
        latency=1,
        least_pixels=4,  # with fewer, tiles of weights take longer to load than their products
        least_taps=64,
        few=_V4,
    ),
    _with_neon(
        "cortex-a9",
        "Cortex-A7, A9 and others with NEON, 32 bits",
        "arm-linux-gnueabihf-gcc",
        "-mcpu=cortex-a9",
        "-mfpu=neon",
    ),
    _with_neon("cortex-a53", "Cortex-A53 and others of 64 bits", "aarch64-linux-gnu-gcc", "-mcpu=cortex-a53"),
    _with_dsp("cortex-m4", "Cortex-M4"),
    _with_dsp("cortex-m7", "Cortex-M7"),
    _with_dsp("cortex-m33", "Cortex-M33 with its DSP extension"),
    Cpu(
        name="cortex-m55",
        summary="Cortex-M55, M85 and others with Helium",
        order=ROWS_OF_16,
        outputs=2,
        pixels=3,
        blocks=2,
        sums=6,
        alignment=16,
        taps=_S8,
        compiler=(*_cortex_m("cortex-m55"), "-mfloat-abi=hard"),  # without, gcc makes no Helium
    ),
    _without_dsp("cortex-m0", "Cortex-M0, M1, M23", "cortex-m0plus"),
    _without_dsp("cortex-m0plus", "Cortex-M0+", "cortex-m0plus"),
    _without_dsp("cortex-m3", "Cortex-M3", "cortex-m3"),
    _rv32(),
)


def adapted(cpu: Cpu, *, memory: str, packs: bool, widens: bool) -> Cpu:
    """The row as options change it. In small mode nothing is copied that need not be, and tiles are narrow.

    widens  whether compilers may choose the type of weights: all of the program's files must see the same one
    """
    if memory == SMALL:
        cpu = replace(
            cpu, copies_image=False, depthwise=None, lanes=0, winograd=0, scratch_bytes=_SMALL_SCRATCH, run=_SMALL_RUN
        )
        if cpu.order == ROWS:  # whose kernels take all types of taps
            cpu = replace(cpu, taps=None, pixels=min(cpu.pixels, 4), tile=0, few=None)

    widens = widens and cpu.widens and not packs

    def also(other: Cpu | None) -> Cpu | None:
        return None if other is None else adapted(other, memory=memory, packs=packs, widens=widens)

    general = None if cpu.order == ROWS else cpu.general or GENERIC
    return replace(cpu, packs=packs, widens=widens, narrow=also(cpu.narrow), few=also(cpu.few), general=also(general))


def cpu_named(name: str) -> Cpu:
    """The row of that name. Raises KeyError."""
    return {cpu.name: cpu for cpu in CPUS}[name]
