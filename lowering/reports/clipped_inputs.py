"""Numbers of the user's that an input's quantizer does not hold: how many, and what they reach.

The network sees the nearest code that there is: the model says so, and integers agree. But inputs in 0 to 256 for an
input of [-2, 1.875] are no pictures of that model: they wanted a normalization. So it is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pefslc.artifacts.sidecar import JsonObject
from pefslc.diagnostics.errors import quote
from pefslc.ir.interface import GraphInput
from pefslc.numeric.format import Quantization
from pefslc.numeric.stage_values import quantize_behind
from pefslc.reports.layer_report import short_format
from pefslc.reports.saturation import percent, rounded

__all__ = ["ClippedInput", "InputsClipWarning", "clipped_inputs"]

_MUCH = 0.1  # of the values: trained ranges leave out a few in a hundred


class InputsClipWarning(UserWarning):
    """Much of an input is not held by its quantizer: is it what the model was trained on?"""


@dataclass(frozen=True, slots=True)
class ClippedInput:
    """One input.

    share      of its values that have no code of their own, above 0
    low, high  the range of the values
    format     of its codes
    held       the range of the format; None where the host computes before it quantizes, or scales per channel
    """

    name: str
    share: float
    low: float
    high: float
    format: str
    held: tuple[float, float] | None

    @property
    def heavy(self) -> bool:
        """Whether so much is clipped that these are hardly the model's inputs."""
        return self.share >= _MUCH

    def to_json(self) -> JsonObject:
        return {
            "input": self.name,
            "clipped": rounded(self.share),
            "range": [rounded(self.low), rounded(self.high)],
            "format": self.format,
            "held": None if self.held is None else [rounded(bound) for bound in self.held],
        }

    def __str__(self) -> str:
        holds = f"{self.format} does not hold them all"
        if self.held is not None:
            holds = f"{self.format} holds {self.held[0]:.4g} to {self.held[1]:.4g}"
        return (
            f"input {quote(self.name)}: {percent(self.share)} of its values clip: "
            f"they reach {self.low:.4g} to {self.high:.4g}, {holds}"
        )


def clipped_inputs(inputs: Iterable[GraphInput], arrays: Mapping[str, NDArray[np.float64]]) -> tuple[ClippedInput, ...]:
    """What of the arrays, by input name, is clipped, in the order of the inputs."""
    found = (_clipped(i, arrays[i.name]) for i in inputs)
    return tuple(clipped for clipped in found if clipped is not None)


def _clipped(graph_input: GraphInput, x: NDArray[np.float64]) -> ClippedInput | None:
    assert graph_input.quantizer is not None
    q = graph_input.quantizer.quantization
    if not x.size:
        return None
    # Without its bounds, the quantizer would give these another code. Two bits more bound it far enough away.
    wider = Quantization(bits=q.bits + 2, signed=True, narrow=False, scale=q.scale, zero_point=q.zero_point)
    codes = quantize_behind(
        graph_input.stages, replace(graph_input.quantizer, quantization=wider), x, graph_input.channel_axis
    )
    count = int(np.count_nonzero((codes < q.low) | (codes > q.high)))
    if not count:
        return None
    plain = not graph_input.stages and not q.scale.per_channel
    held = (float(q.value(q.low)), float(q.value(q.high))) if plain else None
    low, high = float(x.min()) + 0.0, float(x.max()) + 0.0  # adding 0 makes a negative zero positive
    return ClippedInput(graph_input.name, count / x.size, low, high, short_format(q), held)
