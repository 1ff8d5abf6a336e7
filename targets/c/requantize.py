"""Which stage does a requantization: the cheapest one that certifies, else a table of thresholds."""

from __future__ import annotations

import numpy as np

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.integer import Requantize, Round
from pefslc.numeric.accumulate import bits_for_range
from pefslc.numeric.affine_shift import AffineShift, affine_shift_of
from pefslc.numeric.half_even import HalfEvenLine, fit_half_even
from pefslc.numeric.polynomial import fit_polynomial
from pefslc.numeric.requantize import bent_parts, fit_affine_shift, fit_bent
from pefslc.numeric.shared import fit_shared
from pefslc.numeric.stages import FunctionStage
from pefslc.numeric.staircase import MOST_STEPS, Staircase
from pefslc.numeric.steps import may_be_line
from pefslc.numeric.tied_polynomial import fit_tied_polynomial
from pefslc.numeric.wide import WideAffine, fit_line, flat_channels
from pefslc.targets.c.stages import AffineStage, BentStage, Range, Stage, multiplication_stage
from pefslc.targets.c.storage import INT32, INT64
from pefslc.targets.c.table_stages import (
    LookupStage,
    PolynomialStage,
    SharedTableStage,
    TableStage,
    TiedPolynomialStage,
)

__all__ = ["requantize_stage", "round_stage"]

_SMALL_TABLE = 1 << 12  # codes: one look instead of a bisection
_LONG_TABLE = (
    64  # thresholds of a channel: a bisection of more takes longer than two products, and many times the bytes
)
_MANY_STEPS = 256  # up to 8 bits a table for each channel is small, and takes no product


def requantize_stage(op: Requantize, operand: Range) -> Stage:
    """The cheapest exact implementation: one or two slopes in 32-bit arithmetic, or in 64-bit, else a table."""
    codes = op.result.type.codes
    staircase = op.staircase
    if (staircase.domain_low, staircase.domain_high) != operand:
        staircase = staircase.restricted(*operand)
    is_curved = _is_curved(staircase)
    for bits in () if is_curved else (INT32.bits, INT64.bits):
        found = fit_affine_shift(staircase, product_bits=bits)
        if found is not None:
            return AffineStage(operand, (codes.low, codes.high), found)
        bent = fit_bent(staircase, product_bits=bits)
        if bent is not None:
            lower, upper = (AffineStage(operand, (part.low, part.high), part) for part in bent)
            return BentStage(operand, (codes.low, codes.high), lower, upper)
    entries = staircase.channels * (operand[1] - operand[0] + 1)
    if entries <= _SMALL_TABLE:
        domain = np.tile(np.arange(operand[0], operand[1] + 1, dtype=np.int64), (staircase.channels, 1))
        return LookupStage(operand, (codes.low, codes.high), staircase(domain))
    if staircase.steps >= _LONG_TABLE and not is_curved:
        line = _line_stage(staircase, operand, (codes.low, codes.high))
        if line is not None:
            return line
    if staircase.steps >= _MANY_STEPS:
        tied = fit_tied_polynomial(staircase)
        if tied is not None:
            return TiedPolynomialStage(operand, (codes.low, codes.high), tied)
        polynomial = fit_polynomial(staircase)
        if polynomial is not None:
            return PolynomialStage(operand, (codes.low, codes.high), polynomial)
        shared = fit_shared(staircase)
        if shared is not None:
            return SharedTableStage(operand, (codes.low, codes.high), shared)
    return TableStage(operand, (codes.low, codes.high), staircase)


def _is_curved(staircase: Staircase) -> bool:
    """Whether a function of many steps is no line, nor two that meet at code 0: none is looked for in all channels."""
    chains = staircase.chains
    if staircase.steps < _MANY_STEPS or chains is None:
        return False
    if not any(isinstance(stage, FunctionStage) for stage in chains.stages):
        return False
    one = staircase.of_channels(0, 1)
    if may_be_line(one):
        return False
    return not one.low < 0 < one.high or not all(may_be_line(part) for part in bent_parts(one))


def _line_stage(staircase: Staircase, operand: Range, result: Range) -> Stage | None:
    """The slope of the chain itself, in as many bits as it takes; or one below code 0 and one above."""
    whole = _line(staircase, staircase.steps)
    if whole is not None:
        return multiplication_stage(whole, operand, result)
    if not staircase.low < 0 < staircase.high:
        return None
    lower, upper = (_line(part, staircase.steps, below=i == 0) for i, part in enumerate(bent_parts(staircase)))
    if lower is None or upper is None:
        return None
    below, above = (multiplication_stage(part, operand, ends) for part, ends in (
        (lower, (staircase.low, 0)), (upper, (0, staircase.high)),
    ))  # fmt: skip
    return BentStage(operand, result, below, above)


def _line(staircase: Staircase, steps: int, *, below: bool = False) -> AffineShift | WideAffine | HalfEvenLine | None:
    """The floor of a line; where there are many steps, ties to even may cost a comparison besides."""
    for flat in (False, True) if flat_channels(staircase) else (False,):
        line = fit_line(staircase, below=below, flat=flat)
        if line is not None:
            return line
        tied = fit_half_even(staircase, below=below, flat=flat) if steps >= _MANY_STEPS else None
        if tied is not None:
            return tied
    return None


def round_stage(op: Round, operand: Range) -> Stage:
    """Multiply, shift, clip. Raises CompileError where the line is no such thing, or the product no 64-bit number."""
    codes = op.result.type.codes
    found = affine_shift_of(op.line, *operand)
    if found is None:
        raise CompileError(
            Code.CODES_TOO_WIDE,
            f"codes of {bits_for_range(codes.low, codes.high)} bits are no shift of {bits_for_range(*operand)} bits",
            at=op.result.origin,
            hint=f"quantize to at most {MOST_STEPS.bit_length() - 1} bits; or use ReLU and power-of-two scales",
        )
    return AffineStage(operand, (codes.low, codes.high), found)
