"""The network as a drawing: graphlay says where nodes, edges and their labels lie; the page's template draws them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pefslc.ir.summary import cut, end_of
from pefslc.model_report.model import ModelReport
from pefslc.model_report.network import Edge, Node

__all__ = ["DrawnEdge", "DrawnNode", "NetworkPicture", "draw_network"]

_WIDTH, _HEIGHT, _SMALL = 252, 62, 34  # of a node, pixels: a layer's, and the height of others
_LABEL_HEIGHT, _CHARACTER = 15, 6.6
_TITLE, _DETAIL = 29, 36  # characters
_ROUND = 9.0  # the radius of an edge's corners
_MARGIN = 14.0
_OPTIONS = {
    "direction": "topbottom",
    "spacing": {"layer_gap": 24.0, "node_gap": 22.0, "dummy_gap": 16.0, "edge_label_margin": 5.0, "stub": 8.0},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnNode:
    """A node with its left upper corner.

    share  of all modelled cycles (without them, of all MACs) that its row of the costs takes, 0 to 1
    """

    node: Node
    x: float
    y: float
    width: float
    height: float
    title: str
    detail: str
    merged: str
    exact: bool
    share: float
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnEdge:
    """`path` is that of an SVG; the label has its middle at (x, y)."""

    path: str
    label: str
    x: float
    y: float
    width: float
    tip: str


@dataclass(frozen=True, slots=True)
class NetworkPicture:
    """Pixels; y grows downwards."""

    width: float
    height: float
    nodes: tuple[DrawnNode, ...]
    edges: tuple[DrawnEdge, ...]


def draw_network(report: ModelReport) -> NetworkPicture:
    """The drawing of a report's network."""
    import graphlay

    network = report.network
    sizes = [(_WIDTH, _HEIGHT) if n.kind == "layer" else (_WIDTH * 0.62, _SMALL) for n in network.nodes]
    graph = graphlay.Graph()
    for node, (width, height) in zip(network.nodes, sizes, strict=True):
        graph.node(node.key, width=width, height=height)
    for edge in network.edges:
        graph.edge(edge.source, edge.target, label_size={"width": _label_width(edge), "height": _LABEL_HEIGHT})
    drawing = graphlay.layout(graph, options=_OPTIONS)
    low, high = drawing.bounds["min"], drawing.bounds["max"]
    left, top = low["x"] - _MARGIN, low["y"] - _MARGIN
    nodes = []
    for node, place, (width, height) in zip(network.nodes, drawing.nodes, sizes, strict=True):
        x, y = place["center"]["x"] - left - width / 2, place["center"]["y"] - top - height / 2
        nodes.append(_node(report, node, x, y, width, height))
    edges = [_edge(edge, way, left, top) for edge, way in zip(network.edges, drawing.edges, strict=True)]
    width, height = high["x"] - low["x"] + 2 * _MARGIN, high["y"] - low["y"] + 2 * _MARGIN
    return NetworkPicture(round(width, 1), round(height, 1), tuple(nodes), tuple(edges))


def _node(report: ModelReport, node: Node, x: float, y: float, width: float, height: float) -> DrawnNode:
    share, merged, exact = 0.0, "", True
    tip = f"{node.title} {node.what}".strip()
    detail = cut(node.what, _DETAIL if node.kind == "layer" else 22)
    if node.layer is not None:
        layer = report.layers[node.layer]
        exact, cost = layer.row.exact, report.cost_of(layer)
        first = next((n for n, other in enumerate(report.layers) if other.cost == layer.cost), None)
        if cost is not None and report.costs is not None and first == node.layer:
            total = report.costs.total
            mine = cost.total_cycles if total.total_cycles else cost.macs
            share = (mine or 0) / max(total.total_cycles or total.macs, 1)
        operators = list(dict.fromkeys(m.operator for m in layer.merged))
        merged = cut(f"+ {', '.join(operators)}", _DETAIL) if operators else ""
        shape = "x".join(map(str, layer.row.shape[1:]))
        detail = cut(f"{node.what} \u2192 {shape}", _DETAIL)
        tip = f"{tip}: {layer.row.implementation}" if layer.row.implementation else tip
    return DrawnNode(
        node=node, x=round(x, 1), y=round(y, 1), width=round(width, 1), height=height,
        title=end_of(node.title, _TITLE if node.kind == "layer" else 20), detail=detail, merged=merged, exact=exact,
        share=share, tip=cut(tip, 300),
    )  # fmt: skip


def _label_width(edge: Edge) -> float:
    return _CHARACTER * max(len(edge.format), 1) + 8


def _edge(edge: Edge, way: dict[str, Any], left: float, top: float) -> DrawnEdge:
    points = [(p["x"] - left, p["y"] - top) for p in way["points"]]
    middle = way.get("label_anchor") or {"x": points[0][0] + left, "y": (points[0][1] + points[-1][1]) / 2 + top}
    shape = "x".join(map(str, edge.shape))
    width = _label_width(edge)
    beside = width / 2 + 1 if len(points) == 2 else 0.0  # a short straight line would vanish under its label
    return DrawnEdge(
        path=_rounded_path(points),
        label=edge.format,
        x=round(middle["x"] - left + beside, 1),
        y=round(middle["y"] - top, 1),
        width=round(width, 1),
        tip=f"{edge.format}, {shape}",
    )


def _rounded_path(points: list[tuple[float, float]]) -> str:
    """A line through the points with round corners."""
    words = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        (ax, ay), (bx, by) = (_towards(corner, other) for other in (before, after))
        words.append(f"L{ax:.1f} {ay:.1f}Q{corner[0]:.1f} {corner[1]:.1f} {bx:.1f} {by:.1f}")
    words.append(f"L{points[-1][0]:.1f} {points[-1][1]:.1f}")
    return "".join(words)


def _towards(corner: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """The point on the way to `other` at which the curve around the corner ends."""
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    length = max((dx * dx + dy * dy) ** 0.5, 1e-9)
    part = min(_ROUND, length / 2) / length
    return corner[0] + dx * part, corner[1] + dy * part
