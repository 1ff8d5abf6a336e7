"""The protocol of a pass, and the loop that runs, verifies, times and shows passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pefslc.analysis.verify import verify
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, InternalError
from pefslc.geometry.shapes import element_count
from pefslc.ir.graph import Graph, GraphInput, Level
from pefslc.ir.interpret import run

__all__ = [
    "Difference",
    "Exactness",
    "Pass",
    "PassRecord",
    "check_pass",
    "differences",
    "interface_faults",
    "run_passes",
]


class Exactness(Enum):
    """What a pass promises about the codes that the graph computes."""

    EXACT = "exact"  # no integer changes
    BOUNDED = "bounded"  # integers may change, within a bound that the docstring states
    CHANGES = "changes"  # it makes another model of it, on purpose: nothing bounds by how much the integers change


@runtime_checkable
class Pass(Protocol):
    """A rewrite. `level` is the level it reads; the same graph object returned means "nothing to do"."""

    @property
    def name(self) -> str: ...

    @property
    def exactness(self) -> Exactness: ...

    @property
    def level(self) -> Level: ...

    def run(self, graph: Graph) -> Graph:
        """The rewritten graph. Raises CompileError where a rewrite that must apply cannot."""
        ...


@dataclass(frozen=True, slots=True)
class PassRecord:
    """What one pass did."""

    name: str
    exactness: Exactness
    changed: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Difference:
    """An output of two graphs: how many values, how many of them differ, and the largest distance."""

    count: int
    differing: int
    largest: float


Observer = Callable[[PassRecord, Graph], None]


def run_passes(
    graph: Graph, passes: Sequence[Pass], observe: Observer | None = None, *, check: bool = False
) -> tuple[Graph, tuple[PassRecord, ...]]:
    """The graph after all passes, verified after each. `check` also compares each pass with the interpreter."""
    records: list[PassRecord] = []
    legal: Graph | None = None
    for p in passes:
        if p.level is not graph.level:
            raise CompileError(
                Code.PASS_LEVEL,
                f"pass {p.name!r} works on the {p.level.value} level, the graph is on the {graph.level.value} level",
            )
        start = time.perf_counter()
        after = p.run(graph)
        if after is not graph:
            _verify(graph, after, legal, p, records)
            legal = after
            if check:
                check_pass(p, graph, after)
        record = PassRecord(p.name, p.exactness, after is not graph, time.perf_counter() - start)
        records.append(record)
        graph = after
        if observe is not None:
            observe(record, graph)
    return graph, tuple(records)


def _verify(before: Graph, after: Graph, legal: Graph | None, p: Pass, records: Sequence[PassRecord]) -> None:
    faults = verify(after, legal) or interface_faults(p.exactness, before, after)
    if faults:
        ran = ", ".join(r.name for r in records) or "none"
        raise InternalError(f"pass {p.name!r} left an illegal graph: {'; '.join(faults)} (passes before it: {ran})")


def interface_faults(promise: Exactness, before: Graph, after: Graph) -> list[str]:
    """What a pass changed of the inputs and outputs of a legal graph: callers give and take arrays by their names.

    The shape of an input stays, too; that of an output may change where the pass makes another model.
    """
    inputs = [[(i.name, i.value.type.shape) for i in graph.inputs] for graph in (before, after)]
    outputs = [[(o.name, o.shape) for o in graph.outputs] for graph in (before, after)]
    faults = []
    for what, (old, new) in (("inputs", inputs), ("outputs", outputs)):
        if [name for name, _ in old] != [name for name, _ in new]:
            faults.append(f"its {what} are named {_names(new)}, and were {_names(old)}")
        elif what == "inputs" or promise is not Exactness.CHANGES:
            faults += [
                f"{what[:-1]} {name!r} has the shape {list(shape)}, and had {list(had)}"
                for (name, shape), (_, had) in zip(new, old, strict=True)
                if shape != had
            ]
    return faults


def _names(named: Sequence[tuple[str, object]]) -> str:
    return ", ".join(repr(name) for name, _ in named) or "(none)"


def check_pass(p: Pass, before: Graph, after: Graph, batches: int = 4, seed: int = 0) -> None:
    """Compare both graphs on random inputs; raise InternalError at the first difference of an exact pass."""
    if p.exactness is not Exactness.EXACT:
        return
    for name, found in differences(before, after, batches, seed).items():
        if found.differing:
            raise InternalError(f"pass {p.name!r} says it is exact but changed output {name!r} by {found.largest:g}")


def differences(before: Graph, after: Graph, batches: int = 4, seed: int = 0) -> dict[str, Difference]:
    """By output, how the values of two graphs with the same inputs and names differ on random inputs.

    Every value differs, infinitely, where an output has another shape.
    """
    if after is before:
        return {o.name: Difference(batches * element_count(o.shape), 0, 0.0) for o in before.outputs}
    random = np.random.default_rng(seed)
    inputs = {i.name: _random_rows(i, batches, random) for i in before.inputs}
    expected, got = run(before, inputs), run(after, inputs)
    # The quantized level is evaluated in float64: where scales are not dyadic it may be off by its own rounding.
    # Between two integer graphs nothing may be off.
    noise = 0.0 if before.level is Level.INTEGER else 1e-9
    found = {}
    for name, want in expected.items():
        if got[name].shape != want.shape:
            found[name] = Difference(want.size, want.size, float("inf"))
            continue
        wrong = ~np.isclose(want, got[name], rtol=noise, atol=noise)
        found[name] = Difference(want.size, int(wrong.sum()), float(np.abs(want - got[name]).max(initial=0.0)))
    return found


def _random_rows(graph_input: GraphInput, batches: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Numbers around 0, or integers of the input's type."""
    shape = (batches * graph_input.value.type.shape[0], *graph_input.value.type.shape[1:])
    if graph_input.integers:
        limits = np.iinfo(graph_input.integers)
        return random.integers(limits.min, limits.max + 1, shape).astype(np.float64)
    return random.normal(0, 2, shape)
