"""Random integer graphs: the compiled C, under sanitizers, equals the interpreter code for code."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from pefslc.numeric.stages import Affine, LeakyReluStage
from pefslc.numeric.staircase import Staircase
from pefslc.targets.c.target import CTarget

F = Fraction
_GRAPHS_PER_PROGRAM = 12


@pytest.mark.parametrize("batch", range(6))
def test_random_graphs_equal_the_interpreter(batch, bench, random_graphs, sanitizer_flags):  # type: ignore[no-untyped-def]
    for i in range(_GRAPHS_PER_PROGRAM):
        graph = random_graphs(batch * _GRAPHS_PER_PROGRAM + i)
        bench.add(graph, CTarget(caller_arena=i % 3 == 0))
    bench.check(sanitizer_flags)


def test_random_graphs_are_right_and_silent_where_gcc_optimizes(bench, random_graphs, gcc):  # type: ignore[no-untyped-def]
    """Of some faults gcc warns only there."""
    bench.cc = gcc
    for i in range(_GRAPHS_PER_PROGRAM):
        bench.add(random_graphs(100 + i), CTarget(caller_arena=i % 3 == 0))
    bench.check(("-O2",))


def test_wide_numbers_are_computed_in_64_bits(bench, build_graph, sanitizer_flags):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(5)
    b = build_graph("wide")
    x = b.input((1, 4, 5, 5), 16)
    acc = b.conv(x, rng.integers(-(2**30), 2**30, (6, 4, 3, 3)), rng.integers(-(2**44), 2**44, 6), pads=(1, 1, 1, 1))
    grouped = b.conv(x, rng.integers(-(2**20), 2**20, (4, 2, 2, 2)), None, 2)
    depthwise = b.conv(x, rng.integers(-(2**33), 2**33, (4, 1, 3, 3)), rng.integers(-9, 9, 4), 4)
    pooled = b.pool(acc, False, kernel=(2, 2), strides=(2, 2))
    largest = b.pool(acc, True, kernel=(3, 3), pads=(1, 1, 1, 1))
    narrow = b.requantize(
        depthwise, [Affine((F(1, 2**44),), (F(0),), (F(1),), (F(1, 3),)), LeakyReluStage((F(1, 3),))], 8
    )
    total = b.clamp(b.sum(b.rescale(acc, 5), largest), -(2**40), 2**33)
    dense = b.dense(b.reshape(narrow, (1, 36)), rng.integers(-(2**50), 2**50, (3, 36)))
    bench.add(b.graph(pooled, total, narrow, dense, grouped))
    bench.check(sanitizer_flags, runs=5)


def test_other_staircases_and_ranks(bench, build_graph, sanitizer_flags):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(6)
    b = build_graph("odd")
    x = b.input((2, 3, 4, 4), 6)
    low, high = x.type.codes.low, x.type.codes.high
    bipolar = b.steps(x, Staircase(low, high, -1, np.array([[-3], [0], [7]]), np.array([1, -1, 1]), step=2))
    constant = b.steps(x, Staircase(low, high, 4, np.empty((1, 0), dtype=np.int64), np.array([1])))
    any_steps = np.sort(rng.integers(low, high + 2, (3, 9)), axis=1)
    irregular = b.steps(x, Staircase(low, high, -2, any_steps, np.array([1, 1, 1])))
    falling = b.steps(x, Staircase(low, high, -2, -any_steps, np.array([-1, -1, -1])))
    cube = b.steps(b.reshape(x, (2, 3, 16)), Staircase(low, high, -2, any_steps, np.array([1, 1, 1])))
    row = b.clamp(b.reshape(x, (2, 48)), -1, 5)
    bench.add(b.graph(bipolar, constant, irregular, falling, cube, row, x, x))
    bench.check(sanitizer_flags, runs=5)
