"""Which nodes the outputs of a graph need: exporters, and cuts through a model, leave others."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_graphsurgeon as gs

from pefslc.frontend.branches import names_read

__all__ = ["nodes_that_outputs_need"]


def nodes_that_outputs_need(graph: gs.Graph, ordered: Sequence[gs.Node]) -> list[gs.Node]:
    """The nodes, in their order, without those whose results no output depends on.

    ordered  each node behind those whose results it reads
    """
    needed = {tensor.name for tensor in graph.outputs}
    kept: list[gs.Node] = []
    for node in reversed(ordered):
        if any(tensor.name in needed for tensor in node.outputs):
            kept.append(node)
            needed.update(names_read(node))
        else:
            node.inputs.clear()  # so that nobody is taken for a reader of them
    return kept[::-1]
