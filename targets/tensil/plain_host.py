"""A plain host, `--host plain` or `dense`: what it writes and reads, which knows the driver and nothing of the program.

The driver makes words of numbers and numbers of words: number * 2^p, rounded half to even, and word / 2^p (p: the
binary point). So a real input is a word, and the model's own quantizer runs on the TCU. What the driver's numbers are
to the model's is a factor, and for outputs an offset: 1 and 0 where the words are natural.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil

import numpy as np

from pefslc.artifacts.sidecar import Json, JsonObject
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem, quote
from pefslc.ir.graph import Graph, GraphInput, GraphOutput
from pefslc.ir.integer import Requantize
from pefslc.ir.quantized import Quantize, Scaling
from pefslc.ir.structural import MaxPool, Reshape, Slice, Transpose
from pefslc.numeric.format import FixedPoint
from pefslc.numeric.scale import Scale, power_of_two_exponent
from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.groups.host_movement import HostMove
from pefslc.targets.tensil.host_io import HostTensor
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.native.native_words import native_format

__all__ = [
    "RoundedTwice",
    "notes_on_rounding",
    "plain_details",
    "plain_notes",
    "require_plain",
    "rounded_twice",
    "words_of_inputs",
]

_PARTS = 1 << 20  # of a word, where one has several steps
_FINER_BITS = 2  # beyond one word a step: then less than an eighth of the numbers gets another code


def words_of_inputs(graph: Graph, data_type: DataType) -> dict[str, FixedPoint]:
    """The formats of the words that a plain host writes, by the inputs of a quantized graph: those of the machine's own
    numbers; with less fraction, and a factor, where an input's quantizer holds larger numbers: then so little that one
    multiplication shifts its step away. Integers are codes.
    """
    found = {}
    for graph_input in graph.inputs:
        if graph_input.integers:
            limits = np.iinfo(graph_input.integers)
            found[graph_input.name] = FixedPoint(limits.bits, 0, signed=limits.min < 0)
            continue
        less = 0
        for low, high, step in _quantized_ranges(graph, graph_input.value.name):
            while low < -(most := 1 << (data_type.width_bits - data_type.binary_point - 1 + less)) or high >= most:
                less += 1
            while less and step > 1 << less:
                less += 1
        found[graph_input.name] = native_format(data_type, -less)
    return found


def _quantized_ranges(
    graph: Graph, name: str, factor: Fraction = Fraction(1)
) -> Iterator[tuple[Fraction, Fraction, Fraction]]:
    """The least and the greatest number that each first quantizer of a value holds, and its step, where only a factor
    and movement stand between.
    """
    for op in graph.consumers().get(name, ()):
        if isinstance(op, Quantize) and not op.stages:
            q = op.quantizer.quantization
            ends = [(code - q.zero_point) * step / factor for code in (q.low, q.high) for step in q.scale.steps]
            yield min(ends), max(ends), min(q.scale.steps) / abs(factor)
        elif isinstance(op, Scaling) and op.stage.multiple:
            yield from _quantized_ranges(graph, op.result.name, factor * op.stage.multiple)
        elif isinstance(op, Reshape | Transpose | Slice | MaxPool):
            yield from _quantized_ranges(graph, op.result.name, factor)


def require_plain(outputs: Sequence[HostTensor], host: str) -> None:
    """Raise CompileError for outputs that no driver's numbers are. `host`: what --host says."""
    problems = [
        Problem(
            Code.TCU_UNSUPPORTED,
            f"output {quote(tensor.end.name)} is a sum of {len(tensor.words)} words: no number that Tensil's driver "
            "returns is its value",
            at=tensor.end.value.origin,
            hint=f"quantize the output to 16 bits at most, or leave out --host {host}: NAME_io.py adds the words",
        )
        for tensor in outputs
        if tensor.words
    ]
    if problems:
        raise CompileError.of(problems)


def plain_details(model: Graph, tensor: HostTensor) -> JsonObject:
    """For the sidecar, beside the tensor's record: `factor`, by which an input is multiplied for the driver, or an
    output of the driver's, and `offset`, which is added to that; a number each, or one for each channel.
    `rounded_twice`, `rounded_twice_by` (where it is more than 1): the share and the codes of `RoundedTwice`.
    """
    if isinstance(tensor.end, GraphInput):
        details: dict[str, Json] = {"factor": float(_input_factor(tensor))}
        if (twice := rounded_twice(model, tensor.end)) is not None:
            details["rounded_twice"] = twice.share
            if twice.codes > 1:
                details["rounded_twice_by"] = twice.codes
        return details
    factors, offsets = _output_map(tensor)
    return {"factor": [float(f) for f in factors], "offset": [float(o) for o in offsets]}


def plain_notes(inputs: Sequence[HostTensor], outputs: Sequence[HostTensor]) -> Iterator[str]:
    """Lines for the summary: what the host gives and gets, and where that is not the model's numbers."""
    for tensor in inputs:
        name, factor = quote(tensor.end.name), _input_factor(tensor)
        times = "" if factor == 1 else f" times {_number(factor)}"
        moved = _moved(tensor.moves)
        dense = tensor.tensor.stored.dense
        how = "its pixels one behind the other" if dense else "one pixel a vector, zeros in the lanes left"
        yield f"plain host: gives input {name}{times}, {how}{moved}"
    for tensor in outputs:
        assert isinstance(tensor.end, GraphOutput)
        name, (factors, offsets) = quote(tensor.end.name), _output_map(tensor)
        one = set(factors) == {Fraction(1)}
        times = (
            "" if one else f" times {_number(factors[0])}" if len(set(factors)) == 1 else " times a factor a channel"
        )
        plus = (
            ""
            if not any(offsets)
            else f" plus {_number(offsets[0])}"
            if len(set(offsets)) == 1
            else " plus an offset a channel"
        )
        listed = " (`factor`, `offset` in the sidecar)" if len({*factors}) > 1 or len({*offsets}) > 1 else ""
        what = (
            f"output {name}"
            if tensor.end.function is None
            else f"what the {tensor.end.function.kind.value} of output {name} is taken of"
        )
        yield f"plain host: {what} is what the driver returns{times}{plus}{listed}{_moved(tensor.moves, back=True)}"


def notes_on_rounding(model: Graph, inputs: Sequence[HostTensor]) -> Iterator[str]:
    """A line for each input whose numbers the driver rounds before the model does."""
    for tensor in inputs:
        assert isinstance(tensor.end, GraphInput)
        if (twice := rounded_twice(model, tensor.end)) is not None:
            yield _twice_note(tensor, twice)


def _twice_note(tensor: HostTensor, twice: RoundedTwice) -> str:
    assert isinstance(tensor.end, GraphInput)
    assert tensor.end.quantizer is not None
    note = (
        f"input {quote(tensor.end.name)} is rounded twice, by the driver and by the model: exact for numbers on the "
        f"driver's grid, of others up to {_percent(twice.share)} % get "
    )
    if twice.words >= 1:
        return f"{note}the next code"
    note += "the next code" if twice.codes == 1 else f"another code, by up to {twice.codes}"
    width = tensor.data_type.width_bits
    exponent = power_of_two_exponent(tensor.end.quantizer.quantization.scale.steps[0])
    fraction = -exponent if exponent is not None else width - 1
    finer = min(fraction + (2 * twice.codes - 1).bit_length() + _FINER_BITS, width - 1)
    if finer <= fraction:
        return f"{note}: the driver's grid is too coarse for the model, which should take larger numbers"
    fmt = FixedPoint(width - finer, finer)
    return (
        f"{note}: the driver's grid is too coarse for the model; finer words are --input-fmt {fmt}, for inputs of "
        f"{-(1 << (width - finer - 1))} to {1 << (width - finer - 1)}"
    )


def rounded_twice(model: Graph, graph_input: GraphInput) -> RoundedTwice | None:
    """What the driver's rounding changes of numbers spread evenly over the model's own quantizers: the worst of them.
    None where nothing is rounded after it.
    """
    if graph_input.integers:
        return None
    found = []
    for op in model.of_type(Requantize):
        if op.input.name == graph_input.value.name and op.staircase.steps > 1:
            steps = op.staircase.steps
            found += [RoundedTwice(reach / (steps - 1), steps) for reach in _reach(op.staircase)]
    return min(found, key=lambda each: each.words, default=None)


@dataclass(frozen=True, slots=True)
class RoundedTwice:
    """What the driver's rounding does to numbers spread evenly over a quantizer of steps of so many words each.

    Each step lies within half a word of where it would be. With several steps to a word, a word has one code; the
    numbers that round to it, within half a word, are of all these codes.
    """

    words: Fraction
    steps: int

    @property
    def share(self) -> float:
        """The largest share of the numbers whose code differs."""
        return float(1 / (2 * self.words) if self.words >= 1 else max(Fraction(1, 2), 1 - self.words))

    @property
    def codes(self) -> int:
        """By how many it differs at most."""
        return min(ceil(1 / (2 * self.words)), self.steps)


def _reach(staircase: Staircase) -> Iterator[Fraction]:
    """The words between the first and the last step, in each channel that has any between: to the word; in parts of it
    where there are more steps than words.
    """
    ends = [staircase.between(i, i + 1, staircase.low).thresholds[:, 0] for i in (0, staircase.steps - 1)]
    words = np.abs(ends[1] - ends[0])
    unit = 1
    if (chains := staircase.chains) is not None and words.min() < staircase.steps - 1:
        unit = _PARTS
        scale, levels = Scale(tuple(step / unit for step in chains.scale.steps)), chains.levels
        low, high = chains.domain_low * unit, chains.domain_high * unit
        finer = replace(chains, scale=scale, domain_low=low, domain_high=high)
        ends = [
            replace(finer, levels=levels[i : i + 1]).thresholds(0, chains.channels)[:, 0] for i in (0, -1 % len(levels))
        ]
        words = np.abs(ends[1] - ends[0])
    return (Fraction(int(n), unit) for n in words if n)


def _input_factor(tensor: HostTensor) -> Fraction:
    assert isinstance(tensor.end, GraphInput)
    assert tensor.end.quantizer is not None
    step = tensor.end.quantizer.quantization.scale.steps[0]
    return Fraction(1 << tensor.tensor.exponent, tensor.tensor.finer * tensor.data_type.one) / step


def _output_map(tensor: HostTensor) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
    assert isinstance(tensor.end, GraphOutput)
    assert tensor.end.map is not None
    word = Fraction(tensor.data_type.one * tensor.tensor.finer, 1 << tensor.tensor.exponent)
    return tuple(scale * word for scale in tensor.end.map.scale), tensor.end.map.offset


def _moved(moves: Sequence[HostMove], *, back: bool = False) -> str:
    """What the host has to move beside that; nothing for channels that are the last axis already."""
    last_axis = [HostMove("transpose", (0, 3, 1, 2))], [HostMove("transpose", (0, 2, 1))]
    if not moves or (not back and list(moves) in last_axis):
        return ""
    steps = ", then ".join(f"{move.kind} {list(move.axes)}" for move in moves)
    return f"; {'behind' if back else 'before'} that {steps}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g}" if share < 0.99 else f"{100 * share:.3g}"


def _number(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.10g}"
