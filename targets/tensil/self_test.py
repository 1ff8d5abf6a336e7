"""A self-test for the board: input codes that a formula makes, and the output codes that the files must compute."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.host_io import HostTensor

__all__ = ["SelfTest", "input_codes", "make_self_test", "source_of_input_codes"]

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
class SelfTest:
    """Inputs, as the seed of a formula, and outputs.

    seed      of input k, in the model's order, seed + k is that of `input_codes`
    outputs   what the files compute of them: codes in the ONNX shape, by the output's name
    """

    seed: int
    outputs: Mapping[str, Codes]


def make_self_test(inputs: list[HostTensor], compute: Callable[[Mapping[str, Codes]], Mapping[str, Codes]]) -> SelfTest:
    """The test with the first seed that does not leave all codes of an output equal, where there is one.

    compute  what the files do: codes by name to codes by name
    """
    for seed in count(0, len(inputs)):
        outputs = compute({t.end.name: _codes_of(t, seed + k) for k, t in enumerate(inputs)})
        if seed >= _SEEDS * len(inputs) or all(np.ptp(codes) for codes in outputs.values() if codes.size > 1):
            return SelfTest(seed, outputs)
    raise AssertionError


def _codes_of(tensor: HostTensor, seed: int) -> Codes:
    fields, shape = tensor.module_fields(), tensor.end.value.type.shape
    codes = input_codes(int(np.prod(shape)), int(str(fields["low"])), int(str(fields["high"])), seed)
    return codes.reshape(shape)
