"""The loops that sum products or reduce windows: convolutions, dense layers and pools as steps.

A step is made without what follows it: the planner adds the stages that join its loop.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.dilation_phases import Phase, phases
from pefslc.ir.integer import Conv2d, Dense, SumPool
from pefslc.ir.structural import MaxPool
from pefslc.targets.c.cpus import Cpu
from pefslc.targets.c.depthwise_steps import depthwise_step
from pefslc.targets.c.dot_steps import convolution_dots, dense_dots
from pefslc.targets.c.steps import DepthwiseStep, DotStep, PoolStep
from pefslc.targets.c.storage import Buffer, CType, Place, Tensor, sum_type

__all__ = ["convolution_step", "dense_step", "pool_step"]

Codes = NDArray[np.int64]


def convolution_step(op: Conv2d, source: Tensor, result: Tensor, index: int, cpu: Cpu) -> DotStep | DepthwiseStep:
    """The convolution of channels-last tensors; `index` is the step's in the program. Raises CompileError."""
    outputs = op.result.type.shape[1]
    found = [(phase, _phase_weight(op, phase)) for phase in phases(op.window, *op.input.type.shape[2:])]
    if op.weight.shape[1] == 1 and op.groups == outputs:
        return depthwise_step(op, source, result, index, found, cpu)
    return convolution_dots(op, source, result, index, found, cpu)


def _phase_weight(op: Conv2d, phase: Phase) -> Codes:
    """[outputs, KH, KW, channels of the group] of the phase's taps: the order of a channels-last tensor."""
    outputs, per_group = op.weight.shape[:2]
    if not phase.has_taps:
        return np.zeros((outputs, phase.window.taps * per_group), dtype=np.int64)
    return op.weight.data[:, :, *phase.taps].transpose(0, 2, 3, 1).reshape(outputs, -1)


def dense_step(op: Dense, source: Tensor, order: Codes | None, result: Tensor, index: int, cpu: Cpu) -> DotStep:
    """The dense layer on rows of `source`; `order` says which weight belongs to each element, if not the next one."""
    weight = op.weight.data if order is None else op.weight.data[:, order]
    return dense_dots(op, source, weight, result, index, cpu)


def pool_step(op: SumPool | MaxPool, source: Tensor, result: Tensor, index: int) -> PoolStep:
    """The maximum or sum over the windows of a channels-last tensor."""
    codes = op.result.type.codes
    factors = op.factors.data.reshape(-1) if isinstance(op, SumPool) and op.factors is not None else None
    largest = 0 if factors is None else int(factors.max())
    sums = sum_type(min(codes.low, source.low), max(codes.high, source.high, largest))
    return PoolStep(
        source=source,
        result=result,
        scratch=(_scratch(f"s{index}", sums, op.result.type.channels),),
        window=op.window,
        is_max=isinstance(op, MaxPool),
        sums=sums,
        factors=factors,
    )


def _scratch(name: str, kind: CType, elements: int) -> Buffer:
    return Buffer(name, Place.ARENA, kind, elements)
