"""A tiny backbone, what it computes in fractions, and a TCU driver that simulates: for the tests of systems."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from builders import ModelBuilder, normal
from pefslc.targets.tensil.simulate.driver import run_tmodel

SIZE, FEATURES = 8, 6
MEAN, STD = ("0.5", "0.45", "0.4"), "0.25"
ARCH = "pynqz1"

_WEIGHT = normal((FEATURES, 3, 3, 3), 0.5)
_INPUT, _WEIGHTS, _OUTPUT = Fraction(1, 16), Fraction(1, 8), Fraction(1, 8)  # scales


def tiny_backbone(folder: Path, name: str = "tiny.onnx", *, seed: int = 0) -> Path:
    """input [1, 3, 8, 8] -> Quant 6 bits -> Conv 3x3, stride 2 -> Relu -> Quant 5 bits -> mean -> [1, 6, 1, 1]."""
    m = ModelBuilder()
    x = m.quant(m.input([1, 3, SIZE, SIZE], "input"), float(_INPUT), 6)
    weight = m.weight(_WEIGHT + normal(_WEIGHT.shape, 0.5, seed) * (seed != 0), float(_WEIGHTS), 4)
    conv = m.node("Conv", x, weight, strides=[2, 2], pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    features = m.quant(m.node("Relu", conv), float(_OUTPUT), 5, signed=0)
    m.output(m.node("GlobalAveragePool", features), [1, FEATURES, 1, 1])
    return m.save(folder, name)


def half_even(x: Fraction) -> int:
    down = floor(x)
    rest = x - down
    return down + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and down % 2 == 1))


def codes_by_definition(frame: NDArray[np.uint8], *, words: bool = False) -> tuple[int, ...]:
    """The feature codes of a frame [8, 8, 3] by tiny_backbone's definition, in fractions. A mean's scale is 1/128.

    words  a host rounds the network's input to multiples of 1/256 first
    """
    means = [Fraction(m) for m in MEAN]

    def pixel(colour: int, y: int, x: int) -> Fraction:
        if not (0 <= y < SIZE and 0 <= x < SIZE):
            return Fraction(0)
        real = (Fraction(int(frame[y, x, colour]), 255) - means[colour]) / Fraction(STD)
        if words:
            real = Fraction(half_even(real * 256), 256)
        return _INPUT * min(max(half_even(real / _INPUT), -32), 31)

    image = [[[pixel(c, y, x) for x in range(-1, SIZE + 1)] for y in range(-1, SIZE + 1)] for c in range(3)]
    steps = np.clip(np.rint(_WEIGHT.astype(np.float32) * 8), -8, 7).astype(int)
    found = []
    for out in range(FEATURES):
        total = 0
        for top in range(0, SIZE, 2):
            for left in range(0, SIZE, 2):
                taps = (
                    int(steps[out, c, i, j]) * image[c][top + i][left + j]
                    for c in range(3) for i in range(3) for j in range(3)
                )  # fmt: skip
                value = max(sum(taps, Fraction(0)) * _WEIGHTS, Fraction(0))
                total += min(half_even(value / _OUTPUT), 31)
        found.append(total)
    return tuple(found)


def frames(count: int, seed: int, height: int = SIZE, width: int = SIZE) -> NDArray[np.uint8]:
    """Pictures of three kinds, kind i % 3: each has its colour, and noise."""
    rng = np.random.default_rng([seed, count])
    base = np.array([(200, 60, 40), (30, 90, 220), (120, 200, 90)])[np.arange(count) % 3]
    noisy = rng.normal(base[:, None, None, :], 40, (count, height, width, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


class SimulatedDriver:
    """What Tensil's PYNQ driver does around a run: flat arrays by name become words, and come back as numbers."""

    def __init__(self) -> None:
        self.path = Path()

    def load_model(self, path: str | Path) -> None:
        self.path = Path(path)

    def run(self, inputs: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
        results = run_tmodel(self.path, {name: flat[None] for name, flat in inputs.items()})
        return {name: values[0] for name, values in results.items()}
