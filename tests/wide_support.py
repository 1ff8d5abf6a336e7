"""Shared by the tests of sums wider than a word: staircases, inputs that reach their ends, the same codes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pefslc.ir.graph import Graph
from pefslc.ir.integer import Conv2d, Requantize
from pefslc.ir.interpret import run_codes
from pefslc.ir.value import Value
from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.wide.split_sums import WideSums

Array = np.ndarray


def staircase(low: int, high: int, thresholds: Array, direction: Array, lowest: int = 0) -> Staircase:
    signs = direction[:, None]
    ordered = np.sort(thresholds * signs, axis=1) * signs
    return Staircase(low, high, lowest, ordered, direction)


def shift(x: Value, bits: int, low: int, high: int) -> Staircase:
    """clip(round half to even(x / 2^bits), low, high), by its thresholds."""
    codes, levels = x.type.codes, np.arange(low + 1, high + 1)
    thresholds = (levels << bits) - ((1 << bits) >> 1) + (levels & 1 if bits else 0)
    inside = np.clip(thresholds, codes.low, codes.high + 1)
    return staircase(codes.low, codes.high, inside[None, :], np.ones(1, dtype=np.int64), low)


def computed_by(graph: Graph, wide: WideSums) -> Graph:
    """The graph with the staircases that the sums' stands leave."""
    asked = {op.result.name: op.staircase for op in wide.graph.of_type(Requantize)}

    def answered(op: object) -> object:
        if not isinstance(op, Requantize) or op.result.name not in wide.stands:
            return op
        return replace(op, staircase=wide.stands[op.result.name].answered(op.staircase, asked[op.result.name]))

    return graph.with_ops(answered(op) for op in graph.ops)  # type: ignore[type-var]


def extremes(graph: Graph, conv: Conv2d, seed: int) -> Array:
    """Random inputs, and for each output the inputs that drive its sums, or the sums of some taps, to their ends."""
    rng, x = np.random.default_rng(seed), graph.inputs[0].value
    low, high = x.type.codes.low, x.type.codes.high
    random = rng.integers(low, high + 1, (8, *x.type.shape[1:]))
    found = [random]
    for weight in conv.weight.data:
        best = np.where(weight > 0, high, low)
        for one, other in ((best, low + high - best), (best, random[0][:, :1, :1] + 0 * best)):
            for part in (np.ones(weight.shape, bool), rng.random(weight.shape) < 0.5, rng.random(weight.shape) < 0.9):
                found += [np.where(part, one, other)[None], np.where(part, other, one)[None]]
    return np.concatenate(found)


def same(graph: Graph, wide: WideSums, inputs: Array) -> bool:
    name = graph.inputs[0].name
    (output,) = graph.outputs
    expected = run_codes(computed_by(graph, wide), {name: inputs})[output.value.name]
    return np.array_equal(run_codes(wide.graph, {name: inputs})[output.value.name], expected)
