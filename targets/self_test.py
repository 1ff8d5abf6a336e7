"""A self-test of emitted files: input codes that a formula makes, and the output codes that the files must compute."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import Shape, element_count

__all__ = ["CodeRange", "SelfTest", "input_codes", "make_self_test", "source_of_input_codes"]

Codes = NDArray[np.int64]
_SEEDS = 4  # inputs are tried until the outputs show something


def input_codes(size: int, low: int, high: int, seed: int) -> Codes:
    """`size` integers in low..high that look random and are the same everywhere: a hash of each index."""
    x = np.arange(1, size + 1, dtype=np.uint64) + np.uint64(seed << 20)
    for factor, shift in ((0x9E3779B1, 16), (0x85EBCA6B, 13), (0xC2B2AE35, 16)):
        x = (x * np.uint64(factor)) & np.uint64(0xFFFFFFFF)
        x = x ^ (x >> np.uint64(shift))
    return low + ((x * np.uint64(high - low + 1)) >> np.uint64(32)).astype(np.int64)


def source_of_input_codes() -> str:
    """The text of `input_codes` without types, for the board: its Python may be 3.6."""
    _, body = inspect.getsource(input_codes).split("\n", 1)
    return f"def input_codes(size, low, high, seed):\n{body}"


@dataclass(frozen=True, slots=True)
class CodeRange:
    """An input of a test: its ONNX name and shape, and the codes low..high that it may hold."""

    name: str
    shape: Shape
    low: int
    high: int

    def codes(self, seed: int) -> Codes:
        """Some that look random."""
        return input_codes(element_count(self.shape), self.low, self.high, seed).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Inputs, as the seed of a formula, and outputs.

    seed      of input k, in the model's order, seed + k is that of `input_codes`
    inputs    codes in the ONNX shape, by the input's name
    outputs   what the files compute of them, by the output's name
    """

    seed: int
    inputs: Mapping[str, Codes]
    outputs: Mapping[str, Codes]


def make_self_test(
    inputs: Sequence[CodeRange], compute: Callable[[Mapping[str, Codes]], Mapping[str, Codes]]
) -> SelfTest:
    """The test with the first seed that does not leave all codes of an output equal, where there is one.

    compute  what the files do: codes by name to codes by name
    """
    for seed in count(0, len(inputs)):
        given = {t.name: t.codes(seed + k) for k, t in enumerate(inputs)}
        outputs = compute(given)
        if seed >= _SEEDS * len(inputs) or all(np.ptp(codes) for codes in outputs.values() if codes.size > 1):
            return SelfTest(seed, given, outputs)
    raise AssertionError
