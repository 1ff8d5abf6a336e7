"""Convolutions that read an input as the caller gives it: planes of a channel each, its codes not yet centred.

They gather their taps of it by themselves, so that no copy of the input lies in memory.
"""

from __future__ import annotations

import numpy as np

from pefslc.geometry.dilation_phases import phases
from pefslc.ir.graph import IntegerGraph
from pefslc.ir.integer import Conv2d, Requantize
from pefslc.targets.c.depthwise_steps import is_depthwise

__all__ = ["PlaneReaders", "gathers_planes"]


def gathers_planes(op: Conv2d) -> bool:
    """Whether the convolution's loops can gather the taps of planes."""
    return op.groups == 1 and not is_depthwise(op) and len(phases(op.window, *op.input.type.shape[2:])) == 1


class PlaneReaders:
    """Which operations between the inputs and such convolutions need no loop of their own."""

    def __init__(self, graph: IntegerGraph) -> None:
        self._inputs = {i.value.name for i in graph.inputs}
        self._consumers = graph.consumers()
        self._readers = graph.reader_counts()

    def moved(self, op: Requantize) -> int | None:
        """What the operation adds to each code of an input, where it does nothing else and such convolutions alone
        read its result; else None.
        """
        readers = self._consumers.get(op.result.name, [])
        if op.input.name not in self._inputs or len(readers) != self._readers.get(op.result.name, 0):
            return None
        if not all(isinstance(reader, Conv2d) and gathers_planes(reader) for reader in readers):
            return None
        s, codes = op.staircase, op.input.type.codes
        steps = np.arange(codes.low + 1, codes.high + 1)
        is_offset = s.channels == 1 and s.step == 1 and s.direction[0] == 1 and s.steps == len(steps)
        if not is_offset or (s.domain_low, s.domain_high) != (codes.low, codes.high):
            return None
        return s.low - codes.low if (s.thresholds[0] == steps).all() else None
