"""Verification: the same integers out of the model's float64 evaluation, the integer interpreter and the artifacts.

The artifacts are read back from disk. Outputs are compared as codes; a reference that holds values is turned into
codes by the inverse output map, which must hit integers within rounding noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pefslc.arrays import Arrays
from pefslc.diagnostics import CompileError, Problem, quote
from pefslc.interpret import as_batches, map_codes, quantize_input, run, run_codes
from pefslc.ir.graph import Graph, GraphOutput, OutputMap
from pefslc.targets.protocol import Runner

__all__ = ["Comparison", "Verification", "compare_codes", "compare_values", "verify"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

REFERENCE = "y_ref64"
_CHUNK_ROWS = 16  # batches evaluated at once: bounds the memory of intermediate tensors
_VALUE_NOISE = 1e-9  # of outputs whose map is not dyadic, relative to the output where it is larger than 1


@dataclass(frozen=True, slots=True)
class Comparison:
    """One output, compared with one source of truth: how many elements, how many differ, and the first that does."""

    output: str
    against: str
    count: int
    differing: int
    first: str = ""

    def __str__(self) -> str:
        if not self.differing:
            return f"{self.count} of {self.count} outputs equal to {self.against} ({quote(self.output)})"
        return (
            f"output {quote(self.output)}: {self.differing} of {self.count} differ from {self.against}; "
            f"first at {self.first}"
        )


@dataclass(frozen=True, slots=True)
class Verification:
    """All comparisons of a run. `equal` is the verdict."""

    inputs: int
    comparisons: tuple[Comparison, ...]

    @property
    def equal(self) -> bool:
        return not any(c.differing for c in self.comparisons)

    def require(self) -> None:
        """Raise CompileError with every difference."""
        if not self.equal:
            raise CompileError.of(Problem(f"verification: {c}") for c in self.comparisons if c.differing)

    def __str__(self) -> str:
        return "\n".join(f"{self.inputs} inputs: {c}" for c in self.comparisons)


@dataclass(slots=True)
class _Tally:
    """Comparisons summed over chunks."""

    found: dict[tuple[str, str], Comparison] = field(default_factory=dict)

    def add(self, new: Comparison) -> None:
        key = (new.output, new.against)
        old = self.found.get(key, Comparison(new.output, new.against, 0, 0))
        self.found[key] = Comparison(
            new.output, new.against, old.count + new.count, old.differing + new.differing, old.first or new.first
        )


def verify(
    reference: Graph,
    integer: Graph,
    runner: Runner,
    runner_name: str,
    arrays: Arrays,
    progress: Callable[[int, int, str], None] | None = None,
) -> Verification:
    """Run the inputs in `arrays` through everything and compare, also with the expected outputs that `arrays` holds.

    arrays  inputs by name (or "x"), and expected values by output name (or "y_ref64", where there is one output)
    """
    inputs, rows = as_batches(reference, {k: v for k, v in arrays.items() if v.dtype.kind in "fiu"})  # type: ignore[misc]
    expected = dict(_expected(integer, arrays, rows))
    tally = _Tally()
    for start in range(0, rows, _CHUNK_ROWS):
        stop = min(start + _CHUNK_ROWS, rows)
        if progress is not None:
            progress(start, rows, "verify")
        chunk = {i.name: _rows(inputs[i.name], i.value.type.shape, start, stop) for i in reference.inputs}
        codes = {i.name: quantize_input(i, chunk[i.name]) for i in integer.inputs}
        values, interpreted, emitted = run(reference, chunk), run_codes(integer, codes), runner.run(codes)
        for output in integer.outputs:
            got, first = interpreted[output.value.name], start * output.value.type.shape[0]
            tally.add(compare_values(output, values[output.name], got, "the float64 evaluation", first))
            tally.add(compare_codes(output.name, got, emitted[output.name], f"what {runner_name} computes", first))
            if output.name in expected:
                name, array = expected[output.name]
                wanted = _rows(array, output.value.type.shape, start, stop)
                tally.add(compare_values(output, wanted, emitted[output.name], name, first))
    return Verification(next(iter(inputs.values())).shape[0], tuple(tally.found.values()))


def _rows(array: NDArray[np.generic], shape: tuple[int, ...], start: int, stop: int) -> NDArray[np.float64]:
    return array[start * shape[0] : stop * shape[0]]  # type: ignore[return-value]


def _expected(graph: Graph, arrays: Arrays, rows: int) -> Iterator[tuple[str, tuple[str, NDArray[np.generic]]]]:
    """(output name, (array name, expected values)) for each output that `arrays` has an answer for."""
    names = {i.name for i in graph.inputs}
    for output in graph.outputs:
        candidates = [REFERENCE] if len(graph.outputs) == 1 else []
        for name in (*candidates, output.name):
            if name not in arrays or name in names:
                continue
            array, shape = arrays[name], output.value.type.shape
            wanted = (rows * shape[0], *shape[1:])
            if array.shape != wanted or array.dtype.kind not in "fiu":
                raise CompileError(
                    f"the expected array {quote(name)} is {array.dtype} {list(array.shape)}, "
                    f"output {quote(output.name)} has {list(wanted)}"
                )
            yield output.name, (quote(name), array)
            break


def compare_codes(output: str, expected: Codes, got: Codes, against: str, first_row: int = 0) -> Comparison:
    """Integers with integers."""
    if expected.shape != got.shape:
        raise CompileError(f"output {quote(output)} came back as {list(got.shape)}, not {list(expected.shape)}")
    wrong = np.argwhere(expected != got)
    first = ""
    if len(wrong):
        index = tuple(int(i) for i in wrong[0])
        want, have = int(expected[index]), int(got[index])
        first = f"{_index(index, first_row)}: code {have} instead of {want}, off by {abs(have - want)}"
    return Comparison(output, against, expected.size, len(wrong), first)


def compare_values(
    output: GraphOutput, expected: NDArray[np.generic], got: Codes, against: str, first_row: int = 0
) -> Comparison:
    """Values with integers: exactly, where the noise of the values leaves the code readable.

    The noise is that of the array's own type (a few units in the last place), and 1e-9 where the map is not dyadic.
    """
    assert output.map is not None
    if expected.shape != got.shape:
        raise CompileError(f"{against} is {list(expected.shape)}, output {quote(output.name)} is {list(got.shape)}")
    values = expected.astype(np.float64)
    scale, offset = _broadcast(output.map, values.ndim)
    unit = 8 * float(np.finfo(np.float32 if expected.dtype.itemsize < 8 else np.float64).eps)
    noise = unit * (np.abs(values) + np.abs(offset))
    if not _is_dyadic(output.map):
        noise = np.maximum(noise, _VALUE_NOISE * np.maximum(np.abs(values), 1))
    step = np.abs(scale)
    mapped = map_codes(output.map, got)
    readable = noise < step / 4
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.where(readable, np.rint((values - offset) / scale), 0)
    exact = readable & (codes == got) & (np.abs(values - mapped) <= noise)
    close = ~readable & (np.abs(values - mapped) <= noise)
    wrong = np.argwhere(~(exact | close))
    first = ""
    if len(wrong):
        index = tuple(int(i) for i in wrong[0])
        want, have = float(values[index]), float(mapped[index])
        first = f"{_index(index, first_row)}: {have:.9g} instead of {want:.9g}, off by {abs(have - want):.3g}"
    return Comparison(output.name, against, got.size, len(wrong), first)


def _index(index: tuple[int, ...], first_row: int) -> str:
    return str([index[0] + first_row, *index[1:]]) if index else "[]"


def _is_dyadic(output_map: OutputMap) -> bool:
    return all(n.denominator & (n.denominator - 1) == 0 for n in (*output_map.scale, *output_map.offset))


def _broadcast(output_map: OutputMap, rank: int) -> tuple[Floats, Floats]:
    shape = (1, -1) + (1,) * (rank - 2) if rank > 1 else (-1,)
    scale = np.array([float(s) for s in output_map.scale]).reshape(shape)
    offset = np.array([float(o) for o in output_map.offset]).reshape(shape)
    return scale, offset
