"""A network that is made node by node as a QONNX graph, and evaluated on pictures in float64 as it is made.

The evaluation shares no code with pefslc: what a generator writes as the expected output is an independent reference.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["DOMAIN", "Floats", "NetworkWriter", "Tensor", "convolution", "windows"]

Floats = NDArray[np.float64]

DOMAIN = "qonnx.custom_op.general"


@dataclass(frozen=True, slots=True)
class Tensor:
    """A node's output, and what it is on the pictures [N, C, H, W]."""

    name: str
    values: Floats


@dataclass
class NetworkWriter:
    """Nodes in the order in which they are made, and initializers by name."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def node(self, op: str, name: str, inputs: list[Tensor], values: Floats) -> Tensor:
        """A node without attributes."""
        self.nodes.append(helper.make_node(op, [i.name for i in inputs], [f"{name}_output_0"], name))
        return Tensor(f"{name}_output_0", values)

    def conv_node(self, name: str, inputs: list[str], *, kernel: int, stride: int, pad: int, group: int = 1) -> str:
        """A Conv with square windows; returns the name of its output."""
        self.nodes.append(
            helper.make_node(
                "Conv", inputs, [f"{name}_output_0"], name, dilations=[1, 1], group=group,
                kernel_shape=[kernel] * 2, pads=[pad] * 4, strides=[stride] * 2,
            )
        )  # fmt: skip
        return f"{name}_output_0"

    def quant_node(self, path: str, x: str, scale: str, bits: int, *, signed: bool, narrow: bool = False) -> str:
        """A Quant with zero point 0 by the constant named `scale`; returns the name of its output."""
        parameters = [
            scale,
            self.constant("zero_point", np.float32(0)),
            self.constant(f"bits_{bits}", np.float32(bits)),
        ]
        attributes = {"signed": int(signed), "narrow": int(narrow), "rounding_mode": "ROUND"}
        name = f"{path}/Quant"
        self.nodes.append(
            helper.make_node("Quant", [x, *parameters], [f"{name}_output_0"], name, domain=DOMAIN, **attributes)
        )
        return f"{name}_output_0"

    def constant(self, name: str, array: NDArray[np.generic] | np.generic) -> str:
        """The name of an initializer; the first of a name is kept."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(array), name)
        return name

    def proto(self, input_shape: list[int], output_shape: list[int]) -> onnx.ModelProto:
        """The model from "input" to "output"."""
        graph = helper.make_graph(
            self.nodes,
            "main_graph",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, input_shape)],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, output_shape)],
            list(self.constants.values()),
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 2)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="pefslc-benchmarks")


def windows(x: Floats, kernel: int, stride: int, pad: int, fill: float = 0.0) -> Floats:
    """[N, C, H', W', KH, KW]: what a square window sees of x [N, C, H, W]."""
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=fill)
    found: Floats = sliding_window_view(padded, (kernel, kernel), axis=(2, 3))[:, :, ::stride, ::stride]
    return found


def convolution(x: Floats, weight: Floats, stride: int, pad: int) -> Floats:
    """[N, C, H, W] by [C_out, C, K, K]; each channel by its own kernel for a weight [C, 1, K, K]."""
    seen = windows(x, weight.shape[-1], stride, pad)
    if weight.shape[1] == 1 and x.shape[1] > 1:
        depthwise: Floats = np.einsum("nchwij,cij->nchw", seen, weight[:, 0])
        return depthwise
    result: Floats = np.tensordot(seen, weight, axes=((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(result)
