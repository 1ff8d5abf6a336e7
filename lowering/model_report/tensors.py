"""The tensors of a model against their formats: weights, and what its quantizers round on given inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import element_count
from pefslc.ir.graph import Graph
from pefslc.ir.integer import Conv2d, Dense, Rescale, Sum, SumPool
from pefslc.ir.interpret import quantize_input, run_codes
from pefslc.ir.quantized import Constant, Conv, Linear, Quantize, QuantizedConstant
from pefslc.ir.reference import in_chunks, stream_values
from pefslc.model_report.distributions import Distribution, distribution_of
from pefslc.numeric.format import Quantization
from pefslc.numeric.quantize import dequantize
from pefslc.numeric.rounding import RoundingMode
from pefslc.passes.fold_batch_norm import FoldBatchNorm

__all__ = ["Seen", "few_rows", "see", "weight_distributions"]

Floats = NDArray[np.float64]

_MOST_VALUES = 1 << 24  # of all tensors on all rows: 128 MB, and a second or two


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen on some inputs.

    values  by the name of a quantizer's result: what it rounded
    sums    by the name of a sum: the lowest and the highest code
    """

    values: Mapping[str, Distribution] = field(default_factory=dict)
    sums: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def weight_distributions(quantized: Graph, float_model: Graph | None) -> dict[str, Distribution]:
    """By the name of the result of each convolution and linear layer: its weights.

    Those of a float model as they are before they are quantized, BatchNorm folded; else those of the codes.
    """
    raw: dict[str, Floats] = {}
    if float_model is not None:
        folded = FoldBatchNorm().run(float_model)
        constants = {op.result.name: op.data.data for op in folded.of_type(Constant)}
        layers = (op for op in folded.ops if isinstance(op, Conv | Linear))
        raw = {op.result.name: constants[op.weight.name] for op in layers if op.weight.name in constants}
    codes = {op.result.name: op for op in quantized.of_type(QuantizedConstant)}
    found = {}
    for op in quantized.ops:
        if not isinstance(op, Conv | Linear) or not isinstance(op.weight.type.element, Quantization):
            continue
        q = op.weight.type.quantization
        if op.result.name in raw:
            values = raw[op.result.name]
        elif op.weight.name in codes:
            values = dequantize(codes[op.weight.name].codes.data, q, 0)
        else:
            continue
        if values.size:
            found[op.result.name] = distribution_of(values, q, RoundingMode.HALF_EVEN, 0)
    return found


def few_rows(graph: Graph, arrays: Mapping[str, Floats]) -> int:
    """How many batches of the inputs are run: all of them, of a large network the first ones."""
    values = sum(element_count(op.result.type.shape) for op in graph.ops)
    first = graph.inputs[0]
    batches = len(arrays[first.name]) // first.value.type.shape[0]
    return max(1, min(batches, _MOST_VALUES // max(values, 1)))


def see(model: Graph, reference: Graph, integer: Graph, arrays: Mapping[str, Floats]) -> Seen:
    """What the quantizers round and what the sums are on whole batches of inputs.

    model      whose values they are: the float model, where there is one, else the reference
    reference  its quantizers
    """
    quantizers = {op.input.name: op for op in reference.of_type(Quantize) if op.channel_axis == 1 and not op.stages}
    parts: dict[str, list[Floats]] = {}
    sums: dict[str, tuple[int, int]] = {}
    for chunk in in_chunks(model, arrays):
        for value, x in stream_values(model, chunk):
            if value.name in quantizers and x.size:
                parts.setdefault(value.name, []).append(x)
        codes = {i.name: quantize_input(i, chunk[i.name]) for i in integer.inputs}
        values = run_codes(integer, codes)
        for op in integer.ops:
            if isinstance(op, Conv2d | Dense | Sum | SumPool | Rescale):
                low, high = int(values[op.result.name].min()), int(values[op.result.name].max())
                before = sums.get(op.result.name, (low, high))
                sums[op.result.name] = min(low, before[0]), max(high, before[1])
    found = {}
    for name, arrays_of in parts.items():
        op = quantizers[name]
        found[op.result.name] = distribution_of(np.concatenate(arrays_of), op.quantization, op.rounding, 1)
    return Seen(found, sums)
