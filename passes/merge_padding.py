"""Padding that stands alone moves into the window that reads it."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pefslc.geometry.shapes import Window
from pefslc.ir.graph import Graph, Level
from pefslc.ir.quantized import AveragePool, Conv
from pefslc.ir.structural import Pad
from pefslc.ir.value import Op
from pefslc.passes.manager import Exactness

__all__ = ["MergePadding"]


class MergePadding:
    """conv(pad(x)) or average_pool(pad(x))  ==>  the same window with larger pads.

    Both read zeros beyond the edge, and both count them. A MaxPool does not: its padding never wins.
    """

    name: ClassVar[str] = "merge-padding"
    exactness: ClassVar[Exactness] = Exactness.EXACT
    level: ClassVar[Level] = Level.QUANTIZED

    def run(self, graph: Graph) -> Graph:
        producers = graph.producers()
        ops: list[Op] = []
        for op in graph.ops:
            if isinstance(op, Conv | AveragePool):
                while isinstance(pad := producers.get(op.input.name), Pad) and pad.is_spatial:
                    op = replace(op, input=pad.input, window=_padded(op.window, pad))
            ops.append(op)
        return graph.with_ops(ops)


def _padded(window: Window, pad: Pad) -> Window:
    rows, columns = window.input_dilations  # zeros stand between those of the padding, too
    added = pad.before[2] * rows, pad.before[3] * columns, pad.after[2] * rows, pad.after[3] * columns
    top, left, bottom, right = (own + more for own, more in zip(window.pads, added, strict=True))
    return replace(window, pads=(top, left, bottom, right))
