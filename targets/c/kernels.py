"""The dot product kernels: which there are, for which processor the compiler may use each, and what each computes.

A kernel is a file, kernels/FOLDER/dot_ORDER.j2: a C function for some pixels and output blocks. All of one order
compute the same sums, and the first whose guard holds is compiled: what no other takes, `portable` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pefslc.targets.c.cpus import BLOCKS, ROWS, WeightOrder
from pefslc.targets.c.steps import DotStep, Program
from pefslc.targets.c.storage import CType

__all__ = ["KERNELS", "Dot", "Kernel", "dots_of", "headers_of", "kernels_for"]


@dataclass(frozen=True, slots=True)
class Dot:
    """What a kernel is to compute: sums of `pixels` times `blocks` of outputs.

    taps, weights, sums, products  the types of operands and results; a product is computed in `products`
    of                             the name of the function that it is a part of, if it is one
    """

    order: WeightOrder
    taps: CType
    weights: CType
    sums: CType
    products: CType
    pixels: int
    blocks: int
    of: str = ""

    @classmethod
    def called(cls, step: DotStep, pixels: int, blocks: int) -> Dot:
        return cls(step.order, step.taps, step.weight_type, step.sums, step.products, pixels, blocks)

    @property
    def name(self) -> str:
        """Of the C function. It says everything that the function depends on."""
        types = "_".join(t.short for t in (self.taps, self.weights, self.sums, self.products))
        whole = self.of or f"dot_{self.order.name}_{types}"
        return f"{whole}_{self.pixels}x{self.blocks}"

    @property
    def signature(self) -> str:
        """The head of the C function: where taps, weights and sums lie is said in `taps.TapView`."""
        strides = ", ".join(f"int32_t {name}" for name in ("pixel", "segments", "segment", "taps"))
        return (
            f"PEFSLC_INLINE void {self.name}(const {self.taps} *x, {strides}, const {self.weights} *w, "
            f"{self.sums} *restrict sums, int32_t stride)"
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
class Kernel:
    """One way to compute dot products.

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
        return f"kernels/{self.folder}/dot_{self.order.name}.j2"


def _splits(dot: Dot) -> bool:
    return dot.pixels * dot.blocks > 4


KERNELS = (
    Kernel("avx512vnni", BLOCKS, "defined(__AVX512F__) && defined(__AVX512VNNI__)", ("immintrin.h",)),
    Kernel("few_registers", ROWS, "UINTPTR_MAX <= 0xffffffff && !defined(__ARM_NEON)", accepts=_splits),
    Kernel("portable", ROWS, ""),
    Kernel("portable", BLOCKS, ""),
)


def kernels_for(dot: Dot) -> tuple[Kernel, ...]:
    """Those that compute it, the quickest first; the last has no guard."""
    return tuple(k for k in KERNELS if k.order == dot.order and (k.accepts is None or k.accepts(dot)))


def dots_of(program: Program) -> tuple[Dot, ...]:
    """What the program's kernels compute, each once, in the order of their first use."""
    found: dict[Dot, None] = {}
    for step in program.steps:
        if isinstance(step, DotStep):
            for part in step.parts:
                found.update(dict.fromkeys(Dot.called(step, part.pixels, chunk.blocks) for chunk in part.chunks))
    return tuple(found)


def headers_of(program: Program) -> dict[str, str]:
    """The headers that the kernels include, and under which condition of the preprocessor."""
    guards: dict[str, dict[str, None]] = {}
    for kernel in (kernel for dot in dots_of(program) for kernel in kernels_for(dot)):
        for header in kernel.headers:
            guards.setdefault(header, {})[f"({kernel.guard})"] = None
    return {header: " || ".join(each) for header, each in guards.items()}
