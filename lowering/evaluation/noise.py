"""How far a quantized graph's values are from the float graph's that it was made from: signal, noise, decibels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, log10

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.progress import Progress
from pefslc.ir.graph import Graph
from pefslc.ir.reference import in_chunks, stream_values

__all__ = ["Noise", "measure_noise"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Noise:
    """Of one tensor over all inputs: the sum of the squared values, and of the squared differences from them."""

    signal: float = 0.0
    noise: float = 0.0

    def plus(self, values: Floats, others: Floats) -> Noise:
        return Noise(self.signal + float(np.square(values).sum()), self.noise + float(np.square(others - values).sum()))

    @property
    def ratio(self) -> float:
        """noise / signal; infinite where there is noise alone."""
        return self.noise / self.signal if self.signal else inf if self.noise else 0.0

    @property
    def snr_db(self) -> float:
        """10 log10(signal / noise); infinite where nothing differs."""
        return -10 * log10(self.ratio) if 0 < self.ratio < inf else -inf if self.ratio else inf


def measure_noise(
    graph: Graph,
    other: Graph,
    inputs: Mapping[str, Floats],
    pairs: Mapping[str, str],
    see: Callable[[str, Floats, Floats], None] | None = None,
    progress: Progress | None = None,
) -> dict[str, Noise]:
    """By value name of `graph`: the noise of the value of `other` that `pairs` names for it.

    inputs    input name -> [rows, ...], for both graphs; evaluated a few rows at a time
    see       called with (name, values, other values) of each piece
    progress  called with (rows done, all rows, what)
    """
    found = dict.fromkeys(pairs, Noise())
    total, done = max(len(a) for a in inputs.values()), 0
    back = {theirs: ours for ours, theirs in pairs.items()}
    for chunk in in_chunks(graph, inputs):
        values = {value.name: x for value, x in stream_values(graph, chunk) if value.name in pairs}
        for value, x in stream_values(other, chunk):
            if value.name in back:
                name = back[value.name]
                found[name] = found[name].plus(values[name], x)
                if see is not None:
                    see(name, values[name], x)
        done += max(len(a) for a in chunk.values())
        if progress is not None:
            progress(done, total, "comparing with the float model")
    return found
