"""Blocks of known architectures, small, as a training tool would write them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from builders import ModelBuilder

__all__ = ["ARCHITECTURES", "Net", "architecture"]

Build = Callable[["Net", str], str]


class Net(ModelBuilder):
    """Layers with random quantized weights; every method returns the name of its output."""

    def __init__(self) -> None:
        super().__init__(opset=14)
        self.rng = np.random.default_rng(11)

    def conv(self, x: str, outputs: int, inputs: int, kernel: tuple[int, ...] = (1, 1), **attributes: object) -> str:
        fan_in = inputs * int(np.prod(kernel))
        weight = self.rng.normal(0, 1.5 / fan_in**0.5, (outputs, inputs, *kernel))
        return self.node("Conv", x, self.weight(weight, 0.0625, 6), **attributes)

    def transposed(self, x: str, inputs: int, outputs: int, kernel: tuple[int, ...], **attributes: object) -> str:
        """Outputs of each group; a scale for each."""
        weight = self.rng.normal(0, 1.5 / (inputs * outputs) ** 0.5, (inputs, outputs, *kernel))
        scale = self.rng.uniform(0.04, 0.09, (1, outputs, *[1] * len(kernel)))
        return self.node("ConvTranspose", x, self.weight(weight, scale, 6), **attributes)

    def normalized(self, x: str, channels: int) -> str:
        rng = self.rng
        parts = rng.normal(1, 0.2, channels), rng.normal(0, 0.2, channels), rng.normal(0, 0.2, channels)
        return self.node(
            "BatchNormalization", x, *map(self.constant, (*parts, rng.uniform(0.5, 2, channels))), epsilon=1e-5
        )

    def act(self, x: str, signed: int = 1, bits: int = 7) -> str:
        return self.quant(x, 2.0**-4, bits, signed=signed)

    def gate(self, x: str, channels: int, squeezed: int, kind: str) -> str:
        """Squeeze and excitation."""
        mean = self.act(self.node("GlobalAveragePool", x))
        hidden = self.act(self.node("Relu", self.conv(mean, squeezed, channels)), signed=0)
        attributes = {"alpha": 1 / 6} if kind == "HardSigmoid" else {}
        gate = self.node(kind, self.conv(hidden, channels, squeezed), **attributes)
        return self.act(self.node("Mul", x, self.quant(gate, 2.0**-7, 7, signed=0)))

    def silu(self, x: str) -> str:
        return self.act(self.node("Mul", x, self.node("Sigmoid", x)))


def mobilenet_v2(m: Net, x: str) -> str:
    six = m.constant(0.0), m.constant(6.0)
    expanded = m.act(m.node("Clip", m.normalized(m.conv(x, 8, 4), 8), *six), signed=0)
    deep = m.conv(expanded, 8, 1, (3, 3), group=8, pads=[1] * 4)
    deep = m.act(m.node("Clip", m.normalized(deep, 8), *six), signed=0)
    return m.node("Add", m.act(x), m.act(m.normalized(m.conv(deep, 4, 8), 4)))


def mobilenet_v3(m: Net, x: str) -> str:
    expanded = m.act(m.node("HardSwish", m.normalized(m.conv(x, 8, 4), 8)))
    deep = m.act(m.normalized(m.conv(expanded, 8, 1, (5, 5), group=8, pads=[2] * 4, strides=[2, 2]), 8))
    return m.act(m.normalized(m.conv(m.gate(deep, 8, 2, "HardSigmoid"), 4, 8), 4))


def efficientnet(m: Net, x: str) -> str:
    expanded = m.silu(m.normalized(m.conv(x, 8, 4), 8))
    deep = m.silu(m.normalized(m.conv(expanded, 8, 1, (3, 3), group=8, pads=[1] * 4), 8))
    return m.node("Add", m.act(m.normalized(m.conv(m.gate(deep, 8, 2, "Sigmoid"), 4, 8), 4)), m.act(x))


def shufflenet(m: Net, x: str) -> str:
    grouped = m.act(m.node("Relu", m.normalized(m.conv(x, 8, 2, group=2), 8)), signed=0)
    split = m.node("Reshape", grouped, m.constant([1, 2, 4, 6, 6], dtype=np.int64))
    turned = m.node("Transpose", split, perm=[0, 2, 1, 3, 4])
    shuffled = m.node("Reshape", turned, m.constant([1, 8, 6, 6], dtype=np.int64))
    deep = m.act(m.normalized(m.conv(shuffled, 8, 1, (3, 3), group=8, pads=[1] * 4), 8))
    return m.node("Concat", m.act(m.conv(deep, 4, 4, group=2)), m.act(x), axis=1)


def shufflenet_v2(m: Net, x: str) -> str:
    """Its two units: two branches at half the size; then half of the channels goes by, and all are shuffled."""

    def unit(y: str, inputs: int, stride: int) -> str:
        y = m.act(m.node("Relu", m.normalized(m.conv(y, 4, inputs), 4)), signed=0)
        y = m.act(m.normalized(m.conv(y, 4, 1, (3, 3), group=4, pads=[1] * 4, strides=[stride] * 2), 4))
        return m.act(m.node("Relu", m.normalized(m.conv(y, 4, 4), 4)), signed=0)

    def shuffled(left: str, right: str) -> str:
        split = m.node("Reshape", m.node("Concat", left, right, axis=1), m.constant([1, 2, 4, 3, 3], dtype=np.int64))
        turned = m.node("Transpose", split, perm=[0, 2, 1, 3, 4])
        return m.node("Reshape", turned, m.constant([1, 8, 3, 3], dtype=np.int64))

    short = m.act(m.normalized(m.conv(x, 4, 1, (3, 3), group=4, pads=[1] * 4, strides=[2, 2]), 4))
    short = m.act(m.node("Relu", m.normalized(m.conv(short, 4, 4), 4)), signed=0)
    y = shuffled(short, unit(x, 4, stride=2))
    left, right = m.split(y, [4, 4], 2)  # x.chunk(2, dim=1)
    y = shuffled(left, unit(right, 4, stride=1))
    return m.act(m.node("Relu", m.normalized(m.conv(y, 6, 8), 6)), signed=0)


def keyword_spotting(m: Net, x: str) -> str:
    y = m.act(m.node("Relu", m.normalized(m.conv(x, 6, 4, (5,), pads=[2, 2], strides=[2]), 6)), signed=0)
    y = m.act(m.node("Tanh", m.normalized(m.conv(y, 6, 1, (3,), group=6, pads=[2, 2], dilations=[2]), 6)))
    y = m.node("MaxPool", m.act(m.node("Elu", m.conv(y, 8, 6, (1,)), alpha=0.5)), kernel_shape=[2], strides=[2])
    flat = m.node("Flatten", m.act(m.node("GlobalAveragePool", y)))
    return m.node("Gemm", flat, m.weight(m.rng.normal(0, 0.5, (3, 8)), 0.0625, 6), transB=1)


def autoencoder(m: Net, x: str) -> str:
    """Down by strides, up by transposed convolutions, with a skip connection as in a U-Net."""
    small = m.act(m.node("Relu", m.normalized(m.conv(x, 6, 4, (3, 3), strides=[2, 2], pads=[1] * 4), 6)), signed=0)
    deep = m.act(m.node("Relu", m.conv(small, 8, 6, (3, 3), strides=[2, 2], pads=[1] * 4)), signed=0)
    up = m.transposed(deep, 8, 6, (4, 4), strides=[2, 2], pads=[1, 1, 2, 2])
    joined = m.node("Concat", m.act(m.node("Relu", m.normalized(up, 6)), signed=0), small, axis=1)
    blown = m.act(m.transposed(joined, 12, 1, (3, 3), strides=[2, 2], pads=[1] * 4, output_padding=[1, 1], group=12))
    return m.node("Add", m.act(m.conv(blown, 4, 12), signed=1), m.act(x))


ARCHITECTURES: dict[str, tuple[Build, tuple[int, ...]]] = {
    "mobilenet_v2": (mobilenet_v2, (1, 4, 6, 6)),
    "mobilenet_v3": (mobilenet_v3, (1, 4, 6, 6)),
    "efficientnet": (efficientnet, (1, 4, 6, 6)),
    "shufflenet": (shufflenet, (1, 4, 6, 6)),
    "shufflenet_v2": (shufflenet_v2, (1, 4, 6, 6)),
    "autoencoder": (autoencoder, (1, 4, 6, 6)),
    "keyword_spotting": (keyword_spotting, (1, 4, 24)),
}


def architecture(name: str) -> Net:
    """The network of that name, its input quantized, its output named."""
    build, shape = ARCHITECTURES[name]
    m = Net()
    m.output(build(m, m.act(m.input(shape))))
    return m
