"""Every problem of a model in one run.

A lowering stops at the first stage that refuses. Here it goes on with the sound part of the graph - without the tensors
that the problems so far are about - until nothing new is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem
from pefslc.frontend import Imported
from pefslc.ir.graph import Graph
from pefslc.ir.sound_part import sound_part

__all__ = ["Attempt", "all_problems", "every_problem"]

Attempt = Callable[[Graph, bool], object]
"""Lowers a graph, whole or in part; raises CompileError. The flag says whether the format is still to be checked."""

_MOST_ROUNDS = 8  # stages that can refuse: format, lowering, accumulators, and a few of a target


@contextmanager
def every_problem(imported: Imported, attempt: Attempt) -> Iterator[None]:
    """Lower inside of this: a CompileError, or a fault of the import, comes out with all the others."""
    if imported.problems:
        raise CompileError.of(all_problems(imported, attempt))
    try:
        yield
    except CompileError as e:
        # It holds e's problems: to chain e would show them twice. What made e, a user's own exception, stays.
        raise CompileError.of(all_problems(imported, attempt, e)) from e.__cause__


def all_problems(imported: Imported, attempt: Attempt, first: CompileError | None = None) -> tuple[Problem, ...]:
    """The problems of the import, and those that `attempt` finds in what is left, in the order of the stages.

    first  what an attempt on the whole graph has already raised
    """
    found = list(imported.problems)
    unknown = set(imported.unknown)
    values = [i.value for i in imported.graph.inputs] + [op.result for op in imported.graph.ops]
    shapes = {v.origin.tensor: v.type.shape for v in values if v.origin.tensor and v.name not in unknown}
    formats_unchecked = True
    for _ in range(_MOST_ROUNDS):
        error = first or _refusal(imported.graph, unknown, attempt, formats_unchecked)
        first = None
        if error is None:
            break
        # What is wrong with a tensor at one stage makes trouble at the next: only the first is told.
        known = {p.tensor for p in found if p.tensor}
        found += [p.with_shape(shapes) for p in error.problems if p.tensor not in known]
        if formats_unchecked and any(p.code is Code.FORMAT_CONTRADICTED for p in error.problems):
            formats_unchecked = False  # the formats contradict the user, not each other
            continue
        blamed = {p.tensor for p in error.problems if p.tensor}
        suspects = {v.name for v in values if v.origin.tensor in blamed}
        if suspects <= unknown:
            break  # nothing to go on without
        unknown |= suspects
    return tuple(dict.fromkeys(found))


def _refusal(graph: Graph, unknown: set[str], attempt: Attempt, check_format: bool) -> CompileError | None:
    part = sound_part(graph, unknown)
    if part is None:
        return None
    try:
        attempt(part, check_format)
    except CompileError as e:
        return e
    return None
