"""Which tensors of a model saturate in the formats that --fmt gave to them: how often, what they need, what they have.

Counted are the values of the model before it was quantized: behind what saturates they are smaller already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from pefslc.artifacts.sidecar import JsonObject
from pefslc.ir.graph import Graph
from pefslc.ir.quantized import Constant, Conv, Linear, Quantize
from pefslc.ir.reference import stream_values
from pefslc.ir.value import Value
from pefslc.numeric.format import Quantization
from pefslc.passes.calibrate import count_clipped
from pefslc.passes.fold_batch_norm import FoldBatchNorm
from pefslc.reports.layer_report import layer_name, short_format

__all__ = ["Saturation", "SeenTensor", "SeenTensors", "rounded", "saturated_weights"]

Floats = NDArray[np.float64]

_MUCH_LOST = 0.05  # of a tensor's power: more than --fmt auto gives up, even where it has three bits


@dataclass(frozen=True, slots=True)
class Saturation:
    """One tensor.

    share      of its values that its format does not hold
    lost       the share of their power, the sum of the squares, that saturation takes
    low, high  the range of the values
    held       the range of the format
    """

    name: str
    format: str
    share: float
    lost: float
    low: float
    high: float
    held: tuple[float, float]

    @property
    def heavy(self) -> bool:
        """Whether it takes so much that the format does not suit the tensor."""
        return self.lost >= _MUCH_LOST

    def to_json(self) -> JsonObject:
        return {
            "tensor": self.name,
            "format": self.format,
            "saturated": rounded(self.share),
            "power_lost": rounded(self.lost),
            "range": [rounded(self.low), rounded(self.high)],
            "held": [rounded(bound) for bound in self.held],
        }

    def __str__(self) -> str:
        low, high = self.held
        return (
            f"{self.name}: {percent(self.share)} of its values saturate: they reach {self.low:.4g} to {self.high:.4g}, "
            f"{self.format} holds {low:.4g} to {high:.4g}"
        )


@dataclass(slots=True)
class SeenTensor:
    """The values of one tensor so far, against its format; None for an accumulator that is handed out as it is."""

    quantization: Quantization | None
    low: float = np.inf
    high: float = -np.inf
    count: int = 0
    clipped: int = 0
    power: float = 0.0
    lost: float = 0.0

    def add(self, values: Floats) -> None:
        # Adding 0 makes a negative zero positive.
        self.low, self.high = min(self.low, float(values.min()) + 0.0), max(self.high, float(values.max()) + 0.0)
        self.count += values.size
        if self.quantization is not None and (self.low < self.held[0] or self.high > self.held[1]):
            self.clipped += count_clipped(self.quantization, values)
            self.lost += float(np.square(values - np.clip(values, *self.held)).sum())
        self.power += float(np.square(values).sum())

    @property
    def held(self) -> tuple[float, float]:
        """The range of the format."""
        q = self.quantization
        return (-np.inf, np.inf) if q is None else (float(q.value(q.low)), float(q.value(q.high)))

    @property
    def share(self) -> float:
        return self.clipped / max(self.count, 1)

    def saturation(self, name: str) -> Saturation | None:
        """What saturates; None where nothing does."""
        if self.quantization is None or not self.clipped:
            return None
        lost = self.lost / self.power if self.power else 0.0
        return Saturation(name, short_format(self.quantization), self.share, lost, self.low, self.high, self.held)


class SeenTensors:
    """The stored tensors and the outputs of a model, and what they held so far.

    model      before it was quantized
    quantized  what --fmt made of it
    """

    def __init__(self, model: Graph, quantized: Graph) -> None:
        self.model = model
        known = {v.name for v in (*(i.value for i in model.inputs), *(op.result for op in model.ops))}
        sources = {op.result.name: op.input.name for op in quantized.of_type(Quantize)}

        def of_model(name: str) -> str:
            """The words of a plain host's driver, between an input and its codes, are no tensor of the model."""
            return name if name in known or name not in sources else of_model(sources[name])

        self.stored = {of_model(op.input.name): op for op in quantized.of_type(Quantize) if op.channel_axis == 1}
        names = (*self.stored, *(o.value.name for o in model.outputs))
        self.seen = {name: SeenTensor(_quantization(self.stored.get(name))) for name in names}
        self.weights = tuple(saturated_weights(model, quantized))

    @property
    def in_order(self) -> Iterator[tuple[Value, SeenTensor]]:
        values = (*(i.value for i in self.model.inputs), *(op.result for op in self.model.ops))
        return ((value, self.seen[value.name]) for value in values if value.name in self.seen)

    def see(self, name: str, values: Floats) -> None:
        """Count the values of a tensor, if it is stored or an output."""
        if name in self.seen and values.size:
            self.seen[name].add(values)

    def run(self, inputs: Mapping[str, Floats]) -> dict[str, Floats]:
        """The model's outputs by name; counts what it holds on the way."""
        outputs = {o.value.name: o.name for o in self.model.outputs}
        found = {}
        for value, x in stream_values(self.model, inputs):
            self.see(value.name, x)
            if value.name in outputs:
                found[value.name] = x
        return {o.name: found[o.value.name] for o in self.model.outputs}

    def saturated(self) -> tuple[Saturation, ...]:
        """What saturated, weights too; first what loses most."""
        tensors = (seen.saturation(layer_name(value.origin)) for value, seen in self.in_order if seen.count)
        return most_lost_first((*self.weights, *(found for found in tensors if found is not None)))


def most_lost_first(found: Iterable[Saturation]) -> tuple[Saturation, ...]:
    return tuple(sorted(found, key=lambda s: (-s.lost, -s.share)))


def saturated_weights(model: Graph, quantized: Graph) -> Iterator[Saturation]:
    """The weights of a float model that their format does not hold: known without data. In the order of the layers."""
    folded = FoldBatchNorm().run(model)
    raw = {op.result.name: op.data.data for op in folded.of_type(Constant)}
    formats = {op.result.name: op.weight.type.element for op in quantized.ops if isinstance(op, Conv | Linear)}
    for op in folded.ops:
        element = formats.get(op.result.name)
        if not isinstance(op, Conv | Linear) or not isinstance(element, Quantization) or op.weight.name not in raw:
            continue
        seen = SeenTensor(element)
        seen.add(raw[op.weight.name])
        found = seen.saturation(f"{layer_name(op.result.origin)} weights")
        if found is not None:
            yield found


def percent(share: float) -> str:
    """In percent; what is not zero does not look like it, and what is not all does not either."""
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    return f"{100 * share:.2g} %" if share < 0.995 else f"{min(100 * share, 99.99):.4g} %"


def rounded(number: float) -> float | None:
    """Six significant digits, the same wherever sums of floats are ordered differently; JSON has no infinity."""
    return float(f"{number:.6g}") if isfinite(number) else None


def _quantization(op: Quantize | None) -> Quantization | None:
    element = None if op is None else op.result.type.element
    return element if isinstance(element, Quantization) else None
