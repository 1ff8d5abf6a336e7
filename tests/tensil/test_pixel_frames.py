"""Frames of pixels: every tap reaches each pixel for which it lies inside once, and few weights pass twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensil_support import emit, random_codes, simulate

from builders import ModelBuilder, import_bytes, lower
from pefslc.geometry.shapes import Window
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.group_rewrites import stationary_activations
from pefslc.targets.tensil.group_rewrites.pixel_frames import PixelFrames, passes_and_gathers, pixel_frames
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import load_architecture

SAME = Window(kernel=(3, 3), pads=(1, 1, 1, 1))
FOUR = Layout(8, 4, 4)


def four_by_four(folder: Path) -> Graph:
    """Two convolutions on 16 pixels, with biases."""
    r, m = np.random.default_rng(4), ModelBuilder()
    x, inputs = m.quant(m.input([1, 20, 4, 4]), 0.25, 3), 20
    for outputs in (40, 30):
        weight = m.weight(r.integers(-1, 2, (outputs, inputs, 3, 3)) * 0.25, 0.25, 3)
        bias = m.constant(r.integers(-8, 8, outputs).astype(np.float32) / 16)
        y = m.node("Conv", x, weight, bias, pads=[1, 1, 1, 1])
        x, inputs = m.quant(m.node("Relu", y), 0.5, 4, signed=False), outputs
    m.output(x)
    return lower(import_bytes(m.build(), folder))


def passes(frames: PixelFrames) -> int:
    return sum(map(len, frames.stationary.taps))


def test_only_the_centre_of_a_window_sees_more_than_12_of_16_pixels() -> None:
    """Rows 0 to 2, which the taps below see, are a block; the other three sides have a frame each."""
    frames = pixel_frames(SAME, FOUR, FOUR, 12, pass_cycles=100, spread_cycles=99)
    assert frames is not None
    assert frames.order == (6, 7, 8, 4, 0, 1, 2, 3, 5)
    assert frames.stationary.taps == ((0, 1, 2, 3), (3,), (4, 5, 6), (7,), (8,))
    assert frames.stationary.slots == 3
    assert frames.saved == (300 - 99) + 2 * (100 - 99)


@pytest.mark.parametrize(("spread_cycles", "extra"), [(99, 3), (100, 1), (300, 0)])
def test_a_frame_is_made_where_it_saves_more_than_its_sums_cost(spread_cycles: int, extra: int) -> None:
    frames = pixel_frames(SAME, FOUR, FOUR, 12, 100, spread_cycles)
    assert frames is not None
    assert len(frames.stationary.taps) == 2 + extra
    assert passes(frames) == {3: 10, 1: 12, 0: 15}[extra]
    assert (frames.stationary.spread is None) == (not extra)


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.tuples(*[st.integers(0, 1)] * 4),
    st.tuples(st.integers(3, 5), st.integers(3, 5)),
    st.integers(3, 14),
    st.sampled_from([0, 1, 2, 5]),
)
def test_all_frames_together_are_the_convolution(
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
    size: tuple[int, int],
    array_size: int,
    spread_cycles: int,
) -> None:
    """By the definition of a convolution, with a number of its own for each tap: no pixel and no tap twice."""
    window = Window(kernel=kernel, strides=strides, pads=pads)
    spans = [(n + a + b - k) // s + 1 for n, a, b, k, s in zip(size, pads[:2], pads[2:], kernel, strides, strict=True)]
    source, output = Layout(1, *size), Layout(1, *spans)
    frames = pixel_frames(window, source, output, array_size, 1, spread_cycles)
    image = np.random.default_rng(3).integers(-99, 100, size)
    expected = np.zeros(spans, dtype=np.int64)
    padded = np.pad(image, ((pads[0], pads[2]), (pads[1], pads[3])))
    for y, x in np.ndindex(*spans):
        under = padded[y * strides[0] :, x * strides[1] :][: kernel[0], : kernel[1]]
        expected[y, x] = (under * (10 ** np.arange(window.taps)).reshape(kernel)).sum()
    if frames is None:
        return
    how = frames.stationary
    assert how.pixels is not None
    rows = iter(how.pixels.reshape(-1, array_size, source.pixels))
    sums = [
        sum((10 ** frames.order[tap] * (next(rows) @ image.reshape(-1)) for tap in own), np.zeros(array_size, int))
        for own in how.taps
    ]
    blocks = -(-output.pixels // array_size)
    found = sums[:blocks]
    for matrices, extra in zip([] if how.spread is None else how.spread, sums[blocks:], strict=True):
        found = [block + extra @ matrix for block, matrix in zip(found, matrices, strict=True)]
    assert np.array_equal(np.concatenate(found)[: output.pixels], expected.reshape(-1))
    assert not np.concatenate(found)[output.pixels :].any()


@pytest.mark.parametrize(
    ("accumulators", "passes", "gathers"), [(2043, 1, 123), (1900, 2, 640), (9000, 1, 640), (3, 640, 1)]
)
def test_pixels_on_their_way_get_what_as_few_passes_as_can_be_leave(
    accumulators: int, passes: int, gathers: int
) -> None:
    """Three sums of each of 640 outputs: in 2043 accumulators there is room for all of them, and 123 more."""
    assert passes_and_gathers(3, 640, 640, accumulators) == (passes, gathers)


@pytest.mark.parametrize("accumulator_depth", [2048, 300])
def test_layers_are_exact_and_faster_with_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulator_depth: int
) -> None:
    graph, cycles = four_by_four(tmp_path), []
    board = replace(load_architecture("pynqz1"), array_size=12, accumulator_depth=accumulator_depth)
    monkeypatch.setattr(stationary_activations, "_saved_cycles", lambda *_: 1 << 40)
    monkeypatch.setattr(stationary_activations, "_transposition_cycles", lambda *_: 0)
    inputs = random_codes(graph, 1)
    expected = run_codes(graph, inputs)
    for spread_cycles in (0, 1 << 40):
        monkeypatch.setattr(
            stationary_activations,
            "pixel_frames",
            lambda *shape, spread_cycles=spread_cycles: pixel_frames(*shape[:5], spread_cycles or shape[5]),
        )
        emission = emit(graph, board, tmp_path)
        found = simulate(graph, emission, tmp_path, inputs)
        assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)
        cycles.append(emission.cycles)
    with_frames, without = cycles
    assert with_frames is not None
    assert without is not None
    assert with_frames < without
