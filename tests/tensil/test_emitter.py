"""The instruction stream under construction."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pefslc.targets.tensil.groups.layout import Run
from pefslc.targets.tensil.machine.architecture import Architecture, load_architecture
from pefslc.targets.tensil.machine.instructions import MoveKind, Segment, Simd, SimdOperation
from pefslc.targets.tensil.schedule.emitter import Emitter, SimdLater


def test_an_operation_that_waited_serves_the_group_that_it_was_made_for(custom_perf: Architecture) -> None:
    emitter = Emitter(custom_perf, {5: 100})
    emitter.serve("a")
    emitter.simd_later(SimdLater(SimdOperation.MAX, 5, a, a) for a in range(4))
    emitter.serve("b")
    emitter.fill_behind_read(2)  # 6 cycles: one operation, and the constant that it needs
    emitter.dram(MoveKind.DRAM1_TO_LOCAL, 0, 0, 2)
    emitter.simd_later(SimdLater(SimdOperation.MAX, 5, a, a) for a in (4, 5))
    emitter.flush()
    emitter.load_weights(0, 13, has_bias=True)
    assert emitter.segments() == (Segment("a", 0, 2), Segment("b", 2, 3), Segment("a", 3, 6), Segment("b", 6, 9))


def test_a_group_without_instructions_has_no_segment(custom_perf: Architecture) -> None:
    emitter = Emitter(custom_perf, {5: 100})
    for group in ("a", "b", "a"):
        emitter.serve(group)
    emitter.clear_weights()
    assert emitter.segments() == (Segment("a", 0, 1),)


def test_dense_runs_are_the_matmuls_one_by_one(custom_perf: Architecture) -> None:
    """Few addresses: runs often begin where the last accumulation ended, and a constant is read between."""
    rng = np.random.default_rng(1)
    one, other = (Emitter(custom_perf, {0: 2000}) for _ in range(2))
    for _ in range(3000):
        count, accumulate, base = int(rng.integers(1, 4)), bool(rng.integers(0, 2)), int(rng.integers(0, 2))
        sizes, gaps = rng.integers(1, 3, count), rng.integers(0, 2, count)
        seconds = np.cumsum(sizes + gaps) - sizes
        dense = np.stack([np.cumsum(sizes) - sizes, seconds, sizes], axis=1)
        runs = [Run(*run) for run in dense.tolist()]
        one.matmuls(runs, 7, base, accumulate=accumulate)
        other.dense_matmuls(dense, 7, base, accumulate=accumulate)
        for emitter in (one, other) if rng.integers(0, 3) == 0 else ():
            emitter.load_weights(0, 12, has_bias=False)
    assert one.instructions == other.instructions
    assert sum(isinstance(i, Simd) for i in one.instructions) > 50


@given(st.data())
def test_runs_at_once_are_the_instructions_of_one_run_after_the_other(data: st.DataObject) -> None:
    """Also what is guarded before and after them; no two runs reach the same accumulator."""
    machine = load_architecture("custom_perf")
    together, apart = (Emitter(machine, {256: 100}) for _ in range(2))
    for _ in range(data.draw(st.integers(1, 4))):
        accumulate = data.draw(st.booleans())
        ends = sorted(data.draw(st.sets(st.integers(0, 5), min_size=2)))
        runs = [Run(10 + a, a, b - a) for a, b in pairwise(ends)]
        runs = data.draw(st.permutations(runs))
        together.matmuls(runs, 20, 3, accumulate=accumulate)
        for run in runs:
            apart.matmul(run.first + 20, run.second + 3, run.vectors, 0, 0, accumulate=accumulate)
    assert together.instructions == apart.instructions
