"""Concat on codes: on one grid where that is near, else each channel keeps its own scale."""

from __future__ import annotations

from fractions import Fraction

from pefslc.ir.structural import Concat
from pefslc.ir.value import Op, Value
from pefslc.numeric.scale import Scale, common_grid
from pefslc.passes.affine_operand import joined_tails
from pefslc.passes.integer_builder import IntegerBuilder, Lowered, with_codes

__all__ = ["concatenated"]

_NEAR = 1 << 24  # a factor by which 8-bit codes stay within 32 bits


def concatenated(builder: IntegerBuilder, op: Concat) -> Lowered:
    """The codes side by side.

    Codes whose grids lie far apart, or behind which more than a factor stands, stay as they are: what reads them takes
    a scale per channel into its weights or its staircase, and they are stored in the bits that they have.
    """
    assert op.axis == 1, "the frontend reads no other"
    if not _on_near_grids(builder, op.inputs, op):
        return _side_by_side(builder, op)
    values = tuple(p.codes for p in builder.aligned(op.inputs, op))
    result = with_codes(op.result, values[0].type.codes.scale)
    return Lowered(builder.append(Concat(result=result, inputs=values, axis=op.axis)))


def _on_near_grids(builder: IntegerBuilder, values: tuple[Value, ...], reader: Op) -> bool:
    """Whether all are multiples of one grid, by small factors, with no offset."""
    steps = list[Fraction]()
    for value in values:
        lowered = builder.operand(value, reader)
        multiples = [stage.multiple for stage in lowered.tail]
        if lowered.value.type.codes.scale.per_channel or not all(multiples):
            return False
        step = lowered.value.type.codes.scale.step
        for multiple in multiples:
            assert multiple is not None
            step *= multiple
        steps.append(abs(step))
    grid = common_grid(steps)
    return all(step / grid <= _NEAR for step in steps)


def _side_by_side(builder: IntegerBuilder, op: Concat) -> Lowered:
    parts = [builder.operand(v, op) for v in op.inputs]
    channels = [v.type.shape[1] for v in op.inputs]
    values = tuple(builder.centred(p.value) for p in parts)
    steps = [s for v, n in zip(values, channels, strict=True) for s in v.type.codes.scale.channels(n)]
    result = with_codes(op.result, Scale.of(steps))
    value = builder.append(Concat(result=result, inputs=values, axis=op.axis))
    return Lowered(value, joined_tails([p.tail for p in parts], channels))
