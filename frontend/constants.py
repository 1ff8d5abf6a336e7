"""Arithmetic on shapes and other integer constants, as exporters leave it in the file: evaluated, never lowered.

An asymmetric padding becomes ConstantOfShape, Concat, Reshape, Slice, Transpose, Reshape, Cast before its Pad; a
flattening with the batch's size becomes Shape, Gather, Concat before its Reshape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.node import Node, constant_array
from pefslc.geometry.shapes import element_count
from pefslc.ir.value import Value

__all__ = ["fold_constant_node"]

Array = NDArray[np.generic]

_ON_INTEGERS = {
    "Add", "Cast", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Gather", "Max", "Min", "Mul",
    "Neg", "ReduceProd", "Reshape", "Slice", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
_MOST_ELEMENTS = 1 << 18  # what is larger is no shape


def fold_constant_node(node: Node, values: Mapping[str, Value]) -> Array | None:
    """The constant that `node` computes; None where it computes none, or not from integers alone (Identity: from any).

    values  what the tensors before the node are: their shapes are known, so Shape of any of them is a constant
    """
    if node.domain or len(node.raw.outputs) != 1:
        return None
    if node.op_type == "Shape" and node.inputs and node.inputs[0].name in values:
        return _shape(node, values[node.inputs[0].name].type.shape)
    arrays = [constant_array(t) for t in node.inputs if not t.is_empty()]
    if node.op_type == "Identity" and len(arrays) == 1:
        return arrays[0]  # of any type: exporters write it where several parameters have the same values
    known = [a for a in arrays if a is not None and a.dtype.kind in "iub"]
    if node.op_type not in _ON_INTEGERS or not arrays or len(known) != len(arrays):
        return None
    # What operands are broadcast, gathered or reshaped to has no more elements than the product of their sizes.
    made = element_count(tuple(int(v) for v in known[-1].reshape(-1))) if _makes_elements(node) else 0
    if max(abs(made), math.prod(a.size for a in known)) > _MOST_ELEMENTS:
        return None
    return _evaluate(node, known)


def _shape(node: Node, shape: Sequence[int]) -> Array:
    start, end = node.take_int("start", 0), node.take_int("end", len(shape))
    node.finish()
    return np.array(shape[start:end], dtype=np.int64)


def _makes_elements(node: Node) -> bool:
    """Whether the last input is the shape of the result."""
    return node.op_type in ("ConstantOfShape", "Expand")


def _evaluate(node: Node, arrays: Sequence[Array]) -> Array:
    """By ONNX's own reference implementation, on this node alone."""
    from onnx.reference import ReferenceEvaluator  # heavy, and rarely needed

    given = iter(arrays)
    inputs = [t if t.is_empty() else gs.Constant(f"input{i}", next(given)) for i, t in enumerate(node.inputs)]
    alone = gs.Node(node.op_type, attrs=dict(node.raw.attrs), inputs=inputs, outputs=[gs.Variable("result")])
    try:
        model = gs.export_onnx(gs.Graph([alone], outputs=alone.outputs, opset=node.opset), do_type_check=False)
        (result,) = ReferenceEvaluator(model).run(None, {})
    except Exception as e:  # each operator fails in its own way on inputs that contradict each other
        raise node.fault(
            Code.SHAPE_MISMATCH, f"{node.op_type} of constants cannot be evaluated: {e}", hint="export the model again"
        ) from None
    return np.asarray(result)
