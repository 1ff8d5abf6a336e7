"""Float networks of well-known shapes with random weights, node for node as torch exports them in eval mode.

They are what exporters quantize. BatchNormalization stands in them where torch leaves it; weights are such that
activations keep their size from layer to layer. The same bytes each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["NETWORKS", "float_network", "inputs_of"]

OPSET = 17


@dataclass
class Net:
    """A network under construction. Every method that adds nodes returns the name of their result.

    keeps_batch_norm  whether each convolution is followed by a BatchNormalization, or has a bias instead
    """

    keeps_batch_norm: bool = True
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(2024))

    def node(self, op: str, *inputs: str, **attributes: object) -> str:
        result = f"/{op}_{len(self.nodes)}_output_0"
        self.nodes.append(helper.make_node(op, inputs, [result], name=f"/{op}_{len(self.nodes)}", **attributes))
        return result

    def constant(self, array: NDArray[np.generic]) -> str:
        name = f"onnx::{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def conv(
        self, x: str, inputs: int, outputs: int, kernel: int | tuple[int, int] = 3, stride: int = 1, groups: int = 1,
        act: str | None = "Relu", norm: bool | None = None, **attributes: object,
    ) -> str:  # fmt: skip
        """Conv, BatchNormalization, activation."""
        rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
        fan_in = inputs // groups * rows * columns
        weight = self._normal((outputs, inputs // groups, rows, columns), (2 / fan_in) ** 0.5)
        norm = self.keeps_batch_norm if norm is None else norm
        operands = [x, weight] if norm else [x, weight, self._normal((outputs,), 0.1)]
        padding = [rows // 2, columns // 2] * 2
        shape = {"kernel_shape": [rows, columns], "pads": padding, "strides": [stride] * 2, "group": groups}
        x = self.node("Conv", *operands, **shape, **attributes)
        return self.act(self.batch_norm(x, outputs) if norm else x, act)

    def batch_norm(self, x: str, channels: int) -> str:
        gamma, var = (self.rng.uniform(low, high, channels) for low, high in ((0.7, 1.3), (0.5, 1.5)))
        beta, mean = (self.rng.normal(0, 0.1, channels) for _ in range(2))
        parameters = [self.constant(p.astype(np.float32)) for p in (gamma, beta, mean, var)]
        return self.node("BatchNormalization", x, *parameters, epsilon=1e-5)

    def act(self, x: str, act: str | None) -> str:
        match act:
            case None:
                return x
            case "Relu6":  # as torch writes nn.ReLU6
                low, high = (self.constant(np.array(v, np.float32)) for v in (0, 6))
                return self.node("Clip", x, low, high)
            case "Silu":
                return self.node("Mul", x, self.node("Sigmoid", x))
            case "LeakyRelu":
                return self.node("LeakyRelu", x, alpha=0.1)
        return self.node(act, x)

    def dense(self, x: str, inputs: int, outputs: int, act: str | None = None) -> str:
        weight, bias = self._normal((outputs, inputs), inputs**-0.5), self._normal((outputs,), 0.1)
        return self.act(self.node("Gemm", x, weight, bias, alpha=1.0, beta=1.0, transB=1), act)

    def classifier(self, x: str, channels: int, classes: int = 10) -> str:
        x = self.node("Flatten", self.node("GlobalAveragePool", x), axis=1)
        return self.dense(x, channels, classes)

    def up(self, x: str) -> str:
        """torch.nn.Upsample(scale_factor=2)."""
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        modes = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        return self.node("Resize", x, "", scales, **modes)

    def pool(self, x: str, size: int = 2, stride: int = 2, pad: int = 0) -> str:
        return self.node("MaxPool", x, kernel_shape=[size] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def _normal(self, shape: Sequence[int], std: float) -> str:
        return self.constant(self.rng.normal(0, std, shape).astype(np.float32))


def resnet18(net: Net, x: str, width: int = 16) -> list[str]:
    """For pictures of 32 x 32: He et al., as torchvision has it but for the stem."""
    x, channels = net.conv(x, 3, width), width
    for stage in range(4):
        for block in range(2):
            outputs, stride = width << stage, 2 if stage and not block else 1
            y = net.conv(net.conv(x, channels, outputs, stride=stride), outputs, outputs, act=None)
            if stride > 1:
                x = net.conv(x, channels, outputs, 1, stride, act=None)
            x, channels = net.node("Relu", net.node("Add", y, x)), outputs
    return [net.classifier(x, channels)]


def resnet18_full(net: Net, x: str) -> list[str]:
    """With the 11 million weights of the real one."""
    return resnet18(net, x, 64)


def mobilenet_v2(net: Net, x: str) -> list[str]:
    """Sandler et al. with a width of 0.25, as torchvision has it: ReLU6, depthwise, linear bottlenecks, residuals."""

    def wide(channels: int) -> int:
        return max(8, (channels // 4 + 4) // 8 * 8)

    channels = wide(32)
    x = net.conv(x, 3, channels, stride=2, act="Relu6")
    for expansion, outputs, count, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        outputs = wide(outputs)
        for index in range(count):
            hidden, step = channels * expansion, 1 if index else stride
            y = net.conv(x, channels, hidden, 1, act="Relu6") if expansion > 1 else x
            y = net.conv(y, hidden, hidden, stride=step, groups=hidden, act="Relu6")
            y = net.conv(y, hidden, outputs, 1, act=None)
            x = net.node("Add", x, y) if step == 1 and channels == outputs else y
            channels = outputs
    return [net.classifier(net.conv(x, channels, 320, 1, act="Relu6"), 320)]


def mobilenet_v3(net: Net, x: str) -> list[str]:
    """A piece of Howard et al.: HardSwish, squeeze-and-excitation by HardSigmoid."""
    x = net.conv(x, 3, 16, stride=2, act="HardSwish")
    y = net.conv(x, 16, 48, 1, act="HardSwish")
    y = net.conv(y, 48, 48, 5, groups=48, act="HardSwish")
    gate = net.conv(net.node("GlobalAveragePool", y), 48, 16, 1, norm=False)
    gate = net.node("HardSigmoid", net.conv(gate, 16, 48, 1, act=None, norm=False), alpha=1 / 6, beta=0.5)
    x = net.node("Add", net.conv(net.node("Mul", y, gate), 48, 16, 1, act=None), x)
    x = net.node("GlobalAveragePool", net.conv(x, 16, 96, 1, act="HardSwish"))
    return [net.dense(net.dense(net.node("Flatten", x, axis=1), 96, 64, "HardSwish"), 64, 10)]


def unet(net: Net, x: str, transposed: bool = True) -> list[str]:
    """Ronneberger et al. with padding: skips by Concat, up by ConvTranspose or by Resize and Conv."""
    skips, channels = [], 3
    for outputs in (8, 16, 32):
        x = net.conv(net.conv(x, channels, outputs), outputs, outputs)
        skips.append((x, outputs))
        x, channels = net.pool(x), outputs
    x, channels = net.conv(net.conv(x, channels, 64), 64, 64), 64
    for skip, outputs in reversed(skips):
        if transposed:
            weight = net._normal((channels, outputs, 2, 2), (1 / channels) ** 0.5)
            x = net.node("ConvTranspose", x, weight, net._normal((outputs,), 0.1), kernel_shape=[2, 2], strides=[2, 2])
        else:
            x = net.conv(net.up(x), channels, outputs)
        x = net.node("Concat", skip, x, axis=1)
        x, channels = net.conv(net.conv(x, 2 * outputs, outputs), outputs, outputs), outputs
    return [net.conv(x, channels, 4, 1, act=None, norm=False)]


def unet_resize(net: Net, x: str) -> list[str]:
    """With bilinear upsampling's poor relation."""
    return unet(net, x, transposed=False)


def yolo(net: Net, x: str, act: str = "Silu") -> list[str]:
    """YOLOv5's parts: C3 blocks, SPPF, two scales, heads of 3 anchors and 3 classes."""

    def c3(x: str, inputs: int, outputs: int, shortcut: bool = True) -> str:
        half = outputs // 2
        left, right = (net.conv(x, inputs, half, 1, act=act) for _ in range(2))
        y = net.conv(net.conv(left, half, half, 1, act=act), half, half, act=act)
        left = net.node("Add", left, y) if shortcut else y
        return net.conv(net.node("Concat", left, right, axis=1), outputs, outputs, 1, act=act)

    x = c3(net.conv(net.conv(x, 3, 8, 6 - 1, 2, act=act), 8, 16, stride=2, act=act), 16, 16)
    fine = c3(net.conv(x, 16, 32, stride=2, act=act), 32, 32)
    x = net.conv(net.conv(fine, 32, 64, stride=2, act=act), 64, 32, 1, act=act)
    pooled = [x]
    for _ in range(3):
        pooled.append(net.pool(pooled[-1], 5, 1, 2))
    coarse = net.conv(net.conv(net.node("Concat", *pooled, axis=1), 128, 64, 1, act=act), 64, 32, 1, act=act)
    fine = c3(net.node("Concat", net.up(coarse), fine, axis=1), 64, 32, shortcut=False)
    down = net.node("Concat", net.conv(fine, 32, 32, stride=2, act=act), coarse, axis=1)
    coarse = c3(down, 64, 64, shortcut=False)
    return [net.conv(fine, 32, 24, 1, act=None, norm=False), net.conv(coarse, 64, 24, 1, act=None, norm=False)]


def yolo_leaky(net: Net, x: str) -> list[str]:
    """With the activation of YOLOv3 and v4 tiny, and a Sigmoid at the end."""
    return [net.node("Sigmoid", y) for y in yolo(net, x, "LeakyRelu")]


def ds_cnn(net: Net, x: str) -> list[str]:
    """Keyword spotting of MLPerf Tiny: 49 x 10 MFCC, depthwise separable."""
    x = net.conv(x, 1, 64, (10, 4), 2)
    for _ in range(4):
        x = net.conv(net.conv(x, 64, 64, groups=64), 64, 64, 1)
    return [net.node("Softmax", net.classifier(x, 64, 12), axis=1)]


def autoencoder(net: Net, x: str) -> list[str]:
    """Anomaly detection of MLPerf Tiny, of a quarter of its width: dense layers with BatchNormalization."""
    inputs = 160
    for outputs in (32, 32, 8, 32, 32):
        x = net.dense(x, inputs, outputs)
        x = net.node("Relu", net.batch_norm(x, outputs) if net.keeps_batch_norm else x)
        inputs = outputs
    return [net.dense(x, inputs, 160)]


def mlp(net: Net, x: str) -> list[str]:
    """As torch writes nn.Linear on more than two axes and after it: MatMul, Add."""
    for inputs, outputs in ((196, 64), (64, 32), (32, 10)):
        x = net.node("MatMul", x, net._normal((inputs, outputs), inputs**-0.5))
        x = net.node("Add", net._normal((outputs,), 0.1), x)
        x = net.act(x, "Relu" if outputs > 10 else None)
    return [x]


def mnist(net: Net, x: str) -> list[str]:
    """As CNTK writes it, in ONNX' model zoo: SAME padding, biases in Adds of their own, a MatMul behind Reshapes."""
    for inputs, outputs, size, stride in ((1, 8, 2, 2), (8, 16, 3, 3)):
        weight = net._normal((outputs, inputs, 5, 5), (2 / inputs / 25) ** 0.5)
        x = net.node("Conv", x, weight, kernel_shape=[5, 5], auto_pad="SAME_UPPER", strides=[1, 1])
        x = net.node("Relu", net.node("Add", x, net._normal((outputs, 1, 1), 0.1)))
        x = net.node("MaxPool", x, kernel_shape=[size] * 2, strides=[stride] * 2, auto_pad="NOTSET")
    x = net.node("Reshape", x, net.constant(np.array([1, 256], np.int64)))
    weight = net.node("Reshape", net._normal((16, 4, 4, 10), 1 / 16), net.constant(np.array([256, 10], np.int64)))
    return [net.node("Add", net.node("MatMul", x, weight), net._normal((1, 10), 0.1))]


def squeezenet(net: Net, x: str) -> list[str]:
    """Iandola et al., the first fire modules: Concat of expansions, a convolution and a mean at the end, Softmax."""
    x = net.pool(net.conv(x, 3, 16, stride=2, norm=False), 3, 2)
    channels = 16
    for squeezed, expanded in ((8, 16), (8, 16), (16, 32)):
        y = net.conv(x, channels, squeezed, 1, norm=False)
        x = net.node("Concat", *(net.conv(y, squeezed, expanded, k, norm=False) for k in (1, 3)), axis=1)
        channels = 2 * expanded
    x = net.node("GlobalAveragePool", net.conv(x, channels, 10, 1, norm=False))
    return [net.node("Softmax", net.node("Flatten", x, axis=1), axis=1)]


def shufflenet(net: Net, x: str) -> list[str]:
    """Ma et al., one unit with stride 2 and two without: Split, Concat, channel shuffles as Reshape and Transpose."""

    def shuffled(x: str, channels: int, size: int) -> str:
        shapes = [[1, 2, channels // 2, size, size], [1, channels, size, size]]
        split, joined = (net.constant(np.array(shape, np.int64)) for shape in shapes)
        return net.node("Reshape", net.node("Transpose", net.node("Reshape", x, split), perm=[0, 2, 1, 3, 4]), joined)

    def unit(x: str, inputs: int, outputs: int, stride: int) -> str:
        x = net.conv(net.conv(x, inputs, outputs, 1), outputs, outputs, 3, stride, outputs, act=None)
        return net.conv(x, outputs, outputs, 1)

    x = net.conv(x, 3, 24, stride=2)
    left = net.conv(net.conv(x, 24, 24, 3, 2, 24, act=None), 24, 24, 1)
    x = shuffled(net.node("Concat", left, unit(x, 24, 24, 2), axis=1), 48, 8)
    for _ in range(2):
        parts = [f"/Split_{len(net.nodes)}_output_{i}" for i in range(2)]
        sizes = net.constant(np.array([24, 24], np.int64))
        name = f"/Split_{len(net.nodes)}"
        net.nodes.append(helper.make_node("Split", [x, sizes], parts, name=name, axis=1))
        x = shuffled(net.node("Concat", parts[0], unit(parts[1], 24, 24, 1), axis=1), 48, 8)
    return [net.dense(net.node("ReduceMean", x, axes=[2, 3], keepdims=0), 48, 10)]


def densenet(net: Net, x: str) -> list[str]:
    """Huang et al., one block and its transition: norms before convolutions, of which none folds."""
    x, channels = net.conv(x, 3, 16, stride=2), 16
    for _ in range(3):
        y = net.act(net.batch_norm(x, channels), "Relu")
        y = net.conv(net.conv(y, channels, 32, 1), 32, 8, act=None, norm=False)
        x, channels = net.node("Concat", x, y, axis=1), channels + 8
    y = net.conv(net.act(net.batch_norm(x, channels), "Relu"), channels, 20, 1, act=None, norm=False)
    y = net.node("AveragePool", y, kernel_shape=[2, 2], strides=[2, 2])
    return [net.classifier(net.act(net.batch_norm(y, 20), "Relu"), 20)]


def efficientnet_lite(net: Net, x: str) -> list[str]:
    """Of pictures [N, H, W, C], as TensorFlow has them: a Transpose first, Squeeze and MatMul last."""
    x = net.conv(net.node("Transpose", x, perm=[0, 3, 1, 2]), 3, 16, stride=2, act="Relu6")
    for inputs, outputs, kernel, stride in ((16, 16, 3, 1), (16, 24, 5, 2), (24, 24, 3, 1)):
        y = net.conv(net.conv(x, inputs, 4 * inputs, 1, act="Relu6"), 4 * inputs, 4 * inputs, kernel, stride,
                     4 * inputs, act="Relu6")  # fmt: skip
        y = net.conv(y, 4 * inputs, outputs, 1, act=None)
        x = net.node("Add", x, y) if stride == 1 and inputs == outputs else y
    x = net.node("AveragePool", x, kernel_shape=[8, 8])
    x = net.node("Squeeze", x, net.constant(np.array([2, 3], np.int64)))
    x = net.node("Add", net.node("MatMul", x, net._normal((24, 10), 24**-0.5)), net._normal((10,), 0.1))
    return [net.node("Softmax", x, axis=1)]


PICTURE = (1, 3, 32, 32)
NETWORKS: dict[str, tuple[Callable[[Net, str], list[str]], tuple[int, ...]]] = {
    "resnet18": (resnet18, PICTURE),
    "resnet18_full": (resnet18_full, PICTURE),
    "mobilenet_v2": (mobilenet_v2, (1, 3, 64, 64)),
    "mobilenet_v3": (mobilenet_v3, PICTURE),
    "unet": (unet, PICTURE),
    "unet_resize": (unet_resize, PICTURE),
    "yolo": (yolo, (1, 3, 64, 64)),
    "yolo_leaky": (yolo_leaky, (1, 3, 64, 64)),
    "ds_cnn": (ds_cnn, (1, 1, 49, 10)),
    "autoencoder": (autoencoder, (1, 160)),
    "mlp": (mlp, (1, 196)),
    "mnist": (mnist, (1, 1, 28, 28)),
    "squeezenet": (squeezenet, PICTURE),
    "shufflenet": (shufflenet, PICTURE),
    "densenet": (densenet, PICTURE),
    "efficientnet_lite": (efficientnet_lite, (1, 32, 32, 3)),
}


def float_network(name: str, keeps_batch_norm: bool = True, opset: int = OPSET) -> onnx.ModelProto:
    """The network of that name, of `NETWORKS`; its input is "input"."""
    make, shape = NETWORKS[name]
    net = Net(keeps_batch_norm)
    outputs = make(net, "input")
    graph = helper.make_graph(
        net.nodes,
        "main_graph",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        net.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def inputs_of(name: str, count: int, seed: int = 0) -> NDArray[np.float32]:
    """Inputs like normalised pictures: [count, ...], smooth, of mean 0 and deviation 1."""
    _, shape = NETWORKS[name]
    x = np.random.default_rng([seed, count]).normal(0, 1, (count, *shape[1:]))
    for axis in range(2, x.ndim):
        x = (x + np.roll(x, 1, axis)) / 2**0.5
    return x.astype(np.float32)
