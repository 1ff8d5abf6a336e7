"""What saturates in the formats that --fmt gave to a model, guessed from its weights alone: no data is there.

The model is run on random inputs. What that shows is typical for inputs of the same size, no more: a warning, never a
verdict. Weights that their format does not hold are no guess.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pefslc.ir.graph import Graph, GraphInput
from pefslc.reports.saturation import Saturation, SeenTensors

__all__ = ["is_run_on_random_inputs", "likely_saturation"]

Floats = NDArray[np.float64]

_MOST_BATCHES = 8
_MOST_MACS = 2_000_000_000  # a second or two; of what is larger only the weights are looked at
_SEED = 0
_MUCH_LOST = 0.1  # of a tensor's power, on inputs that may be louder than the user's
_DEVIATIONS_HELD = 3.0


def is_run_on_random_inputs(macs: int) -> bool:
    """Whether a network of that many MACs is run; else only its weights are looked at."""
    return macs <= _MOST_MACS


def likely_saturation(model: Graph, quantized: Graph, macs: int) -> tuple[Saturation, ...]:
    """What saturates heavily on normal inputs of mean 0, and on all integers alike of an input that holds those; first
    what loses most.

    The standard deviation is 1, as of normalised pictures, and less where the input's format would not hold three of
    them: who names a format knows the inputs, if nothing else.

    model      before it was quantized
    quantized  what --fmt made of it
    macs       of one batch
    """
    tensors = SeenTensors(model, quantized)
    draw = np.random.default_rng(_SEED)
    for _ in range(min(_MOST_BATCHES, _MOST_MACS // max(macs, 1))):
        tensors.run({i.name: _drawn(i, tensors, draw) for i in model.inputs})
    weights = {s.name for s in tensors.weights if s.heavy}  # certain
    return tuple(s for s in tensors.saturated() if s.lost >= _MUCH_LOST or s.name in weights)


def _drawn(graph_input: GraphInput, tensors: SeenTensors, draw: np.random.Generator) -> Floats:
    """One batch of an input."""
    shape = graph_input.value.type.shape
    if graph_input.integers:
        limits = np.iinfo(graph_input.integers)
        return draw.integers(limits.min, limits.max, shape, endpoint=True).astype(np.float64)
    seen = tensors.seen.get(graph_input.value.name)
    held = np.inf if seen is None else seen.held[1]
    return np.clip(draw.standard_normal(shape) * min(1.0, held / _DEVIATIONS_HELD), -held, held)
