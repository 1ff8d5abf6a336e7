"""Networks whose input meets other things before its first quantizer, for the tests of the host's part."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

import pefslc
from builders import ModelBuilder, normal
from oracle import quantize_value

__all__ = ["IMAGE", "constant_per_channel", "front_network", "host_module_of", "input_codes"]

IMAGE = (1, 3, 4, 4)

Front = Callable[[ModelBuilder, str], str]


def constant_per_channel(m: ModelBuilder, *values: float) -> str:
    """A float32 constant of one number for each of some channels, axis 1 of four."""
    return m.constant(np.reshape(values, (1, -1, 1, 1)))


def front_network(folder: Path, front: Front, *, scale: float = 0.125, bits: int = 5, **quant: object) -> Path:
    """input [1, 3, 4, 4] -> front -> Quant -> Conv: four channels of a known kernel, unquantized at the output."""
    m = ModelBuilder()
    x = m.quant(front(m, m.input(IMAGE, "x")), scale, bits, **quant)  # type: ignore[arg-type]
    m.output(m.node("Conv", x, m.weight(normal((4, 3, 3, 3), 0.5), 0.25, 4)))
    return m.save(folder)


def host_module_of(program: pefslc.Program) -> dict[str, Any]:
    """The names of the module that a TCU program has for its host."""
    names: dict[str, Any] = {}
    exec(next(text for name, text in program.emission.files.items() if name.endswith("_io.py")), names)
    return names


def input_codes(
    x: np.ndarray, value: Callable[[Fraction, int], Fraction], scale: float, bits: int, *, signed: bool, rounding: str
) -> np.ndarray:
    """The codes of x [N, C, H, W] by exact rationals: value(number, channel) is what stands before the quantizer."""
    found = np.empty(x.shape, dtype=np.int64)
    for index, number in np.ndenumerate(x):
        y = value(Fraction(float(number)), index[1])
        found[index] = quantize_value(y, Fraction(float(np.float32(scale))), bits, signed, False, rounding)
    return found
