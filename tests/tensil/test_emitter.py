"""The instruction stream under construction."""

from __future__ import annotations

from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.instructions import MoveKind, Segment, SimdOperation
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
