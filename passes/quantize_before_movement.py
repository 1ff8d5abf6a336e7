"""A quantizer that stands behind a pool or a movement of elements moves in front of it.

    relu(x + bias) -> max_pool -> quantize  ==>  quantize(relu(x + bias)) -> max_pool on codes, exactly

What moves elements commutes with every function of one element, and a maximum with every function that does not fall
(FINN's absorption and QONNX's reordering transformations do the same). So the quantizer stands next to the
activation and the BatchNorm that it takes in, and codes are moved, which are narrower than sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from pefslc.ir.graph import Graph, Level
from pefslc.ir.quantized import Quantize, Relu
from pefslc.ir.structural import MaxPool, Slice, Transpose, Upsample
from pefslc.ir.value import Op
from pefslc.numeric.stages import direction
from pefslc.passes.manager import Exactness
from pefslc.passes.merge_stages import Absorbed

__all__ = ["QuantizeBeforeMovement"]

_Movement = MaxPool | Slice | Transpose | Upsample


class QuantizeBeforeMovement:
    """Quantize(move(f(x)))  ==>  move(Quantize(f(x))), f being a BatchNorm, a bias, a factor or an activation.

    Needs: what is moved stays in its channel; where it is a maximum, no channel of the quantizer's stages falls.
    A Relu alone is left where it is: sums have its code 0.
    """

    name: ClassVar[str] = "quantize-before-movement"
    exactness: ClassVar[Exactness] = Exactness.EXACT
    level: ClassVar[Level] = Level.QUANTIZED

    def run(self, graph: Graph) -> Graph:
        producers = graph.producers()
        ops: list[Op] = []
        for op in graph.ops:
            moved = _movements(op, producers) if isinstance(op, Quantize) else ()
            ops += _swapped(op, moved) if isinstance(op, Quantize) and moved else [op]
        return graph.with_ops(ops)


def _movements(op: Quantize, producers: Mapping[str, Op]) -> tuple[_Movement, ...]:
    """What stands between the quantizer and a function of one element, in order; none where it stays there."""
    if op.channel_axis != 1:
        return ()
    found = list[_Movement]()
    source = producers.get(op.input.name)
    while isinstance(source, _Movement) and _keeps_channels(source):
        found.insert(0, source)
        source = producers.get(source.input.name)
    if not found or not _is_function(source, producers):
        return ()
    channels = op.result.type.channels
    if any(isinstance(m, MaxPool) for m in found) and any(
        direction(op.stages, c) not in (0, 1) for c in range(channels)
    ):
        return ()
    return tuple(found)


def _keeps_channels(op: _Movement) -> bool:
    """Whether every element stays in its channel, so that what holds per channel holds before and behind."""
    match op:
        case Transpose():
            return op.permutation[:2] == (0, 1)
        case Slice():
            return len(op.ranges) > 1 and op.ranges[1] == range(op.input.type.shape[1])
    return True


def _is_function(op: Op | None, producers: Mapping[str, Op]) -> bool:
    """Whether `op` is what only a quantizer turns into codes."""
    while isinstance(op, Relu):
        op = producers.get(op.input.name)
    return isinstance(op, Absorbed)


def _swapped(op: Quantize, movements: tuple[_Movement, ...]) -> list[Op]:
    """The quantizer, then the movements, the last of which has the quantizer's result."""
    first = movements[0].input
    element = op.result.type.element
    result = replace(op.result, name=f"{op.result.name}.codes", type=replace(first.type, element=element))
    ops: list[Op] = [replace(op, input=first, result=result)]
    for i, movement in enumerate(movements[:-1]):
        moved = replace(movement.result, name=f"{op.result.name}.moved{i}")
        ops.append(replace(movement, input=result, result=moved))
        result = moved
    return [*ops, replace(movements[-1], input=result, result=op.result)]
