"""Verification: the same integers out of the model's float64 evaluation, the integer interpreter and the artifacts.

The artifacts are read back from disk. Codes are compared with codes; values with the values of the codes, exactly
wherever float64 holds them exactly.

Where a target's requantizations are bounded it says which staircases it computes instead, and the artifacts are held to
*those*, integer for integer; against the model the differences are counted, and are no failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem, quote
from pefslc.files.arrays import Arrays
from pefslc.ir.graph import Graph
from pefslc.ir.integer import Requantize
from pefslc.ir.interpret import apply_output_map, as_batches, map_codes, quantize_input, run, run_codes
from pefslc.ir.semantics import evaluate
from pefslc.numeric.deviation import Deviations
from pefslc.reports.layer_report import layer_name
from pefslc.targets.protocol import Audit, LayerAudit, Runner
from pefslc.verification.comparison import Comparison, compare_codes, compare_results, compare_values

__all__ = ["REFERENCE", "FloatError", "Measured", "Prediction", "Verification", "verify"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

REFERENCE = "y_ref64"
_CHUNK_ROWS = 8  # batches evaluated at once: bounds the memory of intermediate tensors


@dataclass(frozen=True, slots=True)
class Measured:
    """A bounded requantization on the inputs: of so many codes, how many were not the model's of that accumulator."""

    layer: str
    count: int
    differing: int
    predicted: Deviations

    def __str__(self) -> str:
        rate = self.predicted.differing / self.predicted.codes
        return (
            f"{self.layer}: {self.differing:,} of {self.count:,} codes off by at most {self.predicted.largest} "
            f"({self.differing / self.count:.3%}); of the accumulator codes that can occur, {rate:.3%} are"
        )


@dataclass(frozen=True, slots=True)
class FloatError:
    """How far the values of one output are off a float model's."""

    output: str
    compared: str
    count: int
    largest: float
    sum_of_squares: float

    @property
    def rms(self) -> float:
        """The root of the mean of the squares."""
        return float(np.sqrt(self.sum_of_squares / max(self.count, 1)))

    def __str__(self) -> str:
        return f"{self.compared}: off by at most {self.largest:.4g}, rms {self.rms:.4g} ({quote(self.output)})"


@dataclass(frozen=True, slots=True)
class Verification:
    """All comparisons of a run.

    measured  the bounded requantizations; none where the artifacts are exact
    errors    of artifacts in native arithmetic, which are compared with no codes
    layers    of such artifacts: each layer held to what it read
    overflows whether sums may overflow, which the user accepted
    ignored   arrays that are no inputs, where none held expected outputs: perhaps one was meant to
    """

    inputs: int
    comparisons: tuple[Comparison, ...]
    measured: tuple[Measured, ...] = ()
    errors: tuple[FloatError, ...] = ()
    overflows: bool = False
    layers: tuple[LayerAudit, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether no integer differs from the model's."""
        return not any(c.differing for c in self.comparisons)

    @property
    def as_predicted(self) -> bool:
        """Whether the artifacts compute what the compile said: the model, the bounded staircases that it listed, or in
        native arithmetic what each layer makes of the words that it read.
        """
        return not any(c.differing and not c.bounded for c in self.comparisons) and not any(
            layer.outside for layer in self.layers
        )

    def require(self) -> None:
        """Raise CompileError with every difference that was not predicted."""
        if not self.as_predicted:
            wrong = [c for c in self.comparisons if c.differing and not c.bounded]
            problems = [Problem(Code.DIFFERS, f"verification: {c}", hint=self._hint(wrong)) for c in wrong]
            raise CompileError.of([*problems, *map(_outside, (layer for layer in self.layers if layer.outside))])

    def _hint(self, wrong: Sequence[Comparison]) -> str | None:
        if self.overflows:
            return "sums saturate on these inputs: compile without --allow-overflow"
        if all(c.given for c in wrong):
            return "model, interpreter and artifacts agree: does the array belong to these inputs and to this model?"
        return None

    def __str__(self) -> str:
        lines = [*self.comparisons, *self.measured, *self.errors, *self._audited()]
        text = "\n".join(f"{self.inputs} inputs: {line}" for line in lines)
        if self.ignored:
            names = ", ".join(map(quote, self.ignored))
            text += f"\nnot compared: {names}; expected outputs are named like the output, or {quote(REFERENCE)}"
        return text

    def _audited(self) -> Iterator[str]:
        saturated: dict[str, int] = {}  # a layer may have several parts
        for layer in self.layers:
            name = layer_name(layer.origin)
            saturated[name] = max(saturated.get(name, 0), layer.saturated)
        for name, count in saturated.items():
            if count:
                yield f"warning: sums of {name} saturated on {count} of them, where its words are not compared"
        if words := sum(layer.words for layer in self.layers):
            outside = sum(layer.outside for layer in self.layers)
            what = "are the sums of rounded products of the words that they were made from"
            yield f"{words - outside:,} of {words:,} words of all layers {what}"


def _outside(layer: LayerAudit) -> Problem:
    return Problem(
        Code.DIFFERS,
        f"verification: {layer.outside:,} of {layer.words:,} words are not what their layer makes of what it read, off "
        f"by up to {layer.furthest} units",
        at=layer.origin,
    )


@dataclass(slots=True)
class _Tally:
    """Comparisons summed over chunks."""

    found: dict[tuple[str, str], Comparison] = field(default_factory=dict)
    measured: dict[str, Measured] = field(default_factory=dict)
    errors: dict[tuple[str, str], FloatError] = field(default_factory=dict)
    layers: tuple[LayerAudit, ...] = ()

    def add_layers(self, new: tuple[LayerAudit, ...]) -> None:
        self.layers = tuple(a + b for a, b in zip(self.layers, new, strict=True)) if self.layers else new

    def add(self, new: Comparison) -> None:
        key = (new.output, new.compared)
        old = self.found.get(key, Comparison(new.output, new.compared, 0, 0))
        count, differing = old.count + new.count, old.differing + new.differing
        self.found[key] = replace(new, count=count, differing=differing, first=old.first or new.first)

    def measure(self, prediction: Prediction, values: Mapping[str, Codes]) -> None:
        """Count, at each bounded requantization, the codes that are not the model's for the accumulators at hand."""
        for layer, op, predicted in prediction.bounded:
            name, count = op.result.name, values[op.result.name].size
            differing = int((evaluate(op, [values[op.input.name]]) != values[name]).sum())
            old = self.measured.get(name, Measured(layer, 0, 0, predicted))
            self.measured[name] = Measured(layer, old.count + count, old.differing + differing, predicted)

    def add_error(self, output: str, expected: NDArray[np.generic], got: Floats, compared: str) -> None:
        errors = np.abs(expected.astype(np.float64) - got)
        key = (output, compared)
        old = self.errors.get(key, FloatError(output, compared, 0, 0.0, 0.0))
        largest = max(old.largest, float(errors.max(initial=0.0)))
        squares = old.sum_of_squares + float((errors**2).sum())
        self.errors[key] = FloatError(output, compared, old.count + errors.size, largest, squares)


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
    progress: Callable[[int, int, str], None] | None = None,
    prediction: Prediction | None = None,
    float_model: Graph | None = None,
    audit: Audit | None = None,
) -> Verification:
    """Run the inputs in `arrays` through everything and compare, also with the expected outputs that `arrays` holds.

    arrays       inputs by name (or "x"), and expected values by output name (or "y_ref64" of a single one; or both)
    prediction   what the artifacts compute if it is not `integer`
    float_model  of artifacts in native arithmetic: how far they are off it is measured, no codes are compared
    audit        of such artifacts: runs them, and holds each layer to what it read
    """
    # Codes are compared with the values that they stand for: what the host makes of those at the end comes after.
    reference = before_functions(reference)
    float_model = None if float_model is None else before_functions(float_model)
    inputs, rows = as_batches(reference, arrays)
    expected = list(_expected(integer, arrays, rows))
    tally = _Tally()
    for start in range(0, rows, _CHUNK_ROWS):
        stop = min(start + _CHUNK_ROWS, rows)
        if progress is not None:
            progress(start, rows, "verify")
        chunk = {i.name: _rows(inputs[i.name], i.value.type.shape, start, stop) for i in reference.inputs}
        codes = {i.name: quantize_input(i, chunk[i.name]) for i in integer.inputs}
        values, interpreted = run(reference, chunk), run_codes(integer, codes)
        if audit is None:
            emitted = runner.run(codes)
        else:
            emitted, layers = audit(runner, codes)
            tally.add_layers(layers)
        computed = interpreted if prediction is None else run_codes(prediction.computed, codes)
        if prediction is not None:
            tally.measure(prediction, computed)
        wished = None if float_model is None else run(float_model, chunk)

        def add(comparison: Comparison) -> None:
            tally.add(replace(comparison, bounded=prediction is not None))

        for output in integer.outputs:
            got, first = interpreted[output.value.name], start * output.value.type.shape[0]
            tally.add(compare_values(output, values[output.name], got, "interpreter and float64 evaluation", first))
            arrays_of = [(n, _rows(a, output.shape, start, stop)) for o, n, a in expected if o == output.name]
            if wished is not None:
                assert output.map is not None
                ours, exact = (map_codes(output.map, codes) for codes in (emitted[output.name], got))
                tally.add_error(output.name, wished[output.name], ours, f"{runner_name} and the float model")
                tally.add_error(output.name, wished[output.name], exact, "interpreter and the float model")
                final = apply_output_map(output, emitted[output.name])
                for name, wanted in arrays_of:
                    tally.add_error(output.name, wanted, final, f"{runner_name} and {name}")
                continue
            if prediction is not None:
                predicted, what = computed[output.value.name], f"{runner_name} and its prediction"
                tally.add(compare_codes(output.name, predicted, emitted[output.name], what, first))
            add(compare_codes(output.name, got, emitted[output.name], f"{runner_name} and interpreter", first))
            for name, wanted in arrays_of:
                compare = compare_values if output.function is None else compare_results
                found = compare(output, wanted, emitted[output.name], f"{runner_name} and {name}", first)
                add(replace(found, given=True))
    rows = next(iter(inputs.values())).shape[0]
    compared, measured = tuple(tally.found.values()), tuple(tally.measured.values())
    ignored = () if expected else tuple(name for name in arrays if name not in (*inputs, "x"))
    return Verification(rows, compared, measured, tuple(tally.errors.values()), layers=tally.layers, ignored=ignored)


def before_functions(graph: Graph) -> Graph:
    """The graph whose outputs are the values that the host's last step reads."""
    return replace(graph, outputs=tuple(replace(output, function=None) for output in graph.outputs))


def _rows(array: NDArray[np.generic], shape: tuple[int, ...], start: int, stop: int) -> NDArray[np.float64]:
    return array[start * shape[0] : stop * shape[0]]  # type: ignore[return-value]


def _expected(graph: Graph, arrays: Arrays, rows: int) -> Iterator[tuple[str, str, NDArray[np.generic]]]:
    """(output name, quoted array name, expected values) for each array that answers for an output."""
    names = {i.name for i in graph.inputs}
    for output in graph.outputs:
        candidates = [REFERENCE] if len(graph.outputs) == 1 else []
        for name in dict.fromkeys((*candidates, output.name)):
            if name not in arrays or name in names:
                continue
            array, shape = arrays[name], output.shape
            wanted = (rows * shape[0], *shape[1:])
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
