"""Winograd's F(2x2, 3x3) is exact where it is used, and used only where that is proven."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from integer_graphs import GraphBuilder, random_stages
from pefslc.ir.graph import Graph
from pefslc.targets.c.certificates import fits_winograd
from pefslc.targets.c.cpus import CPUS, adapted, cpu_named
from pefslc.targets.c.plan import plan_program
from pefslc.targets.c.steps import DotStep, WinogradStep
from pefslc.targets.c.target import CTarget
from pefslc.targets.c.winograd import OF_RESULTS, OF_TAPS, point_ranges, point_weights

_CPU_FLAGS = Path("/proc/cpuinfo")
_AVX2 = pytest.mark.skipif(
    not _CPU_FLAGS.is_file() or "avx2" not in _CPU_FLAGS.read_text().split(), reason="this machine has no AVX2"
)
_ROWS = (("x86-64", ()), pytest.param("x86-64-v3", ("-march=x86-64-v3",), marks=_AVX2))
_PADS = ((1, 1, 1, 1), (0, 0, 0, 0), (2, 0, 1, 3), (0, -1, 1, 2), (-1, 2, -1, 0))  # top, left, bottom, right


def _steps(graph: Graph, cpu: str) -> list[type]:
    return [type(step) for step in plan_program(graph, cpu_named(cpu)).steps if isinstance(step, DotStep)]


def _layer(channels: int, outputs: int, height: int, width: int, **window: object) -> Graph:
    """Weights and biases of all 8 bits, and a residual addition."""
    rng = np.random.default_rng(channels * outputs + height + width)
    b = GraphBuilder(f"layer_{channels}_{outputs}_{height}_{width}")
    x = b.input((1, channels, height, width), 8, signed=bool(height % 2))
    y = b.conv(x, rng.integers(-128, 128, (outputs, channels, 3, 3)), rng.integers(-9999, 9999, outputs), **window)
    return b.graph(b.sum(y, b.input(y.type.shape, 8)))


def _shapes(n: int) -> Graph:
    """Squares that are all inside and partly outside, channels that fill vectors and do not, all pads, images at their
    ends: codes 0 and 255.
    """
    rng = np.random.default_rng(n)
    b = GraphBuilder(f"shapes{n}")
    outputs = []
    for channels, height, width in (((16, 8, 8), (17, 8, 9)), ((17, 8, 9),), ((35, 9, 12),))[n - 1]:
        x = b.input((n, channels, height, width), 8, signed=channels % 2 == 1)
        for i, pads in enumerate(_PADS):
            count = (16, 19, 32, 40, 16)[i]
            weight = rng.choice([-128, 127], (count, channels, 3, 3)) if i == 2 else None
            if weight is None:
                weight = rng.integers(-128, 128, (count, channels, 3, 3))
            y = b.conv(x, weight, rng.integers(-999, 999, count) if i % 2 == 0 else None, pads=pads)
            outputs.append(b.clamp(y, -128, 127) if i == 1 else y)
    return b.graph(*outputs)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize(("cpu", "flags"), _ROWS)
def test_all_shapes_are_exact(cpu, flags, compiler, bench, sanitizer_flags, request):  # type: ignore[no-untyped-def]
    bench.cc = request.getfixturevalue(compiler)
    for n, target in ((1, CTarget(cpu=cpu)), (2, CTarget(cpu=cpu, steps=2000)), (3, CTarget(cpu=cpu, threads=3))):
        assert WinogradStep in _steps(_shapes(n), cpu)
        bench.add(_shapes(n), target)
    bench.check(("-O1", *flags, *sanitizer_flags) if compiler == "gcc" else ("-O2", *flags))


@pytest.mark.parametrize(("cpu", "flags"), _ROWS)
def test_compilers_make_the_same_of_it_as_vectors(cpu, flags, bench):  # type: ignore[no-untyped-def]
    bench.add(_shapes(3), CTarget(cpu=cpu))
    bench.check(("-O3", *flags))
    bench.check(("-O3", *flags, "-DPEFSLC_PORTABLE"))


@pytest.fixture
def all_by_winograd(monkeypatch):  # type: ignore[no-untyped-def]
    """--cpu x86-64 computes each convolution of 3 x 3 so: of few channels too, and images of which most is outside."""
    monkeypatch.setattr("pefslc.targets.c.winograd_steps._WORTH", 99)
    row = replace(cpu_named("x86-64"), winograd=1)
    monkeypatch.setattr("pefslc.targets.c.cpus.CPUS", tuple(row if cpu.name == row.name else cpu for cpu in CPUS))


@pytest.mark.usefixtures("all_by_winograd")
def test_all_that_may_follow_in_the_loop_is_exact(bench, sanitizer_flags):  # type: ignore[no-untyped-def]
    for seed in range(16):
        rng = np.random.default_rng(seed)
        b = GraphBuilder(f"followed{seed}")
        bits, channels, outputs = int(rng.choice([2, 5, 8, 11])), int(rng.integers(1, 9)), int(rng.choice([5, 8, 16]))
        height, width = int(rng.integers(2, 10)), int(rng.integers(2, 10))
        x = b.input((int(rng.integers(1, 3)), channels, height, width), bits, signed=seed % 2 == 0)
        for n, m in ((channels, outputs), (outputs, outputs)):
            bias = rng.integers(-999, 999, m) if rng.random() < 0.7 else None
            y = b.conv(x, rng.integers(-127, 128, (m, n, 3, 3)), bias, pads=(1, 1, 1, 1))
            x = b.requantize(y, random_stages(rng, y, bits), bits, signed=rng.random() < 0.5)
        graph = b.graph(b.sum(x, b.conv(x, rng.integers(-9, 9, (outputs, outputs, 3, 3)), None, pads=(1, 1, 1, 1))))
        assert _steps(graph, "x86-64").count(WinogradStep) == 3
        bench.add(graph, CTarget(cpu="x86-64", threads=1 + seed % 2, caller_arena=seed % 3 == 0))
    bench.check(sanitizer_flags)


@pytest.mark.usefixtures("all_by_winograd")
def test_every_small_image_is_exact(bench, sanitizer_flags):  # type: ignore[no-untyped-def]
    for height in range(1, 6):
        for width in range(1, 6):
            for channels, outputs in ((1, 2), (3, 9))[height % 2 :]:
                graph = _layer(channels, outputs, height, width, pads=(1, 1, 1, 1))
                assert _steps(graph, "x86-64") == [WinogradStep]
                bench.add(graph, CTarget(cpu="x86-64", steps=50 if channels == 3 else None))
    bench.check(sanitizer_flags)


def test_the_transforms_are_those_of_a_convolution() -> None:
    rng = np.random.default_rng(0)
    weight, taps = rng.integers(-99, 99, (2, 3, 3, 3)), rng.integers(-99, 99, (3, 4, 4))
    of_taps, of_results = np.array(OF_TAPS), np.array(OF_RESULTS)
    points = (of_taps @ taps @ of_taps.T).reshape(3, 16)
    sums = np.einsum("poc,cp->op", point_weights(weight), points).reshape(2, 4, 4)
    windows = np.lib.stride_tricks.sliding_window_view(taps, (3, 3), axis=(1, 2))
    assert (of_results @ sums @ of_results.T == 4 * np.einsum("cijab,ocab->oij", windows, weight)).all()


def _one(weight: int, channels: int = 1) -> np.ndarray:
    """All weights of an output the same: a point's is nine times as much."""
    return point_weights(np.full((1, channels, 3, 3), weight))


@pytest.mark.parametrize(
    ("weights", "low", "high", "expected"),
    [
        (_one(3640), 0, 1, True),  # 9 * 3640 < 2^15
        (_one(3641), 0, 1, False),
        (_one(-3640), 0, 1, True),
        (_one(-3641), 0, 1, False),
        (_one(1), 0, 8191, True),  # 4 * 8191 < 2^15
        (_one(1), 0, 8192, False),
        (_one(1), -8192, 0, True),
        (_one(1), -8193, 0, False),
        (_one(0), -4096, 4095, True),
        (_one(0), -8192, 8191, True),  # of differences, each way: 2 * 16383
        (_one(0), -8192, 8192, False),
        (point_weights(np.array([[[[0, 0, 0], [0, 1, 0], [0, 0, 0]]]])), 0, 8191, True),
    ],
)
def test_taps_and_weights_have_16_bits_or_are_refused(weights, low, high, expected):  # type: ignore[no-untyped-def]
    assert fits_winograd(weights, low, high) == expected


def test_the_sums_have_32_bits_or_are_refused() -> None:
    """With as many channels as fit, and one more; by the worst codes of each point, which no image has together."""
    weights = _one(127)
    lowest, highest = point_ranges(0, 255)
    of_result = np.abs(np.kron(OF_RESULTS, OF_RESULTS))
    largest = int((of_result @ (np.abs(weights[:, 0, 0]) * np.maximum(-lowest, highest))).max())
    most = (2**31 - 1) // largest
    assert fits_winograd(_one(127, most), 0, 255)
    assert not fits_winograd(_one(127, most + 1), 0, 255)


def test_the_ranges_are_those_of_the_worst_taps() -> None:
    ends = np.array(np.meshgrid(*[[-3, 5]] * 16)).reshape(16, -1)
    points = np.kron(OF_TAPS, OF_TAPS) @ ends
    assert [end.tolist() for end in point_ranges(-3, 5)] == [points.min(axis=1).tolist(), points.max(axis=1).tolist()]


@pytest.mark.parametrize(
    ("code", "weight", "is_used"), [(8191, 3, True), (8192, 3, False), (3, 3640, True), (3, 3641, False)]
)
@pytest.mark.parametrize(("cpu", "flags"), _ROWS)
def test_layers_at_the_border_are_exact_at_the_ends_of_codes(code, weight, is_used, cpu, flags, bench, sanitizer_flags):  # type: ignore[no-untyped-def]
    b = GraphBuilder("border")
    x = b.clamp(b.input((1, 16, 8, 8), 16), 0, code)
    graph = b.graph(b.conv(x, np.full((16, 16, 3, 3), weight), pads=(1, 1, 1, 1)))
    assert _steps(graph, cpu) == [WinogradStep if is_used else DotStep]
    bench.add(graph, CTarget(cpu=cpu))
    bench.check((*flags, *sanitizer_flags))


@pytest.mark.parametrize(
    ("kernel", "window"),
    [
        ((3, 3), {"strides": (2, 2)}),
        ((3, 3), {"strides": (1, 2)}),
        ((3, 3), {"dilations": (2, 2)}),
        ((3, 3), {"groups": 2}),
        ((3, 3), {"input_dilations": (2, 2), "pads": (2, 2, 2, 2)}),
        ((3, 2), {}),
        ((1, 1), {}),
        ((5, 5), {}),
    ],
)
def test_other_convolutions_are_direct(kernel, window) -> None:  # type: ignore[no-untyped-def]
    b = GraphBuilder("other")
    channels = 32 // window.get("groups", 1)
    graph = b.graph(b.conv(b.input((1, 32, 16, 16), 8), np.full((32, channels, *kernel), 100), **window))
    assert set(_steps(graph, "x86-64-v3")) == {DotStep}


def test_few_channels_outputs_or_results_are_direct() -> None:
    for channels, outputs, height, width, is_used in (
        (16, 16, 8, 8, True),
        (15, 16, 8, 8, False),
        (16, 15, 8, 8, False),
        (16, 16, 2, 2, True),
        (64, 64, 3, 3, False),
        (64, 64, 1, 16, False),
    ):
        graph = _layer(channels, outputs, height, width, pads=(1, 1, 1, 1))
        assert _steps(graph, "x86-64-v3") == [WinogradStep if is_used else DotStep]


def test_it_is_for_fast_memory_and_its_rows_alone() -> None:
    graph = _layer(32, 32, 16, 16, pads=(1, 1, 1, 1))
    assert {cpu.name for cpu in CPUS if WinogradStep in _steps(graph, cpu.name)} == {"x86-64", "x86-64-v3"}
    small = adapted(cpu_named("x86-64-v3"), memory="small", packs=False, widens=False)
    assert not any(isinstance(step, WinogradStep) for step in plan_program(graph, small).steps)


def test_bytes_whose_pairs_fit_into_16_bits_are_multiplied_directly() -> None:
    """Two products of 16 bits an instruction and lane are no more than Winograd saves."""
    b = GraphBuilder("narrow")
    x = b.input((1, 32, 16, 16), 5)
    assert _steps(b.graph(b.conv(x, np.full((32, 32, 3, 3), 15), pads=(1, 1, 1, 1))), "x86-64-v3") == [DotStep]


def test_a_row_of_bytes_cannot_ask_for_it() -> None:
    with pytest.raises(ValueError, match="winograd needs taps and weights of 16 bits"):
        replace(cpu_named("x86-64-v4"), winograd=16)


def test_the_report_names_it() -> None:
    program = plan_program(_layer(16, 16, 8, 8, pads=(1, 1, 1, 1)), cpu_named("x86-64"))
    assert any("Winograd's F(2x2, 3x3), u8 x s16, sums in 32 bits" in how for how in program.implementation.values())
