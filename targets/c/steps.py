"""The C program: steps in order, each one function of the emitted file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import Window
from pefslc.ir.value import Op
from pefslc.targets.c.cpus import WeightOrder
from pefslc.targets.c.packing import Pass
from pefslc.targets.c.stages import AddStage, MultiplyStage, Stage
from pefslc.targets.c.storage import Buffer, CType, Tensor
from pefslc.targets.c.taps import Gather, Move, PaddedImage, TapView
from pefslc.targets.c.tiles import Chunk

__all__ = [
    "CopyStep",
    "DepthwisePart",
    "DepthwiseStep",
    "DotPart",
    "DotStep",
    "MapStep",
    "Part",
    "PoolStep",
    "Program",
    "Step",
]

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Reads `source` (and what its stages add), writes `result`.

    planes  whether the source lies as planes of a channel each where a convolution's lies channels last
    ops     the operations of the graph that it does, in order; empty for a change of layout
    scratch buffers that live only while it runs: one for each of `threads` parts
    threads parts of the result that are computed at a time
    """

    source: Tensor
    result: Tensor
    planes: bool = False
    ops: tuple[Op, ...] = ()
    stages: tuple[Stage, ...] = ()
    scratch: tuple[Buffer, ...] = ()
    threads: int = 1

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
    """

    rows: range
    columns: range
    window: Window | None
    weight: NDArray[np.integer]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DotPart(Part):
    """The loops of dot products: `lines` times `columns` results, `pixels` of them side by side at a time.

    weight   all groups' weights, as `dots.packed_weights` lays them out
    gather   how the taps come to where `view` says; `image` is the copy of a whole image, where it is one
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
    image: PaddedImage | None
    lines: int
    line: int
    pixels: int
    apiece: int
    chunks: tuple[Chunk, ...]
    passes: bool
    unpacked: tuple[Pass, ...] = ()
    run: int = 0

    @property
    def has_one_pass(self) -> bool:
        """Whether a pixel's outputs are all computed together."""
        return not self.passes or sum(each.calls for each in self.unpacked) == 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DepthwisePart(Part):
    """The loops of a depthwise convolution.

    image  the copy of the whole image that they read, where there is one
    run    pixels side by side that are computed together, at most; weights are there for each of them
    """

    window: Window
    image: PaddedImage | None
    run: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DotStep(Step):
    """Convolution or dense layer: rows of taps times rows of weights, several pixels and outputs at once.

    images          [N, C, H, W] of the source
    order           of the weights
    taps            the type of the taps that the kernels read
    offset          what is added to each code of the source as it is copied
    groups          of the convolution
    bias            [outputs] or None; the offset's part is in it
    chained         products that a lane of 8 may sum in 16 bits (`dots.most_chained`)
    paired          sums of two products that a lane may sum in 16 bits (`dots.most_paired`)
    halved          segments that an output may sum in 16 bits (`dots.most_halved`)
    padded_outputs  of one group, filled up
    packed          bits of each weight as it is stored; 0 where weights are stored as kernels read them
    aligned         bytes that the weights begin at a multiple of; 0: anywhere
    """

    images: tuple[int, int, int, int]
    order: WeightOrder
    taps: CType
    offset: int
    parts: tuple[DotPart, ...]
    groups: int
    weight_type: CType
    bias: Codes | None
    sums: CType
    products: CType
    chained: int
    paired: int
    halved: int
    outputs: int
    padded_outputs: int
    packed: int = 0
    aligned: int = 0

    @property
    def scratch_names(self) -> tuple[str, ...]:
        return ("sums", *["copy"] * self.copies, *["rows"] * (self.packed > 0))

    @property
    def copies(self) -> bool:
        """Whether kernels read a copy of what is in the source."""
        return any(part.gather is not Gather.NONE for part in self.parts)

    @property
    def move(self) -> Move:
        """What is done to codes that are copied for the kernels."""
        return Move(self.source.type, self.taps, self.offset)

    @property
    def report(self) -> str:
        """How it computes, for the report."""
        packed = f", weights packed in {self.packed} bits" if self.packed else ""
        return f"dot products, {_operands(self)}{packed}"

    @property
    def bands(self) -> int | None:
        if len(self.parts) > 1:
            return None
        (part,) = self.parts
        return part.lines if part.gather is Gather.IMAGE else -(-part.line // part.pixels)

    @property
    def shift(self) -> int:
        """What is added to each number in the source's memory as it is copied."""
        return self.source.offset + self.offset

    @property
    def rows(self) -> int:
        """Sums of a pixel: outputs of all groups, filled up."""
        return self.groups * self.padded_outputs

    @property
    def starts_biased(self) -> bool:
        """Whether the kernels add the bias."""
        return self.order.biased and self.bias is not None and bool(self.bias.any())

    @property
    def filled_bias(self) -> Codes:
        """[rows]: a bias for each sum."""
        assert self.bias is not None
        filled = np.zeros((self.groups, self.padded_outputs), dtype=np.int64)
        filled[:, : self.outputs // self.groups] = self.bias.reshape(self.groups, -1)
        return filled.reshape(-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthwiseStep(Step):
    """Convolution of each channel by itself.

    order   of the weights, for lines of pixels; None: [rows][columns][channels], for each pixel by itself
    taps    the type of the taps that the kernels read
    offset  what is added to each code of the source as it is copied
    bias    [channels] or None; the offset's part is in it
    """

    order: WeightOrder | None
    taps: CType
    offset: int
    parts: tuple[DepthwisePart, ...]
    weight_type: CType
    bias: Codes | None
    sums: CType
    products: CType

    @property
    def images(self) -> tuple[int, ...]:
        """[N, C, H, W] of the source."""
        return self.source.shape

    @property
    def bands(self) -> int | None:
        if len(self.parts) > 1:
            return None
        (part,) = self.parts
        return _pixels(self.result) if part.image is None else len(part.rows)

    @property
    def report(self) -> str:
        """How it computes, for the report."""
        return f"depthwise, {_operands(self)}"

    @property
    def copies(self) -> bool:
        """Whether kernels read a copy of the image."""
        return self.order is not None

    @property
    def move(self) -> Move:
        """What is done to codes that are copied for the kernels."""
        return Move(self.source.type, self.taps, self.offset)

    @property
    def starts_biased(self) -> bool:
        """Whether the kernels add the bias."""
        return self.order is not None and self.order.biased and self.bias is not None and bool(self.bias.any())

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

    window: Window
    is_max: bool
    sums: CType
    factors: Codes | None

    @property
    def bands(self) -> int:
        return _pixels(self.result)

    @property
    def report(self) -> str:
        """How it computes, for the report."""
        return f"{'maximum' if self.is_max else 'sum'} in {self.sums.bits} bits"


@dataclass(frozen=True, slots=True, kw_only=True)
class MapStep(Step):
    """Stages alone, element by element."""

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


def _operands(step: DotStep | DepthwiseStep) -> str:
    phases = f", {len(step.parts)} phases" if len(step.parts) > 1 else ""
    return f"{step.source.type.short} x {step.weight_type.short}, sums in {step.sums.bits} bits{phases}"
