"""Convolutions over dilated inputs: the compiled C, under sanitizers, equals the interpreter code for code."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pefslc.geometry.shapes import Window
from pefslc.targets.c.target import CTarget
from pefslc.targets.protocol import TargetOptions

_GRAPHS_PER_PROGRAM = 15


def random_transposed(build_graph, requantized, seed):  # type: ignore[no-untyped-def]
    """Upwards, maybe with a sum and a second convolution; all kinds of groups, sizes and batches."""
    rng = np.random.default_rng([seed, 77])
    b = build_graph(f"up{seed}")
    while True:
        kernel, dilations, apart = (tuple(map(int, rng.integers(1, top, 2))) for top in (6, 4, 5))
        size = tuple(map(int, rng.integers(1, 7, 2)))
        pads = tuple(map(int, rng.integers(-2, 6, 4)))
        window = Window(kernel=kernel, dilations=dilations, pads=pads, input_dilations=apart)
        if min(window.output_size(*size)) > 0:
            break
    batch, per_group, groups = (int(rng.integers(1, top)) for top in (3, 5, 4))
    if seed % 3 == 0:
        per_group, groups = 1, int(rng.integers(2, 6))
    outputs = groups if seed % 3 == 0 else groups * int(rng.integers(1, 5))
    x = b.input((batch, per_group * groups, *size), int(rng.integers(2, 9)), signed=bool(rng.random() < 0.5))
    bias = rng.integers(-200, 200, outputs) if rng.random() < 0.5 else None
    weight = rng.integers(-9, 10, (outputs, per_group, *kernel))
    fields = {"dilations": dilations, "pads": pads, "input_dilations": apart}
    up = requantized(rng, b, b.conv(x, weight, bias, groups, **fields))
    if rng.random() < 0.3:
        return b.graph(up, requantized(rng, b, b.sum(up, b.conv(x, weight, None, groups, **fields))))
    return b.graph(up)


@pytest.mark.parametrize("batch", range(2))
def test_transposed_convolutions_equal_the_interpreter(  # type: ignore[no-untyped-def]
    batch, bench, build_graph, requantize_randomly, sanitizer_flags
):
    for i in range(_GRAPHS_PER_PROGRAM):
        graph = random_transposed(build_graph, requantize_randomly, batch * _GRAPHS_PER_PROGRAM + i)
        bench.add(graph, CTarget(caller_arena=i % 3 == 0))
    bench.check(sanitizer_flags)


def test_phases_of_one_form_are_one_function_and_no_weight_is_stored_twice(build_graph):  # type: ignore[no-untyped-def]
    """A decoder's usual layer: 4 x 4, strides 2, pads 1. Four calls of one function; 32 taps fill rows of 32."""
    b = build_graph("decoder")
    x = b.input((1, 8, 6, 6), 5)
    weight = np.random.default_rng(1).integers(-7, 8, (4, 8, 4, 4))
    emission = CTarget().lower(b.graph(b.conv(x, weight, pads=(2,) * 4, input_dilations=(2, 2))), TargetOptions())
    text = emission.files["decoder.c"].decode()
    assert len(re.findall(r"^static void step\d+_part\d+\(", text, re.MULTILINE)) == 1
    assert len(re.findall(r"^    step\d+_part0\(", text, re.MULTILINE)) == 4
    assert emission.details["constant_bytes"] == weight.size
    assert emission.details["macs"] == 12 * 12 * 4 * 8 * 4  # four taps of 16 see pixels


def test_phases_of_one_tap_and_of_more_share_a_step(bench, build_graph):  # type: ignore[no-untyped-def]
    """Of 3 x 3 taps over pixels two apart, one phase has one tap, without padding: it gathers no windows."""
    b = build_graph("mixed")
    weight = np.random.default_rng(2).integers(-7, 8, (3, 2, 3, 3))
    bench.add(b.graph(b.conv(b.input((1, 2, 3, 3), 4), weight, pads=(1, 1, 1, 1), input_dilations=(2, 2))))
    bench.check(("-O1",))
