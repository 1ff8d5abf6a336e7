"""Small QONNX models for tests: one node at a time, or random networks that use everything the importer supports."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pefslc.analysis.limits import TargetLimits
from pefslc.diagnostics.errors import CompileError
from pefslc.frontend import import_model
from pefslc.ir.graph import Graph
from pefslc.passes.manager import run_passes
from pefslc.passes.pipeline import pipeline

__all__ = [
    "QONNX",
    "WIDE",
    "Feature",
    "ModelBuilder",
    "import_bytes",
    "lower",
    "random_network",
    "refusal_of",
    "without_quantizers",
]

QONNX = "qonnx.custom_op.general"
WIDE = TargetLimits(accumulator_bits=64, accumulator_name="int64")


@dataclass
class ModelBuilder:
    """A model under construction. Every method that adds a node returns the name of its output."""

    opset: int = 13
    quant_domain: str = QONNX
    quant_version: int = 2
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)

    def input(self, shape: Sequence[int | str | None] | None, name: str = "x", dtype: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def constant(self, array: object, name: str | None = None, dtype: type = np.float32) -> str:
        name = name or f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array, dtype=dtype), name))
        return name

    def node(
        self,
        op: str,
        *inputs: str,
        output: str | None = None,
        domain: str = "",
        name: str | None = None,
        **attrs: object,
    ) -> str:
        output = output or f"t{len(self.nodes)}"
        name = f"{op.lower()}{len(self.nodes)}" if name is None else name
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, domain=domain, **attrs))
        return output

    def split(self, x: str, sizes: Sequence[int] | None, count: int, axis: int = 1, **attrs: object) -> list[str]:
        """The names of the parts of a Split; their sizes are where the opset wants them, equal if None."""
        names = [f"t{len(self.nodes)}.{i}" for i in range(count)]
        inputs = [x]
        if sizes is not None and self.opset < 13:
            attrs["split"] = list(sizes)
        elif sizes is not None:
            inputs.append(self.constant(sizes, dtype=np.int64))
        elif self.opset >= 18:
            attrs["num_outputs"] = count
        name = f"split{len(self.nodes)}"
        self.nodes.append(helper.make_node("Split", inputs, names, name=name, axis=axis, **attrs))
        return names

    def quant(
        self, x: str, scale: object = 0.125, bits: float = 5, *, signed: int = 1, narrow: int = 0,
        rounding: str | None = "ROUND", zero_point: float = 0, op: str = "Quant", output: str | None = None,
    ) -> str:  # fmt: skip
        attrs: dict[str, object] = {"signed": signed, "narrow": narrow}
        if rounding is not None:
            attrs["rounding_mode"] = rounding
        parameters = (self.constant(scale), self.constant(zero_point), self.constant(bits))
        return self.node(op, x, *parameters, domain=self.quant_domain, output=output, **attrs)

    def weight(self, array: object, scale: object = 0.125, bits: int = 5, **kwargs: object) -> str:
        """A quantized constant."""
        return self.quant(self.constant(array), scale, bits, **kwargs)  # type: ignore[arg-type]

    def output(self, name: str, shape: Sequence[int] | None = None, kind: int = TensorProto.FLOAT) -> str:
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def build(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "model", self.inputs, self.outputs, self.initializers)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(self.quant_domain, self.quant_version)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def save(self, folder: Path, name: str = "model.onnx") -> Path:
        path = folder / name
        path.write_bytes(self.build().SerializeToString())
        return path


def normal(shape: Sequence[int], std: float = 1.0, seed: int = 0) -> NDArray[np.float64]:
    """The same numbers for the same arguments, whichever tests ran before, and in which process."""
    return np.random.default_rng([seed, *shape]).normal(0, std, shape)


def import_bytes(model: onnx.ModelProto | ModelBuilder, folder: Path) -> Graph:
    """The quantized-level graph of a model, through a file as a user's would come."""
    proto = model.build() if isinstance(model, ModelBuilder) else model
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return import_model(path)


def refusal_of(model: onnx.ModelProto | ModelBuilder, folder: Path) -> str:
    """The text of the refusal, without the shapes of tensors: tests/errors/test_all_problems.py is about them."""
    with pytest.raises(CompileError) as caught:
        import_bytes(model, folder)
    return re.sub(r"(tensor '.*'), shape \[[\d, ]*\]", r"\1", str(caught.value))


def lower(graph: Graph, limits: TargetLimits = WIDE) -> Graph:
    """The integer-level graph after the whole pipeline, every pass compared with the interpreter."""
    return run_passes(graph, pipeline(limits), check=True)[0]


@dataclass(frozen=True, slots=True)
class Feature:
    """What a random network may hold. All scales are powers of two unless `float_scales`."""

    batch_norm: bool = True
    float_scales: bool = False
    residual: bool = True
    concat: bool = True
    split: bool = True
    average_pool: bool = True
    transposed: bool = False
    float_bias: bool = True
    leaky: bool = True
    rounding: tuple[str, ...] = ("ROUND",)
    most_bits: int = 6
    most_channels: int = 5  # of a convolution's result
    most_pixels: int = 8  # rows and columns of the input


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    channels: int
    size: int
    scale: float | None  # of a quantized tensor with a power-of-two scale


def random_network(seed: int, feature: Feature = Feature(), *, blocks: int = 3) -> onnx.ModelProto:
    """A small convolutional network: input Quant, some blocks, a classifier. The same seed gives the same bytes."""
    return _Random(seed, feature).network(blocks)


def without_quantizers(model: onnx.ModelProto) -> onnx.ModelProto:
    """The float network: every Quant replaced by its input."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    alias: dict[str, str] = {}
    kept = []
    for node in model.graph.node:
        node.input[:] = [alias.get(name, name) for name in node.input]
        if node.op_type == "Quant":
            alias[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    for output in model.graph.output:
        if output.name in alias:
            model.graph.node.append(helper.make_node("Identity", [alias[output.name]], [output.name], name="out"))
    return model


class _Random:
    def __init__(self, seed: int, feature: Feature) -> None:
        self.rng = np.random.default_rng(seed)
        self.feature = feature
        self.m = ModelBuilder()

    def network(self, blocks: int) -> onnx.ModelProto:
        channels, size = int(self.rng.integers(1, 4)), int(self.rng.integers(5, self.feature.most_pixels + 1))
        x = self.m.input([1, channels, size, size], "input")
        current = self.quant(_Tensor(x, channels, size, None), signed=True)
        kinds = ["conv", "conv", "max_pool"]
        kinds += ["residual"] * self.feature.residual + ["concat"] * self.feature.concat
        kinds += ["split"] * self.feature.split
        kinds += ["average_pool"] * self.feature.average_pool + ["transposed"] * 2 * self.feature.transposed
        for _ in range(blocks):
            current = getattr(self, str(self.rng.choice(kinds)))(current)
        self.classifier(current)
        return self.m.build()

    # --- pieces --------------------------------------------------------------------------------------------------

    def chance(self, probability: float = 0.5) -> bool:
        return bool(self.rng.random() < probability)

    def bits(self) -> int:
        return int(self.rng.integers(2, self.feature.most_bits + 1))

    def scale(self) -> float:
        if self.feature.float_scales and self.chance(0.6):
            return float(np.float32(self.rng.uniform(0.03, 0.5)))
        return float(2.0 ** -self.rng.integers(1, 5))

    def quant(self, x: _Tensor, *, signed: bool | None = None, dyadic: bool = False) -> _Tensor:
        signed = self.chance() if signed is None else signed
        scale = 2.0 ** -int(self.rng.integers(1, 5)) if dyadic else self.scale()
        rounding = str(self.rng.choice(self.feature.rounding))
        name = self.m.quant(
            x.name, scale, self.bits(), signed=int(signed), narrow=int(self.chance(0.2)), rounding=rounding
        )
        return _Tensor(name, x.channels, x.size, scale)

    def weight(self, shape: tuple[int, ...], channel_axis: int = 0) -> tuple[str, NDArray[np.float64]]:
        """A quantized weight, and its scale [C_out] or []."""
        scale = np.array(self.scale())
        if self.feature.float_scales and self.chance():
            scale = np.float32(self.rng.uniform(0.05, 0.3, shape[channel_axis])).astype(np.float64)
        data = self.rng.normal(0, 0.5, shape)
        shaped = scale.reshape([-1 if a == channel_axis else 1 for a in range(len(shape))]) if scale.ndim else scale
        return self.m.weight(data, shaped, self.bits(), narrow=int(self.chance(0.3))), scale

    def bias(self, outputs: int, input_scale: float | None, weight_scale: NDArray[np.float64]) -> str:
        data = self.rng.normal(0, 0.5, outputs)
        if self.feature.float_bias and self.chance():
            return self.m.constant(data)
        if self.chance() and input_scale is not None and not self.feature.float_scales:
            return self.m.weight(data, input_scale * weight_scale, 16)  # on the accumulator's grid
        return self.m.weight(data, 2.0**-6, 8)

    def conv(self, x: _Tensor, *, dyadic: bool = False, same_size: bool = False) -> _Tensor:
        groups = x.channels if self.chance(0.2) else 1
        outputs = (
            groups * int(self.rng.integers(1, 3))
            if groups > 1
            else int(self.rng.integers(1, self.feature.most_channels + 1))
        )
        kernel = 3 if same_size or (self.chance(0.7) and x.size >= 3) else 1
        pad, stride, dilation = kernel // 2, 1, 1
        if not same_size:
            pad = int(self.rng.integers(0, 2)) if kernel == 3 else 0
            stride = int(self.rng.integers(1, 3))
            dilation = 2 if kernel == 3 and x.size + 2 * pad >= 5 and self.chance(0.2) else 1
        weight, weight_scale = self.weight((outputs, x.channels // groups, kernel, kernel))
        inputs = [x.name, weight]
        if self.chance():
            inputs.append(self.bias(outputs, x.scale, weight_scale))
        name = self.m.node(
            "Conv", *inputs, group=groups, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4,
            dilations=[dilation] * 2,
        )  # fmt: skip
        size = (x.size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
        return self.quant(self.activation(self.batch_norm(_Tensor(name, outputs, size, None))), dyadic=dyadic)

    def transposed(self, x: _Tensor) -> _Tensor:
        """A transposed convolution that makes the image larger by up to three, or keeps it where it is large."""
        groups = x.channels if self.chance(0.2) else 1
        outputs = int(self.rng.integers(1, 3 if groups > 1 else self.feature.most_channels + 1))
        kernel = int(self.rng.integers(1, 5))
        stride = 1 if x.size > 2 * self.feature.most_pixels else int(self.rng.integers(1, 4))
        dilation = 2 if self.chance(0.2) else 1
        extent = (kernel - 1) * dilation + 1
        crop, added = int(self.rng.integers(0, extent)) // 2, int(self.rng.integers(0, 2))
        weight, weight_scale = self.weight((x.channels, outputs, kernel, kernel), channel_axis=1)
        inputs = [x.name, weight]
        if self.chance() and groups == 1:
            inputs.append(self.bias(outputs, x.scale, weight_scale))
        name = self.m.node(
            "ConvTranspose", *inputs, group=groups, kernel_shape=[kernel] * 2, strides=[stride] * 2,
            pads=[crop] * 4, dilations=[dilation] * 2, output_padding=[added] * 2,
        )  # fmt: skip
        size = (x.size - 1) * stride + extent - 2 * crop + added
        return self.quant(self.activation(self.batch_norm(_Tensor(name, outputs * groups, size, None))))

    def batch_norm(self, x: _Tensor) -> _Tensor:
        if not self.feature.batch_norm or self.chance():
            return x
        gamma = self.rng.normal(0.5, 1, x.channels)
        gamma[self.rng.random(x.channels) < 0.1] = 0
        parts = (gamma, self.rng.normal(0, 0.5, x.channels), self.rng.normal(0, 0.5, x.channels))
        variance = self.rng.uniform(0.1, 2, x.channels)
        names = [self.m.constant(part) for part in (*parts, variance)]
        return _Tensor(self.m.node("BatchNormalization", x.name, *names, epsilon=1e-5), x.channels, x.size, None)

    def activation(self, x: _Tensor) -> _Tensor:
        kind = str(self.rng.choice(["none", "relu", "relu", "clip", "leaky", "prelu"]))
        if kind == "none" or (kind in ("leaky", "prelu") and not self.feature.leaky):
            return x
        if kind == "relu":
            name = self.m.node("Relu", x.name)
        elif kind == "clip":
            name = self.m.node("Clip", x.name, self.m.constant(0.0), self.m.constant(1.5))
        elif kind == "leaky":
            name = self.m.node("LeakyRelu", x.name, alpha=0.125)
        else:
            slopes = self.rng.uniform(-0.2 if self.chance(0.3) else 0, 1.2, (x.channels, 1, 1))
            name = self.m.node("PRelu", x.name, self.m.constant(slopes))
        return _Tensor(name, x.channels, x.size, None)

    # --- blocks --------------------------------------------------------------------------------------------------

    def max_pool(self, x: _Tensor) -> _Tensor:
        if x.size < 3:
            return x
        stride = int(self.rng.integers(1, 3))
        pad = int(self.rng.integers(0, 2))
        name = self.m.node("MaxPool", x.name, kernel_shape=[3, 3], strides=[stride] * 2, pads=[pad] * 4)
        return _Tensor(name, x.channels, (x.size + 2 * pad - 3) // stride + 1, x.scale)

    def average_pool(self, x: _Tensor) -> _Tensor:
        kernel = int(self.rng.integers(2, 4))
        if x.size < kernel:
            return x
        pad = int(self.rng.integers(0, 2))
        name = self.m.node(
            "AveragePool", x.name, kernel_shape=[kernel] * 2, strides=[1, 1], pads=[pad] * 4, count_include_pad=1
        )
        return self.quant(_Tensor(name, x.channels, x.size + 2 * pad - kernel + 1, None))

    def residual(self, x: _Tensor) -> _Tensor:
        """Both branches on power-of-two scales, in general different ones."""
        shortcut = self.quant(x, dyadic=True)
        weight, _ = self.weight((x.channels, x.channels, 3, 3))
        main = self.m.node("Conv", x.name, weight, kernel_shape=[3, 3], pads=[1] * 4)
        branch = self.quant(self.batch_norm(_Tensor(main, x.channels, x.size, None)), dyadic=True)
        op = "Sub" if self.chance(0.3) else "Add"
        total = _Tensor(self.m.node(op, branch.name, shortcut.name), x.channels, x.size, None)
        return self.quant(self.activation(total))

    def concat(self, x: _Tensor) -> _Tensor:
        left = self.conv(x, dyadic=True, same_size=True)
        right = self.conv(x, dyadic=True, same_size=True)
        name = self.m.node("Concat", left.name, right.name, axis=1)
        joined = _Tensor(name, left.channels + right.channels, x.size, None)
        return self.quant(joined) if self.chance() else joined

    def split(self, x: _Tensor) -> _Tensor:
        """Some channels pass a convolution, the others go by: ShuffleNetV2's unit, by Split or Slice."""
        if x.channels < 2:
            return x
        first = int(self.rng.integers(1, x.channels))
        if self.chance():
            left, right = self.m.split(x.name, [first, x.channels - first], 2)
        else:
            start, at, end, axes = (self.m.constant([v], dtype=np.int64) for v in (0, first, 2**63 - 1, 1))
            left, right = self.m.node("Slice", x.name, start, at, axes), self.m.node("Slice", x.name, at, end, axes)
        deep = self.conv(_Tensor(left, first, x.size, x.scale), dyadic=True, same_size=True)
        other = self.quant(_Tensor(right, x.channels - first, x.size, x.scale), dyadic=True)
        joined = self.m.node("Concat", deep.name, other.name, axis=1)
        return _Tensor(joined, deep.channels + other.channels, x.size, None)

    def classifier(self, x: _Tensor) -> None:
        features = x.channels
        if self.feature.average_pool and self.chance():
            pooled = _Tensor(self.m.node("GlobalAveragePool", x.name), x.channels, 1, None)
            flat = self.m.node("Flatten", self.quant(pooled).name)
        else:
            features *= x.size * x.size
            flat = self.m.node("Reshape", x.name, self.m.constant([1, -1], dtype=np.int64))
        outputs = int(self.rng.integers(2, 5))
        weight, weight_scale = self.weight((outputs, features))
        if self.chance():
            bias = [self.bias(outputs, x.scale, weight_scale)] if self.chance() else []
            name = self.m.node("Gemm", flat, weight, *bias, transB=1)
        else:
            name = self.m.node("MatMul", flat, self.m.node("Transpose", weight, perm=[1, 0]))
        result = _Tensor(name, outputs, 1, None)
        self.m.output((self.quant(result) if self.chance(0.3) else result).name, [1, outputs])
