"""The kernels: which there are, for which processor the compiler may use each, and what each computes.

A kernel is a file, kernels/FOLDER/FORM.j2, a C function: `dot_ORDER` for some pixels and output blocks, `depthwise` for
some taps of all channels of a pixel, `depthwise_ORDER` for those of a line of pixels. All of one form compute the same
sums, and the first whose guard holds is compiled: what no other takes, `portable` does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

from pefslc.geometry.shapes import Window
from pefslc.targets.c.cpus import ROWS_OF_16, WeightOrder
from pefslc.targets.c.steps import DepthwisePart, DepthwiseStep, DotStep, Program
from pefslc.targets.c.storage import WEIGHT, CType
from pefslc.targets.c.taps import Move

__all__ = [
    "KERNELS", "Depthwise", "DepthwiseLine", "Dot", "Kernel", "Sums", "depthwise_of", "headers_of", "kernels_for",
    "moves_of", "shared_by_kernels", "sums_of",
]  # fmt: skip


class _Task(ABC):
    """What a kernel is to compute. A subclass says of which form, and what the C function is called and takes."""

    __slots__ = ()

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
    def signature(self) -> str:
        """The head of the C function."""
        return f"PEFSLC_INLINE void {self.name}({self.parameters})"

    @property
    def shared_signature(self) -> str:
        """The same for a function that all its callers share: smaller, and no slower if its loop is of intrinsics."""
        return f"PEFSLC_SHARED void {self.name}({self.parameters})"

    def product(self, tap: str, weight: str) -> str:
        """The C expression of a product."""
        if self.weights == WEIGHT and self.taps.bits == self.weights.bits:
            return f"PEFSLC_PRODUCT({tap}, {weight})"
        return f"({self.products}){tap} * ({self.products}){weight}"

    @property
    def types(self) -> str:
        """For names."""
        return "_".join(t.short for t in (self.taps, self.weights, self.sums, self.products))


@dataclass(frozen=True, slots=True)
class Dot(_Task):
    """What a kernel is to compute: sums of `pixels` times `blocks` of outputs.

    taps, weights, sums, products  the types of operands and results; a product is computed in `products`
    biased                         whether there is a bias that the sums start from
    chained                        products that a lane of 8 may sum in 16 bits, proven
    paired                         sums of two products that a lane may sum in 16 bits, proven (`dots.most_paired`)
    of                             the name of the function that it is a part of, if it is one
    """

    order: WeightOrder
    taps: CType
    weights: CType
    sums: CType
    products: CType
    biased: bool
    chained: int
    paired: int
    pixels: int
    blocks: int
    of: str = ""

    @property
    def form(self) -> str:
        """Of the kernels that compute it."""
        return f"dot_{self.order.name}"

    @classmethod
    def called(cls, step: DotStep, pixels: int, blocks: int) -> Dot:
        types = step.taps, step.weight_type, step.sums, step.products
        return cls(step.order, *types, step.starts_biased, step.chained, step.paired, pixels, blocks)

    @property
    def name(self) -> str:
        """Of the C function. It says everything that the function depends on."""
        chained = f"_chained{self.chained}" if self.chained else f"_paired{self.paired}" if self.paired else ""
        biased = "_biased" if self.biased else ""
        whole = self.of or f"{self.form}_{self.types}{chained}{biased}"
        return f"{whole}_{self.pixels}x{self.blocks}"

    @property
    def parameters(self) -> str:
        """Of the C function: where taps, weights and sums lie is said in `taps.TapView`."""
        strides = ", ".join(f"int32_t {name}" for name in ("pixel", "segments", "segment", "taps"))
        bias = f"const {self.sums} *bias, " if self.biased else ""
        weights = f"const {self.weights} *w"
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
    """What a depthwise kernel is to compute: the sums of all channels of a pixel over a rectangle of taps."""

    taps: CType
    weights: CType
    sums: CType
    products: CType

    @classmethod
    def called(cls, step: DepthwiseStep) -> Depthwise:
        return cls(step.source.type, step.weight_type, step.sums, step.products)

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
        """Of the C function: sums[c] of x[i * row + j * column + c] * w[i * line + j * channels + c]."""
        sizes = ", ".join(f"int32_t {name}" for name in ("row", "column", "line", "rows", "columns", "channels"))
        return f"const {self.taps} *x, const {self.weights} *w, {sizes}, {self.sums} *restrict sums"


@dataclass(frozen=True, slots=True)
class DepthwiseLine(_Task):
    """What a depthwise kernel is to compute: the sums of all channels of pixels that lie side by side.

    Tap (i, j) of channel c of pixel p lies at  x[i * row + (p * stride + j * dilation) * channels + c],  its sum at
    sums[p * channels + c].

    taps, weights, sums, products  the types of operands and results; a product is computed in `products`
    biased                         whether there is a bias that the sums start from
    kernel                         rows and columns of taps
    """

    order: WeightOrder
    taps: CType
    weights: CType
    sums: CType
    products: CType
    biased: bool
    kernel: tuple[int, int]
    stride: int
    dilation: int

    @classmethod
    def called(cls, step: DepthwiseStep, order: WeightOrder, window: Window) -> DepthwiseLine:
        types = step.taps, step.weight_type, step.sums, step.products
        return cls(order, *types, step.starts_biased, window.kernel, window.strides[1], window.dilations[1])

    @property
    def form(self) -> str:
        """Of the kernels that compute it."""
        return f"depthwise_{self.order.name}"

    @property
    def name(self) -> str:
        """Of the C function. It says everything that the function depends on."""
        shape = f"{self.kernel[0]}x{self.kernel[1]}_{self.stride}_{self.dilation}"
        return f"{self.form}_{self.types}{'_biased' if self.biased else ''}_{shape}"

    @property
    def parameters(self) -> str:
        """Of the C function."""
        bias = f"const {self.sums} *bias, " if self.biased else ""
        return (
            f"const {self.taps} *restrict x, int32_t row, const {self.weights} *restrict w, {bias}"
            f"{self.sums} *restrict sums, int32_t pixels, int32_t channels"
        )


Sums = Dot | Depthwise | DepthwiseLine


@dataclass(frozen=True, slots=True)
class Kernel:
    """One way to compute sums.

    folder   of its files
    form     which sums: the name of the file
    guard    the condition of the C preprocessor under which a compiler may use it; "" for every compiler
    headers  that it includes
    shares   whether kernels/FOLDER/shared.j2 stands once before them: what its functions and their callers need
    accepts  which of that form it computes: one that it does not must not be there
    """

    folder: str
    form: str
    guard: str
    headers: tuple[str, ...] = ()
    shares: bool = False
    accepts: Callable[[Sums], bool] = lambda _: True

    @property
    def template(self) -> str:
        return f"kernels/{self.folder}/{self.form}.j2"


def _splits(task: Sums) -> bool:
    return isinstance(task, Dot) and task.pixels * task.blocks > 4


def _is_of_bytes(task: Sums) -> bool:
    return task.taps.bits == task.weights.bits == 8 and task.sums.bits == 32


def _is_of_signed_bytes(task: Sums) -> bool:
    """Each segment of whole vector registers."""
    return isinstance(task, Dot) and task.order == ROWS_OF_16 and _is_of_bytes(task) and task.taps.signed


def _has_few_taps(task: Sums) -> bool:
    """Of bytes, whose weights stay in registers."""
    return isinstance(task, DepthwiseLine) and _is_of_bytes(task) and task.kernel[0] * task.kernel[1] <= 9


def _fits_thumb1(task: Sums) -> bool:
    return isinstance(task, Dot) and _is_of_bytes(task) and (task.pixels, task.blocks) in ((2, 2), (1, 4), (1, 2))


def _is_one_block(task: Sums) -> bool:
    return isinstance(task, Dot) and task.blocks == 1


def _is_chained(task: Sums) -> bool:
    return isinstance(task, Dot) and task.chained > 0 and task.taps.signed and task.sums.bits == 32


def _is_paired_in_registers(task: Sums) -> bool:
    """Whose sums of 16 bits and of 32 are in 16 registers, two for each pixel and block."""
    return isinstance(task, Dot) and task.paired > 0 and task.pixels * task.blocks <= 4


def _is_not_paired_in_registers(task: Sums) -> bool:
    return not _is_paired_in_registers(task)


_NEON = "defined(__ARM_NEON)"
# The words that they load are little-endian; those of depthwise kernels lie anywhere.
_DSP = "defined(__ARM_FEATURE_DSP) && defined(__thumb2__) && !defined(__ARM_NEON) && !defined(__ARM_BIG_ENDIAN)"
_UNALIGNED = f"{_DSP} && defined(__ARM_FEATURE_UNALIGNED)"
_THUMB1 = "defined(__thumb__) && !defined(__thumb2__) && !defined(__OPTIMIZE_SIZE__)"  # GCC needs high registers for it
_HELIUM = "defined(__ARM_FEATURE_MVE)"
_RV32 = "defined(__riscv_mul) && __riscv_xlen == 32 && !defined(__riscv_32e)"
_FEW_REGISTERS = "UINTPTR_MAX <= 0xffffffff && !defined(__ARM_NEON)"

_VNNI = "defined(__AVX512F__) && defined(__AVX512VNNI__)"
# Older clang has the second name. Linux is asked by a system call, whose number is another with addresses of 32 bits.
_AMX = f"(defined(__AMX_INT8__) || defined(__AMXINT8__)) && {_VNNI} && defined(__linux__) && defined(__LP64__)"
_VBMI = "defined(__AVX512VNNI__) && defined(__AVX512VBMI__) && defined(__AVX512VL__)"

KERNELS = (
    Kernel("amx", "dot_tiles", _AMX, ("immintrin.h",), shares=True),
    Kernel("avx512vnni", "dot_tiles", _VNNI, ("immintrin.h",)),
    Kernel("avx512vnni", "dot_blocks", _VNNI, ("immintrin.h",)),
    Kernel("avx512vnni", "depthwise_columns", _VBMI, ("immintrin.h",)),
    Kernel("avxvnni", "dot_words", "defined(__AVXVNNI__)", ("immintrin.h",)),
    Kernel("avx2", "dot_words", "defined(__AVX2__)", ("immintrin.h",)),
    Kernel("sse2", "dot_words", "defined(__SSE2__)", ("emmintrin.h",)),
    Kernel("avxvnni", "dot_blocks", "defined(__AVXVNNI__)", ("immintrin.h",)),
    Kernel("avx2", "dot_blocks", "defined(__AVX2__)", ("immintrin.h",), accepts=_is_paired_in_registers),
    Kernel("avx2_any", "dot_blocks", "defined(__AVX2__)", ("immintrin.h",), accepts=_is_not_paired_in_registers),
    Kernel("dsp", "dot_pairs", _DSP, accepts=_is_one_block),
    Kernel("neon_dot", "dot_rows", f"{_NEON} && defined(__ARM_FEATURE_DOTPROD)", ("arm_neon.h",), accepts=_is_chained),
    Kernel("neon", "dot_rows", _NEON, ("arm_neon.h",), accepts=_is_chained),
    Kernel("helium", "dot_rows", _HELIUM, ("arm_mve.h",), accepts=_is_of_signed_bytes),
    Kernel("riscv", "dot_quads", _RV32, accepts=_is_one_block),
    Kernel("thumb1", "dot_rows", _THUMB1, accepts=_fits_thumb1),
    Kernel("few_registers", "dot_rows", _FEW_REGISTERS, accepts=_splits),
    Kernel("dsp", "depthwise", _UNALIGNED, accepts=_is_of_bytes),
    Kernel("neon", "depthwise_taps", _NEON, ("arm_neon.h",), accepts=_has_few_taps),
    Kernel("few_registers", "depthwise", _FEW_REGISTERS),
    Kernel("portable", "depthwise", ""),
    Kernel("portable", "depthwise_columns", ""),
    Kernel("portable", "depthwise_taps", ""),
    Kernel("portable", "dot_rows", ""),
    Kernel("portable", "dot_blocks", ""),
    Kernel("portable", "dot_tiles", ""),
    Kernel("portable", "dot_pairs", ""),
    Kernel("portable", "dot_quads", ""),
    Kernel("portable", "dot_words", ""),
)


def kernels_for(task: Sums) -> tuple[Kernel, ...]:
    """Those that compute it, the quickest first; the last has no guard."""
    return tuple(k for k in KERNELS if k.form == task.form and k.accepts(task))


def depthwise_of(step: DepthwiseStep, part: DepthwisePart) -> Depthwise | DepthwiseLine:
    """What the loops of a part call."""
    if step.order is None:
        return Depthwise.called(step)
    return DepthwiseLine.called(step, step.order, part.window)


def sums_of(program: Program) -> tuple[Sums, ...]:
    """What the program's kernels compute, each once, in the order of their first use."""
    found: dict[Sums, None] = {}
    for step in program.steps:
        if isinstance(step, DepthwiseStep):
            found.update(dict.fromkeys(depthwise_of(step, part) for part in step.parts))
        if isinstance(step, DotStep):
            for part in step.parts:
                found.update(dict.fromkeys(Dot.called(step, part.pixels, chunk.blocks) for chunk in part.chunks))
    return tuple(found)


def moves_of(program: Program) -> tuple[Move, ...]:
    """What the program makes of codes that it copies, each once."""
    found: dict[Move, None] = {}
    for step in program.steps:
        if isinstance(step, DotStep | DepthwiseStep) and step.copies and not (step.planes or step.move.is_copy):
            found[step.move] = None
    return tuple(found)


def shared_by_kernels(program: Program) -> dict[str, str]:
    """The files that kernels share, and under which condition of the preprocessor a kernel is there that needs them."""
    kernels = dict.fromkeys(kernel for task in sums_of(program) for kernel in kernels_for(task) if kernel.shares)
    return {f"kernels/{kernel.folder}/shared.j2": kernel.guard for kernel in kernels}


def headers_of(program: Program) -> dict[str, str]:
    """The headers that the kernels include, and under which condition of the preprocessor."""
    guards: dict[str, dict[str, None]] = {}
    for kernel in (kernel for task in sums_of(program) for kernel in kernels_for(task)):
        for header in kernel.headers:
            guards.setdefault(header, {})[f"({kernel.guard})"] = None
    return {header: " || ".join(each) for header, each in guards.items()}
