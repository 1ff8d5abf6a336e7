"""Random integer graphs: the compiled C, under sanitizers, equals the interpreter code for code."""

from __future__ import annotations

import pytest

from pefslc.targets.protocol import TargetOptions

_GRAPHS_PER_PROGRAM = 12


@pytest.mark.parametrize("batch", range(6))
def test_random_graphs_equal_the_interpreter(batch, bench, random_graphs, sanitizer_flags):  # type: ignore[no-untyped-def]
    for i in range(_GRAPHS_PER_PROGRAM):
        graph = random_graphs(batch * _GRAPHS_PER_PROGRAM + i)
        bench.add(graph, TargetOptions(caller_arena=i % 3 == 0))
    bench.check(("-O1", *sanitizer_flags))
