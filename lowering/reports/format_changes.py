"""What --requantize did to a quantized model: each format before and after, and what became of the codes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.artifacts.sidecar import JsonObject
from pefslc.evaluation.noise import measure_noise
from pefslc.files.arrays import Arrays
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import as_batches
from pefslc.ir.quantized import Constant, QuantizedConstant
from pefslc.numeric.quantize import dequantize
from pefslc.passes.calibrate import count_clipped
from pefslc.passes.check_format import quantizer_roles
from pefslc.passes.fold_constants import FoldConstants
from pefslc.reports.layer_report import layer_name, short_format

__all__ = ["FormatChange", "format_changes"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FormatChange:
    """One quantizer. Of `count` values, `changed` are others now, and `clipped` lay outside of the new format.

    count is 0 where nothing was there to count: an activation, without data.
    """

    name: str
    role: str
    before: str
    after: str
    count: int
    changed: int
    clipped: int

    def to_json(self) -> JsonObject:
        return {
            "quantizer": self.name,
            "role": self.role,
            "before": self.before,
            "after": self.after,
            "values": self.count,
            "changed": self.changed,
            "clipped": self.clipped,
        }


def format_changes(model: Graph, changed: Graph, inputs: Arrays | None = None) -> tuple[FormatChange, ...]:
    """The quantizers whose format differs between a model and what `ChangeFormats` made of it, in order.

    inputs  arrays on which both are run, to count the codes of activations: each in its own network
    """
    after = {op.result.name: op.quantization for op, _ in quantizer_roles(changed)}
    roles = [(op, role) for op, role in quantizer_roles(model) if op.quantization != after[op.result.name]]
    counts = dict(_weight_counts(model, changed))
    activations = {op.result.name: op.result.name for op, role in roles if role == "activation"}
    if inputs is not None and activations:
        arrays, _ = as_batches(model, inputs)
        found = dict.fromkeys(activations, _Counts())

        def see(name: str, old: Floats, new: Floats) -> None:
            found[name] = found[name].plus(old.size, int(np.count_nonzero(old != new)), count_clipped(after[name], old))

        measure_noise(model, changed, arrays, activations, see)
        counts |= found
    return tuple(
        FormatChange(
            layer_name(op.result.origin),
            role,
            short_format(op.quantization),
            short_format(after[op.result.name]),
            *counts.get(op.result.name, _Counts()).all,
        )
        for op, role in roles
    )


@dataclass(frozen=True, slots=True)
class _Counts:
    count: int = 0
    changed: int = 0
    clipped: int = 0

    def plus(self, count: int, changed: int, clipped: int) -> _Counts:
        return _Counts(self.count + count, self.changed + changed, self.clipped + clipped)

    @property
    def all(self) -> tuple[int, int, int]:
        return self.count, self.changed, self.clipped


def _weight_counts(model: Graph, changed: Graph) -> Iterator[tuple[str, _Counts]]:
    """By the quantizer's result: the values before and after, and the floats of the file that the new format clips."""
    old, new = (
        {op.result.name: op for op in FoldConstants().run(graph).of_type(QuantizedConstant)}
        for graph in (model, changed)
    )
    floats = {op.result.name: op.data.data for op in model.of_type(Constant)}
    producers = model.producers()
    for name in old.keys() & new.keys():
        before, after = (dequantize(op.codes.data, op.quantization, channel_axis=0) for op in (old[name], new[name]))
        source = producers[name].operands
        raw = floats.get(source[0].name, before) if source else before
        clipped = count_clipped(new[name].quantization, raw)
        yield name, _Counts(before.size, int(np.count_nonzero(before != after)), clipped)
