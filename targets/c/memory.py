"""Where the values of a program lie: in which tensor, in which layout, in whose memory.

Convolutions run on channels-last tensors; the interface is NCHW. A tensor is copied to the other layout where someone
needs it, at most once, and never where both are the same bytes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import element_count
from pefslc.ir.graph import Graph
from pefslc.ir.integer import Conv2d
from pefslc.ir.structural import Reshape
from pefslc.ir.value import Value
from pefslc.targets.c.copy_steps import copy_step
from pefslc.targets.c.planes import gathers_planes
from pefslc.targets.c.steps import Step
from pefslc.targets.c.storage import (
    Buffer,
    Layout,
    Place,
    Tensor,
    checked_elements,
    narrowest,
    natural_layout,
    same_order,
)

__all__ = ["Memory"]

Codes = NDArray[np.int64]


class Memory:
    """The tensors of a program that is being planned. Copies are appended to its `steps`.

    views  result of a Reshape -> the value whose elements it has
    moved  result that is no tensor of its own -> the value whose codes are all so much less
    """

    def __init__(self, graph: Graph, steps: list[Step]) -> None:
        self._steps = steps
        self.views: dict[str, Value] = {}
        self.moved: dict[str, tuple[Value, int]] = {}
        self._tensors: dict[tuple[str, Layout], Tensor] = {}
        self._homes = _output_homes(graph)

    def new(self, value: Value, layout: Layout, place: Place = Place.ARENA, name: str | None = None) -> Tensor:
        """A new tensor for `value`; in the output's memory where it becomes one. Raises CompileError."""
        codes = value.type.codes
        elements = checked_elements(value.type.shape, value.origin)
        if name is None and value.name in self._homes:
            place, name = Place.OUTPUT, f"output{self._homes[value.name]}"
        kind = narrowest(codes.low, codes.high)
        buffer = Buffer(name or f"t{len(self._tensors)}", place, kind, elements)
        return self._know(value, Tensor(buffer, value.type.shape, layout, codes.low, codes.high))

    def tensor(self, value: Value, layout: Layout) -> Tensor:
        """`value` in memory in the given layout, copied there when it is not."""
        found = self._tensors.get((value.name, layout))
        if found is not None:
            return found
        if value.name in self.views and (layout is Layout.ROWS or (value.name, Layout.ROWS) not in self._tensors):
            source = self.tensor(self.views[value.name], Layout.ROWS)
            viewed = replace(source, shape=value.type.shape, layout=Layout.ROWS)
            self._know(value, viewed)
            return self.tensor(value, layout)
        other = Layout.ROWS if layout is Layout.CHANNELS_LAST else Layout.CHANNELS_LAST
        source = self._tensors[value.name, other]
        result = self.new(value, layout, name=f"t{len(self._tensors)}")
        self._steps.append(copy_step(source, result, range(len(value.type.shape))))
        return result

    def read_by_windows(self, op: Conv2d) -> Tensor:
        """The tensor that a convolution reads: an input's planes as they are, where it can gather its taps of them."""
        value, offset = self.moved.get(op.input.name, (op.input, 0))
        found = self._tensors.get((value.name, Layout.ROWS))
        if found is not None and found.buffer.place is Place.INPUT and gathers_planes(op):
            codes = op.input.type.codes
            layout = Layout.CHANNELS_LAST if same_order(found.shape) and not offset else Layout.ROWS
            return replace(found, layout=layout, low=codes.low, high=codes.high, offset=offset)
        return self.tensor(value, Layout.CHANNELS_LAST)

    def here(self, value: Value) -> Tensor:
        """`value` in whatever layout it already has, the natural one first."""
        natural = natural_layout(value.type.shape)
        for layout in (natural, Layout.ROWS):
            if (value.name, layout) in self._tensors:
                return self._tensors[value.name, layout]
        return self.tensor(value, natural)

    def output(self, index: int, value: Value) -> Tensor:
        """The output in the caller's memory, copied there when it was not made there."""
        made = self.tensor(value, Layout.ROWS)
        if made.buffer.place is Place.OUTPUT and made.buffer.name == f"output{index}":
            return made
        result = replace(made, buffer=replace(made.buffer, name=f"output{index}", place=Place.OUTPUT))
        self._steps.append(copy_step(made, result, range(len(made.shape))))
        return result

    def flattened(self, value: Value) -> tuple[Tensor, Codes | None]:
        """A dense layer's input, and where each of its elements comes from when it lies channels last in memory.

        A flattened feature map is read as it lies, with the weights in that order, rather than copied.
        """
        viewed = self.views.get(value.name)
        if (value.name, Layout.ROWS) not in self._tensors and viewed is not None:
            tensor = self._tensors.get((viewed.name, Layout.CHANNELS_LAST))
            shape = viewed.type.shape
            if tensor is not None and len(shape) == 4 and shape[0] == value.type.shape[0] and not same_order(shape):
                order = np.arange(element_count(shape[1:]), dtype=np.int64).reshape(shape[1:])
                return tensor, order.transpose(1, 2, 0).reshape(-1)
        return self.tensor(value, Layout.ROWS), None

    def _know(self, value: Value, tensor: Tensor) -> Tensor:
        """Remember where `value` lies; both layouts where they are the same."""
        self._tensors[value.name, tensor.layout] = tensor
        if same_order(tensor.shape):
            for layout in Layout:
                self._tensors.setdefault((value.name, layout), replace(tensor, layout=layout))
        return tensor


def _output_homes(graph: Graph) -> dict[str, int]:
    """Value -> the output in whose memory it is made: the output itself, or what a Reshape views as it."""
    producers = graph.producers()
    homes: dict[str, int] = {}
    for i, output in enumerate(graph.outputs):
        value = output.value
        op = producers.get(value.name)
        while isinstance(op, Reshape) and same_order(value.type.shape):
            value = op.input
            op = producers.get(value.name)
        if same_order(value.type.shape):
            homes.setdefault(value.name, i)
    return homes
