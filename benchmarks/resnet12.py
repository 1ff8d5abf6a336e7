"""Makes ResNet-12 of PEFSL's structure at Q3.3, as Brevitas exports it: NAME.onnx, and NAME.npz with its arrays.

usage: python benchmarks/resnet12.py FOLDER [FEATURE_MAPS ...]      16 and 64 where none are given

Four blocks of FEATURE_MAPS x 1, 2.5, 5 and 10 channels: three 3x3 convolutions, the last with stride 2, beside a 1x1
shortcut with stride 2; BatchNorm is folded. Weights are random, of a fixed seed, and as trained ones of this format
are: no larger than it takes to keep the activations in their range, so that most of a wide layer's round to 0.
Biases put each channel's mean near 0. The expected outputs are a float64 evaluation that shares no code with pefslc;
every number in it is dyadic and small, so it is exact.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Floats = NDArray[np.float64]

DOMAIN = "qonnx.custom_op.general"
BITS, SCALE = 6, 0.125  # Q3.3
BIAS_BITS, BIAS_SCALE = 10, SCALE * SCALE  # on the accumulators' grid
WIDTHS = (1, 2.5, 5, 10)  # of the blocks, in feature maps
SIZE, IMAGES, SEED = 32, 4, 12
# Standard deviation of what a quantizer reads: within the signed range [-4, 3.875], and most of its codes are used.
SPREAD = 1.5


def name_of(feature_maps: int) -> str:
    """The file name without its ending."""
    return f"resnet12_{feature_maps}_strided_bnfold_q3_3"


def write_resnet12(folder: Path, feature_maps: int) -> Path:
    """Write the network and its arrays; the same arguments give the same bytes. Returns the path of the .onnx."""
    folder.mkdir(parents=True, exist_ok=True)
    network = _Network(feature_maps)
    x = network.images()
    y = network.build(x)
    path = folder / f"{name_of(feature_maps)}.onnx"
    path.write_bytes(network.proto().SerializeToString(deterministic=True))
    np.savez(path.with_suffix(".npz"), x=x.astype(np.float32), y_ref64=y)
    return path


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A node's output, and what it is on the calibration images [N, C, H, W]."""

    name: str
    values: Floats


@dataclass
class _Network:
    """Nodes in the order of the export; each is evaluated on the images as it is made."""

    feature_maps: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([SEED, self.feature_maps])

    def images(self) -> Floats:
        """[IMAGES, 3, SIZE, SIZE] in [-1, 1): smooth, with noise; not on the grid of the input's quantizer."""
        coarse = self.rng.integers(-96, 96, (IMAGES, 3, SIZE // 4, SIZE // 4)).repeat(4, axis=2).repeat(4, axis=3)
        return (coarse + self.rng.integers(-32, 32, coarse.shape)) / 128

    def build(self, x: Floats) -> Floats:
        """All nodes; returns the values of the output."""
        current = self.quant("/inp/act_quant/export_handler", _Tensor("input", x), signed=True)
        for i, width in enumerate(WIDTHS):
            current = self.block(f"/blocks/blocks.{i}", current, int(self.feature_maps * width))
        axes = self.constant("/Constant_output_0", np.array([2, 3], dtype=np.int64))
        self.nodes.append(helper.make_node("ReduceMean", [current.name, axes], ["output"], "/ReduceMean", keepdims=0))
        return current.values.mean(axis=(2, 3))

    def block(self, path: str, x: _Tensor, channels: int) -> _Tensor:
        main = x
        for i in (1, 2):
            main = self.relu(f"{path}/c{i}/act", self.conv(f"{path}/c{i}/conv", main, channels, kernel=3, stride=1))
        main = self.conv(f"{path}/c3/conv", main, channels, kernel=3, stride=2)
        shortcut = self.conv(f"{path}/sc/conv", x, channels, kernel=1, stride=2)
        left = self.quant(f"{path}/addq/act_quant/export_handler", main, signed=True)
        right = self.quant(f"{path}/addq/act_quant/export_handler_1", shortcut, signed=True)
        total = self.node("Add", f"{path}/Add", [left, right], left.values + right.values)
        return self.relu(f"{path}/act", total)

    def relu(self, path: str, x: _Tensor) -> _Tensor:
        name = f"{path}/act_quant/activation_impl/Relu"
        return self.quant(
            f"{path}/act_quant/export_handler", self.node("Relu", name, [x], np.maximum(x.values, 0)), signed=False
        )

    def conv(self, path: str, x: _Tensor, channels: int, *, kernel: int, stride: int) -> _Tensor:
        shape = (channels, x.values.shape[1], kernel, kernel)
        directions = self.rng.standard_normal(shape)
        pad = kernel // 2
        # Twice: the first result tells how much more the inputs vary together than they would if independent.
        gain = SPREAD / float(np.sqrt((x.values**2).mean()))
        for _ in range(2):
            weight = _codes(directions, (gain / SCALE) ** 2) * SCALE
            values = _convolution(x.values, weight, stride, pad)
            means = values.mean(axis=(0, 2, 3))
            gain *= SPREAD / float(np.sqrt(((values - means[:, None, None]) ** 2).mean()))
        offsets = np.rint((self.rng.standard_normal(channels) * 0.5 - means) / BIAS_SCALE)
        bias = np.clip(offsets, -(2 ** (BIAS_BITS - 1)), 2 ** (BIAS_BITS - 1) - 1) * BIAS_SCALE
        quantized = [
            self.quantized_constant(f"{path}/weight_quant/export_handler", weight, BITS, SCALE),
            self.quantized_constant(f"{path}/bias_quant/export_handler", bias, BIAS_BITS, BIAS_SCALE),
        ]
        name = f"{path}/Conv"
        self.nodes.append(
            helper.make_node(
                "Conv", [x.name, *quantized], [f"{name}_output_0"], name, dilations=[1, 1], group=1,
                kernel_shape=[kernel] * 2, pads=[pad] * 4, strides=[stride] * 2,
            )
        )  # fmt: skip
        return _Tensor(f"{name}_output_0", values + bias[:, None, None])

    # --- nodes ---------------------------------------------------------------------------------------------------

    def node(self, op: str, name: str, inputs: list[_Tensor], values: Floats) -> _Tensor:
        self.nodes.append(helper.make_node(op, [i.name for i in inputs], [f"{name}_output_0"], name))
        return _Tensor(f"{name}_output_0", values)

    def quant(self, path: str, x: _Tensor, *, signed: bool) -> _Tensor:
        low, high = (-(2 ** (BITS - 1)), 2 ** (BITS - 1) - 1) if signed else (0, 2**BITS - 1)
        codes = np.clip(np.rint(x.values / SCALE), low, high)
        return _Tensor(self.quant_node(path, x.name, BITS, SCALE, signed=signed), codes * SCALE)

    def quantized_constant(self, path: str, values: Floats, bits: int, scale: float) -> str:
        """A Quant of an initializer named as the module's parameter is: blocks.0.c1.conv.weight."""
        module, kind = path.strip("/").removesuffix("_quant/export_handler").rsplit("/", 1)
        parameter = f"{module.removeprefix('blocks/').replace('/', '.')}.{kind}"
        return self.quant_node(path, self.constant(parameter, values.astype(np.float32)), bits, scale, signed=True)

    def quant_node(self, path: str, x: str, bits: int, scale: float, *, signed: bool) -> str:
        parameters = [
            self.constant(f"scale_{scale}", np.float32(scale)),
            self.constant("zero_point", np.float32(0)),
            self.constant(f"bits_{bits}", np.float32(bits)),
        ]
        attributes = {"signed": int(signed), "narrow": 0, "rounding_mode": "ROUND"}
        name = f"{path}/Quant"
        self.nodes.append(
            helper.make_node("Quant", [x, *parameters], [f"{name}_output_0"], name, domain=DOMAIN, **attributes)
        )
        return f"{name}_output_0"

    def constant(self, name: str, array: NDArray[np.generic] | np.generic) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(array), name)
        return name

    def proto(self) -> onnx.ModelProto:
        channels = int(self.feature_maps * WIDTHS[-1])
        graph = helper.make_graph(
            self.nodes,
            "main_graph",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, channels])],
            list(self.constants.values()),
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 2)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="pefslc-benchmarks")


def _codes(directions: Floats, energy: float) -> Floats:
    """Integers along `directions`, with about `energy` as the sum of squares of each output channel."""
    most = 2 ** (BITS - 1) - 1
    reachable = directions[0].size * most**2 / 4
    low, high = 0.0, float(2**BITS)
    for _ in range(30):
        middle = (low + high) / 2
        found = np.clip(np.rint(directions * middle), -most, most)
        low, high = (middle, high) if (found**2).sum() / len(found) < min(energy, reachable) else (low, middle)
    return found


def _convolution(x: Floats, weight: Floats, stride: int, pad: int) -> Floats:
    """[N, C, H, W] by [C_out, C, K, K]; exact, because all partial sums are multiples of 2^-6 below 2^40."""
    kernel = weight.shape[-1]
    windows = sliding_window_view(np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad))), (kernel, kernel), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]
    result: Floats = np.tensordot(windows, weight, axes=((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(result)


def main(arguments: list[str]) -> None:
    """Write the networks that were asked for."""
    if not arguments:
        sys.exit(__doc__)
    for feature_maps in [int(a) for a in arguments[1:]] or [16, 64]:
        print(write_resnet12(Path(arguments[0]), feature_maps))


if __name__ == "__main__":
    main(sys.argv[1:])
