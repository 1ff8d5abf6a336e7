"""Networks as ONNX Runtime's quantize_static writes them, node for node, and their exact outputs; without it.

QDQ: each tensor goes through QuantizeLinear and DequantizeLinear; weights and int32 biases are stored as integers.
QOperator: operators on codes, with the scales and zero points of operands and result. A ReLU behind a convolution goes
where the codes start at 0 (asymmetric activations), else it stays a node. Where the network is built, its codes are
computed, too: sums of int64, each result rounded as an exact rational.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from builders import ModelBuilder

__all__ = ["NETWORKS", "Quantized", "StaticNetwork"]

Codes = NDArray[np.int64]
MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Quantized:
    """A tensor: its name, of values (QDQ) or of codes (QOperator); the codes for the input; names of the parameters."""

    name: str
    codes: Codes
    scale: Fraction
    zero: int
    parameters: tuple[str, str]

    @property
    def values(self) -> NDArray[np.object_]:
        return (self.codes.astype(object) - self.zero) * self.scale


@dataclass
class StaticNetwork(ModelBuilder):
    """A network under construction, and what it makes of the input [1, C, H, W].

    kind      the type of activations
    weights   the type of weights; int8 ones are symmetric
    """

    qdq: bool = True
    kind: type = np.uint8
    weights: type = np.int8
    per_channel: bool = True
    symmetric: bool = False
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(5))

    def start(self, x: NDArray[np.float32]) -> Quantized:
        values = np.vectorize(lambda v: Fraction(float(v)), otypes="O")(x)
        return self._quantized(self.input(x.shape), values)

    def end(self, x: Quantized) -> None:
        self.output(x.name if self.qdq else self.node("DequantizeLinear", x.name, *x.parameters))

    def conv(
        self, x: Quantized, outputs: int, size: int = 3, stride: int = 1, groups: int = 1, act: str | None = "Relu"
    ) -> Quantized:
        channels, pad = x.codes.shape[1], size // 2
        codes, steps, zeros, weight = self._weight((outputs, channels // groups, size, size), 0)
        bias, offsets = self._bias(outputs, x, steps)
        padded = np.pad(x.codes - x.zero, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(2, 3))
        windows = windows[:, :, ::stride, ::stride].reshape(1, groups, channels // groups, -1, size * size)
        kernel = (codes - zeros.reshape(-1, 1, 1, 1)).reshape(groups, outputs // groups, channels // groups, -1)
        sums = np.einsum("ngcpk,gock->ngop", windows, kernel).reshape(1, outputs, -1)
        height, width = (-(-n // stride) for n in x.codes.shape[2:])
        sums = sums.reshape(1, outputs, height, width)
        shape = {"kernel_shape": [size] * 2, "pads": [pad] * 4, "strides": [stride] * 2, "group": groups}
        return self._product("Conv", "QLinearConv", "", x, weight, bias, (sums, steps, offsets), act, shape)

    def conv_transpose(self, x: Quantized, outputs: int) -> Quantized:
        """2 x 2, of stride 2: in QDQ only, ONNX Runtime has no operator on codes for it."""
        codes, steps, zeros, weight = self._weight((x.codes.shape[1], outputs, 2, 2), 1)
        bias, offsets = self._bias(outputs, x, steps)
        kernel = codes - zeros.reshape(1, -1, 1, 1)
        taps = np.einsum("nchw,coab->nohawb", x.codes - x.zero, kernel)
        sums = taps.reshape(1, outputs, 2 * taps.shape[2], 2 * taps.shape[4])
        shape = {"kernel_shape": [2, 2], "strides": [2, 2]}
        return self._product("ConvTranspose", "", "", x, weight, bias, (sums, steps, offsets), None, shape)

    def dense(self, x: Quantized, outputs: int) -> Quantized:
        codes, steps, zeros, weight = self._weight((outputs, x.codes.shape[1]), 0)
        bias, offsets = self._bias(outputs, x, steps)
        sums = (x.codes - x.zero) @ (codes - zeros.reshape(-1, 1)).T
        return self._product(
            "Gemm", "QGemm", MICROSOFT, x, weight, bias, (sums, steps, offsets), None, {"transB": 1, "alpha": 1.0}
        )

    def add(self, x: Quantized, y: Quantized, act: str | None = None) -> Quantized:
        values = x.values + y.values
        if self.qdq:
            return self._activated(self.node("Add", x.name, y.name), values, act)
        clipped = self._clipped(values, act)
        operands = (x.name, *x.parameters, y.name, *y.parameters)
        return self._on_codes("QLinearAdd", operands, clipped)

    def concat(self, *parts: Quantized) -> Quantized:
        values = np.concatenate([part.values for part in parts], axis=1)
        if self.qdq:
            return self._quantized(self.node("Concat", *(part.name for part in parts), axis=1), values)
        result, parameters = self._chosen(values)
        operands = [name for part in parts for name in (part.name, *part.parameters)]
        name = self.node("QLinearConcat", *parameters, *operands, domain=MICROSOFT, axis=1)
        return Quantized(name, *result, parameters)

    def mean(self, x: Quantized) -> Quantized:
        values = x.values.sum(axis=(2, 3), keepdims=True) / (x.codes.shape[2] * x.codes.shape[3])
        if self.qdq:
            return self._quantized(self.node("GlobalAveragePool", x.name), values)
        return self._on_codes("QLinearGlobalAveragePool", (x.name, *x.parameters), values, channels_last=0)

    def flatten(self, x: Quantized) -> Quantized:
        return self._moved(x, x.codes.reshape(1, -1), "Flatten", axis=1)

    def pool(self, x: Quantized) -> Quantized:
        n, c, h, w = x.codes.shape
        codes = x.codes.reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))
        return self._moved(x, codes, "MaxPool", kernel_shape=[2, 2], strides=[2, 2])

    def up(self, x: Quantized) -> Quantized:
        modes = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        codes = x.codes.repeat(2, axis=2).repeat(2, axis=3)
        return self._moved(x, codes, "Resize", "", self.constant([1, 1, 2, 2]), **modes)

    def build(self) -> onnx.ModelProto:
        model = super().build()
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
        return model

    def _moved(self, x: Quantized, codes: Codes, op: str, *operands: str, **attrs: object) -> Quantized:
        """What moves codes, or chooses among them: the result has the same parameters."""
        name = self.node(op, x.name, *operands, **attrs)
        return Quantized(self._pair(name, x.parameters) if self.qdq else name, codes, x.scale, x.zero, x.parameters)

    def _product(
        self, op: str, on_codes: str, domain: str, x: Quantized, weight: tuple[str, str, str], bias: tuple[str, ...],
        exact: tuple[Codes, list[Fraction], list[Fraction]], act: str | None, attrs: dict[str, object],
    ) -> Quantized:  # fmt: skip
        sums, steps, offsets = exact
        values = sums.astype(object)
        for channel, (step, offset) in enumerate(zip(steps, offsets, strict=True)):
            values[:, channel] = values[:, channel] * (x.scale * step) + offset
        if self.qdq:
            axis = int(op == "ConvTranspose")
            kernel = self.node("DequantizeLinear", *weight, axis=axis)
            added = self.node("DequantizeLinear", *bias, axis=0)
            return self._activated(self.node(op, x.name, kernel, added, **attrs), values, act)
        result, parameters = self._chosen(self._clipped(values, act))
        operands = (x.name, *x.parameters, *weight)
        last = (bias[0], *parameters) if op == "Gemm" else (*parameters, bias[0])
        return Quantized(self.node(on_codes, *operands, *last, domain=domain, **attrs), *result, parameters)

    def _activated(self, name: str, values: NDArray[np.object_], act: str | None) -> Quantized:
        """A symmetric quantizer has codes below 0: the activation stays a node."""
        if act and self.symmetric:
            limits = [self.constant(v) for v in (0, 6)] if act == "Clip" else []
            name = self.node(act, name, *limits)
        return self._quantized(name, self._clipped(values, act))

    def _clipped(self, values: NDArray[np.object_], act: str | None) -> NDArray[np.object_]:
        if act is None:
            return values
        positive = np.maximum(values, Fraction(0))
        return np.minimum(positive, Fraction(6)) if act == "Clip" else positive

    def _on_codes(self, op: str, operands: tuple[str, ...], values: NDArray[np.object_], **attrs: object) -> Quantized:
        result, parameters = self._chosen(values)
        return Quantized(self.node(op, *operands, *parameters, domain=MICROSOFT, **attrs), *result, parameters)

    def _quantized(self, name: str, values: NDArray[np.object_]) -> Quantized:
        result, parameters = self._chosen(values)
        if self.qdq:
            return Quantized(self._pair(name, parameters), *result, parameters)
        return Quantized(self.node("QuantizeLinear", name, *parameters), *result, parameters)

    def _pair(self, name: str, parameters: tuple[str, str]) -> str:
        return self.node("DequantizeLinear", self.node("QuantizeLinear", name, *parameters), *parameters)

    def _chosen(self, values: NDArray[np.object_]) -> tuple[tuple[Codes, Fraction, int], tuple[str, str]]:
        """Codes, scale, zero point, of three quarters of the range: calibrated with data of another kind."""
        limits = np.iinfo(self.kind)
        low, high = (0.75 * float(v) for v in (min(values.min(), 0), max(values.max(), 0)))
        if self.symmetric:
            step, zero = np.float32(max(-low, high) / limits.max), 0
        else:
            step = np.float32((high - low) / 255)
            zero = int(np.clip(limits.min + round(-low / float(step)), limits.min, limits.max))
        scale = Fraction(float(step))
        rounded = np.vectorize(lambda v: round(v / scale), otypes="O")(values) + zero
        codes = np.clip(rounded, limits.min, limits.max).astype(np.int64)
        return (codes, scale, zero), (self.constant(step), self.constant(zero, dtype=self.kind))

    def _weight(self, shape: tuple[int, ...], axis: int) -> tuple[Codes, list[Fraction], Codes, tuple[str, str, str]]:
        """Codes, a step for each channel, a zero point for each, names. Channels lie along `axis`."""
        values = self.rng.normal(0, (2 / np.prod(shape[2:], initial=shape[1 - axis])) ** 0.5, shape)
        others = tuple(i for i in range(len(shape)) if i != axis) if self.per_channel else None
        low, high = (values.min(axis=others), values.max(axis=others))
        if self.weights is np.int8:
            steps, zeros = np.float32(np.maximum(-low, high) / 127), np.zeros_like(low, dtype=np.int64)
        else:
            steps = np.float32((high - low) / 255)
            zeros = np.rint(-low / steps).astype(np.int64)
        along = [-1 if i == axis and self.per_channel else 1 for i in range(len(shape))]
        limits = np.iinfo(self.weights)
        codes = np.rint(values / np.reshape(steps, along)) + np.reshape(zeros, along)
        codes = np.clip(codes, limits.min, limits.max).astype(np.int64)
        names = (
            self.constant(codes, dtype=self.weights), self.constant(steps), self.constant(zeros, dtype=self.weights),
        )  # fmt: skip
        count = shape[axis]
        exact = [Fraction(float(v)) for v in np.broadcast_to(steps, count)]
        return codes, exact, np.broadcast_to(zeros, count), names

    def _bias(self, outputs: int, x: Quantized, steps: list[Fraction]) -> tuple[tuple[str, ...], list[Fraction]]:
        """Names of codes, scale and zero point; the exact values. In QDQ the scale is rounded to float32."""
        products = [x.scale * step for step in steps]
        scales = [np.float32(float(p)) for p in products]
        codes = np.array([round(v / float(p)) for v, p in zip(self.rng.normal(0, 0.1, outputs), products, strict=True)])
        stored = self.constant(codes, dtype=np.int32)
        if not self.qdq:
            return (stored,), [int(c) * p for c, p in zip(codes, products, strict=True)]
        kept = scales if self.per_channel else scales[0]
        zeros = np.zeros(outputs if self.per_channel else (), dtype=np.int64)
        names = (stored, self.constant(kept), self.constant(zeros, dtype=np.int32))
        return names, [int(c) * Fraction(float(s)) for c, s in zip(codes, scales, strict=True)]


def resnet(m: StaticNetwork, x: Quantized) -> Quantized:
    """A stem, a block with and one without a projection, mean and dense layer: ResNet-18's parts."""
    x = m.conv(x, 8)
    x = m.add(m.conv(m.conv(x, 8), 8, act=None), x, act="Relu")
    y = m.conv(m.conv(x, 12, stride=2), 12, act=None)
    x = m.add(y, m.conv(x, 12, 1, 2, act=None), act="Relu")
    return m.dense(m.flatten(m.mean(x)), 5)


def mobilenet_v2(m: StaticNetwork, x: Quantized) -> Quantized:
    """ReLU6, depthwise convolutions, linear bottlenecks with and without a residual."""
    x = m.conv(x, 6, stride=2, act="Clip")
    x = m.conv(m.conv(x, 6, groups=6, act="Clip"), 4, 1, act=None)
    y = m.conv(m.conv(x, 16, 1, act="Clip"), 16, groups=16, act="Clip")
    x = m.add(x, m.conv(y, 4, 1, act=None))
    y = m.conv(m.conv(x, 16, 1, act="Clip"), 16, stride=2, groups=16, act="Clip")
    x = m.conv(m.conv(y, 8, 1, act=None), 20, 1, act="Clip")
    return m.dense(m.flatten(m.mean(x)), 5)


def unet(m: StaticNetwork, x: Quantized, up: Callable[[StaticNetwork, Quantized, int], Quantized]) -> Quantized:
    """Two skips by Concat."""
    skips = []
    for outputs in (4, 8):
        x = m.conv(m.conv(x, outputs), outputs)
        skips.append(x)
        x = m.pool(x)
    x = m.conv(x, 16)
    for skip, outputs in zip(reversed(skips), (8, 4), strict=True):
        x = m.conv(m.concat(skip, up(m, x, outputs)), outputs)
    return m.conv(x, 3, 1, act=None)


NETWORKS: dict[str, Callable[[StaticNetwork, Quantized], Quantized]] = {
    "resnet": resnet,
    "mobilenet_v2": mobilenet_v2,
    "unet": lambda m, x: unet(m, x, lambda m, x, outputs: m.conv_transpose(x, outputs)),
    "unet_resize": lambda m, x: unet(m, x, lambda m, x, outputs: m.conv(m.up(x), outputs)),
}
