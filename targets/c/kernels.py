"""The kernels of dot products and depthwise convolutions: which there are, for which processor the compiler may use each, and what each computes.

A kernel is a file, kernels/FOLDER/dot_ORDER.j2: a C function for some pixels and output blocks; or depthwise_ORDER.j2: for
all channels of a line of pixels. All of one order compute the same sums, and the first whose guard holds is compiled: what no other takes, `portable` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pefslc.targets.c.cpus import BLOCKS, COLUMNS, ROWS, TAPS, WeightOrder
from pefslc.geometry.shapes import Window
from pefslc.targets.c.steps import DepthwiseStep, DotStep, Program
from pefslc.targets.c.storage import CType

__all__ = ["KERNELS", "Depthwise", "Dot", "Kernel", "functions_of", "headers_of", "kernels_for"]


@dataclass(frozen=True, slots=True)
class Dot:
    """What a kernel is to compute: sums of `pixels` times `blocks` of outputs.

    taps, weights, sums, products  the types of operands and results; a product is computed in `products`
    biased                         whether there is a bias that the sums start from
    of                             the name of the function that it is a part of, if it is one
    """

    order: WeightOrder
    taps: CType
    weights: CType
    sums: CType
    products: CType
    biased: bool
    pixels: int
    blocks: int
    of: str = ""

    @classmethod
    def called(cls, step: DotStep, pixels: int, blocks: int) -> Dot:
        return cls(step.order, step.taps, step.weight_type, step.sums, step.products, step.starts_biased, pixels, blocks)

    @property
    def name(self) -> str:
        """Of the C function. It says everything that the function depends on."""
        types = "_".join(t.short for t in (self.taps, self.weights, self.sums, self.products))
        whole = self.of or f"dot_{self.order.name}_{types}{'_biased' if self.biased else ''}"
        return f"{whole}_{self.pixels}x{self.blocks}"

    @property
    def signature(self) -> str:
        """The head of the C function: where taps, weights and sums lie is said in `taps.TapView`."""
        strides = ", ".join(f"int32_t {name}" for name in ("pixel", "segments", "segment", "taps"))
        bias = f"const {self.sums} *bias, " if self.biased else ""
        return (
            f"PEFSLC_INLINE void {self.name}(const {self.taps} *x, {strides}, const {self.weights} *w, "
            f"{bias}{self.sums} *restrict sums, int32_t stride)"
        )

    def parts(self, pixels: int, blocks: int) -> list[tuple[int, int, Dot]]:
        """Kernels of at most so many pixels and blocks, and the first pixel and block of each: they do the same."""
        return [
            (
                p,
                b,
                replace(self, pixels=min(pixels, self.pixels - p), blocks=min(blocks, self.blocks - b), of=self.name),
            )
            for p in range(0, self.pixels, pixels)
            for b in range(0, self.blocks, blocks)
        ]


@dataclass(frozen=True, slots=True)
class Depthwise:
    """What a kernel is to compute: sums of each channel by itself, for pixels that lie side by side.

    Tap (i, j) of channel c of pixel p lies at  x[i * row + (p * stride + j * dilation) * channels + c],  its sum at
    sums[p * channels + c].

    taps, weights, sums, products  the types of operands and results; a product is computed in `products`
    biased                         whether there is a bias that the sums start from, of the type `bias`
    kernel                         rows and columns of taps
    """

    order: WeightOrder
    taps: CType
    weights: CType
    sums: CType
    products: CType
    bias: CType | None
    kernel: tuple[int, int]
    stride: int
    dilation: int

    @classmethod
    def called(cls, step: DepthwiseStep, window: Window) -> Depthwise:
        bias = step.bias_type if step.starts_biased else None
        stride, dilation = window.strides[1], window.dilations[1]
        types = step.taps, step.weight_type, step.sums, step.products
        return cls(step.order, *types, bias, window.kernel, stride, dilation)

    @property
    def name(self) -> str:
        """Of the C function. It says everything that the function depends on."""
        types = "_".join(t.short for t in (self.taps, self.weights, self.sums, self.products))
        bias = f"_biased_{self.bias.short}" if self.bias else ""
        form = f"{self.kernel[0]}x{self.kernel[1]}_{self.stride}_{self.dilation}"
        return f"depthwise_{self.order.name}_{types}{bias}_{form}"

    @property
    def signature(self) -> str:
        """The head of the C function."""
        bias = f"const {self.bias} *bias, " if self.bias else ""
        return (
            f"PEFSLC_INLINE void {self.name}(const {self.taps} *restrict x, int32_t row, "
            f"const {self.weights} *restrict w, {bias}{self.sums} *restrict sums, int32_t pixels, int32_t channels)"
        )


@dataclass(frozen=True, slots=True)
class Kernel:
    """One way to compute dot products, or a depthwise convolution.

    folder   of its files
    order    of the weights that it reads
    guard    the condition of the C preprocessor under which a compiler may use it; "" for every compiler
    headers  that it includes
    accepts  which dot products it computes; None for all of its order
    """

    folder: str
    order: WeightOrder
    guard: str
    headers: tuple[str, ...] = ()
    accepts: Callable[[Dot], bool] | None = None

    @property
    def template(self) -> str:
        what = "depthwise" if self.order in (TAPS, COLUMNS) else "dot"
        return f"kernels/{self.folder}/{what}_{self.order.name}.j2"


def _splits(dot: Dot) -> bool:
    return dot.pixels * dot.blocks > 4


KERNELS = (
    Kernel("avx512vnni", BLOCKS, "defined(__AVX512F__) && defined(__AVX512VNNI__)", ("immintrin.h",)),
    Kernel("avx512vnni", COLUMNS, "defined(__AVX512VNNI__) && defined(__AVX512VBMI__)", ("immintrin.h",)),
    Kernel("few_registers", ROWS, "UINTPTR_MAX <= 0xffffffff && !defined(__ARM_NEON)", accepts=_splits),
    Kernel("portable", ROWS, ""),
    Kernel("portable", BLOCKS, ""),
    Kernel("portable", TAPS, ""),
    Kernel("portable", COLUMNS, ""),
)


def kernels_for(dot: Dot | Depthwise) -> tuple[Kernel, ...]:
    """Those that compute it, the quickest first; the last has no guard."""
    return tuple(
        k
        for k in KERNELS
        if k.order == dot.order and (isinstance(dot, Depthwise) or k.accepts is None or k.accepts(dot))
    )


def functions_of(program: Program) -> tuple[Dot | Depthwise, ...]:
    """What the program's kernels compute, each once, in the order of their first use."""
    found: dict[Dot | Depthwise, None] = {}
    for step in program.steps:
        if isinstance(step, DotStep):
            for part in step.parts:
                found.update(dict.fromkeys(Dot.called(step, part.pixels, chunk.blocks) for chunk in part.chunks))
        elif isinstance(step, DepthwiseStep):
            windows = (part.window for part in step.parts if part.image is not None and part.window is not None)
            found.update(dict.fromkeys(Depthwise.called(step, window) for window in windows))
    return tuple(found)


def headers_of(program: Program) -> dict[str, str]:
    """The headers that the kernels include, and under which condition of the preprocessor."""
    guards: dict[str, dict[str, None]] = {}
    for kernel in (kernel for dot in functions_of(program) for kernel in kernels_for(dot)):
        for header in kernel.headers:
            guards.setdefault(header, {})[f"({kernel.guard})"] = None
    return {header: " || ".join(each) for header, each in guards.items()}
