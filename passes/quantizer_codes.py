"""What a quantizer does to the codes before it.

A staircase; a line where a staircase had too many steps; a table where a function neither rises nor falls.
"""

from __future__ import annotations

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.quantized import Quantize
from pefslc.ir.value import CodeRange, IntArray, Value
from pefslc.numeric.enclosure import UndecidedError
from pefslc.numeric.expression import NotANumberError
from pefslc.numeric.line import BentLine, line_of
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, SnapStage, Stage, direction, may_turn
from pefslc.numeric.staircase import MOST_STEPS, Staircase, is_uniform, staircase_of
from pefslc.numeric.table import staircase_of_table, table_of
from pefslc.numeric.turning import MANY_STEPS, parted_staircases, turning_staircases
from pefslc.passes.merge_stages import check_single_root

__all__ = ["quantizer_codes"]

_LARGEST_TABLE = 1 << 20  # codes, all channels together: a program holds them all
_LARGEST_WIDE_TABLE = 1 << 13  # codes of more than 8 bits: polynomials take less

_Codes = Staircase | IntArray | tuple[Staircase, Staircase]


class _NoTableError(ValueError):
    """A table of that many codes would be needed."""


def quantizer_codes(
    op: Quantize, quantizer: Quantizer, x: Value, tail: tuple[Affine, ...]
) -> Staircase | tuple[Staircase, Staircase] | BentLine | IntArray:
    """The codes of `op`, its zero point taken off, for every code of `x`, behind which stand the stages of `tail`.

    Sums are made of codes without zero point: here taking it off costs nothing.
    Result: a staircase, two to be added, a line, or a table as in `ir.integer.Lookup`. Raises CompileError.
    """
    codes, zero_point = x.type.codes, quantizer.quantization.zero_point
    # The zero point of the input is the first stage: value = code * scale - zero_point * scale.
    origin = tuple(-codes.zero_point * step for step in codes.scale.steps)
    own = op.stages if tail else _without_idle_snap(op.stages, codes)
    stages = (*([Affine.bias(origin)] if codes.zero_point else ()), *tail, *own)
    check_single_root(stages, op)  # what merge-stages cannot see: a BatchNorm beyond a pool or a reshape
    try:
        found = _steps_or_table(codes.scale, stages, quantizer, codes.low, codes.high, x.type.channels)
    except OverflowError:
        if (line := line_of(codes.scale, stages, quantizer, codes.low, codes.high)) is not None:
            return line
        raise CompileError(
            Code.CODES_TOO_WIDE,
            f"a quantizer of {quantizer.quantization.bits} bits on an activation is not supported",
            at=op.result.origin,
            hint=f"use at most {MOST_STEPS.bit_length() - 1} bits, or nothing but ReLU, LeakyReLU and Clip before it",
        ) from None
    except _NoTableError as e:
        raise CompileError(
            Code.CODES_TOO_WIDE,
            f"a function that neither rises nor falls, on {e} codes, is not supported",
            at=op.result.origin,
            hint="quantize its operand to 16 bits or less (QuantIdentity)",
        ) from None
    except (NotANumberError, UndecidedError) as e:
        raise CompileError(
            Code.FUNCTION_VALUE,
            f"for some code the quantizer's operand has no value: {e}",
            at=op.result.origin,
            hint="quantize the function's operand to a range where it is defined",
        ) from None
    if isinstance(found, Staircase):
        return found.lowered(zero_point)
    if isinstance(found, tuple):
        return found[0].lowered(zero_point), found[1]
    return IntArray(found.data - zero_point)


def _steps_or_table(
    scale: Scale, stages: tuple[Stage, ...], quantizer: Quantizer, low: int, high: int, channels: int
) -> _Codes:
    if not any(may_turn(stage) for stage in stages):
        return staircase_of(scale, stages, quantizer, low, high, channels)
    entries = (high - low + 1) * (1 if is_uniform(scale, stages, quantizer) else channels)
    steps = quantizer.quantization.high - quantizer.quantization.low
    if entries > (_LARGEST_TABLE if steps < MANY_STEPS else min(_LARGEST_TABLE, _LARGEST_WIDE_TABLE)):
        if all(direction(stages, c) is not None for c in range(channels)):
            return staircase_of(scale, stages, quantizer, low, high, channels)
        part = turning_staircases if entries > _LARGEST_TABLE else parted_staircases
        parts = part(scale, stages, quantizer, low, high, channels)
        if parts is not None:
            return parts
        if entries > _LARGEST_TABLE:
            raise _NoTableError(entries)
    table = table_of(scale, stages, quantizer, low, high, channels)
    return staircase_of_table(table, low) or IntArray(table)


def _without_idle_snap(stages: tuple[Stage, ...], codes: CodeRange) -> tuple[Stage, ...]:
    """The stages without a first one that moves codes to the grid where they are."""
    match stages:
        case (SnapStage() as snap, *others) if all((s / snap.step).denominator == 1 for s in codes.scale.steps):
            return tuple(others)
    return stages
