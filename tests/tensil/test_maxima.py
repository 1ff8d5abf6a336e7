"""Maxima over windows: what NumPy says, whatever the window and however few accumulators there are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.check.hazards import accumulator_hazards
from pefslc.targets.tensil.cost.cycles import model_cycles
from pefslc.targets.tensil.groups.layout import Layout, Rect, View
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.program.tmodel import TensilProgram
from pefslc.targets.tensil.schedule.emitter import Emitter
from pefslc.targets.tensil.schedule.maxima import emit_maximum, held_vectors
from pefslc.targets.tensil.simulate.simulator import Machine

LOWEST = -(1 << 15)


def emitted(window: Window, layout: Layout, rect: Rect, capacity: int, machine: Architecture) -> TensilProgram:
    emitter = Emitter(machine, {})
    strides = machine.stride0_depth, machine.stride1_depth
    emit_maximum(window, layout, rect, View.whole((0,), layout), capacity, strides, emitter)
    return TensilProgram.assemble(machine, "maximum", emitter.instructions)


@st.composite
def windows(draw: st.DrawFn) -> tuple[Window, Layout]:
    """Windows that see something everywhere, and what they slide over."""
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    window = Window(
        kernel=draw(pair),
        strides=draw(pair),
        dilations=draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        pads=draw(st.tuples(*[st.integers(0, 2)] * 4)),
    )
    layout = Layout(1, draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    sizes = window.output_size(layout.height, layout.width)
    if min(sizes) < 1 or not window.always_sees(layout.height, layout.width):
        return Window(kernel=(1, 1)), layout
    return window, layout


@given(windows(), st.sampled_from([0, 1, 7, 400]), st.integers(0, 2**32 - 1))
def test_every_window_takes_its_maximum(
    custom_perf: Architecture, given_window: tuple[Window, Layout], spare: int, seed: int
) -> None:
    window, layout = given_window
    height, width = window.output_size(layout.height, layout.width)
    rect = Rect(0, height, 0, width)
    program = emitted(window, layout, rect, 2 * rect.area + spare, custom_perf)
    assert accumulator_hazards(custom_perf, program.table).size == 0
    machine = Machine(custom_perf, poison_seed=seed)
    image = np.random.default_rng(seed).integers(LOWEST, -LOWEST, (layout.pixels, 12))
    machine.local[: layout.pixels] = image
    machine.run(program)
    (top, left, bottom, right), (dy, dx) = window.pads, window.dilations
    padded = np.pad(
        image.reshape(layout.height, layout.width, 12), ((top, bottom), (left, right), (0, 0)), constant_values=LOWEST
    )
    for y in range(height):
        for x in range(width):
            rows, columns = (p * s for p, s in zip((y, x), window.strides, strict=True))
            seen = padded[rows : rows + window.extent[0] : dy, columns : columns + window.extent[1] : dx]
            assert np.array_equal(machine.acc[y * width + x], seen.max(axis=(0, 1)))


@pytest.mark.parametrize(
    ("kernel", "stride", "cycles"),
    [  # of 64 pixels: their inputs, 2 k + 2 each
        (1, 1, 64),
        (2, 2, 256 + 64 * 10),
        (3, 1, 100 + 64 * 20),
        (2, 4, 256 + 64 * 10),  # only what is under a tap
    ],
)
def test_cycles_of_a_maximum(custom_perf: Architecture, kernel: int, stride: int, cycles: int) -> None:
    window, size = Window(kernel=(kernel, kernel), strides=(stride, stride)), 7 * stride + kernel
    rect = Rect(0, 8, 0, 8)
    assert held_vectors(window, rect, size * size) == min(size * size, kernel * kernel * 64)
    total = model_cycles(emitted(window, Layout(1, size, size), rect, 2048, custom_perf)).total
    assert cycles <= total <= cycles + 4
