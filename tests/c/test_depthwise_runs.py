"""Depthwise convolutions of few channels: pixels side by side are computed as one of more channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from integer_graphs import GraphBuilder
from pefslc.ir.graph import Graph
from pefslc.targets.c.cpus import cpu_named
from pefslc.targets.c.plan import plan_program
from pefslc.targets.c.steps import DepthwiseStep
from pefslc.targets.c.storage import INT16, INT32
from pefslc.targets.c.target import CTarget
from pefslc.targets.c.weight_orders import TAPS

_CPU_FLAGS = Path("/proc/cpuinfo")
_AVX2 = pytest.mark.skipif(
    not _CPU_FLAGS.is_file() or "avx2" not in _CPU_FLAGS.read_text().split(), reason="this machine has no AVX2"
)
_ROWS = (
    ("generic", ()),
    ("x86-64", ()),
    pytest.param("x86-64-v3", ("-march=x86-64-v3",), marks=_AVX2),
    pytest.param("x86-64-v4", ("-march=x86-64-v3",), marks=_AVX2),
)
_PADS = ((1, 1, 1, 1), (0, 0, 0, 0), (2, 3, 0, 1), (0, 1, 2, 3))  # top, left, bottom, right


def _of_width(width: int) -> Graph:
    """All pads, few and many channels, windows of nine taps and others, with and without a bias of each channel."""
    rng = np.random.default_rng(width)
    b = GraphBuilder(f"width{width}")
    outputs = []
    for channels in (1, 3, 12, 16, 40):
        x = b.input((2, channels, 4, width), 8, signed=channels == 3)
        for i, pads in enumerate(_PADS):
            kernel = (3, 3) if i % 2 == 0 or width + pads[1] + pads[3] < 3 else (2, 3)
            if width + pads[1] + pads[3] < 3:
                continue
            weight, bias = rng.integers(-128, 128, (channels, 1, *kernel)), rng.integers(-999, 999, channels)
            outputs.append(b.conv(x, weight, bias if i < 2 else None, channels, pads=pads))
    return b.graph(*outputs)


@pytest.mark.parametrize(("cpu", "flags"), _ROWS)
def test_lines_of_every_length_are_exact(cpu, flags, bench, sanitizer_flags):  # type: ignore[no-untyped-def]
    """Also where a run ends in the middle of a line: `steps` computes a few pixels a call."""
    for width in (1, 3, 10, 23):
        bench.add(_of_width(width), CTarget(cpu=cpu, steps=300 if width == 10 else None))
    bench.check(("-O1", *flags, *sanitizer_flags))


def test_a_pixel_of_few_channels_is_not_alone() -> None:
    program = plan_program(_of_width(23))
    runs = {step.source.shape[1]: step.parts[0].run for step in program.steps if isinstance(step, DepthwiseStep)}
    assert runs == {1: 25, 3: 21, 12: 5, 16: 4, 40: 1}


@pytest.mark.parametrize(
    ("code", "weight", "products"), [(255, -128, INT16), (511, -64, INT16), (511, -65, INT32), (4095, 127, INT32)]
)
def test_products_have_16_bits_where_all_fit(code, weight, products, bench):  # type: ignore[no-untyped-def]
    """511 * 64 is less than 2^15, 511 * 65 is not."""
    for cpu in ("generic", "x86-64", "x86-64-v3"):
        b = GraphBuilder(f"products_{cpu.replace('-', '_')}")
        x = b.clamp(b.input((1, 16, 4, 9), 12, signed=False), code, code)
        graph = b.graph(b.conv(x, np.full((16, 1, 3, 3), weight), None, 16, pads=(1, 1, 1, 1)))
        (step,) = (step for step in plan_program(graph, cpu_named(cpu)).steps if isinstance(step, DepthwiseStep))
        assert (step.order, step.products) == (TAPS, products)
        bench.add(graph, CTarget(cpu=cpu))
    bench.check(("-O2",))


def test_gcc_drops_no_call_whose_buffers_are_in_one_object(bench, gcc):  # type: ignore[no-untyped-def]
    """GCC 12 at -O2 made a copy of the kernel for this call, whose only store it took for one to nowhere."""
    bench.cc = gcc
    for channels, width in ((1, 6), (1, 5), (1, 7), (2, 3), (3, 6)):
        b = GraphBuilder(f"six{channels}x{width}")
        weight = np.random.default_rng(width).integers(-9, 9, (channels, 1, 3, 3))
        x = b.clamp(b.input((1, channels, 6, width), 8), 0, 255)
        bench.add(b.graph(b.conv(x, weight, None, channels, pads=(1, 1, 1, 1))), CTarget())
    bench.check(("-O2",))
