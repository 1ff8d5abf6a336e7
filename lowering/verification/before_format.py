"""What was compiled beside the model that it was before --fmt changed it: nothing need be equal, all is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pefslc.evaluation.float_error import FloatError, SameIndices
from pefslc.ir.graph import Graph, GraphOutput
from pefslc.ir.interpret import apply_output_map, map_codes
from pefslc.ir.output_function import OutputFunctionKind
from pefslc.reports.float_distance import FloatDistance
from pefslc.reports.saturation import SeenTensors
from pefslc.verification.comparison import Comparison, compare_results, compare_values

__all__ = ["BeforeFormat"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

_FLOAT_NOISE = 0.01  # of the largest value: more than evaluations in float32 or float16 are apart


class BeforeFormat:
    """Sums over the pieces of the inputs.

    model        before --fmt changed it, and what it is called
    quantized    what it is now
    runner_name  the target
    """

    def __init__(self, model: Graph, called: str, quantized: Graph, runner_name: str) -> None:
        self._tensors = SeenTensors(model, quantized)
        self._called, self._runner = called, runner_name
        self._wanted: dict[str, Floats] = {}
        self._found: dict[tuple[str, str], FloatError] = {}
        self._ours: dict[str, tuple[str, str]] = {}  # output -> the key of the artifacts' own error
        self._classes: dict[tuple[str, str], SameIndices] = {}
        self._given: dict[tuple[str, str], Comparison] = {}  # expected arrays, as outputs of the quantized model

    def run(self, inputs: Mapping[str, Floats]) -> None:
        """Evaluate the model on the next piece."""
        self._wanted = self._tensors.run(inputs)

    def compare(
        self,
        output: GraphOutput,
        emitted: Codes,
        interpreted: Codes | None,
        expected: Sequence[tuple[str, NDArray[np.generic]]],
        first_row: int,
    ) -> None:
        """One output on the piece that was run last.

        interpreted  the exact codes, where the artifacts compute others: in native arithmetic
        expected     (quoted name, values) of arrays of the user's
        """
        assert output.map is not None
        wanted, ours = self._wanted[output.name], map_codes(output.map, emitted)
        self._ours[output.name] = self._add(output.name, f"{self._runner} and {self._called}", wanted, ours, first_row)
        if interpreted is not None:
            exact = map_codes(output.map, interpreted)
            self._add(output.name, f"interpreter and {self._called}", wanted, exact, first_row)
        # The user's arrays are what the host makes of the values at the end.
        compare = compare_values if output.function is None else compare_results
        if output.function is not None:
            wanted, ours = output.function(wanted), apply_output_map(output, emitted)
        add = self._add
        if output.function is not None and output.function.kind is OutputFunctionKind.ARG_MAX:
            add = self._add_indices
            add(output.name, f"{self._runner} and {self._called}", wanted, ours, first_row)
        for name, values in expected:
            key = add(output.name, f"{self._runner} and {name}", values, ours, first_row)
            add(output.name, f"{name} and {self._called}", wanted, values.astype(np.float64), first_row)
            new = compare(output, values, emitted, key[1], first_row)
            self._given[key] = self._given[key].plus(new) if key in self._given else new

    def _add(
        self, output: str, compared: str, wanted: NDArray[np.generic], got: Floats, first_row: int
    ) -> tuple[str, str]:
        key = (output, compared)
        self._found[key] = self._found.get(key, FloatError(output, compared)).plus(wanted, got, first_row)
        return key

    def _add_indices(
        self, output: str, compared: str, wanted: NDArray[np.generic], got: Floats, first_row: int
    ) -> tuple[str, str]:
        key = (output, compared)
        self._classes[key] = self._classes.get(key, SameIndices(output, compared)).plus(wanted, got, first_row)
        return key

    @property
    def equal(self) -> tuple[Comparison, ...]:
        """Expected arrays that are, to the last, the quantized model's."""
        return tuple(c for c in self._given.values() if not c.differing)

    @property
    def errors(self) -> tuple[FloatError | SameIndices, ...]:
        """Of everything else, in the order in which it was compared."""
        equal = {key for key, c in self._given.items() if not c.differing}
        found: dict[tuple[str, str], FloatError] = {k: e for k, e in self._found.items() if k not in equal}
        return (*found.values(), *(error for key, error in self._classes.items() if key not in equal))

    @property
    def strangers(self) -> tuple[str, ...]:
        """The names of expected arrays that are neither the model's nor the quantized model's, but for noise."""
        names = {c: c[1].removeprefix(f"{self._runner} and ") for c, found in self._given.items() if found.differing}
        found: dict[tuple[str, str], FloatError | SameIndices] = {**self._found, **self._classes}
        theirs = {name: found[output, f"{name} and {self._called}"] for (output, _), name in names.items()}
        return tuple(name for name, error in theirs.items() if error.relative > _FLOAT_NOISE)

    def distance(self, rows: int) -> FloatDistance:
        """The artifacts' errors at the outputs, and what saturated."""
        return FloatDistance(rows, tuple(self._found[key] for key in self._ours.values()), self._tensors.saturated())
