"""The C program: steps in order, each one function of the emitted file.

Of a convolution, a *part* is the positions of the result that one set of loops computes: all, or those of one phase. A
*tile* is the pixels, side by side, that it computes together; a *chunk* the calls of one kernel, for outputs that
follow each other. Where there are *passes*, each computes all tiles for some outputs. *Bands* are what calls of
NAME_step and threads share out: lines, tiles or pixels of the result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import Window
from pefslc.ir.value import Op
from pefslc.targets.c.certificates import Certificate
from pefslc.targets.c.packing import Pass
from pefslc.targets.c.stages import AddStage, MultiplyStage, Stage
from pefslc.targets.c.storage import Buffer, CType, Tensor
from pefslc.targets.c.taps import Gather, Move, PaddedImage, TapView
from pefslc.targets.c.tiles import Chunk
from pefslc.targets.c.weight_orders import WeightOrder

__all__ = [
    "ConvolutionStep", "CopyStep", "DepthwisePart", "DepthwiseStep", "DotPart", "DotStep", "MapStep", "Part",
    "PoolStep", "Program", "Step", "WinogradStep",
]  # fmt: skip

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Reads `source` (and what its stages add), writes `result`.

    kind     of the loops: step_KIND.j2 is their template
    ops      the operations of the graph that it does, in order; empty for a change of layout
    scratch  buffers that live only while it runs: one for each of `threads` parts
    threads  parts of the result that are computed at a time
    """

    kind: ClassVar[str]

    source: Tensor
    result: Tensor
    ops: tuple[Op, ...] = ()
    stages: tuple[Stage, ...] = ()
    scratch: tuple[Buffer, ...] = ()
    threads: int = 1

    @property
    def report(self) -> str:
        """How it computes, in a few words."""
        return self.kind

    @property
    def scratch_names(self) -> tuple[str, ...]:
        """The parameters of the scratch buffers, in order."""
        return ("sums", "copy")[: len(self.scratch)]

    @property
    def bands(self) -> int | None:
        """Lines, tiles or pixels of the result that are computed each by itself; None where they cannot be."""
        return None

    @property
    def added(self) -> tuple[Tensor, ...]:
        """The tensors that the stages add or multiply by, in order."""
        return tuple(s.other for s in self.stages if isinstance(s, AddStage | MultiplyStage))

    @property
    def reads(self) -> tuple[Tensor, ...]:
        return (self.source, *self.added)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """The positions of a convolution's result that one set of loops computes: all, or those of one phase (`phases`).

    rows, columns  of the result; none for rows that already lie in memory
    window         for these positions; None for rows that already lie in memory (dense, 1x1)
    weight         as the loops read it, in the type that they read
    image          the copy of a whole image that they read, where there is one
    """

    rows: range
    columns: range
    window: Window | None
    weight: NDArray[np.integer]
    image: PaddedImage | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DotPart(Part):
    """The loops of dot products: `lines` times `columns` results, `pixels` of them side by side at a time.

    weight   all groups' weights, as `dots.packed_weights` lays them out
    gather   how the taps come to where `view` says
    lines    of results for each image; one, of all images, where the pixels are counted through
    line     results of a line
    pixels   of a tile: their taps are copied, and their sums become codes, together
    apiece   pixels of a tile that one kernel computes: a part of them, or all
    chunks   the kernel calls for all outputs
    passes   whether all pixels are computed for one chunk's outputs before those of the next
    unpacked the passes of packed weights, instead of those of each chunk
    run      tiles of pixels for which all passes are made before the next ones; 0: all
    """

    gather: Gather
    view: TapView
    lines: int
    line: int
    pixels: int
    apiece: int
    chunks: tuple[Chunk, ...]
    passes: bool
    unpacked: tuple[Pass, ...] = ()
    run: int = 0

    @property
    def copied(self) -> int:
        """Elements of the copies that the kernels read."""
        if self.gather is Gather.STRIP:
            return self.view.segments * self.view.segment
        return self.image.elements if self.image is not None else self.pixels * self.view.pixel

    @property
    def has_one_pass(self) -> bool:
        """Whether a pixel's outputs are all computed together."""
        return not self.passes or sum(each.calls for each in self.unpacked) == 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DepthwisePart(Part):
    """The loops of a depthwise convolution.

    run  pixels side by side that are computed together, at most; weights are there for each of them
    """

    window: Window
    run: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvolutionStep(Step, ABC):
    """Sums of taps times weights: a convolution, or a dense layer, which is one of 1 x 1.

    images    [N, C, H, W] of the source
    planes    whether the source lies as planes of a channel each, rather than channels last
    order     of the weights
    taps      the type of the taps that the kernels read
    offset    what is added to each code of the source as it is copied
    products  the type in which a product is computed
    bias      [outputs] or None; the offset's part is in it
    packed    bits of each weight as it is stored; 0 where weights are stored as kernels read them
    aligned   bytes that the weights begin at a multiple of; 0: anywhere
    """

    images: tuple[int, int, int, int]
    planes: bool = False
    order: WeightOrder | None
    taps: CType
    offset: int
    parts: tuple[Part, ...]
    weight_type: CType
    sums: CType
    products: CType
    bias: Codes | None
    packed: int = 0
    aligned: int = 0

    @property
    @abstractmethod
    def copies(self) -> bool:
        """Whether kernels read a copy of what is in the source."""

    @property
    @abstractmethod
    def filled_bias(self) -> Codes:
        """A bias for each sum that kernels start from it."""

    @property
    def is_phased(self) -> bool:
        """Whether it has several parts, with functions of their own."""
        return len(self.parts) > 1

    @property
    def starts_biased(self) -> bool:
        """Whether sums have the bias, filled up, before stages read them."""
        return self.order is not None and self.order.biased and self.bias is not None and bool(self.bias.any())

    @property
    def move(self) -> Move:
        """What is done to codes that are copied for the kernels."""
        return Move(self.source.type, self.taps, self.offset)

    @property
    def shift(self) -> int:
        """What is added to each number in the source's memory as it is copied."""
        return self.source.offset + self.offset

    @property
    def types(self) -> str:
        """Of what is multiplied and summed, for the report."""
        phases = f", {len(self.parts)} phases" if self.is_phased else ""
        return f"{self.source.type.short} x {self.weight_type.described}, sums in {self.sums.bits} bits{phases}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DotStep(ConvolutionStep):
    """Rows of taps times rows of weights, several pixels and outputs at once.

    groups          of the convolution
    certificate     what kernels may sum in 16 bits
    padded_outputs  of one group, filled up
    """

    kind: ClassVar[str] = "dot"

    order: WeightOrder
    parts: tuple[DotPart, ...]
    groups: int
    certificate: Certificate
    outputs: int
    padded_outputs: int

    @property
    def report(self) -> str:
        packed = f", weights packed in {self.packed} bits" if self.packed else ""
        return f"dot products, {self.types}{packed}"

    @property
    def scratch_names(self) -> tuple[str, ...]:
        return ("sums", *["copy"] * self.copies, *["rows"] * (self.packed > 0))

    @property
    def copies(self) -> bool:
        return any(part.gather is not Gather.NONE for part in self.parts)

    @property
    def bands(self) -> int | None:
        if self.is_phased:
            return None
        (part,) = self.parts
        return part.lines if part.gather is Gather.IMAGE else -(-part.line // part.pixels)

    @property
    def biases_kernels(self) -> bool:
        """Whether it is the kernels that add the bias which sums start from."""
        return self.starts_biased

    @property
    def rows(self) -> int:
        """Sums of a pixel: outputs of all groups, filled up."""
        return self.groups * self.padded_outputs

    @property
    def filled_bias(self) -> Codes:
        """[rows]"""
        assert self.bias is not None
        filled = np.zeros((self.groups, self.padded_outputs), dtype=np.int64)
        filled[:, : self.outputs // self.groups] = self.bias.reshape(self.groups, -1)
        return filled.reshape(-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WinogradStep(DotStep):
    """A 3 x 3 by Winograd's F(2x2, 3x3): its one part is of squares, not pixels, with weights of point after point."""

    kind: ClassVar[str] = "winograd"

    @property
    def report(self) -> str:
        return f"Winograd's F(2x2, 3x3), {self.types}"

    @property
    def scratch_names(self) -> tuple[str, ...]:
        return ("sums", "copy", "points")

    @property
    def bands(self) -> int:
        return -(-self.parts[0].line // self.parts[0].pixels)

    @property
    def biases_kernels(self) -> bool:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthwiseStep(ConvolutionStep):
    """Each channel by itself.

    order  of the weights, for lines of pixels; None: [rows][columns][channels], for each pixel by itself
    """

    kind: ClassVar[str] = "depthwise"

    parts: tuple[DepthwisePart, ...]

    @property
    def report(self) -> str:
        return f"depthwise, {self.types}"

    @property
    def copies(self) -> bool:
        return self.order is not None

    @property
    def bands(self) -> int | None:
        if self.is_phased:
            return None
        (part,) = self.parts
        return _pixels(self.result) if part.image is None else len(part.rows)

    @property
    def filled_bias(self) -> Codes:
        """[channels, filled up]: as often as weights."""
        assert self.bias is not None
        assert self.order is not None
        return np.tile(np.pad(self.bias, (0, -len(self.bias) % self.order.outputs)), self.parts[0].run)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStep(Step):
    """Maximum or sum over windows, channels last.

    factors  [pixels of the result]: what each sum is multiplied by, or None
    """

    kind: ClassVar[str] = "pool"

    window: Window
    is_max: bool
    sums: CType
    factors: Codes | None

    @property
    def bands(self) -> int:
        return _pixels(self.result)

    @property
    def report(self) -> str:
        return f"{'maximum' if self.is_max else 'sum'} in {self.sums.bits} bits"


@dataclass(frozen=True, slots=True, kw_only=True)
class MapStep(Step):
    """Stages alone, element by element."""

    kind: ClassVar[str] = "map"

    @property
    def bands(self) -> int:
        return self.result.loops[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyStep(Step):
    """Elements moved: a layout, a transposition, a part, padding, a part of a concatenation.

    sizes, source_strides, result_strides  of the loops, outermost first
    offset, source_offset                  of the first element written, and of the first one read
    fill                                   what the whole result becomes before that, if anything
    """

    kind: ClassVar[str] = "copy"

    sizes: tuple[int, ...]
    source_strides: tuple[int, ...]
    result_strides: tuple[int, ...]
    offset: int = 0
    source_offset: int = 0
    fill: int | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """Everything that the emitter needs.

    inputs, outputs  tensors in the order of the graph's; implementation: value name -> how, for the report
    """

    steps: tuple[Step, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    implementation: dict[str, str]
    macs: int


def _pixels(result: Tensor) -> int:
    """Of all images of a tensor that lies channels last."""
    n, _, height, width = result.shape
    return n * height * width
