"""The batch of a graph: how many rows of its inputs one run takes. All rows mean the same, each by itself."""

from __future__ import annotations

from dataclasses import replace

from pefslc.ir.graph import Graph, map_operands
from pefslc.ir.value import Value

__all__ = ["batch_of", "with_batch"]


def batch_of(graph: Graph) -> int | None:
    """The size of axis 0 of all that follows from the inputs; None where it is not the same for all."""
    sizes = {value.type.shape[:1] for value in _of_inputs(graph).values()}
    if len(sizes) != 1 or not (size := sizes.pop()):
        return None
    return size[0]


def with_batch(graph: Graph, size: int) -> Graph:
    """The same graph for so many rows; `graph` itself where it has them. It must have a batch."""
    before = batch_of(graph)
    assert before is not None, "no one batch"
    if before == size:
        return graph
    resized = {
        name: replace(value, type=replace(value.type, shape=(size, *value.type.shape[1:])))
        for name, value in _of_inputs(graph).items()
    }

    def change(value: Value) -> Value:
        return resized.get(value.name, value)

    return replace(
        graph,
        inputs=tuple(replace(i, value=change(i.value)) for i in graph.inputs),
        ops=tuple(replace(map_operands(op, change), result=change(op.result)) for op in graph.ops),
        outputs=tuple(replace(o, value=change(o.value)) for o in graph.outputs),
    )


def _of_inputs(graph: Graph) -> dict[str, Value]:
    """The inputs and all that is made from them: no constants."""
    found = {i.value.name: i.value for i in graph.inputs}
    for op in graph.ops:
        if any(value.name in found for value in op.operands):
            found[op.result.name] = op.result
    return found
