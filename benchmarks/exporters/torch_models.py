"""torch's own quantization, as its exporters write it: eager mode, FX, fake quantizers, PT2E; TensorRT's; floats.

pytorch-quantization and ModelOpt, which write TensorRT's recipe, need a GPU's libraries: their quantizers are laid here
where these put them, and torch's exporter writes what it writes of theirs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from field_model import FieldModel

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["NEEDS", "models"]

NEEDS: tuple[str, ...] = ("torch", "torchao", "onnxscript")

_Network = Callable[[], tuple["nn.Module", "Tensor"]]  # in eval mode, and pictures
_SHAPES = {"resnet": (3, 32, 32), "mobilenet": (3, 32, 32), "unet": (3, 32, 32), "kws": (1, 49, 10)}


def models() -> list[FieldModel]:
    """Networks with a structure that people have, by every way of torch that ends in ONNX."""
    listed: list[tuple[str, str, _Network, bool]] = [
        *(("torch eager mode", f"eager_{e}", partial(_eager, e), False) for e in ("x86", "qnnpack")),
        ("torch eager mode, QAT without convert", "eager_fake_quantized", _eager_fake_quantized, False),
        *(
            ("torch FX", f"fx_{e}_{n}", partial(_fx, e, n), False)
            for e, names in (("x86", _SHAPES), ("qnnpack", ("resnet", "mobilenet")))
            for n in names
        ),
        *(
            (f"torch PT2E, {e}", f"pt2e_{e}_{n}", partial(_pt2e, e, n), True)
            for e, names in (("xnnpack", _SHAPES), ("x86", ("resnet", "mobilenet", "kws")))
            for n in names
        ),
        *(
            ("TensorRT's recipe, torch", f"tensorrt_{n}", partial(_tensorrt, n, branch), False)
            for n, branch in (("resnet", False), ("resnet_both_branches", True), ("kws", False))
        ),
    ]
    found = [FieldModel(e, n, partial(_write_quantized, n, network, dynamo)) for e, n, network, dynamo in listed]
    for name in _SHAPES:
        write = partial(_write, f"float_{name}", partial(_network, name), True)
        found.append(FieldModel("torch, float, its default", f"float_{name}", write, {"fmt": "Q8.8"}))
    return found


def _write_quantized(name: str, network: _Network, dynamo: bool, folder: Path) -> None:
    from exporters.exact_evaluation import write_definition

    _write(name, network, dynamo, folder)
    write_definition(folder / f"{name}.onnx")


def _write(name: str, network: _Network, dynamo: bool, folder: Path) -> None:
    """The file, and what torch computes in float32 for the pictures."""
    import numpy as np
    import torch

    warnings.filterwarnings("ignore", module="torch")
    torch.manual_seed(0)
    net, x = network()
    with torch.no_grad():
        expected = torch.cat([net(row[None]) for row in x])
    path = folder / f"{name}.onnx"
    options = {"verbose": False} if dynamo else {"opset_version": 13}
    torch.onnx.export(net, (x[:1],), str(path), input_names=["x"], output_names=["y"], dynamo=dynamo, **options)
    np.savez(path.with_suffix(".npz"), x=x.numpy(), y=expected.detach().numpy())


def _network(name: str) -> tuple[nn.Module, Tensor]:
    from exporters import torch_networks as networks

    made = {
        "resnet": networks.ResNet,
        "mobilenet": networks.MobileNet,
        "unet": networks.UNet,
        "kws": networks.DepthwiseNet,
    }[name.partition("_")[0]]()
    x = networks.pictures(4, *_SHAPES[name.partition("_")[0]])
    return networks.settle(made, x), x


def _stubbed() -> tuple[nn.Module, Tensor]:
    """A residual block, a concatenation, and what else eager mode has modules for, between its stubs."""
    import torch
    import torch.ao.quantization as q
    from torch import nn

    from exporters.torch_networks import pictures, settle

    class Stubbed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant = q.QuantStub(), q.DeQuantStub()
            self.conv1, self.bn1, self.relu1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
            self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
            self.add, self.cat = nn.quantized.FloatFunctional(), nn.quantized.FloatFunctional()
            self.pool, self.last = nn.MaxPool2d(2), nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            first = self.relu1(self.bn1(self.conv1(self.quant(x))))
            y = self.add.add_relu(self.bn2(self.conv2(first)), first)
            y = self.pool(self.cat.cat([y, first], 1)).mean([2, 3])
            return self.dequant(self.last(torch.flatten(y, 1)))

    x = pictures(4, 3, 8, 8)
    return settle(Stubbed(), x), x


_FUSED = [["conv1", "bn1", "relu1"], ["conv2", "bn2"]]


def _eager(engine: str) -> tuple[nn.Module, Tensor]:
    """Post-training static quantization: fuse, prepare, convert."""
    import torch
    import torch.ao.quantization as q

    torch.backends.quantized.engine = engine
    net, x = _stubbed()
    net.qconfig = q.get_default_qconfig(engine)
    prepared = q.prepare(q.fuse_modules(net, _FUSED))
    prepared(x)
    return q.convert(prepared), x


def _eager_fake_quantized() -> tuple[nn.Module, Tensor]:
    """Quantization-aware training, exported as it was trained: fake quantizers of torch."""
    import torch.ao.quantization as q

    net, x = _stubbed()
    net.train()
    net.qconfig = q.get_default_qat_qconfig("qnnpack", version=0)  # without fused observers, which the exporter has not
    prepared = q.prepare_qat(q.fuse_modules_qat(net, _FUSED))
    prepared(x)
    prepared.apply(q.disable_observer)
    return prepared.eval(), x


def _fx(engine: str, name: str) -> tuple[nn.Module, Tensor]:
    """prepare_fx and convert_fx."""
    import torch
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    torch.backends.quantized.engine = engine
    net, x = _network(name)
    prepared = prepare_fx(net, get_default_qconfig_mapping(engine), (x[:1],))
    prepared(x)
    return convert_fx(prepared), x


def _pt2e(backend: str, name: str) -> tuple[nn.Module, Tensor]:
    """torchao's PT2E flow with the quantizer of a backend."""
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    if backend == "xnnpack":
        from torchao.testing.pt2e._xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config

        quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    else:
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    net, x = _network(name)
    prepared = prepare_pt2e(torch.export.export(net, (x[:1],)).module(), quantizer)
    for row in x:
        prepared(row[None])
    return convert_pt2e(prepared), x


def _tensorrt(name: str, both_branches: bool) -> tuple[nn.Module, Tensor]:
    """A quantizer before every layer, one scale per output channel of weights, symmetric in 8 bits; biases stay float.

    Of a residual addition, only the shortcut is quantized; or both branches.
    """
    import torch
    from torch import nn

    from exporters import torch_networks as networks

    class Quantizer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                self.scale = x.detach().abs().max() / 127
            return torch.fake_quantize_per_tensor_affine(x, float(self.scale), 0, -128, 127)

    class Layer(nn.Module):
        def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
            super().__init__()
            self.quantizer, self.layer = Quantizer(), layer
            self.zeros = torch.zeros(layer.weight.shape[0], dtype=torch.int32)

        def forward(self, x: Tensor) -> Tensor:
            x, weight = self.quantizer(x), self.layer.weight.detach()
            scale = weight.abs().flatten(1).amax(1) / 127
            weight = torch.fake_quantize_per_channel_affine(weight, scale, self.zeros, 0, -128, 127)
            if isinstance(self.layer, nn.Linear):
                return nn.functional.linear(x, weight, self.layer.bias)
            c = self.layer
            return nn.functional.conv2d(x, weight, c.bias, c.stride, c.padding, c.dilation, c.groups)

    class Added(nn.Module):
        def __init__(self, block: nn.Module) -> None:
            super().__init__()
            self.block, self.shortcut = block, Quantizer()
            self.branch = Quantizer() if both_branches else nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            block = self.block
            y = block.bn2(block.conv2(block.relu1(block.bn1(block.conv1(x)))))
            same = x if block.downsample is None else block.downsample(x)
            return block.relu2(self.branch(y) + self.shortcut(same))

    def quantized(module: nn.Module) -> nn.Module:
        for child_name, child in module.named_children():
            setattr(module, child_name, quantized(child))
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            return Layer(module)
        if isinstance(module, networks._Block):
            return Added(module)
        if isinstance(module, (nn.AdaptiveAvgPool2d, nn.AvgPool2d)):
            return nn.Sequential(Quantizer(), module)
        return module

    net, x = _network(name)
    net = quantized(net)
    return networks.settle(net, x, rounds=1), x
