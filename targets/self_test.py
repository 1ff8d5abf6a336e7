"""A self-test of emitted files: input codes that a formula makes, and the output codes that the files must compute."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log2

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import Shape, element_count

__all__ = ["DrawnInput", "SelfTest", "input_codes", "make_self_test", "share_at_ends", "source_of_input_codes"]

Codes = NDArray[np.int64]
_SEEDS = 4  # inputs are tried until the outputs show something
_FEW = 1 / 8  # of the codes of an output may saturate


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
class DrawnInput:
    """An input of a test: its ONNX name and shape, and the codes low..high that it may hold.

    reach  the largest value that its format has, in absolute value
    """

    name: str
    shape: Shape
    low: int
    high: int
    reach: float = 1.0

    def codes(self, seed: int, halvings: int = 0) -> Codes:
        """Some that look random, of a range that is halved so often."""
        low, high = self.low >> halvings, self.high >> halvings
        return input_codes(element_count(self.shape), low, high, seed).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Inputs, as the seed of a formula, and outputs.

    seed      of input k, in the model's order, seed + k is that of `input_codes`
    halvings  of the range of each input: it holds what is drawn, 2^halvings times
    inputs    codes in the ONNX shape, by the input's name
    outputs   what the files compute of them, by the output's name
    """

    seed: int
    halvings: int
    inputs: Mapping[str, Codes]
    outputs: Mapping[str, Codes]


def make_self_test(
    inputs: Sequence[DrawnInput],
    compute: Callable[[Mapping[str, Codes]], Mapping[str, Codes]],
    *,
    saturates: bool = False,
) -> SelfTest:
    """The test with the first seed that does not leave all codes of an output equal, where there is one.

    compute    what the files do: codes by name to codes by name
    saturates  sums may: inputs are small, and smaller, until few outputs do
    """
    tried = []
    for halvings in _halvings(inputs) if saturates else (0,):
        for seed in range(0, (_SEEDS + 1) * len(inputs), len(inputs)):
            given = {t.name: t.codes(seed + k, halvings) for k, t in enumerate(inputs)}
            outputs = compute(given)
            varied = all(np.ptp(codes) for codes in outputs.values() if codes.size > 1)
            if varied:
                break
        test = SelfTest(seed, halvings, given, outputs)
        if varied and (not saturates or share_at_ends(outputs) <= _FEW):
            return test
        tried.append(test)
    return min(tried, key=lambda test: share_at_ends(test.outputs))


def share_at_ends(outputs: Mapping[str, Codes]) -> float:
    """The largest share, of an output, of codes that are alike and the largest, or the smallest: those that saturate.

    Zeros do not count, which a ReLU leaves; nor does a single largest code.
    """
    shares = [0.0]
    for codes in outputs.values():
        ends = [int(np.count_nonzero(codes == end)) for end in {int(codes.max()), int(codes.min())} - {0}]
        shares.append(sum(count for count in ends if count > 1) / codes.size)
    return max(shares)


def _halvings(inputs: Sequence[DrawnInput]) -> tuple[int, ...]:
    """How often ranges are halved: so that inputs reach 1 to 2, as of normalised pictures; less, and more often."""
    first = max(0, ceil(log2(min(t.reach for t in inputs))) - 1)
    return tuple(dict.fromkeys(max(0, first + more) for more in (0, 2, 4, -2, -4)))
