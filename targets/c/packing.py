"""Weights of 2 to 7 bits, packed: flash holds no more bits than they have. Loops unpack them as kernels read them.

Each row of taps is unpacked once for all pixels: a step makes as many passes over its pixels as it takes until the
unpacked weights of all outputs have been in a buffer of `BUFFER` bytes. So kernels know nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.c.cpus import Cpu
from pefslc.targets.c.tiles import Chunk, chunks

__all__ = ["Pass", "bits_of", "packed_bytes", "passes_of"]

_BUFFER = 4096  # bytes: some outputs of the widest layers; each pass gathers all taps again
_TOGETHER = 8  # weights that begin and end at whole bytes


@dataclass(frozen=True, slots=True)
class Pass:
    """Passes over all pixels that follow each other.

    first    output
    calls    passes
    outputs  of each, filled up
    chunks   the kernel calls of each, counted from its own first output
    """

    first: int
    calls: int
    outputs: int
    chunks: tuple[Chunk, ...]


def bits_of(weight: NDArray[np.int64]) -> int:
    """That a code of the weights needs, signed; at least 2."""
    low, high = int(weight.min(initial=0)), int(weight.max(initial=0))
    return max((max(high, -low - 1)).bit_length() + 1, 2)


def passes_of(cpu: Cpu, outputs: int, filled: int, padded: int, blocks: int) -> tuple[Pass, ...]:
    """For all outputs; none where no whole number of outputs ends at a whole byte.

    filled  outputs, filled up
    padded  weights of an output
    blocks  of outputs that one kernel computes
    """
    step = blocks * cpu.order.outputs
    fitting = [count for count in {filled, *range(step, filled, step)} if count * padded % _TOGETHER == 0]
    if filled * padded % _TOGETHER:
        return ()
    most = max((count for count in fitting if count * padded <= _BUFFER), default=min(fitting))
    return tuple(_passes(cpu, outputs, filled, most, blocks))


def _passes(cpu: Cpu, outputs: int, filled: int, most: int, blocks: int) -> Iterator[Pass]:
    calls = outputs // most
    rest = filled - calls * most
    if calls:
        yield Pass(0, calls, most, tuple(chunks(cpu, most, blocks)))
    if rest:
        yield Pass(calls * most, 1, rest, tuple(chunks(cpu, rest, blocks)))


def packed_bytes(codes: NDArray[np.integer], bits: int) -> NDArray[np.uint8]:
    """[n * bits / 8] bytes of n codes, a multiple of 8: each 2^(bits - 1) more, the first one in the lowest bits."""
    raised = codes.reshape(-1).astype(np.int64) + (1 << (bits - 1))
    each = (raised[:, None] >> np.arange(bits)) & 1
    return np.packbits(each.astype(np.uint8).reshape(-1), bitorder="little")
