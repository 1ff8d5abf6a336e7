"""The shape of what an operator computes that we do not support: ONNX's own shape inference knows it."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnx_graphsurgeon as gs
from onnx import helper
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from pefslc.geometry.shapes import Shape

__all__ = ["foreign_shape"]

_DIVISORS = ("blocksize", "dilations", "group", "kernel_shape", "num_outputs", "strides")
_LARGEST = 1 << 24  # of an attribute; its square is no multiple of 2^64


def foreign_shape(node: gs.Node, shapes: Mapping[str, Shape], opset: int) -> Shape | None:
    """The shape of the node's first output given those of its inputs (by ONNX name); None where it is not known.

    Only standard operators are known; inference from the *values* of inputs (Resize, Slice) is not tried.
    """
    if node.domain not in (None, "", "ai.onnx") or not node.outputs or not _divides_safely(node):
        return None
    try:
        proto = OnnxExporter.export_node(node)
        types = {
            t.name: helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, shapes[t.name])
            for t in node.inputs
            if t.name in shapes
        }
        schema = onnx.defs.get_schema(node.op, opset, "")
        inferred = onnx.shape_inference.infer_node_outputs(
            schema, proto, types, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
        )
        tensor = inferred[node.outputs[0].name].tensor_type
        dims = tensor.shape.dim
    except Exception:
        # A guess that only serves to find more faults; for a damaged node ONNX raises nearly anything.
        return None
    shape = tuple(d.dim_value for d in dims)
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        return None  # integers, which no value holds
    return shape if shape and all(d.HasField("dim_value") for d in dims) else None


def _divides_safely(node: gs.Node) -> bool:
    """Whether the inference divides by nothing that is 0 or wraps around to it: in C++ that ends the process."""
    for name, value in node.attrs.items():
        numbers = [n for n in (value if isinstance(value, list | tuple) else [value]) if isinstance(n, int)]
        if any(abs(n) > _LARGEST or (name in _DIVISORS and n < 1) for n in numbers):
            return False
    return True
