"""The networks on which the emitted C is measured: random weights of a fixed seed, scales that are powers of two.

ResNet-9 (PEFSL's, 16 feature maps, strided), ResNet-20 (CIFAR, 1x1 projections), MobileNetV1-0.25 (96 x 96, 2 classes)
and an MLP (784-128-128-10), with ReLU, in one of three spellings of the same network:

QDQ     8 bits, activations uint8, weights int8: what ONNX Runtime runs on codes, and pefslc reads
QONNX   any widths: ONNX Runtime does not run it
FLOAT   no quantizer: what the network would be in float32

A tensor below zero has the zero point 128 in QDQ, as ONNX Runtime fuses no int8 activations. The input and the output
of a QDQ file are real numbers; `on_codes` takes the quantizers at both ends away, for a comparison on codes alone.
The expected outputs are a float64 evaluation that shares no code with pefslc; every number in it is dyadic and small,
so it is exact. (A mean of nine is not dyadic, but further from a tie than float64 can err.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import numpy as np
import onnx
from network_writer import Floats, NetworkWriter, Tensor, convolution
from onnx import TensorProto, helper

__all__ = ["ARCHITECTURES", "Network", "Precision", "Spelling", "make_network", "on_codes"]

SEED, IMAGES = 13, 4
SPREAD = 3.0  # standard deviations within the codes of an activation: a few saturate


class Spelling(Enum):
    """How the file says what is quantized."""

    QDQ = "qdq"
    QONNX = "qonnx"
    FLOAT = "float"


@dataclass(frozen=True, slots=True)
class Precision:
    """Bits of the weights, which are signed, and of the activations, unsigned behind a ReLU."""

    weight_bits: int
    activation_bits: int

    def __str__(self) -> str:
        return f"w{self.weight_bits}a{self.activation_bits}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network, with inputs and what it makes of them.

    x  [IMAGES, ...] float64, on the grid of the input's quantizer
    y  [IMAGES, outputs] float64, exact
    x_scale, y_scale  the steps of both; codes are x / x_scale and y / y_scale, whole numbers, without zero points
    """

    name: str
    precision: Precision
    model: onnx.ModelProto
    x: Floats
    y: Floats
    x_scale: float
    y_scale: float
    macs: int

    def save(self, folder: Path) -> Path:
        """NAME.onnx in the folder; the same network gives the same bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}_{self.precision}.onnx"
        path.write_bytes(self.model.SerializeToString(deterministic=True))
        return path


@dataclass(frozen=True, slots=True)
class Quantized(Tensor):
    """A tensor whose values are multiples of `scale`."""

    scale: float


@dataclass(kw_only=True)
class _Network(NetworkWriter):
    """Nodes in the order of the network; each is evaluated on the images as it is made."""

    precision: Precision
    spelling: Spelling
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(SEED))
    macs: int = 0

    def images(self, *shape: int) -> Quantized:
        """[IMAGES, *shape] in [-1, 1), quantized."""
        noise = self.rng.normal(0, 0.4, (IMAGES, *shape))
        scale = 2.0 ** (1 - self.precision.activation_bits)
        half = 2 ** (self.precision.activation_bits - 1)
        values = np.clip(np.rint(noise / scale), -half, half - 1) * scale
        return self.quantize("/input", Tensor("input", values), signed=True, scale=scale)

    def conv(
        self, path: str, x: Quantized, channels: int, kernel: int, stride: int = 1, *, group: int = 1, relu: bool = True
    ) -> Quantized:
        shape = (channels, x.values.shape[1] // group, kernel, kernel)
        weight, name = self.weight(path, shape)
        values = convolution(x.values, weight.values, stride, kernel // 2)
        self.macs += values[0].size * weight.values[0].size
        values, bias = self.centred(path, values, x.scale * weight.scale)
        pad = kernel // 2
        output = self.conv_node(path, [x.name, name, bias], kernel=kernel, stride=stride, pad=pad, group=group)
        return self.activated(path, Tensor(output, values), relu=relu)

    def dense(self, path: str, x: Quantized, outputs: int, *, relu: bool = False) -> Quantized:
        weight, name = self.weight(path, (outputs, x.values.shape[1]))
        values = x.values @ weight.values.T
        self.macs += weight.values.size
        values, bias = self.centred(path, values, x.scale * weight.scale)
        output = f"{path}_output_0"
        self.nodes.append(helper.make_node("Gemm", [x.name, name, bias], [output], path, transB=1))
        return self.activated(path, Tensor(output, values), relu=relu)

    def add(self, path: str, x: Quantized, y: Quantized) -> Quantized:
        """With a ReLU."""
        return self.activated(path, self.node("Add", path, [x, y], x.values + y.values), relu=True)

    def mean(self, path: str, x: Quantized) -> Quantized:
        """[N, C] of [N, C, H, W]."""
        pooled = self.node("GlobalAveragePool", path, [x], x.values.mean(axis=(2, 3), keepdims=True))
        scale = _scale_of(pooled.values, self.codes(False))
        coded = self.quantize(f"{path}/quant", pooled, signed=False, scale=scale)
        flat = self.node("Flatten", f"{path}/Flatten", [coded], coded.values.reshape(IMAGES, -1))
        return self.quantize(f"{path}/Flatten/quant", flat, signed=False, scale=scale)

    # --- parts ---------------------------------------------------------------------------------------------------

    def codes(self, signed: bool) -> int:
        """How many codes of an activation stand for positive numbers."""
        return 2 ** (self.precision.activation_bits - signed)

    def weight(self, path: str, shape: tuple[int, ...]) -> tuple[Quantized, str]:
        """Values, and the name of the quantized constant."""
        bits = self.precision.weight_bits
        most = 2 ** (bits - 1) - 1
        codes = np.clip(np.rint(self.rng.normal(0, (most + 1) / SPREAD, shape)), -most, most)
        scale = 2.0 ** (1 - bits)
        return Quantized("", codes * scale, scale), self.quantized_constant(f"{path}/weight", codes, scale, bits)

    def centred(self, path: str, values: Floats, scale: float) -> tuple[Floats, str]:
        """Values with a bias that brings each channel's mean near 0, as trained networks have it; the bias's name."""
        channels = values.shape[1]
        means = values.mean(axis=(0, *range(2, values.ndim)))
        spread = float((values - means.reshape(-1, *[1] * (values.ndim - 2))).std())
        codes = np.rint((self.rng.normal(0, 0.5, channels) * spread - means) / scale)
        name = self.quantized_constant(f"{path}/bias", codes, scale, 24)
        return values + (codes * scale).reshape(-1, *[1] * (values.ndim - 2)), name

    def activated(self, path: str, x: Tensor, *, relu: bool) -> Quantized:
        scale = _scale_of(x.values, self.codes(not relu))
        if relu:
            x = self.node("Relu", f"{path}/Relu", [x], np.maximum(x.values, 0))
        return self.quantize(f"{path}/quant", x, signed=not relu, scale=scale)

    def quantize(self, path: str, x: Tensor, *, signed: bool, scale: float) -> Quantized:
        """x on the codes of an activation; nodes as the spelling has them."""
        bits = self.precision.activation_bits
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        values = np.clip(np.rint(x.values / scale), low, high) * scale
        step = self.constant(f"scale_{scale}", np.float32(scale))
        match self.spelling:
            case Spelling.QDQ:
                zero = self.constant(f"zero_{-low}", np.uint8(-low))
                coded = f"{path}/QuantizeLinear_output_0"
                self.nodes.append(helper.make_node("QuantizeLinear", [x.name, step, zero], [coded], f"{path}/Q"))
                name = self.dequantize(path, coded, step, zero)
            case Spelling.QONNX:
                name = self.quant_node(path, x.name, step, bits, signed=signed)
            case Spelling.FLOAT:
                name = x.name
        return Quantized(name, values, scale)

    def quantized_constant(self, path: str, codes: Floats, scale: float, bits: int) -> str:
        """The name of the values; 24 bits stand for the int32 of a bias."""
        step = self.constant(f"scale_{scale}", np.float32(scale))
        match self.spelling:
            case Spelling.QDQ:
                kind: type[np.signedinteger] = np.int8 if bits == 8 else np.int32
                zero = self.constant(f"zero_{kind.__name__}", kind(0))
                return self.dequantize(path, self.constant(f"{path}_codes", codes.astype(kind)), step, zero)
            case Spelling.QONNX:
                values = self.constant(path, (codes * scale).astype(np.float32))
                return self.quant_node(path, values, step, bits, signed=True)
            case Spelling.FLOAT:
                return self.constant(path, (codes * scale).astype(np.float32))

    def dequantize(self, path: str, codes: str, step: str, zero: str) -> str:
        name = f"{path}/DequantizeLinear_output_0"
        self.nodes.append(helper.make_node("DequantizeLinear", [codes, step, zero], [name], f"{path}/DQ"))
        return name


def _scale_of(values: Floats, codes: int) -> float:
    """The power of two at which SPREAD standard deviations are about as many codes."""
    return float(2.0 ** np.rint(np.log2(SPREAD * values.std() / codes)))


# --- architectures ---------------------------------------------------------------------------------------------------


def _resnet9(m: _Network) -> tuple[Quantized, Quantized]:
    start = x = m.images(3, 32, 32)
    for i, channels in enumerate((16, 40, 80)):
        path = f"/blocks.{i}"
        y = m.conv(f"{path}/c1", x, channels, 3)
        shortcut = m.conv(f"{path}/sc", x, channels, 1, 2, relu=False)  # here, x is needed no longer: less memory
        y = m.conv(f"{path}/c3", m.conv(f"{path}/c2", y, channels, 3), channels, 3, 2, relu=False)
        x = m.add(f"{path}/add", y, shortcut)
    return start, m.mean("/mean", x)


def _resnet20(m: _Network) -> tuple[Quantized, Quantized]:
    start = m.images(3, 32, 32)
    x = m.conv("/stem", start, 16, 3)
    for stage, channels in enumerate((16, 32, 64)):
        for i in range(3):
            path, stride = f"/stage{stage}.{i}", 2 if stage and not i else 1
            y = m.conv(f"{path}/c1", x, channels, 3, stride)
            shortcut = m.conv(f"{path}/sc", x, channels, 1, 2, relu=False) if stride == 2 else x
            x = m.add(f"{path}/add", m.conv(f"{path}/c2", y, channels, 3, relu=False), shortcut)
    return start, m.dense("/dense", m.mean("/mean", x), 10)


def _mobilenet(m: _Network) -> tuple[Quantized, Quantized]:
    start = m.images(3, 96, 96)
    x = m.conv("/stem", start, 8, 3, 2)
    widths = (16, 32, 32, 64, 64, *[128] * 6, 256, 256)
    for i, channels in enumerate(widths):
        stride = 2 if i in (1, 3, 5, 11) else 1
        x = m.conv(f"/dw{i}", x, x.values.shape[1], 3, stride, group=x.values.shape[1])
        x = m.conv(f"/pw{i}", x, channels, 1)
    return start, m.dense("/dense", m.mean("/mean", x), 2)


def _mlp(m: _Network) -> tuple[Quantized, Quantized]:
    start = m.images(784)
    x = m.dense("/d0", start, 128, relu=True)
    return start, m.dense("/d2", m.dense("/d1", x, 128, relu=True), 10)


ARCHITECTURES: dict[str, Callable[[_Network], tuple[Quantized, Quantized]]] = {
    "resnet9": _resnet9,
    "resnet20": _resnet20,
    "mobilenet": _mobilenet,
    "mlp": _mlp,
}


def make_network(name: str, precision: Precision, spelling: Spelling) -> Network:
    """A network of ARCHITECTURES. QDQ has 8 bits only."""
    assert spelling is not Spelling.QDQ or precision == Precision(8, 8)
    m = _Network(precision=precision, spelling=spelling)
    x, y = ARCHITECTURES[name](m)
    m.nodes[-1].output[0] = "output"
    model = m.proto([1, *x.values.shape[1:]], [1, *y.values.shape[1:]])
    if spelling is not Spelling.QONNX:
        del model.opset_import[1:]
    return Network(
        name=name, precision=precision, model=model, x=x.values, y=y.values, x_scale=x.scale, y_scale=y.scale,
        macs=m.macs,
    )  # fmt: skip


def on_codes(model: onnx.ModelProto) -> onnx.ModelProto:
    """A QDQ network from uint8 to uint8: without its first QuantizeLinear and its last DequantizeLinear."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    graph = cut.graph
    first = next(n for n in graph.node if n.input[0] == graph.input[0].name)
    last = next(n for n in graph.node if n.output[0] == graph.output[0].name)
    assert (first.op_type, last.op_type) == ("QuantizeLinear", "DequantizeLinear")
    graph.input[0].name, graph.output[0].name = first.output[0], last.input[0]
    for end in (graph.input[0], graph.output[0]):
        end.type.tensor_type.elem_type = TensorProto.UINT8
    graph.node.remove(first)
    graph.node.remove(last)
    return cut
