"""The layouts of `generic`: short and long rows of taps, few taps, tiles of several kernels' pixels."""

from __future__ import annotations

import numpy as np
import pytest

from integer_graphs import GraphBuilder
from pefslc.ir.graph import Graph
from pefslc.targets.c.cpus import GENERIC, cpu_named
from pefslc.targets.c.plan import plan_program
from pefslc.targets.c.steps import DotStep
from pefslc.targets.c.target import CTarget
from pefslc.targets.c.tiles import pixels_of_a_tile
from pefslc.targets.c.weight_orders import LANES, ROWS
from pefslc.targets.protocol import TargetOptions


def _layer(
    channels: int, outputs: int, kernel: int, width: int = 8, bits: int = 8, name: str = "layer", **window: object
) -> Graph:
    """At the ends of codes and weights."""
    rng = np.random.default_rng(channels + outputs)
    b = GraphBuilder(name)
    x = b.input((1, channels, 5, width), bits, signed=bool(outputs % 2))
    weight = rng.choice([-128, 127], (outputs, channels, kernel, kernel))
    bias = rng.integers(-(2**20), 2**20, outputs) if outputs % 3 else None
    return b.graph(b.conv(x, weight, bias, **window))


def _dot(graph: Graph) -> DotStep:
    (step,) = (step for step in plan_program(graph).steps if isinstance(step, DotStep))
    return step


@pytest.mark.parametrize(
    ("channels", "outputs", "kernel", "order", "pixels", "apiece"),
    [
        (11, 16, 1, LANES, 8, 8),
        (1, 48, 3, LANES, 6, 6),
        (12, 16, 1, ROWS, 8, 2),
        (8, 24, 1, ROWS, 8, 2),  # which 16 would fill up to 32
        (8, 2, 1, ROWS, 8, 2),
        (56, 4, 3, ROWS, 6, 2),  # 504 taps
        (57, 4, 3, ROWS, 6, 6),  # 513 taps
    ],
)
def test_a_layout_follows_from_taps_and_outputs(channels, outputs, kernel, order, pixels, apiece):  # type: ignore[no-untyped-def]
    step = _dot(_layer(channels, outputs, kernel))
    (part,) = step.parts
    assert (step.order, part.pixels, part.apiece) == (order, pixels, apiece)


@pytest.mark.parametrize(
    ("options", "where_wide"), [({}, True), ({"weights": "binary"}, False), ({"dispatch": True}, False)]
)
def test_weights_of_lanes_are_wide_only_where_a_compiler_may_choose(options, where_wide):  # type: ignore[no-untyped-def]
    files = CTarget(**options).lower(_layer(8, 16, 1), TargetOptions()).files
    assert ("pefslc_lane_weight" in files["layer.c"].decode()) == where_wide
    assert (b"int16_t on x86" in files["layer.h"]) == where_wide


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_lines_that_see_only_pads_are_exact_and_without_warnings(compiler, bench, warning_flags, request):  # type: ignore[no-untyped-def]
    b = GraphBuilder("outside")
    x = b.input((1, 16, 2, 6), 8, signed=False)
    weight = np.random.default_rng(0).integers(-128, 128, (16, 1, 1, 3))
    bench.add(b.graph(b.conv(x, weight, np.arange(16), 16, pads=(1, 0, 0, 0), strides=(4, 1))), CTarget())
    bench.cc = request.getfixturevalue(compiler)
    bench.check(("-O1", *warning_flags))


def test_a_tile_has_whole_kernels_and_leaves_few_pixels_over() -> None:
    assert [pixels_of_a_tile(GENERIC, columns, 2) for columns in (2, 5, 8, 36, 144, 10)] == [2, 2, 8, 6, 8, 2]
    assert pixels_of_a_tile(GENERIC, 3, 1) == 3
    assert pixels_of_a_tile(cpu_named("x86-64-v4"), 100, 14) == 14  # a row that names no tile has the kernel's


def test_layouts_are_exact(bench, sanitizer_flags):  # type: ignore[no-untyped-def]
    for channels, outputs, kernel in (
        (3, 16, 1),
        (1, 17, 3),
        (9, 32, 1),
        (11, 48, 1),
        (8, 24, 1),
        (57, 5, 3),
        (20, 7, 3),
    ):
        for width in (4, 5, 9, 16):
            window = {"pads": (kernel // 2,) * 4, "strides": (1, 1 + width % 2)}
            name = f"layer{channels}x{width}"
            bench.add(_layer(channels, outputs, kernel, width, name=name, **window), CTarget())
    bench.add(_layer(3, 16, 1, bits=16, name="wide"), CTarget())  # whose taps have no kernel of this order
    bench.add(_layer(4, 16, 1, name="small"), CTarget(memory="small"))
    bench.check(("-O1", *sanitizer_flags))


def test_planes_have_the_taps_of_a_row_channel_after_channel(bench, sanitizer_flags):  # type: ignore[no-untyped-def]
    """Of inputs as the caller gives them, with and without an offset of their codes, at edges and in one row."""
    for i, (window, columns) in enumerate(
        (({"pads": (1, 2, 0, 1)}, 9), ({"pads": (1, 1, 1, 1), "strides": (2, 2)}, 16), ({"dilations": (1, 2)}, 12))
    ):
        rng = np.random.default_rng(i)
        b = GraphBuilder(f"planes{i}")
        outputs = []
        for signed in (False, True):
            x = b.input((2, 3, 7, columns), 8, signed=signed)
            weight = rng.integers(-128, 128, (6, 3, 3, 2))
            outputs.append(b.conv(x, weight, rng.integers(-99, 99, 6), **window))
        bench.add(b.graph(*outputs), CTarget())
    bench.check(("-O1", *sanitizer_flags))
