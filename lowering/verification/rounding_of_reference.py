"""Which differences from an array that was computed in float32 (by torch, by ONNX Runtime) its rounding explains.

The model's meaning is exact arithmetic. Where a quantizer's input lies on a threshold, or so near to it that float32
may take the other side, such an array has the next code there: no fault of the array, of the file, or of the artifacts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.errors import quote
from pefslc.evaluation.float32_radius import Radius, float32_radii
from pefslc.evaluation.float_error import index_text
from pefslc.ir.graph import Graph, GraphOutput
from pefslc.reports.layer_report import layer_name
from pefslc.verification.float32_slack import float32_slack

__all__ = ["RoundingOfReference"]

Floats = NDArray[np.float64]

_LAYERS_NAMED = 3


@dataclass(slots=True)
class RoundingOfReference:
    """One output against one array, over all pieces that hold a difference.

    differing  outputs beyond the noise of the comparison
    explained  of those, within the bound of float32 arithmetic
    first      the first that is not: where, and whether a code before it could be another at all
    undecided  by quantizer: codes of rows that differ for which float32 may take the next
    """

    differing: int = 0
    explained: int = 0
    first: str = ""
    undecided: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(
        self, graph: Graph, inputs: Mapping[str, Floats], output: GraphOutput, expected: NDArray[np.generic],
        wrong: NDArray[np.bool_], near: NDArray[np.bool_], first_row: int,
    ) -> NDArray[np.bool_]:  # fmt: skip
        """One piece: where an output is the same in spite of its value, which is rounded.

        output  of `graph`, with the function that makes it of its values, if any
        wrong   where its values differ
        near    where they lie nearest to the code that was computed: that is the same, if float32 explains the rest
        """
        radii = list(float32_radii(graph, inputs))
        (last,) = (found for found in radii if found.value.name == output.value.name)
        off, explained = float32_slack(last, output.function, expected)
        real = wrong & ~(off <= explained)
        same = wrong & near & ~real
        wrong = wrong & ~same
        if wrong.any():
            open_rows = self._note_undecided(graph, radii, wrong)
        self.differing += int(wrong.sum())
        self.explained += int(wrong.sum() - real.sum())
        if real.any() and not self.first:
            index = tuple(int(i) for i in np.argwhere(real)[0])
            tie = "" if open_rows[index[0]] else ", and no code of that row lies near a threshold"
            self.first = f"{index_text(index, first_row)}, {_distance(output, off[index], explained[index])}{tie}"
        return same

    def _note_undecided(self, graph: Graph, radii: Sequence[Radius], wrong: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """[rows]: in which a code may be another. Of rows that differ, counts such codes by quantizer."""
        batches, fixed = len(wrong), _constants(graph)
        rows, open_rows = wrong.reshape(batches, -1).any(axis=1), np.zeros(batches, dtype=bool)
        for found in radii:
            if found.undecided is not None and found.value.name not in fixed and found.undecided.any():
                undecided = found.undecided.reshape(batches, -1)
                name, at = layer_name(found.value.origin), undecided[rows]
                count, size = self.undecided.get(name, (0, 0))
                self.undecided[name] = count + int(at.sum()), size + at.size
                open_rows |= undecided.any(axis=1)
        return open_rows

    def __str__(self) -> str:
        count = "all" if self.explained == self.differing else f"{self.explained} of the {self.differing}"
        named = [(name, n, size) for name, (n, size) in self.undecided.items() if n][:_LAYERS_NAMED]
        ties = ", ".join(f"{n} of {size} codes of {quote(name)}" for name, n, size in named)
        where = f"; on a threshold, or too near for float32: {ties}" if ties else ""
        real = f"; the first that is not: {self.first}" if self.first else ""
        return f"{count} within what rounding in float32 explains{where}{real}"


def _distance(output: GraphOutput, off: float, explained: float) -> str:
    if np.isinf(off):
        return "which is no index"
    is_index = output.function is not None and not output.function.makes_values
    what = "whose value is below the largest by" if is_index else "off by"
    return f"{what} {off:.3g} where float32 explains {explained:.3g}"


def _constants(graph: Graph) -> set[str]:
    """The names of the values that are the same for every input."""
    fixed: set[str] = set()
    for op in graph.ops:
        if all(v.name in fixed for v in op.operands):
            fixed.add(op.result.name)
    return fixed
