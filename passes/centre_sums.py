"""Means of unsigned codes: a sum that is a bit too wide for the accumulator is made of codes around 0.

    x = requantize(a; codes 0..255);  s = sum_pool(x);  y = requantize(s)
    ==>  the same x, each code less by 128;  s less by 128 for each of its taps;  y's staircase moved by as much

A sum of 256 codes of 8 bits is at most 65,280: 17 bits with a sign that it does not have. Around 0 it takes 16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from pefslc.analysis.limits import TargetLimits
from pefslc.analysis.ranges import result_range
from pefslc.ir.graph import Graph, Level
from pefslc.ir.integer import Requantize, SumPool
from pefslc.ir.structural import Reshape, Transpose
from pefslc.ir.value import Op, Value
from pefslc.numeric.accumulate import bits_for_range
from pefslc.passes.manager import Exactness

__all__ = ["CentreSums"]


@dataclass(frozen=True, slots=True)
class CentreSums:
    """Where a pool's sum does not fit `limits.accumulator_bits`, and would if its codes lay around 0, they do.

    Needs: no padding, which is code 0; a requantize that makes the codes for this pool alone; and none but requantizes
    that read its sum, or what a Reshape or Transpose makes of it. Not where the target's own arithmetic saturates: no
    sum needs room there, and ReLU is not at 0 any more once codes were moved.
    """

    limits: TargetLimits
    name: ClassVar[str] = "centre-sums"
    exactness: ClassVar[Exactness] = Exactness.EXACT
    level: ClassVar[Level] = Level.INTEGER

    def run(self, graph: Graph) -> Graph:
        if self.limits.saturates(graph.uniform_format):
            return graph
        readers: dict[str, list[Op | None]] = {name: [*ops] for name, ops in graph.consumers().items()}
        for output in graph.outputs:
            readers.setdefault(output.value.name, []).append(None)
        makers = {op.result.name: op for op in graph.of_type(Requantize)}
        changed: dict[str, Op] = {}
        for pool in graph.of_type(SumPool):
            maker = makers.get(pool.input.name)
            if maker is not None and len(readers[pool.input.name]) == 1 and not pool.window.is_padded:
                found = self._centred(pool, maker, readers)
                changed |= found
                # What follows this sum may make the codes of the next pool.
                makers |= {name: op for name, op in found.items() if isinstance(op, Requantize)}
        return graph.with_ops(changed.get(op.result.name, op) for op in graph.ops)

    def _centred(self, pool: SumPool, maker: Requantize, readers: _Readers) -> dict[str, Op]:
        """The operations that change, by name: none where the pool stays as it is."""
        taps, room = pool.window.taps, self.limits.accumulator_bits
        if bits_for_range(*result_range(pool)) <= room or (middle := _middle(pool, room)) is None:
            return {}
        following = _following(pool.result, middle * taps, readers)
        if following is None:
            return {}
        centred = replace(pool, input=_less(pool.input, middle))
        staircase = maker.staircase.lowered(middle)
        made = replace(maker, result=centred.input, staircase=staircase)
        summed = replace(centred, result=_less(pool.result, middle * taps))
        return {op.result.name: op for op in (made, summed, *following)}


def _middle(pool: SumPool, bits: int) -> int | None:
    """What to take off the codes so that the sums fit; of several, the one that most shifts divide without rest."""
    codes, end = pool.input.type.codes, (1 << bits - 1) // pool.window.taps
    lowest, highest = codes.high - ((1 << bits - 1) - 1) // pool.window.taps, codes.low + end
    return max(range(lowest, highest + 1), key=lambda m: (m & -m, -abs(m)), default=None)


_Readers = Mapping[str, list[Op | None]]  # None: it is an output


def _following(value: Value, by: int, readers: _Readers) -> list[Op] | None:
    """What reads the value once its codes are less by so much; None where something cannot."""
    moved, found = _less(value, by), list[Op]()
    for op in readers.get(value.name, []):
        match op:
            case Requantize(staircase=s):
                found.append(replace(op, input=moved, staircase=s.moved(by)))
            case Reshape() | Transpose():
                behind = _following(op.result, by, readers)
                if behind is None:
                    return None
                found += [replace(op, input=moved, result=_less(op.result, by)), *behind]
            case _:
                return None
    return found


def _less(value: Value, by: int) -> Value:
    """The same tensor with codes that are less by so much."""
    codes = value.type.codes
    element = replace(codes, low=codes.low - by, high=codes.high - by)
    return replace(value, type=replace(value.type, element=element))
