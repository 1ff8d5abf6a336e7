"""Why a group has no place on the TCU, and what would help: for people."""

from __future__ import annotations

from collections.abc import Iterable

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.numeric.accumulate import bits_for_range
from pefslc.targets.tensil.groups.group import AddTensor, Group, Requantization, Rounding
from pefslc.targets.tensil.machine.architecture import DataType

__all__ = ["NOT_STRAIGHT", "NO_SHIFT", "codes_too_wide", "lack_of_bits", "no_exact_sequence", "weights_too_wide"]

NO_SHIFT = (
    "its Quant is no rounding shift, the same for all channels: BatchNorm is kept, a scale is no power of two, or the"
    " channels of wide sums have several"
)
NOT_STRAIGHT = "its Quant is no straight line: multiplications per channel are off by more than 1"


def lack_of_bits(bits: int, data_type: DataType) -> str:
    """A reason: with so many bits it would be exact."""
    return f"it is exact with sums of {bits} bits, there are {data_type.width_bits}"


def weights_too_wide(group: Group, low: int, high: int, data_type: DataType) -> CompileError:
    """Weights in [low, high] are no words."""
    return CompileError(
        Code.TCU_WORD,
        f"weights of {bits_for_range(low, high)} bits do not fit {data_type.value}",
        at=group.origin,
        hint="use a wider data type or fewer weight bits",
    )


def codes_too_wide(group: Group, step: Rounding) -> CompileError:
    """A quantizer of more bits than a staircase may have."""
    return CompileError(
        Code.TCU_WORD,
        f"codes of {bits_for_range(step.line.low, step.line.high)} bits are not supported on the TCU",
        at=group.origin,
        hint="quantize to at most 20 bits; a float model may have the data type's own format",
    )


def no_exact_sequence(group: Group, data_type: DataType, reasons: Iterable[str]) -> CompileError:
    """No exponent serves. `reasons`: what stood against each that was tried."""
    adds = any(isinstance(s, AddTensor) for s in group.steps)
    adds = adds or not any(isinstance(s, Requantization) for s in group.steps)
    shared = "share one quantizer between the branches of an addition, " if adds else ""
    return CompileError(
        Code.TCU_NOT_EXACT,
        f"no exact sequence was found on {data_type.value}: {'; '.join(dict.fromkeys(reasons))}",
        at=group.origin,
        hint=f"{shared}fold BatchNorm before training, use power-of-two scales, fewer bits, an architecture with a "
        "wider data type, or --target c",
    )
