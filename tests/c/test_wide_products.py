"""Requantizations of 7 bits and more behind BatchNorm: multiplications, where there were thresholds."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from builders import ModelBuilder
from pefslc.numeric.expression import Call, Function, X, number
from pefslc.numeric.stages import Affine, FunctionStage, LeakyReluStage
from pefslc.targets.c.target import CTarget
from pefslc.targets.protocol import TargetOptions

F = Fraction
_MOST_KILOBYTES = 300_000

_COMPILE = """
import sys
import pefslc
from process_memory import peak_kilobytes
program = pefslc.compile(sys.argv[1], target="c")
program.save(sys.argv[2])
print(peak_kilobytes())
"""


def batch_norm(rng, channels, slope):  # type: ignore[no-untyped-def]
    """Of both signs; one gamma is 0."""
    gamma = rng.normal(0, slope, channels)
    gamma[channels // 2] = 0
    mean, variance, beta = rng.normal(0, 1, channels), rng.uniform(0.5, 2, channels), rng.normal(0, 1, channels)
    parts = (gamma, -gamma * mean, variance, beta)
    return Affine(*(tuple(F(float(v)) for v in part.astype(np.float32)) for part in parts))


def wide_graph(build_graph, bits, slope):  # type: ignore[no-untyped-def]
    """BatchNorm behind a convolution of 12 channels, without an activation and with one that bends."""
    rng = np.random.default_rng(bits)
    b = build_graph(f"wide{bits}")
    x = b.input((1, 6, 5, 5), 12)
    sums = b.conv(x, rng.integers(-(2**9), 2**9, (12, 6, 3, 3)), rng.integers(-(2**12), 2**12, 12))
    stages = [batch_norm(rng, 12, slope)]
    plain = b.requantize(sums, stages, bits)
    leaky = b.requantize(sums, [*stages, LeakyReluStage((F(3, 10),))], bits)
    return b.graph(plain, leaky)


@pytest.mark.parametrize(("bits", "slope"), [(8, 2.0**-8), (16, 2.0**-4), (16, 2.0**5)])
def test_codes_behind_batch_norm_equal_the_interpreter(bits, slope, bench, build_graph, sanitizer_flags):  # type: ignore[no-untyped-def]
    graph = wide_graph(build_graph, bits, slope)
    bench.add(graph)
    emission = CTarget().lower(graph, TargetOptions())
    reports = [str(r) for r in emission.ops.values()]
    bent = {o.name for o in graph.outputs if "bent" in emission.ops[o.value.name].implementation}
    assert bent == {"y1"}, "one line is one multiplication"
    assert not any("threshold" in report for report in reports)
    assert bits == 8 or any("two words" in report for report in reports)
    bench.check(sanitizer_flags, runs=20)


def test_sixteen_bits_times_sixteen_bits_are_multiplications(bench, build_graph, sanitizer_flags):  # type: ignore[no-untyped-def]
    """Sums of more than 32 bits; a bias per channel, with a ReLU and without."""
    rng = np.random.default_rng(5)
    b = build_graph("sixteen")
    sums = b.conv(
        b.input((1, 6, 3, 3), 16), rng.integers(-(2**15), 2**15, (5, 6, 3, 3)), rng.integers(-(2**30), 2**30, 5)
    )
    stages = [batch_norm(rng, 5, 2.0**-12)]
    graph = b.graph(b.requantize(sums, stages, 16), b.requantize(sums, [*stages, LeakyReluStage()], 16))
    bench.add(graph)
    assert sums.type.codes.high > 1 << 34
    reports = [str(r) for r in CTarget().lower(graph, TargetOptions()).ops.values()]
    assert sum("words" in report for report in reports) == 2, reports
    bench.check(sanitizer_flags, runs=20)


def graph_of_function(build_graph, function, name, weight_bits=8, out_bits=12, reach=3):  # type: ignore[no-untyped-def]
    """A function behind three slopes of both signs."""
    rng = np.random.default_rng(6)
    b = build_graph(name)
    values = b.input((1, 6, 2, 2), 16)
    factor = Affine.product((F(3 << (out_bits - 3)),))
    sums = b.conv(values, rng.integers(-(2**weight_bits), 2**weight_bits, (3, 6, 2, 2)), None)
    gamma = tuple(F(reach * sign, sums.type.codes.high) for sign in (1, -1, 2))
    line = Affine(gamma, (F(0),) * 3, (F(1),) * 3, (F(1, 7), F(-1, 3), F(0)))
    return b.graph(b.requantize(sums, [line, FunctionStage(function), factor], out_bits))


TANH = Call(Function.TANH, (X,))
SLOWER = Call(Function.ADD, (number(F(1, 5)), Call(Function.MUL, (number(F(1, 9)), X))))


@pytest.mark.parametrize(("weight_bits", "out_bits", "reach"), [(8, 12, 3), (15, 16, 3), (8, 12, 3000)])
def test_a_tanh_of_many_steps_is_polynomials(weight_bits, out_bits, reach, bench, build_graph, sanitizer_flags):  # type: ignore[no-untyped-def]
    """Sums of 28 bits, of 35, and far beyond the last step: few kB for up to 65,536 steps in 3 channels."""
    graph = graph_of_function(build_graph, TANH, "tanh", weight_bits, out_bits, reach)
    bench.add(graph)
    emission = CTarget().lower(graph, TargetOptions())
    assert any("polynomials of degree" in str(report) for report in emission.ops.values())
    constants = emission.details["constant_bytes"]
    assert isinstance(constants, int)
    assert constants < 2 * 72 + (1 << 15)
    bench.check(sanitizer_flags, runs=40)


def test_a_function_of_pieces_is_one_table_for_all_channels(bench, build_graph, sanitizer_flags):  # type: ignore[no-untyped-def]
    graph = graph_of_function(build_graph, Call(Function.MIN, (TANH, SLOWER)), "pieces")
    bench.add(graph)
    reports = [str(r) for r in CTarget().lower(graph, TargetOptions()).ops.values()]
    assert any("for all channels" in report for report in reports), reports
    bench.check(sanitizer_flags, runs=20)


def graph_of_ties(build_graph):  # type: ignore[no-untyped-def]
    """Ratios of small numbers: each channel has its offset, one output bends at 0, and one falls."""
    rng = np.random.default_rng(8)
    b = build_graph("ties")
    sums = b.conv(b.input((1, 4, 4, 4), 12), rng.integers(-99, 99, (3, 4, 3, 3)), rng.integers(-999, 999, 3))
    ratios = [Affine.product((ratio,)) for ratio in (F(1, 6), F(-5, 36), F(7, 10))]
    outputs = [b.requantize(sums, [ratio], 10) for ratio in ratios]
    leaky = b.requantize(sums, [ratios[0], LeakyReluStage((F(1, 10),))], 12)
    shifted = b.requantize(sums, [ratios[0], Affine.bias((F(1, 3), F(1, 2), F(0)))], 12)
    return b.graph(*outputs, leaky, shifted)


def test_ties_to_even_are_compared_where_a_floor_takes_them_all_up(bench, build_graph, sanitizer_flags):  # type: ignore[no-untyped-def]
    graph = graph_of_ties(build_graph)
    bench.add(graph)
    reports = [str(r) for r in CTarget().lower(graph, TargetOptions()).ops.values()]
    assert sum("ties to even" in report for report in reports) == 5, reports
    assert not any("threshold" in report for report in reports)
    bench.check(sanitizer_flags, runs=40)


def test_clang_has_nothing_to_say_about_ties(bench, build_graph, clang_is_silent):  # type: ignore[no-untyped-def]
    bench.add(graph_of_ties(build_graph))
    clang_is_silent(bench.folder)


def test_clang_has_nothing_to_say_about_polynomials(bench, build_graph, clang_is_silent):  # type: ignore[no-untyped-def]
    bench.add(graph_of_function(build_graph, TANH, "tanh"))
    clang_is_silent(bench.folder)


def test_clang_has_nothing_to_say_about_wide_products(bench, build_graph, clang_is_silent):  # type: ignore[no-untyped-def]
    bench.add(wide_graph(build_graph, 16, 2.0**5))
    clang_is_silent(bench.folder)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="/proc tells how much memory a process took")
def test_256_channels_of_16_bits_take_no_table_and_little_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    m = ModelBuilder()
    x = m.quant(m.input([1, 16, 4, 4]), float(np.float32(0.013)), 8)
    scale = rng.uniform(0.01, 0.03, (256, 1, 1, 1)).astype(np.float32)
    y = m.node("Conv", x, m.weight(rng.normal(0, 0.6, (256, 16, 1, 1)), scale, 8))
    parts = rng.normal(0, 1, 256), rng.normal(0, 1, 256), rng.normal(0, 1, 256), rng.uniform(0.5, 2, 256)
    y = m.node("BatchNormalization", y, *map(m.constant, parts), epsilon=1e-5)
    m.output(m.quant(y, float(np.float32(0.00025)), 16))
    path = m.save(tmp_path)
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-c", _COMPILE, str(path), str(tmp_path / "out")]
    done = subprocess.run(command, cwd=tests, capture_output=True, text=True, check=True)
    assert int(done.stdout) < _MOST_KILOBYTES
    assert sum(file.stat().st_size for file in (tmp_path / "out").glob("*.c")) < 100_000
