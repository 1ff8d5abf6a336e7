"""The orders in which weights lie for kernels: kernels/FOLDER/dot_NAME.j2 and depthwise_NAME.j2 read that of NAME."""

from __future__ import annotations

from dataclasses import dataclass

from pefslc.targets.c.ctype import INT16, LANE_WEIGHT, WEIGHT, CType

__all__ = [
    "BLOCKS", "COLUMNS", "DEPTHWISE_ORDERS", "DOT_ORDERS", "LANES", "PAIRS", "QUADS", "ROWS", "ROWS_OF_16", "TAPS",
    "TILES", "WORDS", "WeightOrder",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class WeightOrder:
    """How the weights of a dot product lie: [outputs / o][taps / t][o][t], filled up with zeros.

    name     of the kernels that read them: kernels/FOLDER/dot_NAME.j2
    outputs  o: that lie together, so that a vector register has one sum for each
    taps     t: that lie together, which one instruction multiplies and sums
    weights  their type; None: the narrowest, which must be of 8 bits but in ROWS
    widened  the type of those of 8 bits where the compiler may choose it (`Cpu.widens`); None: it may not
    biased   whether sums start from the bias, [outputs] of int32_t filled up, rather than from 0; and are stored pixel
             after pixel, so that what is filled up may lie where the next pixel begins
    aligned  whether taps and weights lie at multiples of 4 bytes
    turned   whether four taps lie as 0 2 1 3: the even bytes of a word are one pair, the odd ones the next
    most     taps of a segment that one instruction takes, where it takes more than t: a segment is filled up to equal
             shares of no more; 0: it takes t
    """

    name: str
    outputs: int
    taps: int
    weights: CType | None = None
    widened: CType | None = None
    biased: bool = False
    aligned: bool = False
    turned: bool = False
    most: int = 0

    def filled(self, count: int, alignment: int) -> int:
        """How many taps a segment of `count` is filled up to; a share of them is a multiple of `alignment`."""
        shares = self.shares(count)
        return shares * (-(-count // (shares * alignment)) * alignment)

    def shares(self, taps: int) -> int:
        """How many equal shares a segment has."""
        return -(-taps // self.most) if self.most else 1


ROWS = WeightOrder("rows", outputs=1, taps=1, widened=WEIGHT)  # each output's weights one after the other
ROWS_OF_16 = WeightOrder("rows", outputs=1, taps=16, biased=True)  # the same, in whole vector registers
BLOCKS = WeightOrder("blocks", outputs=16, taps=4, biased=True)  # vpdpbusd: 16 sums of 4 products of bytes
TILES = WeightOrder("tiles", outputs=16, taps=4, biased=True, most=64)  # tdpbusd: up to 16 rows of a block at a time
WORDS = WeightOrder("words", outputs=8, taps=2, weights=INT16, biased=True)  # pmaddwd: sums of 2 products of int16_t
LANES = WeightOrder("lanes", outputs=16, taps=1, widened=LANE_WEIGHT, biased=True)  # a vector of outputs for each tap
PAIRS = WeightOrder("pairs", outputs=2, taps=4, aligned=True, turned=True)  # SMLAD, of LDRD's words by SXTB16
QUADS = WeightOrder("quads", outputs=4, taps=4, biased=True)  # scalar registers enough: one address for four outputs
DOT_ORDERS = (ROWS, ROWS_OF_16, BLOCKS, TILES, WORDS, LANES, PAIRS, QUADS)

# Of depthwise convolutions: [channels / o][rows of the kernel / t][its columns][o][t].
TAPS = WeightOrder(
    "taps", outputs=1, taps=1, widened=LANE_WEIGHT, biased=True
)  # [rows][columns][channels], as without an order
COLUMNS = WeightOrder("columns", outputs=16, taps=4, biased=True)  # vpdpbusd: four rows of 16 channels
DEPTHWISE_ORDERS = (TAPS, COLUMNS)
