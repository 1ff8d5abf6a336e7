"""What the values of a float model reach: on calibration inputs, or whatever the inputs are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from pefslc.evaluation.calibration_data import calibration_batches
from pefslc.files.arrays import Arrays
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import quantize_input, run_codes
from pefslc.ir.reference import in_chunks
from pefslc.ir.semantics import conv2d
from pefslc.numeric.accumulate import largest_magnitude
from pefslc.passes.check_accumulators import sum_ranges
from pefslc.targets.tensil.groups.group import Group, LinearHead, Term
from pefslc.targets.tensil.groups.group_program import GroupProgram, StoredTensor, root_of
from pefslc.targets.tensil.groups.host_movement import moved
from pefslc.targets.tensil.groups.layout import from_vectors, packed, to_vectors
from pefslc.targets.tensil.native.native_scales import NativeScales, values_of

__all__ = ["Magnitudes", "measure_magnitudes", "proven_magnitudes"]

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Magnitudes:
    """What values reach, by name: inputs, sums, stored tensors, helpers.

    largest  magnitudes
    rms      root mean squares; 0 where they are not known
    rows     calibration inputs; 0 where the magnitudes are proven for all
    """

    largest: Mapping[str, Fraction]
    rms: Mapping[str, float]
    rows: int

    def largest_of(self, program: GroupProgram, value: str) -> Fraction:
        """Of a value, or of a stored tensor, or of what it holds a copy of."""
        return self.largest[self._measured(program, value)]

    def rms_of(self, program: GroupProgram, value: str) -> float:
        """The same."""
        return self.rms[self._measured(program, value)]

    def _measured(self, program: GroupProgram, value: str) -> str:
        while value not in self.largest:
            value = program.tensors[value].of
        return value


def proven_magnitudes(graph: Graph, program: GroupProgram) -> Magnitudes:
    """By interval arithmetic, from what the formats of the inputs hold: of sums, the partial ones as well."""
    scales = NativeScales.of(graph, program)
    ends = {value.name: (value.type.codes.low, value.type.codes.high) for value in values_of(graph)}
    ends |= {group.result: program.tensors[group.result].codes for group in program.groups if not group.ops}
    for name, sums in sum_ranges(graph).items():
        ends[name] = min(ends[name][0], sums[0]), max(ends[name][1], sums[1])
    largest = {name: max(-low, high, 0) * scales.tensors[name] for name, (low, high) in ends.items()}
    return Magnitudes(largest, dict.fromkeys(largest, 0.0), 0)


def measure_magnitudes(graph: Graph, program: GroupProgram, inputs: Arrays) -> Magnitudes:
    """By the integer graph on the inputs (by name, or `x`). Raises CompileError for arrays that do not suit it."""
    arrays, rows = calibration_batches(graph, inputs)
    scales = NativeScales.of(graph, program)
    helpers = [group for group in program.groups if not group.ops]
    found = {name: 0 for name in scales.tensors}
    squares, counts = dict.fromkeys(found, 0.0), dict.fromkeys(found, 0)
    for chunk in in_chunks(graph, arrays):
        values = run_codes(graph, {i.name: quantize_input(i, chunk[i.name]) for i in graph.inputs})
        for port in program.inputs:
            given = values[root_of(program.tensors, port.tensor)]
            given = np.concatenate([moved(row[None], port.moves) for row in given])
            values[port.tensor] = _as_given(given, program.tensors[port.tensor])
        for group in helpers:
            values[group.result] = _helper(group, program, values)
        for name, codes in values.items():
            found[name] = max(found[name], largest_magnitude(codes))
            squares[name] += float(np.square(codes.astype(np.float64)).sum())
            counts[name] += codes.size
    steps = scales.tensors
    largest = {name: magnitude * steps[name] for name, magnitude in found.items()}
    rms = {name: float(steps[name]) * sqrt(squares[name] / max(counts[name], 1)) for name in found}
    return Magnitudes(largest, rms, rows)


def _as_given(values: Codes, stored: StoredTensor) -> Codes:
    """The moved rows of an input as its tensor holds them: for a plain host, pixel by pixel."""
    if stored.by_pixel is None:
        return values
    shape, image = stored.by_pixel, stored.layout
    rows = values.reshape(-1, shape.channels, shape.height, shape.width)
    vectors = (to_vectors(row, image.channels, by_pixel=True, dense=stored.dense) for row in rows)
    return np.stack([from_vectors(each, image) for each in vectors])


def _helper(group: Group, program: GroupProgram, values: dict[str, Codes]) -> Codes:
    """What a group holds that computes no operation, but a part of one."""
    assert isinstance(group.head, LinearHead)
    assert not group.steps
    return np.asarray(sum(_product(term, program, values[term.tensor]) for term in group.head.terms), dtype=np.int64)


def _product(term: Term, program: GroupProgram, codes: Codes) -> Codes:
    """The convolution of a stored tensor, of which the host may have packed the pixels."""
    stored = program.tensors[term.tensor]
    image = stored.image
    planes = codes.reshape(-1, image.channels, image.height, image.width)
    vectors = np.stack([packed(plane, stored.packing, stored.steps) for plane in planes])
    return conv2d(vectors, term.weight, None, term.window)
