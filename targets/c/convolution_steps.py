"""Convolutions and dense layers as steps: each channel by itself, or dot products.

A step is made without what follows it: the planner adds the stages that join its loop.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.dilation_phases import Phase, phases
from pefslc.ir.integer import Conv2d, Dense
from pefslc.targets.c.cpus import Cpu
from pefslc.targets.c.depthwise_steps import depthwise_step, is_depthwise
from pefslc.targets.c.dot_steps import convolution_dots, dense_dots
from pefslc.targets.c.steps import DepthwiseStep, DotStep
from pefslc.targets.c.storage import Tensor
from pefslc.targets.c.winograd_steps import winograd_step

__all__ = ["convolution_step", "dense_step"]

Codes = NDArray[np.int64]


def convolution_step(op: Conv2d, source: Tensor, result: Tensor, cpu: Cpu) -> DotStep | DepthwiseStep:
    """The convolution into a channels-last tensor. Raises CompileError."""
    found = [(phase, _phase_weight(op, phase)) for phase in phases(op.window, *op.input.type.shape[2:])]
    if is_depthwise(op):
        return depthwise_step(op, source, result, found, cpu)
    step = convolution_dots(op, source, result, found, cpu)
    return winograd_step(op, step, cpu) or step


def _phase_weight(op: Conv2d, phase: Phase) -> Codes:
    """[outputs, KH, KW, channels of the group] of the phase's taps: the order of a channels-last tensor."""
    outputs, per_group = op.weight.shape[:2]
    if not phase.has_taps:
        return np.zeros((outputs, phase.window.taps * per_group), dtype=np.int64)
    return op.weight.data[:, :, *phase.taps].transpose(0, 2, 3, 1).reshape(outputs, -1)


def dense_step(op: Dense, source: Tensor, order: Codes | None, result: Tensor, cpu: Cpu) -> DotStep:
    """The dense layer on rows of `source`; `order` says which weight belongs to each element, if not the next one."""
    weight = op.weight.data if order is None else op.weight.data[:, order]
    return dense_dots(op, source, weight, result, cpu)
