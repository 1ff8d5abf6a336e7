"""Integer graphs that use the C target's kernels in every form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from integer_graphs import GraphBuilder
from pefslc.ir.graph import Graph
from pefslc.ir.value import Value

__all__ = ["kernels_graph"]

Array = NDArray[np.int64]


def _weights(rng: np.random.Generator, shape: tuple[int, ...], bits: int) -> Array:
    """All of `bits` bits: as they come, or each at one of the ends."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    ends = rng.choice([[low, high], [low, low], [high, high]])
    return rng.choice(ends, shape) if rng.random() < 0.6 else rng.integers(low, high + 1, shape)


def kernels_graph(name: str, seed: int) -> Graph:
    """Convolutions of every form, on codes of every width up to 8 bits, their sums as outputs; some requantized."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(name)
    outputs: list[Value] = []

    def add(x: Value, count: int, kernel: tuple[int, int], groups: int = 1, **window: object) -> Value:
        weight = _weights(rng, (count, x.type.shape[1] // groups, *kernel), int(rng.choice([2, 4, 5, 6, 7, 8, 8])))
        bias = rng.integers(-9000, 9000, count) if rng.random() < 0.7 else None
        y = b.conv(x, weight, bias, groups, **window)
        outputs.append(y)
        return y

    for signed, bits in ((bool(seed % 2), 8), (rng.random() < 0.3, int(rng.integers(2, 8)))):
        channels = int(rng.choice([1, 3, 4, 7, 16]))
        x = b.input((int(rng.choice([1, 2])), channels, 6, int(rng.integers(5, 10))), bits, signed=signed)
        pads = tuple(int(p) for p in rng.integers(0, 3, 4))
        strides = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
        y = add(x, int(rng.choice([1, 5, 16, 17, 24])), (3, 3), pads=pads, strides=strides)
        add(x, int(rng.choice([3, 8, 16, 40])), (1, 1))
        few = b.requantize(add(x, 8, (1, 1)), [], 8)
        add(few, 6, (3, 3), pads=(1, 1, 1, 9 - few.type.shape[3]))  # lines of 8 pixels
        add(x, int(rng.choice([4, 33])), (2, 3), pads=pads, dilations=(2, 1))
        add(x, 2 * channels, (3, 2), channels, pads=pads)
        deep = b.requantize(y, [], 8, signed=False)
        wide = b.concat((deep, b.clamp(deep, 3, 99)), 1) if rng.random() < 0.5 else deep
        many = wide.type.shape[1]
        add(wide, many, (3, 3), many, pads=(1, 1, 1, 1))
        add(wide, many, (min(5, wide.type.shape[2]), 1), many, strides=strides)
        quads = b.requantize(b.conv(deep, _weights(rng, (8, deep.type.shape[1], 1, 1), 8)), [], 4, signed=False)
        add(quads, 8, (3, 3), 2, pads=(1, 1, 1, 1))  # groups of four channels; sums often have 16 bits
        residual = b.requantize(b.conv(deep, _weights(rng, (*[deep.type.shape[1]] * 2, 1, 1), 8)), [], 8)
        outputs.append(b.requantize(b.sum(residual, deep), [], 8, signed=False))
        size = int(np.prod(deep.type.shape[1:]))
        outputs.append(b.dense(b.reshape(deep, (x.type.shape[0], size)), _weights(rng, (19, size), 8)))
    return b.graph(*outputs)
