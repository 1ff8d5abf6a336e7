"""The kernels: which there are, and for which processor the compiler may use each.

A kernel is a file, kernels/FOLDER/FORM.j2, a C function that computes what kernel_tasks.py describes. All of one form
compute the same sums, and the first whose guard holds is compiled: what no other takes, `portable` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pefslc.targets.c.ctype import INT16, INT32, CType
from pefslc.targets.c.kernel_tasks import DepthwiseLine, Dot, Sums, sums_of
from pefslc.targets.c.steps import Program
from pefslc.targets.c.weight_orders import DEPTHWISE_ORDERS, DOT_ORDERS, ROWS_OF_16

__all__ = ["KERNELS", "Kernel", "headers_of", "kernels_for", "shared_by_kernels"]


_FORMS = (
    "depthwise",
    *(f"depthwise_{each.name}" for each in DEPTHWISE_ORDERS),
    *dict.fromkeys(f"dot_{each.name}" for each in DOT_ORDERS),
)


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

    def __post_init__(self) -> None:
        """Raises ValueError for a form that nothing asks for."""
        if self.form not in _FORMS:
            raise ValueError(f"kernel {self.folder}/{self.form}: the form must be one of {', '.join(_FORMS)}")

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
    """Of signed bytes, whose weights, the same for each pixel, stay in registers."""
    if not isinstance(task, DepthwiseLine) or not _is_of_bytes(task) or not task.taps.signed or task.run > 1:
        return False
    return task.kernel[0] * task.kernel[1] <= 9


def _has_few_taps_of_words(task: Sums) -> bool:
    """Whose weights, as pairs of words, stay in registers."""
    if not isinstance(task, DepthwiseLine) or task.kernel[0] * task.kernel[1] > 10:
        return False
    return task.taps == INT16 and task.weights == CType(8, signed=True) and task.sums == INT32


def _has_few_columns(task: Sums) -> bool:
    """Of unsigned bytes, up to four rows, whose weights, as pairs of words, stay in registers."""
    is_unsigned = _is_of_bytes(task) and not task.taps.signed
    return isinstance(task, DepthwiseLine) and is_unsigned and task.kernel[0] <= 4 and task.kernel[1] <= 5


def _fits_thumb1(task: Sums) -> bool:
    return isinstance(task, Dot) and _is_of_bytes(task) and (task.pixels, task.blocks) in ((2, 2), (1, 4), (1, 2))


def _is_one_block(task: Sums) -> bool:
    return isinstance(task, Dot) and task.blocks == 1


def _shares_taps(task: Sums) -> bool:
    """Between pixels, whole words of each column, which a load's offset of 12 bits reaches."""
    if not isinstance(task, Dot) or task.blocks > 1 or task.columns * task.apart == 0 or task.apart % 4:
        return False
    return max(4 * task.columns, task.pixels - 1 + task.columns) * task.apart <= 1 << 11


def _is_halved(task: Sums) -> bool:
    if not isinstance(task, Dot) or task.blocks > 1 or task.certificate.halved == 0 or not _is_of_bytes(task):
        return False
    return not task.columns or _shares_taps(task)


def _is_halved_in_low_registers(task: Sums) -> bool:
    if not isinstance(task, Dot) or task.certificate.halved == 0 or not _is_of_bytes(task):
        return False
    return task.blocks == 2 and 2 <= task.pixels <= 4


def _is_chained(task: Sums) -> bool:
    return isinstance(task, Dot) and task.certificate.chained > 0 and task.taps.signed and task.sums.bits == 32


def _is_paired_in_registers(task: Sums) -> bool:
    """Whose sums of 16 bits are in 16 registers, two for each pixel and block, while they grow."""
    return isinstance(task, Dot) and task.certificate.paired > 0 and task.pixels * task.blocks <= 6


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
    Kernel("avx2", "depthwise_columns", "defined(__AVX2__)", ("immintrin.h",), accepts=_has_few_columns),
    Kernel("avx2", "dot_words", "defined(__AVX2__)", ("immintrin.h",)),
    Kernel("sse2", "dot_words", "defined(__SSE2__)", ("emmintrin.h",)),
    Kernel("avxvnni", "dot_blocks", "defined(__AVXVNNI__)", ("immintrin.h",)),
    Kernel("avx2", "dot_blocks", "defined(__AVX2__)", ("immintrin.h",), accepts=_is_paired_in_registers),
    Kernel("avx2_any", "dot_blocks", "defined(__AVX2__)", ("immintrin.h",), accepts=_is_not_paired_in_registers),
    Kernel("dsp", "dot_pairs", _DSP, accepts=_is_one_block),
    Kernel("neon_dot", "dot_rows", f"{_NEON} && defined(__ARM_FEATURE_DOTPROD)", ("arm_neon.h",), accepts=_is_chained),
    Kernel("neon", "dot_rows", _NEON, ("arm_neon.h",), accepts=_is_chained),
    Kernel("helium", "dot_rows", _HELIUM, ("arm_mve.h",), accepts=_is_of_signed_bytes),
    Kernel("riscv_halves", "dot_quads", _RV32, accepts=_is_halved),
    Kernel("riscv_strip", "dot_quads", _RV32, accepts=_shares_taps),
    Kernel("riscv", "dot_quads", _RV32, accepts=_is_one_block),
    Kernel("thumb1_halves", "dot_rows", _THUMB1, accepts=_is_halved_in_low_registers),
    Kernel("thumb1", "dot_rows", _THUMB1, accepts=_fits_thumb1),
    Kernel("few_registers", "dot_rows", _FEW_REGISTERS, accepts=_splits),
    Kernel("few_registers", "dot_lanes", _FEW_REGISTERS),
    Kernel("helium", "depthwise", _HELIUM, ("arm_mve.h",), accepts=_is_of_bytes),
    Kernel("dsp", "depthwise", _UNALIGNED, accepts=_is_of_bytes),
    Kernel("avx2", "depthwise_taps", "defined(__AVX2__)", ("immintrin.h",), accepts=_has_few_taps_of_words),
    Kernel("sse2", "depthwise_taps", "defined(__SSE2__)", ("emmintrin.h",), accepts=_has_few_taps_of_words),
    Kernel("neon", "depthwise_taps", _NEON, ("arm_neon.h",), accepts=_has_few_taps),
    Kernel("few_registers", "depthwise", _FEW_REGISTERS),
    Kernel("portable", "depthwise", ""),
    Kernel("portable", "depthwise_columns", ""),
    Kernel("portable", "depthwise_taps", ""),
    Kernel("portable", "dot_rows", ""),
    Kernel("portable", "dot_lanes", ""),
    Kernel("portable", "dot_blocks", ""),
    Kernel("portable", "dot_tiles", ""),
    Kernel("portable", "dot_pairs", ""),
    Kernel("portable", "dot_quads", ""),
    Kernel("portable", "dot_words", ""),
)


def kernels_for(task: Sums) -> tuple[Kernel, ...]:
    """Those that compute it, the quickest first; the last has no guard."""
    return tuple(k for k in KERNELS if k.form == task.form and k.accepts(task))


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
