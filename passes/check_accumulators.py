"""The overflow proof: every partial sum fits the target's accumulator, or the compile stops.

With --allow-overflow, and in a target's native arithmetic, it is not asked for. The TCU lowering proves it again for
its own words (`targets/tensil/words/verify.py`).
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import ClassVar

from pefslc.analysis.limits import TargetLimits
from pefslc.analysis.ranges import partial_sums, result_range
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem
from pefslc.ir.graph import Graph, Level
from pefslc.ir.integer import Conv2d, Dense, Rescale, Sum, SumPool
from pefslc.ir.structural import Reshape
from pefslc.numeric.accumulate import bits_for_range, largest_magnitude
from pefslc.passes.manager import Exactness

__all__ = ["CheckAccumulators", "accumulator_bits", "overflows", "sum_ranges"]

_FEWEST_BITS = 2  # that networks are trained with as others are


@dataclass(frozen=True, slots=True)
class CheckAccumulators:
    """Raise, with every offender, when a sum can leave `limits.accumulator_bits` for some input. Changes nothing."""

    limits: TargetLimits
    allow_overflow: bool = False
    name: ClassVar[str] = "check-accumulators"
    exactness: ClassVar[Exactness] = Exactness.EXACT
    level: ClassVar[Level] = Level.INTEGER

    def run(self, graph: Graph) -> Graph:
        if self.limits.saturates(graph.uniform_format):
            return graph  # a float model in the target's own arithmetic, which saturates and says that it is bounded
        if self.limits.splits_sums:
            return graph  # the target raises what it finds no way for
        problems = list(overflows(graph, self.limits))
        if problems and not self.allow_overflow:
            raise CompileError.of(problems)
        return graph


def accumulator_bits(op: Conv2d | Dense | Sum | SumPool | Rescale) -> int:
    """Two's complement width that holds every partial sum of `op`."""
    return bits_for_range(*_sum_range(op))


def sum_ranges(graph: Graph) -> dict[str, tuple[int, int]]:
    """Result name of each operation that sums -> the (lowest, highest) that its partial sums can be."""
    return {
        op.result.name: _sum_range(op) for op in graph.ops if isinstance(op, Conv2d | Dense | Sum | SumPool | Rescale)
    }


def _sum_range(op: Conv2d | Dense | Sum | SumPool | Rescale) -> tuple[int, int]:
    return partial_sums(op) if isinstance(op, Conv2d | Dense) else result_range(op)


def overflows(graph: Graph, limits: TargetLimits, split: Container[str] = ()) -> Iterator[Problem]:
    """One problem for each operation whose sums may overflow; none for those that are `split`, by their results."""
    rescaled = _rescaled(graph)
    for op in graph.ops:
        if isinstance(op, Conv2d | Dense | Sum | SumPool | Rescale):
            needed = accumulator_bits(op)
            if needed > limits.accumulator_bits and op.result.name not in split:
                yield Problem(
                    Code.ACCUMULATOR_OVERFLOW,
                    f"the accumulator needs {needed} bits, {limits.accumulator_name} has {limits.accumulator_bits}",
                    at=op.result.origin,
                    hint=_hint(op, limits, rescaled),
                )


def _rescaled(graph: Graph) -> set[str]:
    """The tensors that are others on a finer grid: times one number, or before a sum times one for each channel."""
    found = {r.result.name for r in graph.of_type(Rescale)}
    producers = graph.producers()
    for operand in (v for op in graph.of_type(Sum) for v in op.operands):
        made = producers.get(operand.name)
        source = producers.get(made.input.name) if isinstance(made, Reshape) else made
        if isinstance(source, Conv2d) and source.weight.data[0].size == 1 and source.groups == len(source.weight.data):
            found |= {operand.name, source.result.name}
    return found


def _hint(op: Conv2d | Dense | Sum | SumPool | Rescale, limits: TargetLimits, rescaled: Container[str]) -> str:
    """Where wider sums are made of words, that this one is not; and the remedy."""
    several = "no exact way was found to make this sum of several words: " if limits.splits_sums else ""
    return several + _remedy(op, limits, rescaled)


def _remedy(op: Conv2d | Dense | Sum | SumPool | Rescale, limits: TargetLimits, rescaled: Container[str]) -> str:
    """What makes the sum narrower: most of the bits may come from scales that were brought to one grid."""
    wider = f"; or {limits.wider}" if limits.wider else ""
    if op.result.name in rescaled or (isinstance(op, Sum) and any(v.name in rescaled for v in op.operands)):
        each = " of one scale" if op.result.type.codes.scale.per_channel else ""
        return f"share one quantizer{each} between the branches, or use power-of-two scales{wider}"
    if isinstance(op, Conv2d | Dense) and _takes_scales_in(op):
        return f"quantize its input per tensor, or with power-of-two scales, for the weights take these in{wider}"
    fewer = "use fewer bits for weights or activations"
    if isinstance(op, Conv2d | Dense):
        fewer = _fewer_bits(op, limits) or fewer
    saturated = "; or --allow-overflow, where the target can saturate and scales are powers of two"
    if isinstance(op, Conv2d | Dense) and _input_bits(op) >= limits.accumulator_bits:
        saturated = ""  # what saturates is about a code's own largest
    return f"{fewer}, fewer input channels, or accumulator-aware training{wider}{saturated}"


def _fewer_bits(op: Conv2d | Dense, limits: TargetLimits) -> str | None:
    """Widths that would fit, both about as much narrower: a bit less halves the products. Or those whose wider sums the
    target makes of words, where this layer's would be no wider. None where none are left.
    """
    split, needed, inputs = limits.split_widths, accumulator_bits(op), _input_bits(op)
    weights = bits_for_range(min(int(op.weight.data.min()), -1), int(op.weight.data.max()))
    excess = needed - limits.accumulator_bits
    fewer = weights - (excess + 1) // 2, inputs - excess // 2
    if split is not None and (weights > split.weights or inputs > split.inputs):
        most = min(weights, split.weights), min(inputs, split.inputs)
        is_made = needed - (weights - most[0]) - (inputs - most[1]) <= split.sums
        fewer = most if is_made else (min(fewer[0], most[0]), min(fewer[1], most[1]))
    if min(fewer) < _FEWEST_BITS:
        return None
    return f"use {fewer[0]}-bit weights and {fewer[1]}-bit inputs instead of {weights} and {inputs}"


def _input_bits(op: Conv2d | Dense) -> int:
    """As the quantizer has them, whatever its zero point."""
    codes = op.input.type.codes
    return (codes.high - codes.low).bit_length()


def _takes_scales_in(op: Conv2d | Dense) -> bool:
    """Whether the weights hold scales of the input's channels, too: those of a quantizer alone have fewer bits."""
    several = op.input.type.codes.scale.per_channel and op.weight.shape[1] > 1
    return several or largest_magnitude(op.weight.data) >= 1 << 24
