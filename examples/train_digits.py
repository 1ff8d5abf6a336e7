"""A small ResNet-9 of PEFSL's block structure on scikit-learn's digits, from float training to programs.

Trained in float, its BatchNorm folded, fine-tuned at Q2.3, exported, compiled for the Tensil accelerator and for C, and
compared with torch on every test image.

    python examples/train_digits.py -o build/digits          # needs the extra: pip install ".[train]"

As in PEFSL the device computes features, and the host classifies: by the linear layer that the network was trained
with, or from a few images of each class, by the nearest mean of their features.
"""

from __future__ import annotations

import argparse
from copy import deepcopy
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from brevitas import nn as qnn
from sklearn.datasets import load_digits
from torch import Tensor, nn

import pefslc
from pefslc.train import Quantizers, export, fixed_point, fold_batchnorm

TEST_IMAGES = 297
SHOTS = 5


class Block(nn.Module):
    """Three convolutions, the last of stride 2, and a 1x1 shortcut; one quantizer for both addends of the sum."""

    def __init__(self, inputs: int, outputs: int, q: Quantizers | None) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *convolution(inputs, outputs, 3, 1, q),
            qnn.QuantReLU(act_quant=q and q.relu),
            *convolution(outputs, outputs, 3, 1, q),
            qnn.QuantReLU(act_quant=q and q.relu),
            *convolution(outputs, outputs, 3, 2, q),
        )
        self.shortcut = nn.Sequential(*convolution(inputs, outputs, 1, 2, q))
        self.addend = qnn.QuantIdentity(act_quant=q and q.activation)
        self.relu = qnn.QuantReLU(act_quant=q and q.relu)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.addend(self.body(x)) + self.addend(self.shortcut(x)))


def convolution(inputs: int, outputs: int, kernel: int, stride: int, q: Quantizers | None) -> list[nn.Module]:
    """With BatchNorm in float, with a bias instead of it when quantized: what folding makes of the one is the other."""
    options = {"kernel_size": kernel, "stride": stride, "padding": kernel // 2}
    if q is None:
        return [qnn.QuantConv2d(inputs, outputs, bias=False, weight_quant=None, **options), nn.BatchNorm2d(outputs)]
    conv = qnn.QuantConv2d(inputs, outputs, bias=True, weight_quant=q.weight, bias_quant=q.bias, **options)
    return [conv, nn.Identity()]


class ResNet9(nn.Module):
    """[N, 1, S, S] to 5 * width features: three blocks, then the mean over what is left of the image."""

    def __init__(self, width: int, q: Quantizers | None = None) -> None:
        super().__init__()
        sizes = [1, width, width * 5 // 2, width * 5]
        self.input = qnn.QuantIdentity(act_quant=q and q.input)
        self.blocks = nn.Sequential(*(Block(i, o, q) for i, o in pairwise(sizes)))

    def forward(self, image: Tensor) -> Tensor:
        return self.blocks(self.input(image)).mean([2, 3])


def digits(size: int) -> tuple[Tensor, Tensor]:
    """The 1797 images, enlarged to [N, 1, size, size] in [-1, 1], and their labels, shuffled."""
    data = load_digits()
    order = torch.randperm(len(data.target))
    images = torch.tensor(data.images[:, None], dtype=torch.float32) / 8 - 1
    return nn.functional.interpolate(images, size=size, mode="bilinear")[order], torch.tensor(data.target)[order]


def fit(net: nn.Module, x: Tensor, y: Tensor, epochs: int, rate: float) -> None:
    optimizer = torch.optim.Adam(net.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(epochs, 1))
    net.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
        schedule.step()
    net.eval()


def by_linear_layer(layer: nn.Linear, features: np.ndarray, labels: np.ndarray) -> float:
    """The share of images that the layer classifies rightly."""
    weight, bias = (p.detach().double().numpy() for p in (layer.weight, layer.bias))
    return float(((features @ weight.T + bias).argmax(1) == labels).mean())


def by_nearest_mean(features: np.ndarray, labels: np.ndarray) -> float:
    """The share that the nearest class mean classifies rightly, the means being those of SHOTS other images a class."""
    shots = np.concatenate([np.flatnonzero(labels == c)[:SHOTS] for c in range(10)])
    means = features[shots].reshape(10, SHOTS, -1).mean(1)
    others = np.setdiff1d(np.arange(len(labels)), shots)
    distances = ((features[others, None] - means) ** 2).sum(2)
    return float((distances.argmin(1) == labels[others]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20, help="of float training; a third of it quantized")
    parser.add_argument("--format", default="Q2.3", help="of input, weights and activations")
    parser.add_argument("--width", type=int, default=8, help="feature maps of the first block (PEFSL: 16)")
    parser.add_argument("--size", type=int, default=16, help="of the images (PEFSL: 32)")
    parser.add_argument("--arch", default="custom_perf", help="of the Tensil accelerator")
    parser.add_argument("--simulate", type=int, default=TEST_IMAGES, help="test images for the simulated accelerator")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/digits"))
    options = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)  # small layers: threads cost more than they bring, and sums in one order give one result
    x, y = digits(options.size)
    x_test, labels = x[-TEST_IMAGES:], y[-TEST_IMAGES:].numpy()
    x, y = x[:-TEST_IMAGES], y[:-TEST_IMAGES]

    floating = ResNet9(options.width)
    floating_last = nn.Linear(options.width * 5, 10)
    fit(nn.Sequential(floating, floating_last), x, y, options.epochs, rate=3e-3)

    quantized, last = ResNet9(options.width, fixed_point(options.format)), deepcopy(floating_last)
    quantized.load_state_dict(fold_batchnorm(floating).state_dict())
    fit(nn.Sequential(quantized, last), x, y, -(-options.epochs // 3), rate=1e-3)

    options.output.mkdir(parents=True, exist_ok=True)
    model = options.output / "resnet9.onnx"
    export(quantized, x[:16], model)
    programs = {
        "C": pefslc.compile(model, target="c", fmt=options.format),
        "Tensil": pefslc.compile(model, target="tensil", fmt=options.format, arch=options.arch),
    }
    for program in programs.values():
        program.save(options.output)

    with torch.no_grad():
        floats, trained = floating(x_test).double().numpy(), quantized(x_test).double().numpy()
    print(f"{'':16}{'images':>7}{'as torch':>10}{'classified':>12}{f'{SHOTS} shots':>9}")
    print(f"{'float, torch':16}{len(floats):7}{'':10}{by_linear_layer(floating_last, floats, labels):12.1%}", end="")
    print(f"{by_nearest_mean(floats, labels):9.1%}")
    counts = {"torch": TEST_IMAGES, "C": TEST_IMAGES, "Tensil": min(options.simulate, TEST_IMAGES)}
    for name, count in counts.items():
        features = trained if name == "torch" else programs[name].run(x_test[:count].numpy())["output"]
        equal = int((features == trained[:count]).all(1).sum())
        right = by_linear_layer(last, features, labels[:count])
        shots = f"{by_nearest_mean(features, labels):9.1%}" if count == TEST_IMAGES else ""
        print(f"{f'{options.format}, {name}':16}{count:7}{equal:10}{right:12.1%}{shots}")
        if equal != count:
            raise SystemExit(f"{name} does not compute what torch does")


if __name__ == "__main__":
    main()
