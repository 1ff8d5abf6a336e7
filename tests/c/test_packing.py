"""Packed weights: as many bits in flash as they have, the same integers."""

from __future__ import annotations

import numpy as np
from cpu_rows import LAYOUTS

from integer_graphs import GraphBuilder
from pefslc.ir.graph import Graph
from pefslc.ir.value import Value
from pefslc.targets.c.cpus import FAST, GENERIC, SMALL, cpu_named
from pefslc.targets.c.packing import bits_of, packed_bytes, passes_of
from pefslc.targets.c.plan import plan_program
from pefslc.targets.c.steps import DotStep
from pefslc.targets.c.target import CTarget
from pefslc.targets.protocol import TargetOptions


def _network(name: str, bits: int, rows: int = 1) -> Graph:
    """Layers of one pass and of several, whose outputs fill no block; the lowest and the highest weight in each."""
    rng = np.random.default_rng(bits)
    b = GraphBuilder(name)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1

    def weights(*shape: int) -> np.ndarray:  # type: ignore[type-arg]
        found = rng.integers(low, high + 1, shape)
        found.flat[0], found.flat[-1] = low, high
        return found

    def conv(x: Value, outputs: int, kernel: int, **window: object) -> Value:
        weight = weights(outputs, x.type.shape[1], kernel, kernel)
        return b.clamp(b.conv(x, weight, rng.integers(-99, 99, outputs), **window), -60, 61)  # type: ignore[arg-type]

    x = b.input((rows, 3, 7, 9), 8)
    y = conv(x, 17, 3, pads=(1, 1, 1, 1))
    y = conv(y, 40, 3, pads=(1, 1, 1, 1), strides=(2, 1))
    y = conv(y, 40, 3, pads=(1, 1, 1, 1))
    y = b.clamp(b.sum(y, conv(y, 40, 1)), -99, 99)
    y = conv(y, 21, 1, strides=(2, 2))
    count = int(np.prod(y.type.shape[1:]))
    return b.graph(b.dense(b.reshape(y, (rows, count)), weights(5, count)))


def test_packed_networks_equal_the_interpreter(bench, sanitizer_flags):  # type: ignore[no-untyped-def]
    """All widths, for each processor."""
    for i, cpu in enumerate(map(cpu_named, LAYOUTS)):
        bits = 2 + (i + 3) % 6
        graph = _network(f"packed{i}", bits, 1 + i % 2)
        steps = 20_000 if i == 0 else None
        target = CTarget(
            cpu=cpu.name,
            pack=True,
            memory=(FAST, SMALL)[i % 3 == 0],
            weights=("text", "binary")[i % 4 == 1],
            steps=steps,
        )
        bench.add(graph, target)
        unpacked = CTarget(cpu=cpu.name).lower(graph, TargetOptions()).details["constant_bytes"]
        packed = bench.models[-1][1]["constant_bytes"]
        if cpu.order.weights is None:  # others read weights of 16 bits
            assert packed < unpacked * bits / 8 + 1500  # biases
    assert len(LAYOUTS) > 5
    bench.check(sanitizer_flags, runs=2)


def test_a_later_pass_begins_at_the_whole_bytes_of_all_outputs_before_it(bench):  # type: ignore[no-untyped-def]
    """An output alone may end within a byte: 50 weights of 2 bits, 100 of 3."""
    for i, cpu in enumerate(("generic", "cortex-m0", "rv32")):
        for taps, outputs, bits in ((50, 100, 2), (100, 64, 3)):
            rng, b = np.random.default_rng(i), GraphBuilder(f"pass{i}_{bits}")
            weight = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (outputs, taps))
            graph = b.graph(b.dense(b.input((1, taps), 8, signed=False), weight))
            bench.add(graph, CTarget(cpu=cpu, pack=True, memory=(FAST, SMALL)[i % 2]))
    bench.check(("-O1",))


def test_few_taps_are_packed_too(bench):  # type: ignore[no-untyped-def]
    b = GraphBuilder("few")
    x = b.input((1, 8, 4, 8), 8, signed=False)
    graph = b.graph(b.conv(x, np.random.default_rng(1).integers(-8, 8, (64, 8, 1, 1))))
    bench.add(graph, CTarget(pack=True))
    assert bench.models[0][1]["constant_bytes"] == 8 * 64 * 4 // 8, "4 bits each"
    bench.check(("-O1",))


def test_random_graphs_equal_the_interpreter(bench, random_graphs, sanitizer_flags):  # type: ignore[no-untyped-def]
    for i in range(6):
        bench.add(random_graphs(700 + i), CTarget(pack=True, cpu=LAYOUTS[(i + 2) % len(LAYOUTS)]))
    bench.check(sanitizer_flags)


def test_codes_come_back_from_their_bits() -> None:
    """Read as one long number: code i is in bits [i * b, (i + 1) * b)."""
    for bits in range(2, 8):
        half = 1 << (bits - 1)
        codes = np.random.default_rng(bits).permutation(np.tile(np.arange(-half, half), 8))
        packed = packed_bytes(codes, bits)
        assert len(packed) * 8 == len(codes) * bits
        number = int.from_bytes(packed.tobytes(), "little")
        assert [(number >> (i * bits)) % (1 << bits) - half for i in range(len(codes))] == codes.tolist()


def test_bits_are_those_of_the_widest_code() -> None:
    wanted = {
        (-1, 0): 2,
        (0, 0): 2,
        (-2, 1): 2,
        (0, 2): 3,
        (-3, 0): 3,
        (-16, 15): 5,
        (0, 16): 6,
        (-17, 0): 6,
        (-64, 63): 7,
    }
    assert {ends: bits_of(np.array(ends)) for ends in wanted} == wanted


def test_passes_cover_each_output_once() -> None:
    for outputs in range(1, 40):
        for padded in (4, 9, 32, 736, 5000):
            filled = -(-outputs // GENERIC.outputs) * GENERIC.outputs
            found = passes_of(GENERIC, outputs, filled, padded, 4)
            seen = []
            for each in found:
                assert sum(chunk.calls * chunk.step for chunk in each.chunks) == each.outputs
                assert each.outputs * padded <= 4096 or each.outputs <= min(4, filled) or padded % 2
                for call in range(each.calls):
                    assert each.first * padded % 8 == 0
                    seen += range(each.first + call * each.outputs, each.first + (call + 1) * each.outputs)
                if each.calls > 1:  # such passes have no outputs that are not there
                    assert each.first + each.calls * each.outputs <= outputs
            assert seen == (list(range(filled)) if filled * padded % 8 == 0 else [])


def test_wide_weights_and_groups_stay_as_they_are() -> None:
    b = GraphBuilder("wide")
    x = b.input((1, 4, 5, 5))
    wide = b.conv(x, np.full((4, 4, 2, 2), 100))
    groups = b.conv(x, np.ones((4, 2, 2, 2), dtype=np.int64), None, 2)
    graph = b.graph(wide, groups)
    program = plan_program(graph)
    packed = CTarget(pack=True).lower(graph, TargetOptions())
    assert packed.details["constant_bytes"] == CTarget().lower(graph, TargetOptions()).details["constant_bytes"]
    assert not any(step.packed for step in program.steps if isinstance(step, DotStep))
    assert any("--pack packs nothing here" in note for note in packed.notes)


def test_the_summary_is_silent_about_packing_where_weights_are_packed() -> None:
    b = GraphBuilder("narrow")
    graph = b.graph(b.conv(b.input((1, 4, 5, 5)), np.full((4, 4, 2, 2), 7)))
    assert not any("--pack" in note for note in CTarget(pack=True).lower(graph, TargetOptions()).notes)
