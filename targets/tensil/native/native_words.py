"""How fine the words of a float model in native arithmetic are: 2^-(p+d), with d from data.

The MAC rounds every product to the last bit of its result. Few networks use the range of +-128 of Q8.8, so that words
may mean less: with d bits more of fraction the same products, by the same weights of p fraction bits, are rounded 2^d
times finer, and sums saturate 2^d times earlier. d is the largest with which no value on the calibration inputs comes
nearer to the end of the range than by the factor HEADROOM.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pefslc.evaluation.calibration_data import calibration_batches
from pefslc.files.arrays import Arrays
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import quantize_input, run_codes
from pefslc.ir.reference import in_chunks
from pefslc.ir.semantics import conv2d
from pefslc.numeric.accumulate import largest_magnitude
from pefslc.numeric.format import FixedPoint
from pefslc.targets.tensil.groups.group import Group, LinearHead, Term
from pefslc.targets.tensil.groups.group_program import GroupProgram
from pefslc.targets.tensil.groups.host_movement import moved
from pefslc.targets.tensil.groups.layout import packed
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.native.native_scales import NativeScales

__all__ = ["HEADROOM", "Magnitudes", "extra_bits", "measure_magnitudes", "native_format"]

Codes = NDArray[np.int64]

HEADROOM = 2


def native_format(data_type: DataType, extra: int = 0) -> FixedPoint:
    """The format of the TCU's own numbers, Q8.8 for FP16BP8; or of its words with `extra` bits more of fraction."""
    integer_bits = data_type.width_bits - data_type.binary_point
    return FixedPoint(integer_bits - extra, data_type.binary_point + extra)


@dataclass(frozen=True, slots=True)
class Magnitudes:
    """The largest magnitudes on `rows` calibration inputs.

    held    of all that accumulators and stored tensors hold: sums, the partial sums of helpers, biases
    inputs  of the inputs, as quantized
    """

    held: Fraction
    inputs: Fraction
    rows: int

    def text(self, words: FixedPoint) -> str:
        """What became of them, for the summary."""
        end = Fraction(2) ** (words.integer_bits - 1)
        room = f", {float(end / self.held):.3g} times that" if self.held else ""
        inputs = f"{self.rows} calibration input{'' if self.rows == 1 else 's'}"
        return f"words of {words}: on {inputs} values reach {float(self.held):.4g}; they saturate at {end}{room}"


def extra_bits(largest: Fraction, data_type: DataType) -> int:
    """The most bits of fraction beyond p, at most p, with which HEADROOM * largest still is a word; 0 if none is.

    With p bits more, products of words by weights are exact: more is of no use.
    """
    p = data_type.binary_point
    fitting = (d for d in range(p, 0, -1) if HEADROOM * largest * (1 << p + d) <= data_type.max_code)
    return next(fitting, 0)


def measure_magnitudes(graph: Graph, program: GroupProgram, inputs: Arrays) -> Magnitudes:
    """By the integer graph on the inputs (by name, or `x`). Raises CompileError for arrays that do not suit it."""
    arrays, rows = calibration_batches(graph, inputs)
    scales = NativeScales.of(graph, program)
    helpers = [group for group in program.groups if not group.ops]
    ends = {i.value.name for i in graph.inputs}
    found = {name: 0 for name in scales.tensors}
    for chunk in in_chunks(graph, arrays):
        values = run_codes(graph, {i.name: quantize_input(i, chunk[i.name]) for i in graph.inputs})
        for port in program.inputs:
            values[port.tensor] = np.concatenate([moved(row[None], port.moves) for row in values[port.tensor]])
        for group in helpers:
            values[group.result] = _helper(group, program, values)
        for name, codes in values.items():
            found[name] = max(found[name], largest_magnitude(codes))
    largest = {name: magnitude * scales.tensors[name] for name, magnitude in found.items()}
    biases = [
        largest_magnitude(g.head.bias) * scales.accumulators[g.result]
        for g in program.groups
        if isinstance(g.head, LinearHead)
    ]
    held = [magnitude for name, magnitude in largest.items() if name not in ends]
    return Magnitudes(max([*held, *biases]), max(largest[name] for name in ends), rows)


def _helper(group: Group, program: GroupProgram, values: dict[str, Codes]) -> Codes:
    """What a group holds that computes no operation, but a part of one."""
    assert isinstance(group.head, LinearHead)
    assert not group.steps
    return np.asarray(sum(_product(term, program, values[term.tensor]) for term in group.head.terms), dtype=np.int64)


def _product(term: Term, program: GroupProgram, codes: Codes) -> Codes:
    """The convolution of a stored tensor, of which the host may have packed the pixels."""
    stored = program.tensors[term.tensor]
    layout, offsets = stored.layout, stored.packing
    planes = codes.reshape(-1, layout.channels // len(offsets), layout.height, layout.width)
    return conv2d(np.stack([packed(image, offsets) for image in planes]), term.weight, None, term.window)
