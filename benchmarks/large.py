"""Makes large networks as QONNX files: ResNet-18, ResNet-50 and MobileNetV2 at 224 x 224, of 4 or 8 bits.

usage: python benchmarks/large.py FOLDER [NETWORK_wBITSaBITS ...]      all six where none are given: resnet18_w4a4 ...

Each has what makes real files large work: BatchNorm is kept, scales are any float32 numbers, those of weights one for
each output channel, and each branch of a residual addition has a scale of its own. The input, the first layer and the
last are of 8 bits. Weights are random, of a fixed seed; quantizers have the range of what they read on the picture.
NAME.npz holds that picture and the expected output: a float64 evaluation that shares no code with pefslc.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from network_writer import Floats, NetworkWriter, Tensor, convolution, windows
from numpy.typing import NDArray
from onnx import helper

SEED = 50
EDGE_BITS = 8  # of the input, the first layer and the last
EPSILON = 1e-5
SIGMAS = 3.0  # the largest code of a quantizer, in root mean squares of what it reads


@dataclass(frozen=True, slots=True)
class Size:
    """How large a network is made: the picture's sides, the channels of the first layer, the classes."""

    picture: int = 224
    channels: int = 64  # ResNets: of the first layer. MobileNetV2, whose first has 32, in the same proportion
    classes: int = 1000


def write_network(folder: Path, name: str, size: Size | None = None) -> Path:
    """Write NAME.onnx and NAME.npz; the same arguments give the same bytes. Returns the path of the .onnx.

    name  "resnet18_w4a4": network, bits of weights, bits of activations
    """
    kind, _, bits = name.partition("_w")
    weight_bits, _, activation_bits = bits.partition("a")
    network = _Network(size=size or Size(), weight_bits=int(weight_bits), activation_bits=int(activation_bits))
    x = network.picture()
    y = BUILDERS[kind](network, x)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.onnx"
    model = network.proto(list(x.shape), [1, network.size.classes])
    path.write_bytes(model.SerializeToString(deterministic=True))
    np.savez(path.with_suffix(".npz"), x=x.astype(np.float32), y_ref64=y)
    return path


@dataclass(kw_only=True)
class _Network(NetworkWriter):
    size: Size
    weight_bits: int
    activation_bits: int

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([SEED, self.weight_bits, self.activation_bits])

    def picture(self) -> Floats:
        """[1, 3, H, W] of float32 numbers in about [-2, 2]: smooth, with noise."""
        side = self.size.picture
        coarse = self.rng.standard_normal((1, 3, -(-side // 8), -(-side // 8))).repeat(8, axis=2).repeat(8, axis=3)
        noise = self.rng.standard_normal((1, 3, side, side)) * 0.25
        return (coarse[:, :, :side, :side] * 0.75 + noise).astype(np.float32).astype(np.float64)

    # --- layers --------------------------------------------------------------------------------------------------

    def layer(
        self, path: str, x: Tensor, channels: int, *, kernel: int, stride: int = 1, depthwise: bool = False,
        bits: int | None = None,
    ) -> Tensor:  # fmt: skip
        """A convolution of quantized weights, and its BatchNorm."""
        shape = (channels, 1 if depthwise else x.values.shape[1], kernel, kernel)
        name, weight = self.weight(path, shape, bits or self.weight_bits)
        pad = kernel // 2
        group = channels if depthwise else 1
        output = self.conv_node(f"{path}/Conv", [x.name, name], kernel=kernel, stride=stride, pad=pad, group=group)
        return self.batch_norm(f"{path}/bn", Tensor(output, convolution(x.values, weight, stride, pad)))

    def weight(self, path: str, shape: tuple[int, ...], bits: int) -> tuple[str, Floats]:
        """Random weights behind a Quant with a scale for each output channel: its name, and its values."""
        raw = self.rng.standard_normal(shape).astype(np.float32)
        axes = tuple(range(1, len(shape)))
        most = 2 ** (bits - 1) - 1
        scale = (np.abs(raw).max(axis=axes, keepdims=True) / np.float32(most)).astype(np.float32)
        codes = np.clip(np.rint(raw / scale.astype(np.float64)), -most, most)
        names = [self.constant(f"{path}.weight", raw), self.constant(f"{path}.weight_scale", scale)]
        quantized = self.quant_node(f"{path}/weight_quant", *names, bits, signed=True, narrow=True)
        return quantized, codes * scale

    def batch_norm(self, path: str, x: Tensor) -> Tensor:
        """BatchNorm with about the picture's statistics, a little off them, as those of a training set are."""
        channels = x.values.shape[1]
        mean, variance = x.values.mean(axis=(0, 2, 3)), x.values.var(axis=(0, 2, 3)) + 1e-3
        parameters = {
            "scale": self.rng.uniform(0.5, 1.5, channels),
            "bias": self.rng.standard_normal(channels) * 0.3,
            "mean": mean + 0.1 * np.sqrt(variance) * self.rng.standard_normal(channels),
            "var": variance * self.rng.uniform(0.8, 1.25, channels),
        }
        single = {key: value.astype(np.float32) for key, value in parameters.items()}
        names = [self.constant(f"{path}.{key}", value) for key, value in single.items()]
        output = f"{path}/BatchNormalization_output_0"
        node = helper.make_node("BatchNormalization", [x.name, *names], [output], path, epsilon=EPSILON)
        self.nodes.append(node)
        gamma, beta, mean, variance = (value.astype(np.float64)[:, None, None] for value in single.values())
        epsilon = float(np.float32(EPSILON))
        return Tensor(output, gamma * (x.values - mean) / np.sqrt(variance + epsilon) + beta)

    def relu(self, path: str, x: Tensor) -> Tensor:
        return self.quant(path, self.node("Relu", f"{path}/Relu", [x], np.maximum(x.values, 0)), signed=False)

    def relu6(self, path: str, x: Tensor) -> Tensor:
        limits = [self.constant(f"limit_{n}", np.float32(n)) for n in (0, 6)]
        output = f"{path}/Clip_output_0"
        self.nodes.append(helper.make_node("Clip", [x.name, *limits], [output], f"{path}/Clip"))
        return self.quant(path, Tensor(output, np.clip(x.values, 0, 6)), signed=False)

    def add(self, path: str, left: Tensor, right: Tensor) -> Tensor:
        return self.node("Add", f"{path}/Add", [left, right], left.values + right.values)

    def quant(self, path: str, x: Tensor, *, signed: bool, bits: int | None = None) -> Tensor:
        """A Quant with the range of what it reads."""
        bits = bits or self.activation_bits
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        scale = np.float32(SIGMAS * float(np.sqrt((x.values**2).mean())) / high)
        codes = np.clip(np.rint(x.values / float(scale)), low, high)
        constant = self.constant(f"{path}.act_scale", scale)
        return Tensor(self.quant_node(f"{path}/act_quant", x.name, constant, bits, signed=signed), codes * float(scale))

    def max_pool(self, path: str, x: Tensor) -> Tensor:
        """3 x 3, stride 2."""
        output = f"{path}/MaxPool_output_0"
        attributes = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
        self.nodes.append(helper.make_node("MaxPool", [x.name], [output], f"{path}/MaxPool", **attributes))
        return Tensor(output, windows(x.values, 3, 2, 1, -np.inf).max(axis=(4, 5)))

    def classifier(self, x: Tensor) -> Floats:
        """Mean over the pixels, a quantizer, a linear layer with bias; returns the values of the output."""
        mean = self.node("GlobalAveragePool", "/pool", [x], x.values.mean(axis=(2, 3), keepdims=True))
        pooled = self.quant("/pool", mean, signed=False, bits=EDGE_BITS)
        features = pooled.values.reshape(1, -1)
        self.nodes.append(helper.make_node("Flatten", [pooled.name], ["/Flatten_output_0"], "/Flatten"))
        name, weight = self.weight("/fc", (self.size.classes, features.shape[1]), EDGE_BITS)
        bias: NDArray[np.float32] = self.rng.standard_normal(self.size.classes).astype(np.float32)
        operands = ["/Flatten_output_0", name, self.constant("/fc.bias", bias)]
        self.nodes.append(helper.make_node("Gemm", operands, ["output"], "/fc/Gemm", transB=1))
        values: Floats = features @ weight.T + bias
        return values


def resnet18(network: _Network, picture: Floats) -> Floats:
    """Blocks of two 3x3 convolutions: two each of 1, 2, 4 and 8 times the channels."""

    def inner(path: str, x: Tensor, channels: int, stride: int) -> Tensor:
        first = network.relu(f"{path}/act1", network.layer(f"{path}/conv1", x, channels, kernel=3, stride=stride))
        return network.layer(f"{path}/conv2", first, channels, kernel=3)

    return _resnet(network, picture, (2, 2, 2, 2), 1, inner)


def resnet50(network: _Network, picture: Floats) -> Floats:
    """Bottlenecks: 1x1, 3x3 (with the stride), 1x1 to four times the channels."""

    def inner(path: str, x: Tensor, channels: int, stride: int) -> Tensor:
        first = network.relu(f"{path}/act1", network.layer(f"{path}/conv1", x, channels // 4, kernel=1))
        second = network.layer(f"{path}/conv2", first, channels // 4, kernel=3, stride=stride)
        return network.layer(f"{path}/conv3", network.relu(f"{path}/act2", second), channels, kernel=1)

    return _resnet(network, picture, (3, 4, 6, 3), 4, inner)


Inner = Callable[[str, Tensor, int, int], Tensor]


def _resnet(network: _Network, picture: Floats, blocks: tuple[int, ...], expansion: int, inner: Inner) -> Floats:
    x = network.quant("/input", Tensor("input", picture), signed=True, bits=EDGE_BITS)
    x = network.layer("/conv1", x, network.size.channels, kernel=7, stride=2, bits=EDGE_BITS)
    x = network.max_pool("/maxpool", network.relu("/act1", x))
    for stage, count in enumerate(blocks):
        channels = network.size.channels * 2**stage * expansion
        for i in range(count):
            path, stride = f"/layer{stage + 1}.{i}", 2 if stage and not i else 1
            branch = network.quant(f"{path}/branch", inner(path, x, channels, stride), signed=True)
            if i == 0 and (stage or expansion > 1):
                x = network.layer(f"{path}/downsample", x, channels, kernel=1, stride=stride)
                x = network.quant(f"{path}/downsample", x, signed=True)
            x = network.relu(path, network.add(path, branch, x))
    return network.classifier(x)


# Of MobileNetV2: expansion, channels, blocks, stride of the first block; for 32 channels in the first layer.
_INVERTED = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
_LAST = 1280


def mobilenetv2(network: _Network, picture: Floats) -> Floats:
    """Inverted residuals: 1x1 to a multiple of the channels, 3x3 of each channel, 1x1 without an activation."""

    def scaled(channels: int) -> int:
        return max(4, channels * network.size.channels // 64)

    x = network.quant("/input", Tensor("input", picture), signed=True, bits=EDGE_BITS)
    x = network.layer("/conv1", x, scaled(32), kernel=3, stride=2, bits=EDGE_BITS)
    x = network.relu6("/act1", x)
    for stage, (expansion, channels, count, first_stride) in enumerate(_INVERTED):
        for i in range(count):
            path, source = f"/layer{stage + 1}.{i}", x
            inside = x.values.shape[1] * expansion
            if expansion > 1:
                x = network.relu6(f"{path}/act1", network.layer(f"{path}/conv1", x, inside, kernel=1))
            stride = first_stride if i == 0 else 1
            x = network.layer(f"{path}/conv2", x, inside, kernel=3, stride=stride, depthwise=True)
            x = network.layer(f"{path}/conv3", network.relu6(f"{path}/act2", x), scaled(channels), kernel=1)
            x = network.quant(f"{path}/branch", x, signed=True)
            if i:
                x = network.quant(path, network.add(path, x, source), signed=True)
    x = network.relu6("/act2", network.layer("/conv2", x, scaled(_LAST), kernel=1))
    return network.classifier(x)


BUILDERS = {"resnet18": resnet18, "mobilenetv2": mobilenetv2, "resnet50": resnet50}
NAMES = tuple(f"{kind}_w{bits}a{bits}" for bits in (4, 8) for kind in BUILDERS)


def main(arguments: list[str]) -> None:
    """Write the networks that were asked for."""
    if not arguments or not set(arguments[1:]) <= set(NAMES):
        sys.exit(__doc__)
    for name in arguments[1:] or NAMES:
        print(write_network(Path(arguments[0]), name), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
