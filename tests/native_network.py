"""Float networks with a bound on the error of native arithmetic, evaluated here and not by the product."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import pefslc
from builders import ModelBuilder

__all__ = ["UNIT", "Bounded", "Network", "convolved", "on_grid"]

Floats = NDArray[np.float64]
UNIT = 2.0**-8


@dataclass
class Bounded:
    """Values of a network whose weights, bias and input lie on the grid, and how far native arithmetic may be off."""

    values: Floats
    bound: Floats


def on_grid(x: Floats, step: float = UNIT) -> Floats:
    return np.rint(x / step) * step


def convolved(x: Floats, weight: Floats, stride: int) -> Floats:
    pad = weight.shape[2] // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    size = (x.shape[1] - 1) // stride + 1
    result = np.zeros((len(weight), size, size))
    for ky, kx in np.ndindex(*weight.shape[2:]):
        end = (size - 1) * stride + 1
        part = padded[:, ky : ky + end : stride, kx : kx + end : stride]
        result += np.tensordot(weight[:, :, ky, kx], part, axes=1)
    return result


class Network:
    """A float model under construction, evaluated with its bound as it grows.

    step  of weights and of the input: that of the data type's own format
    unit  of sums and tensors
    """

    def __init__(self, seed: int, channels: int, size: int, unit: float = UNIT, step: float = UNIT) -> None:
        self.unit, self.step = unit, step
        self.rng = np.random.default_rng(seed)
        self.m = ModelBuilder()
        self.x = self.rng.uniform(-1, 1, (1, channels, size, size))
        self.known = {
            self.m.input([1, channels, size, size], "x"): Bounded(on_grid(self.x[0], step), np.zeros_like(self.x[0]))
        }

    def conv(self, name: str, outputs: int, kernel: int, stride: int = 1) -> str:
        x = self.known[name]
        weight = self.rng.normal(0, 1 / np.sqrt(len(x.values) * kernel**2), (outputs, len(x.values), kernel, kernel))
        bias = self.rng.normal(0, 0.3, outputs)
        if self.unit < self.step:  # the rounding of weights must not hide that of products
            weight, bias = on_grid(weight, self.step), on_grid(bias, self.step)
        pad = kernel // 2
        made = self.m.node(
            "Conv", name, self.m.constant(weight), self.m.constant(bias), kernel_shape=[kernel] * 2,
            strides=[stride] * 2, pads=[pad] * 4,
        )  # fmt: skip
        weight, bias = (on_grid(a.astype(np.float32), self.step) for a in (weight, bias))
        products = convolved(np.ones_like(x.values), np.abs(weight) > 0, stride)
        self.known[made] = Bounded(
            convolved(x.values, weight, stride) + bias[:, None, None],
            convolved(x.bound, np.abs(weight), stride) + (products + 1) * self.unit / 2,
        )
        return made

    def activation(self, name: str, op: str, alpha: float = 0.0) -> str:
        x = self.known[name]
        made = self.m.node(op, name, **({"alpha": alpha} if op == "LeakyRelu" else {}))
        values = np.where(x.values > 0, x.values, alpha * x.values)
        slope = self.step / 2 * (np.abs(x.values) + x.bound) if op == "LeakyRelu" else 0
        self.known[made] = Bounded(values, x.bound + slope + self.unit / 2)
        return made

    def add(self, a: str, b: str, op: str = "Add") -> str:
        made = self.m.node(op, a, b)
        x, y = self.known[a], self.known[b]
        self.known[made] = Bounded(x.values + y.values * (1 if op == "Add" else -1), x.bound + y.bound)
        return made

    def mean(self, name: str) -> str:
        x = self.known[name]
        made = self.m.node("GlobalAveragePool", name)
        # Every step over f pixels rounds f products, a factor that is no power of two as well, and averages.
        steps = 4 * np.log2(max(x.values[0].size, 2)) * (self.unit + np.abs(x.values).max() * self.step)
        self.known[made] = Bounded(x.values.mean((1, 2)), x.bound.mean((1, 2)) + steps)
        return made

    def check(self, output: str, folder: Path, architecture: str, fmt: str = "Q8.8") -> pefslc.Program:
        values = self.known[output]
        shape = [1, *values.values.shape, *[1] * (4 - 1 - values.values.ndim)]
        self.m.output(output, shape)
        data = {"x": self.rng.uniform(-1, 1, (8, *self.x.shape[1:]))} if self.unit < self.step else None
        program = pefslc.compile(self.m.save(folder), target="tensil", fmt=fmt, arch=architecture, calibrate=data)
        assert program.emission.native is not None
        assert 2.0**-program.emission.native.fraction_bits <= self.unit
        found = program.run({"x": self.x})[output].reshape(values.values.shape)
        assert (np.abs(found - values.values) <= values.bound).all()
        layers = program.verify({"x": self.x}).layers
        assert layers
        assert not any(layer.outside or layer.saturated for layer in layers)
        return program
