"""What a float model holds: its layers, the ranges of weights and, on inputs, of the tensors that --fmt rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pefslc.analysis.limits import TargetLimits
from pefslc.artifacts.sidecar import JsonObject
from pefslc.geometry.shapes import Shape
from pefslc.ir.graph import Graph
from pefslc.ir.quantized import Constant, Conv, Linear, Quantize
from pefslc.ir.reference import stream_values
from pefslc.numeric.format import FixedPoint
from pefslc.passes.fold_batch_norm import FoldBatchNorm
from pefslc.passes.pipeline import said_by_user
from pefslc.reports.given_inputs import format_holding
from pefslc.reports.layer_report import layer_name
from pefslc.reports.saturation import rounded

__all__ = ["FloatLayer", "float_layers", "format_that_holds_all"]

_ANY = FixedPoint(4, 4)  # which tensors are rounded does not depend on it


@dataclass(frozen=True, slots=True)
class FloatLayer:
    """An input, or an operation that has weights or whose result --fmt rounds.

    weight  least and greatest weight, BatchNormalization folded in; None where there are none
    values  least and greatest value on the inputs, of a result that is rounded or an output; None without inputs
    signed  of a result that is rounded: whether with a sign; None where it is not, for outputs may stay sums
    """

    layer: str
    op: str
    shape: Shape
    weight: tuple[float, float] | None = None
    values: tuple[float, float] | None = None
    signed: bool | None = None

    def to_json(self) -> JsonObject:
        ranges = {"weight_range": self.weight, "value_range": self.values}
        return {
            "layer": self.layer,
            "op": self.op,
            "shape": list(self.shape),
            **{key: None if found is None else [rounded(n) for n in found] for key, found in ranges.items()},
        }


def float_layers(model: Graph, inputs: Mapping[str, NDArray[np.float64]] | None = None) -> tuple[FloatLayer, ...]:
    """In the order of the graph. `model` is a float graph, as imported; `inputs` by name, any multiple of the batch."""
    folded = FoldBatchNorm().run(model)
    quantized = model
    for each in said_by_user(_ANY, TargetLimits(64, "the interpreter"), allow_overflow=True, requantize=False):
        quantized = each.run(quantized)
    signed = {op.input.name: op.quantization.signed for op in quantized.of_type(Quantize)}
    stored = signed.keys() | {o.value.name for o in folded.outputs}
    constants = {op.result.name: op.data.data for op in folded.of_type(Constant)}
    seen: dict[str, tuple[float, float]] = {}
    for value, x in () if inputs is None else stream_values(folded, inputs):
        if value.name in stored and value.name not in constants and x.size:
            seen[value.name] = _range(x)
    rows = [
        FloatLayer(i.name, "input", i.value.type.shape, None, seen.get(i.value.name), signed.get(i.value.name))
        for i in folded.inputs
    ]
    for op in folded.ops:
        weight = constants.get(op.weight.name) if isinstance(op, Conv | Linear) else None
        if weight is None and (op.result.name not in stored or isinstance(op, Constant)):
            continue
        row = FloatLayer(layer_name(op.result.origin), type(op).__name__, op.result.type.shape)
        held = None if weight is None else _range(weight)
        name = op.result.name
        rows.append(replace(row, weight=held, values=seen.get(name), signed=signed.get(name)))
    return tuple(rows)


def format_that_holds_all(layers: Sequence[FloatLayer], bits: int) -> FixedPoint | None:
    """The Qm.n of so many bits and of the finest step that holds every range; None where there is none."""
    weights = [(*row.weight, True) for row in layers if row.weight is not None]
    values = [(*row.values, row.signed) for row in layers if row.values is not None and row.signed is not None]
    return format_holding([*weights, *values], bits) if weights or values else None


def _range(x: NDArray[np.float64]) -> tuple[float, float]:
    return float(x.min()) + 0.0, float(x.max()) + 0.0  # adding 0 makes a negative zero positive
