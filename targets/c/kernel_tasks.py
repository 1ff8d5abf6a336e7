"""What kernels compute, each a C function: its operands' types, how they lie, its name and its parameters.

`Dot` is the sums of some pixels and output blocks, `Depthwise` those of all channels of a pixel over some taps,
`DepthwiseLine` those of a line of pixels. Which kernels compute one is told in kernels.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

from pefslc.targets.c.certificates import Certificate
from pefslc.targets.c.steps import ConvolutionStep, DepthwisePart, DepthwiseStep, DotPart, DotStep, Program
from pefslc.targets.c.storage import INT16, WEIGHT, CType
from pefslc.targets.c.taps import Gather, Move
from pefslc.targets.c.weight_orders import QUADS, WeightOrder

__all__ = ["Depthwise", "DepthwiseLine", "Dot", "Sums", "depthwise_of", "moves_of", "sums_of"]


@dataclass(frozen=True, slots=True)
class _Task(ABC):
    """What a kernel is to compute. A subclass says of which form, and what the C function is called and takes.

    taps, weights, sums, products  the types of operands and results; a product is computed in `products`
    """

    taps: CType
    weights: CType
    sums: CType
    products: CType

    @property
    @abstractmethod
    def form(self) -> str:
        """Of the kernels that compute it."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Of the C function. It says everything that the function depends on."""

    @property
    @abstractmethod
    def parameters(self) -> str:
        """Of the C function."""

    @property
    def prototype(self) -> str:
        """The head of the C function, behind what fixed.h has for it: PEFSLC_INLINE, where compilers make the vectors;
        PEFSLC_SHARED, which is smaller, and no slower for a loop of intrinsics; PEFSLC_ONE.
        """
        return f"void {self.name}({self.parameters})"

    def product(self, tap: str, weight: str) -> str:
        """The C expression of a product."""
        if self.weights == WEIGHT and self.taps.bits == self.weights.bits:
            return f"PEFSLC_PRODUCT({tap}, {weight})"
        if self.products == INT16:
            return f"PEFSLC_LANE_PRODUCT({tap}, {weight})"
        return f"({self.products}){tap} * ({self.products}){weight}"

    @property
    def types(self) -> str:
        """For names."""
        return "_".join(t.short for t in (self.taps, self.weights, self.sums, self.products))


@dataclass(frozen=True, slots=True)
class Dot(_Task):
    """What a kernel is to compute: sums of `pixels` times `blocks` of outputs.

    That of output o of pixel p is stored at  sums[p * stride + o]:  0 or bias[o], and the products of the pixel's taps,
    x[p * pixel + s * segment + i],  s < segments, i < taps,  with the output's weights, in `w` as `order` says.

    biased          whether there is a bias that the sums start from
    certificate     what may be summed in 16 bits
    pixels, blocks  of outputs, each of `order.outputs`
    columns, apart  of a window, where pixels side by side share all but one: how many; taps of each. 0 where they share
                    none, or kernels of the order do not ask
    of              the name of the function that it is a part of, if it is one
    """

    order: WeightOrder
    biased: bool
    certificate: Certificate
    pixels: int
    blocks: int
    columns: int = 0
    apart: int = 0
    of: str = ""

    @property
    def form(self) -> str:
        """Of the kernels that compute it."""
        return f"dot_{self.order.name}"

    @classmethod
    def called(cls, step: DotStep, part: DotPart, blocks: int) -> Dot:
        view = part.view
        strip = (view.taps // view.pixel, view.pixel) if part.gather is Gather.STRIP and step.order == QUADS else (0, 0)
        return cls(*_types(step), step.order, step.biases_kernels, step.certificate, part.apiece, blocks, *strip)

    @property
    def name(self) -> str:
        """Of the C function. It says everything that the function depends on."""
        biased = "_biased" if self.biased else ""
        strip = f"_strip{self.columns}x{self.apart}" if self.columns else ""
        whole = self.of or f"{self.form}_{self.types}{self.certificate}{biased}{strip}"
        return f"{whole}_{self.pixels}x{self.blocks}"

    @property
    def parameters(self) -> str:
        """Of the C function."""
        strides = ", ".join(f"int32_t {name}" for name in ("pixel", "segments", "segment", "taps"))
        bias = f"const PEFSLC_FLASH {self.sums} *bias, " if self.biased else ""
        weights = f"const PEFSLC_FLASH {self.weights} *w"
        return f"const {self.taps} *x, {strides}, {weights}, {bias}{self.sums} *restrict sums, int32_t stride"

    def parts(self, pixels: int, blocks: int) -> list[tuple[int, int, Dot]]:
        """Kernels of at most so many pixels and blocks, and the first pixel and block of each: they do the same.

        Last blocks first: outputs that are filled up may lie where those of the next pixel will.
        """
        return [
            (
                p,
                b,
                replace(self, pixels=min(pixels, self.pixels - p), blocks=min(blocks, self.blocks - b), of=self.name),
            )
            for b in reversed(range(0, self.blocks, blocks))
            for p in range(0, self.pixels, pixels)
        ]


@dataclass(frozen=True, slots=True)
class Depthwise(_Task):
    """What a depthwise kernel is to compute: the sums of all channels of a pixel over a rectangle of taps.

    Pixels side by side may be as one, whose `channels` are those of all of them: weights are there for each.
    """

    @classmethod
    def called(cls, step: DepthwiseStep) -> Depthwise:
        return cls(*_types(step))

    @property
    def form(self) -> str:
        """Of the kernels that compute it."""
        return "depthwise"

    @property
    def name(self) -> str:
        """Of the C function."""
        return f"{self.form}_{self.types}"

    @property
    def parameters(self) -> str:
        """Of the C function: sums[c] of x[i * row + j * column + c] * w[i * line + j * step + c]."""
        names = ("row", "column", "line", "step", "rows", "columns", "channels")
        sizes = ", ".join(f"int32_t {name}" for name in names)
        weights = f"const PEFSLC_FLASH {self.weights} *w"
        return f"const {self.taps} *x, {weights}, {sizes}, {self.sums} *restrict sums"


@dataclass(frozen=True, slots=True)
class DepthwiseLine(_Task):
    """What a depthwise kernel is to compute: the sums of all channels of pixels that lie side by side.

    Tap (i, j) of channel c of pixel p lies at  x[i * row + (p * stride + j * dilation) * channels + c],  its sum at
    sums[p * channels + c].

    biased  whether there is a bias that the sums start from
    kernel  rows and columns of taps
    run     pixels that weights and the bias are there for, at most as many as there are pixels
    """

    order: WeightOrder
    biased: bool
    kernel: tuple[int, int]
    stride: int
    dilation: int
    run: int

    @classmethod
    def called(cls, step: DepthwiseStep, order: WeightOrder, part: DepthwisePart) -> DepthwiseLine:
        window = part.window
        return cls(
            *_types(step), order, step.starts_biased, window.kernel, window.strides[1], window.dilations[1], part.run
        )

    @property
    def form(self) -> str:
        """Of the kernels that compute it."""
        return f"depthwise_{self.order.name}"

    @property
    def name(self) -> str:
        """Of the C function. It says everything that the function depends on."""
        shape = f"{self.kernel[0]}x{self.kernel[1]}_{self.stride}_{self.dilation}"
        run = f"_run{self.run}" if self.run > 1 else ""
        return f"{self.form}_{self.types}{'_biased' if self.biased else ''}_{shape}{run}"

    @property
    def parameters(self) -> str:
        """Of the C function."""
        bias = f"const PEFSLC_FLASH {self.sums} *restrict bias, " if self.biased else ""
        return (
            f"const {self.taps} *restrict x, int32_t row, const PEFSLC_FLASH {self.weights} *restrict w, {bias}"
            f"{self.sums} *restrict sums, int32_t pixels, int32_t channels"
        )


Sums = Dot | Depthwise | DepthwiseLine


def _types(step: ConvolutionStep) -> tuple[CType, CType, CType, CType]:
    return step.taps, step.weight_type, step.sums, step.products


def depthwise_of(step: DepthwiseStep, part: DepthwisePart) -> Depthwise | DepthwiseLine:
    """What the loops of a part call."""
    if step.order is None:
        return Depthwise.called(step)
    return DepthwiseLine.called(step, step.order, part)


def sums_of(program: Program) -> tuple[Sums, ...]:
    """What the program's kernels compute, each once, in the order of their first use."""
    found: dict[Sums, None] = {}
    for step in program.steps:
        if isinstance(step, DepthwiseStep):
            found.update(dict.fromkeys(depthwise_of(step, part) for part in step.parts))
        if isinstance(step, DotStep):
            for part in step.parts:
                found.update(dict.fromkeys(Dot.called(step, part, chunk.blocks) for chunk in part.chunks))
    assert len({task.name for task in found}) == len(found), "a name says what the function depends on"
    return tuple(found)


def moves_of(program: Program) -> tuple[Move, ...]:
    """What the program makes of codes that it copies, each once."""
    found: dict[Move, None] = {}
    for step in program.steps:
        if not isinstance(step, ConvolutionStep) or not step.copies or step.planes or step.move.is_copy:
            continue
        if not all(part.image is not None and part.image.is_outside for part in step.parts):
            found[step.move] = None
    return tuple(found)
