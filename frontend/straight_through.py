"""The straight-through estimator, as it is traced: x + (y - x) of a rounded y, which has the gradient of x, is y."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_graphsurgeon as gs

from pefslc.frontend.node import constant_array

__all__ = ["without_estimators"]

_LONGEST_CHAIN = 32


def without_estimators(nodes: list[gs.Node], outputs: set[int], roundings: tuple[str, ...]) -> Iterator[gs.Node]:
    """The nodes without each x + (y - x): who reads it reads y, where y is rounded.

    outputs  ids of the tensors that the graph gives out
    """
    for node in nodes:
        source = _estimated(node, roundings) if node.op == "Add" and not node.domain else None
        if source is None:
            yield node
            continue
        (result,) = node.outputs
        node.inputs.clear()
        if id(result) in outputs:
            node.outputs.clear()
            yield gs.Node("Identity", node.name, {}, [source], [result])
            continue
        for reader in list(result.outputs):
            reader.inputs = [source if tensor is result else tensor for tensor in reader.inputs]


def _estimated(node: gs.Node, roundings: tuple[str, ...]) -> gs.Tensor | None:
    """y of x + (y - x)."""
    if len(node.inputs) != 2 or len(node.outputs) != 1:
        return None
    for x, difference in (node.inputs, node.inputs[::-1]):
        maker = difference.inputs[0] if difference.inputs else None
        if maker is None or maker.op != "Sub" or maker.domain or len(maker.inputs) != 2:
            continue
        y, subtracted = maker.inputs
        if subtracted is x and _is_rounded(y, roundings):
            return y
    return None


def _is_rounded(tensor: gs.Tensor, roundings: tuple[str, ...]) -> bool:
    """Whether the tensor comes of a rounding, behind what computes element by element."""
    for _ in range(_LONGEST_CHAIN):
        node = tensor.inputs[0] if tensor.inputs else None
        if node is None:
            return False
        if node.op in roundings:
            return True
        operand = next((t for t in node.inputs if constant_array(t) is None), None)
        if operand is None or node.op not in ("Add", "Clip", "Div", "Mul", "Relu", "Sub"):
            return False
        tensor = operand
    return False
