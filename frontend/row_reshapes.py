"""Dense layers over the last axis that an optimizer wrote as layers of a matrix: read over the last axis again.

    x [N, T, K] -Reshape-> [N T, K] -Gemm-> [N T, M] -Reshape-> [N, T, M]    ==>    x -MatMul-> -Add-> [N, T, M]

ONNX Runtime fuses MatMul and Add to a Gemm that way, for which the batch and the rows become one axis. Between the two
Reshapes may stand quantizers and what treats each element alike; all of it treats the last axis, and no other.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from pefslc.frontend.node import constant_array
from pefslc.frontend.opsets import QONNX_DOMAINS
from pefslc.geometry.shapes import Shape, element_count

__all__ = ["keep_rows"]

_ELEMENTWISE = ("Clip", "DequantizeLinear", "Identity", "LeakyRelu", "QuantizeLinear", "Relu", "Sigmoid", "Tanh")
_QUANTIZERS = ("BipolarQuant", "IntQuant", "Quant")


def keep_rows(graph: gs.Graph, node: gs.Node, shape: Shape | None) -> None:
    """Rewrite the chain that starts with `node`, if one does and is whole. The nodes stay in execution order.

    shape  of what the node reads, where it is known
    """
    if shape is None or not _merges_rows(node, shape):
        return
    chain = _chain(graph, node, shape)
    if chain is not None:
        _rewrite(graph, node, chain)


def _merges_rows(node: gs.Node, shape: Shape) -> bool:
    """Whether the node is a Reshape that makes a matrix [N ..., K] of [N, ..., K]."""
    sizes = _target(node)
    if sizes is None or len(sizes) != 2 or len(shape) not in (3, 4):
        return False
    rows, features = sizes
    count = element_count(shape[:-1])
    return rows in (count, -1) and features in (shape[-1], -1) and count != shape[0]


def _target(node: gs.Node) -> list[int] | None:
    """The sizes that a Reshape gives by a constant; None of other nodes."""
    if node.op != "Reshape" or node.domain or len(node.inputs) != 2:
        return None
    array = constant_array(node.inputs[1])
    return None if array is None or array.dtype.kind not in "iu" else [int(v) for v in array.reshape(-1)]


def _chain(graph: gs.Graph, first: gs.Node, shape: Shape) -> list[gs.Node] | None:
    """The nodes behind `first` up to the Reshape that gives the rows back; None where something else reads them."""
    chain: list[gs.Node] = []
    tensor, has_layer = first.outputs[0], False
    while len(tensor.outputs) == 1 and not any(tensor is output for output in graph.outputs):
        (node,) = tensor.outputs
        if node.inputs[0] is not tensor or len(node.outputs) != 1:
            return None
        chain.append(node)
        if (sizes := _target(node)) is not None:
            return chain if has_layer and len(sizes) == len(shape) and sizes[:-1] == list(shape[:-1]) else None
        is_layer = _is_layer(node)
        if not is_layer and not _treats_elements_alike(node):
            return None
        has_layer |= is_layer
        tensor = node.outputs[0]
    return None


def _is_layer(node: gs.Node) -> bool:
    is_plain = all(node.attrs.get(name, 1.0) == 1.0 for name in ("alpha", "beta")) and not node.attrs.get("transA", 0)
    counts = {"Gemm": (2, 3), "MatMul": (2,)}.get(node.op, ())
    return len(node.inputs) in counts and not node.domain and is_plain


def _treats_elements_alike(node: gs.Node) -> bool:
    """Whether no axis is any different to the node: its other operands are numbers."""
    arrays = [constant_array(tensor) for tensor in node.inputs[1:] if not tensor.is_empty()]
    known = node.op in _QUANTIZERS if node.domain in QONNX_DOMAINS else node.op in _ELEMENTWISE and not node.domain
    return known and all(array is not None and array.size == 1 for array in arrays)


def _rewrite(graph: gs.Graph, first: gs.Node, chain: list[gs.Node]) -> None:
    for node in (first, chain[-1]):
        node.op, node.inputs = "Identity", node.inputs[:1]
        node.attrs.clear()
    for node in (first, *chain[:-1]):
        node.outputs[0].shape = None
        if node.op == "Gemm":
            made = _layer_of_rows(node)
            at = next(i for i, other in enumerate(graph.nodes) if other is node)
            graph.nodes[at : at + 1] = made


def _layer_of_rows(gemm: gs.Node) -> list[gs.Node]:
    """Transpose of the weight where the Gemm does it, MatMul, Add of the bias: they have the Gemm's name."""
    x, weight, *bias = gemm.inputs
    (result,) = gemm.outputs
    made = []
    gemm.inputs, gemm.outputs = [], []
    if gemm.attrs.get("transB", 0):
        turned = gs.Variable(f"{weight.name}/transposed of {gemm.name}", weight.dtype)
        made.append(gs.Node("Transpose", gemm.name, {"perm": [1, 0]}, [weight], [turned]))
        weight = turned
    biases = [tensor for tensor in bias if not tensor.is_empty()]
    product = gs.Variable(f"{result.name}/product", result.dtype) if biases else result
    made.append(gs.Node("MatMul", gemm.name, {}, [x, weight], [product]))
    if biases:
        made.append(gs.Node("Add", gemm.name, {}, [product, *biases], [result]))
    return made
