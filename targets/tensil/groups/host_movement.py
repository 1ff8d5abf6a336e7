"""What the host does as it lays out an input or reads back an output: a Reshape or Transpose at the model's ends.

On the TCU, pixels that change places with channels, or with each other, would have to be copied one by one. The host
writes each element of an input once, and reads each element of an output once: in which order costs it nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from math import prod

import numpy as np
from numpy.typing import NDArray

from pefslc.artifacts.sidecar import Json
from pefslc.geometry.shapes import Shape
from pefslc.ir.graph import Graph
from pefslc.ir.integer import Dense, Sum
from pefslc.ir.structural import MaxPool, Reshape, Slice, Transpose
from pefslc.ir.value import Op, Value
from pefslc.targets.tensil.groups.arrangement import Arrangement, is_arrangement
from pefslc.targets.tensil.groups.layout import Layout

__all__ = ["HostMove", "HostView", "host_view", "moved", "moves_from", "moves_of", "path_to"]


@dataclass(frozen=True, slots=True)
class HostMove:
    """numpy's `reshape` or `transpose` (`kind`) by `axes`; the first is the batch, which is 1."""

    kind: str
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class HostView:
    """An input that the host stores in another shape than the model's.

    moves    from the model's shape to `shape`, that of the stored tensor
    as_read  where each element of the model's input lies in the stored tensor
    """

    moves: tuple[HostMove, ...]
    shape: Shape
    as_read: Arrangement


@dataclass(frozen=True, slots=True)
class _Demand:
    """What somebody, an operation or an output, reads of an input.

    elements        which of its elements, in which order
    in_order        whether even whole channels may not have changed places: nobody makes a copy of an input
    suits_as_it_is  whether it suits where the host stores the input in its own order, however it is moved then
    """

    elements: Arrangement
    in_order: bool = False
    suits_as_it_is: bool = False

    def met_by(self, arrangement: Arrangement) -> bool:
        return arrangement.is_natural or (not self.in_order and arrangement.channels is not None)


def host_view(graph: Graph, value: Value) -> HostView | None:
    """How the host stores the input `value` so that everyone can read it; None for as it is.

    As it is where all can read it so; else as the first result of a movement that all can read. None, too, where there
    is no such result: who cannot read it will say so.
    """
    readers: dict[str, list[Op]] = {}
    for op in graph.ops:
        for operand in op.operands:
            readers.setdefault(operand.name, []).append(op)
    if not any(is_arrangement(op) for op in readers.get(value.name, ())):
        return None
    count = prod(value.type.shape)
    outputs = {o.value.name for o in graph.outputs}
    own = Arrangement.of(Layout(count, 1, 1), value.type.shape)
    paths: dict[str, tuple[Reshape | Transpose, ...]] = {value.name: ()}  # by which each value is made of the input
    demands = [_Demand(own, in_order=True)] if value.name in outputs else []
    pending = [(value, own)]
    while pending:
        current, elements = pending.pop()
        if current.name in outputs and current is not value:  # what was only moved the host moves back
            demands.append(_Demand(elements, suits_as_it_is=current.name in paths))
        for op in readers.get(current.name, ()):
            if not is_arrangement(op):
                if not isinstance(op, Dense):  # whose weights take any order
                    demands.append(_Demand(elements, in_order=current is value and isinstance(op, MaxPool | Sum)))
                continue
            if current.name in paths and not isinstance(op, Slice):
                paths[op.result.name] = (*paths[current.name], op)
            pending.append((op.result, elements.after(op)))
    for path in paths.values():
        shape = path[-1].result.type.shape if path else value.type.shape
        if len(shape) not in (2, 3, 4):
            continue
        stored, order = Layout.of(shape), reduce(Arrangement.after, path, own).positions.reshape(-1)
        place = np.empty(count, dtype=np.int64)
        place[order] = np.arange(count)  # where the stored tensor holds each element of the input
        wanted = [d for d in demands if path or not d.suits_as_it_is]
        if all(demand.met_by(Arrangement(place[demand.elements.positions], stored)) for demand in wanted):
            as_read = Arrangement(place[own.positions], stored)
            return HostView(moves_of(path), shape, as_read) if path else None
    return None


def path_to(value: Value, producers: Mapping[str, Op]) -> tuple[Value, tuple[Reshape | Transpose, ...]]:
    """The value that is only reshaped and transposed up to `value`, and by what, in order."""
    path: list[Reshape | Transpose] = []
    while isinstance(op := producers.get(value.name), Reshape | Transpose):
        path.insert(0, op)
        value = op.input
    return value, tuple(path)


def moves_of(path: Iterable[Reshape | Transpose], shape: Shape | None = None) -> tuple[HostMove, ...]:
    """The movement for the host, of elements that lie in that shape already or, with `shape`, in any; reshapes that
    meet are one.
    """
    found = [] if shape is None else [HostMove("reshape", shape)]
    for move in map(_move_of, path):
        if found and found[-1].kind == move.kind == "reshape":
            found.pop()
        found.append(move)
    return tuple(found)


def _move_of(op: Reshape | Transpose) -> HostMove:
    if isinstance(op, Reshape):
        return HostMove("reshape", op.result.type.shape)
    return HostMove("transpose", op.permutation)


def moved(array: NDArray[np.int64], moves: Iterable[HostMove]) -> NDArray[np.int64]:
    """The array, which has the batch as its first axis where a move needs it, after all moves."""
    for move in moves:
        array = array.reshape(move.axes) if move.kind == "reshape" else array.transpose(move.axes)
    return array


def moves_from(content: Json) -> tuple[HostMove, ...]:
    """The moves of a sidecar: [[kind, axes], ...]."""
    assert isinstance(content, list)
    return tuple(HostMove(str(kind), tuple(int(axis) for axis in axes)) for kind, axes in content)
