"""Inputs of a quantized model whose format the user gave, by --fmt or --input-fmt: what saturates in them.

A model's own input quantizer saturates where the model says so. A format that somebody named in front of it is no part
of the model: numbers that it does not hold change what the network sees. Of a float model `saturation` tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.errors import quote
from pefslc.ir.graph import Graph
from pefslc.ir.quantized import Quantize
from pefslc.numeric.format import FixedPoint, Quantization
from pefslc.reports.layer_report import short_format
from pefslc.reports.saturation import Saturation, SeenTensor

__all__ = ["advice_on_outputs", "format_for", "format_holding", "given_inputs", "rounded_before", "saturated_inputs"]


def given_inputs(model: Graph, reference: Graph) -> dict[str, Quantization]:
    """By input: the format that the user gave to it.

    model      as imported
    reference  with what --fmt and --input-fmt filled in
    """
    own = {op.result.name for op in model.ops}
    names = {i.value.name: i.name for i in model.inputs}
    added = [op for op in reference.of_type(Quantize) if op.input.name in names and op.result.name not in own]
    return {names[op.input.name]: op.quantization for op in added}


def saturated_inputs(
    formats: Mapping[str, Quantization], arrays: Mapping[str, NDArray[np.float64]]
) -> tuple[Saturation, ...]:
    """What of the arrays, by input, the formats do not hold, in the order of the inputs."""
    found = []
    for name, quantization in formats.items():
        seen = SeenTensor(quantization)
        seen.add(arrays[name])
        found.append(seen.saturation(name))
    return tuple(s for s in found if s is not None)


def advice_on_outputs(formats: Mapping[str, Quantization], saturated: Sequence[Saturation]) -> str:
    """What may be behind expected outputs that differ; "" where the user gave a format to no input."""
    if not formats:
        return ""
    if saturated:
        wider = format_for(saturated[0], formats[saturated[0].name])
        better = "" if wider is None else f"; --input-fmt {saturated[0].name}={wider} holds them in as many bits"
        return f"{saturated[0]}{better}"
    said = "by --fmt, --input-fmt or a plain host's driver, before the model's own quantizer"
    better = "give inputs that are on both grids, with their outputs, or a finer format"
    return f"{rounded_before(formats)}, {said}: {better}"


def rounded_before(formats: Mapping[str, Quantization]) -> str:
    """What becomes of an input before the model's own quantizer sees it; "" where the user gave a format to none."""
    named = (f"{quote(name)} is rounded to {short_format(quantization)}" for name, quantization in formats.items())
    return f"input {', '.join(named)} first" if formats else ""


def format_for(saturation: Saturation, quantization: Quantization) -> FixedPoint | None:
    """The format of as many bits that holds the input; None where that leaves no bit of fraction."""
    signed = saturation.low < 0
    found = format_holding([(saturation.low, saturation.high, signed)], quantization.bits)
    return None if found is None else replace(found, signed=signed)


def format_holding(
    ranges: Iterable[tuple[float, float, bool]], bits: int, least_integer_bits: int = 1
) -> FixedPoint | None:
    """The Qm.n of so many bits and of the finest step that holds the ranges; None where none has a bit of fraction.

    ranges  least value, greatest, and whether it is held with a sign: UQm.n holds 0 to 2^m - 2^-n, Qm.n -2^(m-1) to
            2^(m-1) - 2^-n
    """
    demanded = tuple(ranges)
    for integer_bits in range(least_integer_bits, bits):
        found = FixedPoint(integer_bits, bits - integer_bits)
        formats = [replace(found, signed=signed).quantization for *_, signed in demanded]
        pairs = zip(demanded, formats, strict=True)
        if all(float(q.value(q.low)) <= low and high <= float(q.value(q.high)) for (low, high, _), q in pairs):
            return found
    return None
