"""int32 sums of the file, as ConvInteger and MatMulInteger make them, on their way to floats."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.integer_forms import MOVEMENT, before_movement
from pefslc.frontend.node import Node, constant_array

__all__ = ["ARITHMETIC", "becomes", "check_sums", "factor_of_sums", "scale_behind"]

ARITHMETIC = ("Add", "Mul", "Sub")  # on integers, too, what it is on values; Div would round
_SAME_ON_SUMS = frozenset((*MOVEMENT, *ARITHMETIC, "Neg", "Relu"))
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
_WIDE_INTEGERS = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)


def check_sums(node: Node) -> None:
    """Raise what keeps the product of integers, or what reads its sums, from being read."""
    if scale_behind(node.inputs[0]) is None:
        raise node.fault(
            Code.COMPUTED_OPERAND,
            f"the integers that {node.op_type} reads come from no QuantizeLinear with one constant scale",
            hint="quantize the float model with onnxruntime's quantize_static and QuantFormat.QDQ",
        )
    waiting, seen = list(node.raw.outputs), set[int]()
    while waiting:
        for reader in waiting.pop().outputs:
            result = becomes(reader)
            if result is None:
                raise node.fault(
                    Code.UNSUPPORTED_OPERATOR,
                    f"{reader.op} of the integers that {node.op_type} makes is not supported",
                    hint="Cast them to float first",
                )
            if result == "sums" and id(reader) not in seen:
                seen.add(id(reader))
                waiting += reader.outputs


def becomes(reader: gs.Node) -> Literal["sums", "values"] | None:
    """What the node makes of int32 sums when those are values: such sums again, or floats. None: nothing we read."""
    if reader.domain:
        return None
    if reader.op == "Cast":
        to = reader.attrs.get("to")
        return "values" if to in _FLOATS else "sums" if to in _WIDE_INTEGERS else None
    if reader.op == "DequantizeLinear":
        return "values" if factor_of_sums(reader) is not None else None
    return "sums" if reader.op in _SAME_ON_SUMS else None


def scale_behind(codes: gs.Tensor) -> NDArray[np.generic] | None:
    """The scale of the quantizer that made the integers; 1 for an input of the network. None: of neither."""
    codes = before_movement(codes)
    if isinstance(codes, gs.Constant):
        return None
    if not codes.inputs:
        return np.ones((), np.float32)
    maker = codes.inputs[0]
    scale = constant_array(maker.inputs[1]) if maker.op == "QuantizeLinear" and len(maker.inputs) > 1 else None
    return np.asarray(scale.reshape(())) if scale is not None and scale.size == 1 else None


def factor_of_sums(dequantize: gs.Node) -> NDArray[np.generic] | None:
    """What a DequantizeLinear multiplies int32 sums by, in their shape; None where it does something else."""
    if len(dequantize.inputs) < 2:
        return None
    sums, scale, *rest = dequantize.inputs
    scales = constant_array(scale)
    offsets = [constant_array(tensor) for tensor in rest if not tensor.is_empty()]
    if scales is None or any(offset is None or offset.any() for offset in offsets):
        return None
    if scales.size == 1:
        return np.asarray(scales.reshape(()))
    axis = dequantize.attrs.get("axis", 1)
    if axis != 1 or sums.shape is None or dequantize.attrs.get("block_size", 0):
        return None
    return np.asarray(scales.reshape([-1 if i == axis else 1 for i in range(len(sums.shape))]))
