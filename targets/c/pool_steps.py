"""Pools as steps."""

from __future__ import annotations

from pefslc.ir.integer import SumPool
from pefslc.ir.structural import MaxPool
from pefslc.targets.c.steps import PoolStep
from pefslc.targets.c.storage import Tensor, scratch, sum_type

__all__ = ["pool_step"]


def pool_step(op: SumPool | MaxPool, source: Tensor, result: Tensor) -> PoolStep:
    """The maximum or sum over the windows of a channels-last tensor."""
    codes = op.result.type.codes
    factors = op.factors.data.reshape(-1) if isinstance(op, SumPool) and op.factors is not None else None
    largest = 0 if factors is None else int(factors.max())
    sums = sum_type(min(codes.low, source.low), max(codes.high, source.high, largest))
    return PoolStep(
        source=source,
        result=result,
        scratch=(scratch("", sums, op.result.type.channels),),
        window=op.window,
        is_max=isinstance(op, MaxPool),
        sums=sums,
        factors=factors,
    )
