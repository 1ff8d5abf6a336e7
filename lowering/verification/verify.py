"""Verification: the same integers out of the model's float64 evaluation, the integer interpreter and the artifacts.

The artifacts are read back from disk. Codes are compared with codes; values with the values of the codes, exactly
wherever float64 holds them exactly.

A model that --fmt changed, a float one above all, is not the one that was compiled: how far the artifacts are from it
is measured, and what saturates is named. No difference from it is a failure, unless a bound is given.

Where a target's requantizations are bounded it says which staircases it computes instead, and the artifacts are held to
*those*, integer for integer; against the model the differences are counted, and are no failure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.diagnostics.progress import Progress
from pefslc.files.arrays import Arrays
from pefslc.geometry.shapes import element_count
from pefslc.ir.graph import Graph, GraphOutput
from pefslc.ir.integer import Requantize
from pefslc.ir.interpret import as_batches, quantize_input, run, run_codes
from pefslc.ir.row_batches import batches_of, row_count, rows_between
from pefslc.ir.semantics import evaluate
from pefslc.numeric.deviation import Deviations
from pefslc.targets.protocol import Audit, LayerAudit, Runner
from pefslc.verification.before_format import BeforeFormat
from pefslc.verification.comparison import (
    Comparison,
    compare_codes,
    compare_results,
    compare_values,
    differing_results,
    differing_values,
    nearest_is,
)
from pefslc.verification.outcome import REFERENCE, Measured, Verification
from pefslc.verification.raw_weights import raw_weights_hint
from pefslc.verification.rounding_of_reference import RoundingOfReference

__all__ = ["Prediction", "verify"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

_CHUNK_ROWS = 8  # batches evaluated at once, at most
_VALUES_AT_ONCE = 1 << 24  # of all tensors of a graph: large pictures go one by one


@dataclass(slots=True)
class _Tally:
    """Comparisons summed over chunks."""

    found: dict[tuple[str, str], Comparison] = field(default_factory=dict)
    measured: dict[str, Measured] = field(default_factory=dict)
    layers: tuple[LayerAudit, ...] = ()

    def add_layers(self, new: tuple[LayerAudit, ...]) -> None:
        self.layers = tuple(a + b for a, b in zip(self.layers, new, strict=True)) if self.layers else new

    def add(self, new: Comparison) -> None:
        key = (new.output, new.compared)
        self.found[key] = self.found[key].plus(new) if key in self.found else new

    def measure(self, prediction: Prediction, values: Mapping[str, Codes]) -> None:
        """Count, at each bounded requantization, the codes that are not the model's for the accumulators at hand."""
        for layer, op, predicted in prediction.bounded:
            name, count = op.result.name, values[op.result.name].size
            differing = int((evaluate(op, [values[op.input.name]]) != values[name]).sum())
            old = self.measured.get(name, Measured(layer, 0, 0, predicted))
            self.measured[name] = Measured(layer, old.count + count, old.differing + differing, predicted)


@dataclass(slots=True)
class _Watch:
    """Tells how far the verification is, in operations done."""

    progress: Progress | None
    total: int
    done: int = 0
    now: str = ""

    def step(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total, self.now)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the artifacts compute where they are bounded.

    computed  the integer graph with their staircases
    bounded   the requantizations of the model's graph that differ: the layer's name, the operation, and where
    """

    computed: Graph
    bounded: tuple[tuple[str, Requantize, Deviations], ...]


def verify(
    reference: Graph,
    integer: Graph,
    runner: Runner,
    runner_name: str,
    arrays: Arrays,
    progress: Progress | None = None,
    prediction: Prediction | None = None,
    before: BeforeFormat | None = None,
    audit: Audit | None = None,
    *,
    native: bool = False,
) -> Verification:
    """Run the inputs in `arrays` through everything and compare, also with the expected outputs that `arrays` holds.

    arrays       inputs by name (or "x"), and expected values by output name (or "y_ref64" of a single one; or both)
    prediction   what the artifacts compute if it is not `integer`
    before       the model that --fmt changed to `reference`: how far the artifacts are off it is measured, and off
                 expected outputs, which are that model's
    native       whether the artifacts compute in native arithmetic, which is compared with no codes
    audit        of such artifacts: runs them, and holds each layer to what it read
    """
    evaluated = f"interpreter and float64 evaluation{'' if before is None else ' of the quantized model'}"
    # Codes are compared with the values that they stand for: what the host makes of those at the end comes after.
    whole, reference = reference, before_functions(reference)
    inputs, rows = as_batches(reference, arrays)
    any_input = reference.inputs[0]
    given = batches_of(len(inputs[any_input.name]), any_input.value.type.shape[0])
    expected = list(_expected(integer, arrays, given))
    tally = _Tally()
    roundings: dict[tuple[str, str], RoundingOfReference] = {}
    outputs = {o.name: o for o in whole.outputs}
    at_once = _rows_at_once(integer)
    watch = _Watch(progress, -(-rows // at_once) * (len(reference.ops) + len(integer.ops) + 1))
    for start in range(0, rows, at_once):
        stop = min(start + at_once, rows)
        watch.now = "verify: float64"
        chunk = {i.name: rows_between(inputs[i.name], i.value.type.shape[0], start, stop) for i in reference.inputs}
        codes = {i.name: quantize_input(i, chunk[i.name]) for i in integer.inputs}
        values = run(reference, chunk, watch.step)
        watch.now = "verify: integers"
        interpreted = run_codes(integer, codes, watch.step)
        watch.now = f"verify: {runner_name}"
        watch.step()
        if audit is None:
            emitted = runner.run(codes)
        else:
            emitted, layers = audit(runner, codes)
            tally.add_layers(layers)
        computed = interpreted if prediction is None else run_codes(prediction.computed, codes)
        if prediction is not None:
            tally.measure(prediction, computed)
        if before is not None:
            before.run(chunk)

        def add(comparison: Comparison) -> None:
            tally.add(replace(comparison, bounded=prediction is not None))

        for output in integer.outputs:
            got, first = interpreted[output.value.name], start * output.value.type.shape[0]
            tally.add(compare_values(output, values[output.name], got, evaluated, first))
            arrays_of = [(n, rows_between(a, output.shape[0], start, stop)) for o, n, a in expected if o == output.name]
            if before is not None:
                before.compare(output, emitted[output.name], got if native else None, arrays_of, first)
            if native:
                continue
            if prediction is not None:
                predicted, what = computed[output.value.name], f"{runner_name} and its prediction"
                tally.add(compare_codes(output.name, predicted, emitted[output.name], what, first))
            add(compare_codes(output.name, got, emitted[output.name], f"{runner_name} and interpreter", first))
            if before is not None:
                continue
            for name, wanted in arrays_of:
                compare = compare_values if output.function is None else compare_results
                exact, what = emitted[output.name], f"{runner_name} and {name}"
                if prediction is not None:  # the array is the model's: it is held to that, not to what is bounded
                    add(compare(output, wanted, exact, what, first))
                    exact, what = got, f"interpreter and {name}"
                found = compare(output, wanted, exact, what, first)
                if found.differing and _may_be_of_float32(output, wanted):
                    rounding = roundings.setdefault((output.name, found.compared), RoundingOfReference())
                    if output.function is None:
                        wrong, near = differing_values(output, wanted, exact), nearest_is(output, wanted, exact)
                        same = rounding.add(reference, chunk, outputs[output.name], wanted, wrong, near, first)
                        found = compare_values(output, wanted, exact, what, first, same)
                    else:
                        wrong = differing_results(output, wanted, exact)
                        nowhere = np.zeros_like(wrong)
                        rounding.add(reference, chunk, outputs[output.name], wanted, wrong, nowhere, first)
                tally.add(replace(found, given=True))
    rows = next(iter(inputs.values())).shape[0]
    advice = ""
    if differing := [key for key, c in tally.found.items() if c.given and c.differing]:
        advice = _advice(whole, inputs, expected, [roundings.get(key) for key in differing])
    for key, rounding in roundings.items():
        if not rounding.differing:
            continue
        tally.found[key] = replace(tally.found[key], reason=str(rounding))
    compared, measured = tuple(tally.found.values()), tuple(tally.measured.values())
    if before is not None:
        compared += before.equal
    ignored = () if expected else tuple(name for name in arrays if name not in (*inputs, "x"))
    return Verification(
        rows,
        compared,
        measured,
        () if before is None else before.errors,
        layers=tally.layers,
        ignored=ignored,
        distance=None if before is None else before.distance(rows),
        strangers=() if before is None else before.strangers,
        advice=advice,
    )


def _advice(
    reference: Graph,
    inputs: Mapping[str, Floats],
    expected: Sequence[tuple[str, str, NDArray[np.generic]]],
    roundings: Collection[RoundingOfReference | None],
) -> str:
    """What may be behind expected arrays that differ; "" where nothing is known. `roundings`: theirs, or None."""
    if all(r is not None and r.explained == r.differing for r in roundings):
        return "the model means exact arithmetic; compare with outputs computed in float64, or leave the array out"
    first = {i.name: rows_between(inputs[i.name], i.value.type.shape[0], 0, _CHUNK_ROWS) for i in reference.inputs}
    shapes = {o.name: o.shape for o in reference.outputs}
    wanted = {o: rows_between(a, shapes[o][0], 0, _CHUNK_ROWS).astype(np.float64) for o, _, a in expected}
    return raw_weights_hint(reference, first, wanted)


def _may_be_of_float32(output: GraphOutput, expected: NDArray[np.generic]) -> bool:
    """Whether the array may come of arithmetic in float32: float32 itself, or indices, which do not tell."""
    if output.function is not None and not output.function.makes_values:
        return True
    return expected.dtype.kind == "f" and expected.dtype.itemsize < 8


def _rows_at_once(graph: Graph) -> int:
    """How many batches to evaluate at once: their intermediate tensors are all in memory."""
    count = sum(element_count(v.type.shape) for v in (*(i.value for i in graph.inputs), *(o.result for o in graph.ops)))
    return min(max(_VALUES_AT_ONCE // max(count, 1), 1), _CHUNK_ROWS)


def before_functions(graph: Graph) -> Graph:
    """The graph whose outputs are the values that the host's last step reads."""
    return replace(graph, outputs=tuple(replace(output, function=None) for output in graph.outputs))


def _expected(graph: Graph, arrays: Arrays, batches: Fraction) -> Iterator[tuple[str, str, NDArray[np.generic]]]:
    """(output name, quoted array name, expected values) for each array that answers for an output."""
    names = {i.name for i in graph.inputs}
    for output in graph.outputs:
        candidates = [REFERENCE] if len(graph.outputs) == 1 else []
        for name in dict.fromkeys((*candidates, output.name)):
            if name not in arrays or name in names:
                continue
            array, shape = arrays[name], output.shape
            wanted = (row_count(batches, shape[0]), *shape[1:])
            if array.shape != wanted or array.dtype.kind not in "fiu":
                raise CompileError(
                    Code.EXPECTED_ARRAY,
                    f"the expected array {quote(name)} is {array.dtype} {list(array.shape)}, "
                    f"output {quote(output.name)} has {list(wanted)}",
                )
            if not np.isfinite(array).all():
                raise CompileError(
                    Code.EXPECTED_ARRAY,
                    f"the expected array {quote(name)} holds NaN or infinity",
                    hint="look at how it was computed",
                )
            yield output.name, quote(name), array
