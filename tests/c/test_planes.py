"""Convolutions that read an input's planes as the caller gives them, centred as they are gathered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from cpu_rows import LAYOUTS

from integer_graphs import GraphBuilder
from pefslc.ir.graph import Graph
from pefslc.ir.value import Value
from pefslc.numeric.staircase import Staircase
from pefslc.targets.c.plan import plan_program
from pefslc.targets.c.steps import CopyStep, DotStep, MapStep
from pefslc.targets.c.target import CTarget


def _centred(b: GraphBuilder, x: Value, by: int, irregular: bool = False) -> Value:
    low, high = x.type.codes.low, x.type.codes.high
    steps = np.arange(low + 1, high + 1)
    steps[-1] -= irregular
    return b.steps(x, Staircase(low, high, low + by, steps[None], np.array([1])))


def _network(channels: int, by: int | None, rows: int = 1) -> Graph:
    """Windows that stick out, with strides and dilations, of one pixel, and larger than the image."""
    rng = np.random.default_rng(channels)
    b = GraphBuilder(f"planes{channels}_{by is not None}_{rows}")
    x = b.input((rows, channels, 7, 6), 8, signed=by is None)
    y = x if by is None else _centred(b, x, by)

    def conv(outputs: int, kernel: tuple[int, int], **window: object) -> Value:
        weight = rng.integers(-127, 128, (outputs, channels, *kernel))
        return b.conv(y, weight, rng.integers(-300, 300, outputs), **window)  # type: ignore[arg-type]

    return b.graph(
        conv(17, (3, 3), pads=(1, 1, 1, 1)),
        conv(5, (2, 3), strides=(2, 2), pads=(0, 2, 1, 0)),
        conv(3, (1, 1), strides=(2, 1)),
        conv(3, (2, 2), dilations=(2, 3), pads=(1, 1, 1, 1)),
        conv(2, (8, 7), pads=(1, 1, 1, 1)),
    )


def test_planes_are_gathered_exactly(bench, sanitizer_flags):  # type: ignore[no-untyped-def]
    """Signed and centred inputs for each processor."""
    for i, cpu in enumerate(LAYOUTS):
        rows = 1 + i % 2
        for channels, by in ((1 + i % 5, None), (1 + (i + 2) % 5, (-128, -100, 4)[i % 3])):
            bench.add(replace(_network(channels, by, rows), name=f"planes{i}_{by is None}"), CTarget(cpu=cpu))
    bench.check(sanitizer_flags)


def test_an_input_is_not_copied_where_convolutions_alone_read_it() -> None:
    for by in (None, -128):
        program = plan_program(_network(3, by))
        kinds = {type(step) for step in program.steps if step.source.buffer.name == "input0"}
        assert kinds == {DotStep}
        assert all(step.source.offset == (by or 0) for step in program.steps if isinstance(step, DotStep))


def test_what_others_read_is_made() -> None:
    """A depthwise layer, or an output, reads centred codes; and not every staircase centres."""
    ones = np.ones((3, 1, 2, 2), dtype=np.int64)
    wide = np.ones((2, 3, 2, 2), dtype=np.int64)
    for other in ("depthwise", "output", "irregular"):
        b = GraphBuilder(other)
        y = _centred(b, b.input((1, 3, 4, 4), 8, signed=False), -128, other == "irregular")
        found = b.conv(y, wide)
        program = plan_program(
            b.graph(found, b.conv(y, ones, None, 3))
            if other == "depthwise"
            else b.graph(found, *[y] * (other == "output"))
        )
        assert any(isinstance(step, MapStep) for step in program.steps)
        assert any(isinstance(step, CopyStep) for step in program.steps)
