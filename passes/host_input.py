"""What the host does with an input: the quantizer that the model has there, and the stages before it, in short form."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from pefslc.diagnostics.errors import quote
from pefslc.ir.graph import GraphInput
from pefslc.ir.quantized import Quantize
from pefslc.ir.value import CodeRange
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, ClipStage, LeakyReluStage, Stage
from pefslc.passes.integer_builder import open_input

__all__ = ["host_input", "in_short"]

_LARGEST_ZERO_POINT = 1 << 31


def host_input(graph_input: GraphInput, op: Quantize) -> GraphInput:
    """The integer-level input, made as `op` says. Raises CompileError for a stage that no host applies."""
    for stage in op.stages:
        if not isinstance(stage, Affine | ClipStage | LeakyReluStage):
            raise open_input(graph_input, f"input {quote(graph_input.name)} has a function before its quantizer", op)
    q = op.quantization
    element = CodeRange(low=q.low, high=q.high, scale=q.scale, zero_point=q.zero_point)
    value = replace(graph_input.value, type=replace(graph_input.value.type, element=element))
    stages, quantizer = in_short(op.stages, op.quantizer)
    per_channel = quantizer.quantization.scale.per_channel or any(getattr(s, "channels", 1) > 1 for s in stages)
    axis = op.channel_axis if per_channel else 1
    return replace(graph_input, value=value, quantizer=quantizer, stages=stages, channel_axis=axis)


def in_short(stages: tuple[Stage, ...], quantizer: Quantizer) -> tuple[tuple[Stage, ...], Quantizer]:
    """The same function of every real number, with as few stages as possible: often the quantizer alone.

    x / 255 in front of a scale is a scale; 2 * x - 1 is a scale and a zero point; a ReLU in front of unsigned codes
    does nothing.
    """
    short = _joined(stages)
    while short:
        last = short[-1]
        if isinstance(last, Affine):
            found = _taken_in(last, quantizer)
            if found is None:
                break
            quantizer = found
        elif not _is_idle(last, quantizer):
            break
        short.pop()
    return tuple(short), quantizer


def _joined(stages: tuple[Stage, ...]) -> list[Stage]:
    """Neighbouring affine maps without square roots as one."""
    found: list[Stage] = []
    for stage in stages:
        before = found[-1] if found else None
        if isinstance(stage, Affine) and isinstance(before, Affine) and not (stage.has_root or before.has_root):
            found[-1] = before.then(stage)
        else:
            found.append(stage)
    return found


def _taken_in(stage: Affine, quantizer: Quantizer) -> Quantizer | None:
    """The quantizer that does both; None where no scale and zero point say it."""
    q = quantizer.quantization
    if stage.has_root:
        return None
    codes = stage.then(Affine.product(tuple(1 / step for step in q.scale.steps)))  # not rounded, without zero point
    moved = set(codes.offset)
    if min(codes.factor) <= 0 or len(moved) > 1 or (by := moved.pop()).denominator != 1:
        return None
    last = quantizer.adds_zero_point_last
    if last and by:
        # round(y + n) + z = round(y + n + z) where z is even: then a tie goes to the same side.
        if q.zero_point % 2 or quantizer.rounding is not RoundingMode.HALF_EVEN:
            return None
        last = False
    zero_point = q.zero_point + int(by)
    if abs(zero_point) > _LARGEST_ZERO_POINT:
        return None
    scale = Scale.of(1 / factor for factor in codes.factor)
    return replace(quantizer, quantization=replace(q, scale=scale, zero_point=zero_point), adds_zero_point_last=last)


def _is_idle(stage: Stage, quantizer: Quantizer) -> bool:
    """Whether what a Clip or a ReLU cuts off saturates in the quantizer, too, at the same code."""
    match stage:
        case ClipStage():
            low, high = stage.low, stage.high
        case LeakyReluStage() if not any(stage.alphas):
            low, high = Fraction(0), None
        case _:
            return False
    q = quantizer.quantization
    channels = range(len(q.scale.steps))
    return all(
        (low is None or quantizer.code_of_rational(low, c) == q.low)
        and (high is None or quantizer.code_of_rational(high, c) == q.high)
        for c in channels
    )
