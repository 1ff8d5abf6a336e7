"""Constants that are out of proportion to the weights: which layer's table takes them, and what would help."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from pefslc.ir.integer import Requantize
from pefslc.numeric.stages import Affine, FunctionStage, LeakyReluStage
from pefslc.targets.c.steps import ConvolutionStep, Program, Step

__all__ = ["out_of_proportion"]

_FOR_A_FUNCTION = 1 << 16  # bytes; and for a network without one


def out_of_proportion(program: Program, step_bytes: Sequence[int]) -> str:
    """What to say behind the bytes of constants: "" where they are at most twice the weights and 64 kB a function.

    step_bytes  of each step's constants
    """
    weights, others = 0, list[tuple[int, Step]]()
    for step, count in zip(program.steps, step_bytes, strict=True):
        own = _weight_bytes(step)
        weights += own
        others.append((count - own, step))
    functions = sum(_functions(op) for step in program.steps for op in step.ops)
    total = sum(step_bytes)
    if total <= 2 * weights + _FOR_A_FUNCTION * max(functions, 1):
        return ""
    largest, step = max(others, key=lambda other: other[0])
    tables = [op for op in step.ops if "table" in program.implementation.get(op.result.name, "")]
    if not tables:
        return ""
    each = f", {total / weights:.0f} times the weights" if weights else ""
    table = tables[-1].result
    return (
        f"{each}: {largest:,} of them in {table.origin.short}: {program.implementation[table.name]}; "
        f"{_remedy(tables[-1])}"
    )


def _remedy(op: object) -> str:
    """A table has the size of the output; what is a line and a rounding needs none, but for a root or long scales."""
    chains = op.staircase.chains if isinstance(op, Requantize) else None
    if chains is None or any(isinstance(stage, FunctionStage | LeakyReluStage) for stage in chains.stages):
        return "each output bit less halves them"
    folded = any(isinstance(stage, Affine) and stage.has_root for stage in chains.stages)
    return f"{'a folded BatchNorm' if folded else 'power-of-two scales'} or fewer output bits save most of them"


def _weight_bytes(step: Step) -> int:
    if not isinstance(step, ConvolutionStep):
        return 0
    return sum(int(part.weight.size) for part in step.parts) * step.weight_type.bytes


def _functions(op: object) -> Fraction:
    """How many functions an operation computes: a half where it is one of the two parts of one that turns."""
    if not isinstance(op, Requantize) or op.staircase.chains is None:
        return Fraction(0)
    functions = [stage for stage in op.staircase.chains.stages if isinstance(stage, FunctionStage)]
    return Fraction(1, 1 if functions[0].proved is None else 2) if functions else Fraction(0)
