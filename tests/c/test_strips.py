"""Where pixels side by side share taps, a processor's loops copy what they all see of the image once: a strip."""

from __future__ import annotations

import numpy as np
import pytest

from integer_graphs import GraphBuilder
from pefslc.ir.graph import Graph
from pefslc.targets.c.cpus import cpu_named
from pefslc.targets.c.plan import plan_program
from pefslc.targets.c.steps import DotStep
from pefslc.targets.c.taps import Gather
from pefslc.targets.c.target import CTarget

CPU = "rv32"


def _graph() -> Graph:
    """Strips that begin, end, or lie as a whole outside of the image; of planes; whose codes become others; patches."""
    rng = np.random.default_rng(5)
    b = GraphBuilder("strips")
    planes = b.input((2, 4, 3, 8), 8, signed=True)
    below = b.requantize(b.conv(planes, rng.integers(-128, 128, (8, 4, 3, 3)), None, 1, pads=(1, 1, 1, 1)), [], 8)
    above = b.clamp(below, 0, 127)
    outputs = [
        b.conv(below, rng.integers(-128, 128, (4, 8, 3, 3)), None, 1, pads=(4, 5, 4, 5)),
        b.conv(below, rng.integers(-128, 128, (3, 8, 2, 5)), None, 1, pads=(0, 0, 2, 0), dilations=(2, 1)),
        b.conv(above, rng.integers(-128, 128, (5, 8, 1, 2)), rng.integers(-999, 999, 5), 1, pads=(0, 1, 0, 0)),
        b.conv(above, rng.integers(-128, 128, (5, 8, 3, 3)), None, 1, strides=(1, 2), pads=(1, 1, 1, 1)),
        b.conv(above, rng.integers(-128, 128, (5, 8, 2, 2)), None, 1),
    ]
    return b.graph(*outputs)


@pytest.mark.parametrize("memory", ["fast", "small"])
def test_strips_hold_what_the_windows_see(memory, bench, sanitizer_flags):  # type: ignore[no-untyped-def]
    bench.add(_graph(), CTarget(cpu=CPU, memory=memory))
    bench.check(("-O1", *sanitizer_flags))


def test_strips_are_copied_where_pixels_share_taps() -> None:
    found = [step.parts[0].gather for step in plan_program(_graph(), cpu_named(CPU)).steps if isinstance(step, DotStep)]
    strip, patch = Gather.STRIP, Gather.PATCH
    assert found == [strip, strip, strip, strip, patch, patch], "of stride 2, and of lines of 7 pixels, none are"
