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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from network_writer import Floats, NetworkWriter, Tensor, convolution
from onnx import helper

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
    network = _Network(feature_maps=feature_maps)
    x = network.images()
    y = network.build(x)
    path = folder / f"{name_of(feature_maps)}.onnx"
    channels = int(feature_maps * WIDTHS[-1])
    model = network.proto([1, 3, SIZE, SIZE], [1, channels])
    path.write_bytes(model.SerializeToString(deterministic=True))
    np.savez(path.with_suffix(".npz"), x=x.astype(np.float32), y_ref64=y)
    return path


@dataclass(kw_only=True)
class _Network(NetworkWriter):
    """Nodes in the order of the export; each is evaluated on the images as it is made."""

    feature_maps: int

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([SEED, self.feature_maps])

    def images(self) -> Floats:
        """[IMAGES, 3, SIZE, SIZE] in [-1, 1): smooth, with noise; not on the grid of the input's quantizer."""
        coarse = self.rng.integers(-96, 96, (IMAGES, 3, SIZE // 4, SIZE // 4)).repeat(4, axis=2).repeat(4, axis=3)
        return (coarse + self.rng.integers(-32, 32, coarse.shape)) / 128

    def build(self, x: Floats) -> Floats:
        """All nodes; returns the values of the output."""
        current = self.quant("/inp/act_quant/export_handler", Tensor("input", x), signed=True)
        for i, width in enumerate(WIDTHS):
            current = self.block(f"/blocks/blocks.{i}", current, int(self.feature_maps * width))
        axes = self.constant("/Constant_output_0", np.array([2, 3], dtype=np.int64))
        self.nodes.append(helper.make_node("ReduceMean", [current.name, axes], ["output"], "/ReduceMean", keepdims=0))
        return current.values.mean(axis=(2, 3))

    def block(self, path: str, x: Tensor, channels: int) -> Tensor:
        main = x
        for i in (1, 2):
            main = self.relu(f"{path}/c{i}/act", self.conv(f"{path}/c{i}/conv", main, channels, kernel=3, stride=1))
        main = self.conv(f"{path}/c3/conv", main, channels, kernel=3, stride=2)
        shortcut = self.conv(f"{path}/sc/conv", x, channels, kernel=1, stride=2)
        left = self.quant(f"{path}/addq/act_quant/export_handler", main, signed=True)
        right = self.quant(f"{path}/addq/act_quant/export_handler_1", shortcut, signed=True)
        total = self.node("Add", f"{path}/Add", [left, right], left.values + right.values)
        return self.relu(f"{path}/act", total)

    def relu(self, path: str, x: Tensor) -> Tensor:
        name = f"{path}/act_quant/activation_impl/Relu"
        return self.quant(
            f"{path}/act_quant/export_handler", self.node("Relu", name, [x], np.maximum(x.values, 0)), signed=False
        )

    def conv(self, path: str, x: Tensor, channels: int, *, kernel: int, stride: int) -> Tensor:
        shape = (channels, x.values.shape[1], kernel, kernel)
        directions = self.rng.standard_normal(shape)
        pad = kernel // 2
        # Twice: the first result tells how much more the inputs vary together than they would if independent.
        gain = SPREAD / float(np.sqrt((x.values**2).mean()))
        for _ in range(2):
            weight = _codes(directions, (gain / SCALE) ** 2) * SCALE
            values = convolution(x.values, weight, stride, pad)
            means = values.mean(axis=(0, 2, 3))
            gain *= SPREAD / float(np.sqrt(((values - means[:, None, None]) ** 2).mean()))
        offsets = np.rint((self.rng.standard_normal(channels) * 0.5 - means) / BIAS_SCALE)
        bias = np.clip(offsets, -(2 ** (BIAS_BITS - 1)), 2 ** (BIAS_BITS - 1) - 1) * BIAS_SCALE
        quantized = [
            self.quantized_constant(f"{path}/weight_quant/export_handler", weight, BITS, SCALE),
            self.quantized_constant(f"{path}/bias_quant/export_handler", bias, BIAS_BITS, BIAS_SCALE),
        ]
        output = self.conv_node(f"{path}/Conv", [x.name, *quantized], kernel=kernel, stride=stride, pad=pad)
        return Tensor(output, values + bias[:, None, None])

    # --- nodes ---------------------------------------------------------------------------------------------------

    def quant(self, path: str, x: Tensor, *, signed: bool) -> Tensor:
        low, high = (-(2 ** (BITS - 1)), 2 ** (BITS - 1) - 1) if signed else (0, 2**BITS - 1)
        codes = np.clip(np.rint(x.values / SCALE), low, high)
        return Tensor(self._quant_node(path, x.name, BITS, SCALE, signed=signed), codes * SCALE)

    def quantized_constant(self, path: str, values: Floats, bits: int, scale: float) -> str:
        """A Quant of an initializer named as the module's parameter is: blocks.0.c1.conv.weight."""
        module, kind = path.strip("/").removesuffix("_quant/export_handler").rsplit("/", 1)
        parameter = f"{module.removeprefix('blocks/').replace('/', '.')}.{kind}"
        return self._quant_node(path, self.constant(parameter, values.astype(np.float32)), bits, scale, signed=True)

    def _quant_node(self, path: str, x: str, bits: int, scale: float, *, signed: bool) -> str:
        return self.quant_node(path, x, self.constant(f"scale_{scale}", np.float32(scale)), bits, signed=signed)


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


def main(arguments: list[str]) -> None:
    """Write the networks that were asked for."""
    if not arguments:
        sys.exit(__doc__)
    for feature_maps in [int(a) for a in arguments[1:]] or [16, 64]:
        print(write_resnet12(Path(arguments[0]), feature_maps))


if __name__ == "__main__":
    main(sys.argv[1:])
