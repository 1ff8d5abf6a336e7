"""PEFSL's backbones, ResNet-9 and ResNet-12, from a description: images in, one vector of features each out.

A block is three 3x3 convolutions beside a 1x1 shortcut. It halves the picture: by the stride of its last convolution
and of the shortcut, or by max pooling behind it. Three blocks of f, 2.5 f and 5 f maps are a ResNet-9, a fourth of 10 f
makes it a ResNet-12. The features are the means of the last maps over the picture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import Enum
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote_given
from pefslc.fewshot.networks.draws import uniform

__all__ = ["Activation", "Backbone", "Block", "Description"]

_BLOCKS = {9: 3, 12: 4}
_CHANNELS = 3
_LARGEST_SIZE = 256
_MOST_MAPS = 4096
LEAKY_SLOPE = 0.1  # EASY's and PEFSL's


class Activation(Enum):
    """RELU is the default. What follows it is never negative, so that its codes need no sign: one bit more of fraction.
    The slope of LEAKY_RELU, 0.1, is no power of two: the staircase of its quantizer has steps of two lengths.
    """

    RELU = "relu"
    LEAKY_RELU = "leaky_relu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a backbone is, without its weights. Raises CompileError for what is none.

    maps        channels that each block hands on: three blocks are a ResNet-9, four a ResNet-12
    inner       channels between the convolutions of each block; as `maps` unless channels were pruned
    size        of the pictures, in pixels, both ways: 8 to 256
    strided     halve pictures by strides; else by max pooling, as EASY does
    mean, std   a channel: the network's input is (x / 255 - mean) / std for pixels x of 0 to 255
    """

    maps: tuple[int, ...] = (16, 40, 80)
    inner: tuple[int, ...] = ()
    size: int = 32
    strided: bool = True
    activation: Activation = Activation.RELU
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)

    def __post_init__(self) -> None:
        if not self.inner:
            object.__setattr__(self, "inner", self.maps)
        if len(self.maps) not in _BLOCKS.values() or not _all_integers(self.maps, 1, _MOST_MAPS):
            raise _wrong("maps", self.maps, f"3 or 4 numbers of 1 to {_MOST_MAPS}", "(16, 40, 80) is PEFSL's ResNet-9")
        if len(self.inner) != len(self.maps) or not _all_integers(self.inner, 1, _MOST_MAPS):
            raise _wrong("inner", self.inner, f"{len(self.maps)} numbers, one a block", "leave it out: as maps")
        if not _all_integers((self.size,), 8, _LARGEST_SIZE):
            raise _wrong("size", self.size, f"a number of pixels from 8 to {_LARGEST_SIZE}", "PEFSL: 32")
        if not isinstance(self.strided, bool):
            raise _wrong("strided", self.strided, "true or false", "false: max pooling, as EASY")
        if not isinstance(self.activation, Activation):
            raise _wrong("activation", self.activation, "relu or leaky_relu", "leaky_relu is EASY's")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != _CHANNELS or not np.isfinite(values).all():
                raise _wrong(name, values, "three numbers, one a channel", "0.5, 0.5, 0.5")
        if min(self.std) <= 0:
            raise _wrong("std", self.std, "three numbers above 0", "0.25, 0.25, 0.25")

    @classmethod
    def of_depth(cls, depth: int, width: int, *, size: int = 32, strided: bool = True) -> Description:
        """PEFSL's ResNet-9 or ResNet-12 of `width` maps in the first block."""
        if depth not in _BLOCKS:
            raise _wrong("depth", depth, "9 or 12", "ResNet-9 has three blocks, ResNet-12 four")
        if not _all_integers((width,), 1, _MOST_MAPS // 10):
            raise _wrong("width", width, f"1 to {_MOST_MAPS // 10} maps", "PEFSL: 16")
        maps = (width, width * 5 // 2, width * 5, width * 10)[: _BLOCKS[depth]]
        return cls(maps=maps, size=size, strided=strided)

    @property
    def features(self) -> int:
        """The length of the vector of features."""
        return self.maps[-1]

    @property
    def name(self) -> str:
        return f"ResNet-{3 * len(self.maps)}"

    def to_json(self) -> str:
        """One line, the same for equal descriptions."""
        return json.dumps({**asdict(self), "activation": self.activation.value}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Description:
        """What `to_json` wrote. Raises CompileError."""
        try:
            given = json.loads(text)
            known = {f.name for f in fields(cls)}
            if not isinstance(given, Mapping) or given.keys() != known:
                raise ValueError("other fields")
            arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
            arguments["activation"] = Activation(arguments["activation"])
            return cls(**arguments)
        except (ValueError, TypeError):
            raise CompileError(
                Code.BACKBONE, "the description of a backbone cannot be read", hint="write it with to_json()"
            ) from None

    def normalized(self, images: NDArray[np.uint8]) -> Tensor:
        """Pictures uint8 [N, H, W, 3] as the network's input, float32 [N, 3, H, W]."""
        mean, std = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (self.mean, self.std))
        # One multiplication and one addition in float32, of constants rounded once: as far off as x / 255 alone.
        factor, offset = (1 / (255 * std)).float(), (-mean / std).float()
        return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() * factor + offset


class Backbone(nn.Module):  # type: ignore[misc]  # mypy sees torch as Any
    """[N, 3, size, size] to features [N, D], in float. Its weights are a function of the description and the seed.

    `fold_batchnorm` and `pefslc.train.with_quantizers` make the quantized network of it; each activation is a module
    that is called once, which is what they need.
    """

    def __init__(self, description: Description, seed: int = 0) -> None:
        super().__init__()
        self.description = description
        inputs = (_CHANNELS, *description.maps)
        self.blocks = nn.Sequential(
            *(Block(i, m, o, description) for (i, o), m in zip(pairwise(inputs), description.inner, strict=True))
        )
        _initialize(self, seed)

    def forward(self, images: Tensor) -> Tensor:
        return self.blocks(images).mean([2, 3])


class Block(nn.Module):  # type: ignore[misc]
    """Three convolutions and a shortcut beside them, each with BatchNorm; half the picture out."""

    def __init__(self, inputs: int, inner: int, outputs: int, description: Description) -> None:
        super().__init__()
        stride = 2 if description.strided else 1
        self.conv1, self.norm1 = _convolution(inputs, inner, 3, 1)
        self.conv2, self.norm2 = _convolution(inner, inner, 3, 1)
        self.conv3, self.norm3 = _convolution(inner, outputs, 3, stride)
        self.shortcut, self.shortcut_norm = _convolution(inputs, outputs, 1, stride)
        self.act1, self.act2, self.act3 = (_activation(description) for _ in range(3))
        self.pool = nn.Identity() if description.strided else nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.norm1(self.conv1(x)))
        y = self.act2(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        return self.pool(self.act3(y + self.shortcut_norm(self.shortcut(x))))


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return conv, nn.BatchNorm2d(outputs)


def _activation(description: Description) -> nn.Module:
    return nn.ReLU() if description.activation is Activation.RELU else nn.LeakyReLU(LEAKY_SLOPE)


def _initialize(network: nn.Module, seed: int) -> None:
    """Convolutions uniform with the variance 2 / fan-out (He et al., ICCV 2015), which BatchNorm then rescales."""
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    for index, conv in enumerate(convolutions):
        fan_out = conv.out_channels * conv.kernel_size[0] * conv.kernel_size[1]
        bound = (6 / fan_out) ** 0.5
        drawn = uniform(conv.weight.numel(), seed, "convolution", index) * 2 - 1
        with torch.no_grad():
            conv.weight.copy_(torch.from_numpy(drawn * bound).float().view_as(conv.weight))


def _all_integers(values: tuple[object, ...], low: int, high: int) -> bool:
    return all(isinstance(v, int) and not isinstance(v, bool) and low <= v <= high for v in values)


def _wrong(name: str, given: object, wanted: str, hint: str) -> CompileError:
    return CompileError(Code.BACKBONE, f"{name} is {quote_given(given)}, not {wanted}", hint=hint)
