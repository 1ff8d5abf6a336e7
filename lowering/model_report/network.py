"""The network as nodes and edges: a node for each row of the layer table and for what only moves data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pefslc.artifacts.sidecar import JsonObject
from pefslc.geometry.shapes import Window
from pefslc.ir.graph import Graph
from pefslc.ir.summary import details_of
from pefslc.ir.value import Op, Value
from pefslc.reports.layer_report import layer_name

__all__ = ["Edge", "Network", "Node", "network_of"]


@dataclass(frozen=True, slots=True)
class Node:
    """What makes a tensor.

    key    unique in its network
    kind   "input", "output", "layer" or "move"
    what   the operation and what says how it works: "Conv2d 3x3 stride 2"; "" of inputs and outputs
    layer  of a layer, its index in the layer table; else None
    """

    key: str
    kind: str
    title: str
    what: str = ""
    layer: int | None = None

    def to_json(self) -> JsonObject:
        return {"node": self.key, "kind": self.kind, "title": self.title, "what": self.what, "layer": self.layer}


@dataclass(frozen=True, slots=True)
class Edge:
    """A tensor that one node makes and another reads."""

    source: str
    target: str
    format: str
    shape: tuple[int, ...]

    def to_json(self) -> JsonObject:
        return {"from": self.source, "to": self.target, "format": self.format, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class Network:
    """In the order of execution."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def to_json(self) -> JsonObject:
        return {"nodes": [n.to_json() for n in self.nodes], "edges": [e.to_json() for e in self.edges]}


def _what(op: Op) -> str:
    """The operation, and of a window what tells most: its padding is left out."""
    words, window, groups = [type(op).__name__], getattr(op, "window", None), getattr(op, "groups", 1)
    if isinstance(window, Window):
        words.append("x".join(map(str, window.kernel)))
        sizes = (("stride", window.strides), ("dilation", window.dilations), ("upsampled", window.input_dilations))
        words += [f"{what} {rows if rows == columns else f'{rows}x{columns}'}" for what, (rows, columns) in sizes
                  if (rows, columns) != (1, 1)]  # fmt: skip
    if groups != 1:
        words.append(f"groups {groups}")
    return " ".join(words)


def network_of(graph: Graph, layers: Sequence[Sequence[Op]], formats: Mapping[str, str]) -> Network:
    """The network of an integer graph.

    layers   the operations of each row of the layer table
    formats  value name -> its format in short
    """
    row_of = {op.result.name: number for number, ops in enumerate(layers) for op in ops}
    owner: dict[str, str] = {}  # value name -> the key of the node that makes it
    nodes: dict[str, Node] = {}
    edges: dict[tuple[str, str, str], Edge] = {}

    def read(value: Value, reader: str) -> None:
        source = owner.get(value.name)
        if source is not None and source != reader:
            edge = Edge(source, reader, formats.get(value.name, ""), value.type.shape)
            edges.setdefault((source, reader, value.name), edge)

    for number, i in enumerate(graph.inputs):
        owner[i.value.name] = key = f"input{number}"
        nodes[key] = Node(key, "input", i.name)
    for number, op in enumerate(graph.ops):
        row = row_of.get(op.result.name)
        key = f"op{number}" if row is None else f"layer{row}"
        if row is None:
            nodes[key] = Node(key, "move", type(op).__name__, details_of(op))
        elif key not in nodes:
            nodes[key] = Node(key, "layer", layer_name(op.result.origin), _what(op), row)
        owner[op.result.name] = key
        for value in op.operands:
            read(value, key)
    for number, o in enumerate(graph.outputs):
        key = f"output{number}"
        nodes[key] = Node(key, "output", o.name)
        read(o.value, key)
    return Network(tuple(nodes.values()), tuple(edges.values()))
