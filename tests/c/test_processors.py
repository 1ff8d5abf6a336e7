"""C laid out for each processor, compiled for each level of x86-64 that this machine runs: the kernels equal the interpreter.

What ran, and what did not, stands in the names of the tests: `pytest -rs` prints the levels that this machine lacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from integer_graphs import GraphBuilder
from pefslc.ir.graph import Graph
from pefslc.ir.value import Value
from pefslc.targets.c.cpus import CPUS
from pefslc.targets.c.target import CTarget

Array = np.ndarray


@dataclass(frozen=True)
class Level:
    """What a compiler may use. needs: the flags of /proc/cpuinfo without which the program does not run."""

    name: str
    flags: tuple[str, ...]
    needs: tuple[str, ...] = ()

    @property
    def runs_here(self) -> bool:
        path = Path("/proc/cpuinfo")
        return not self.needs or (path.is_file() and set(self.needs) <= set(path.read_text().split()))


_V4 = ("avx512f", "avx512bw", "avx512vl", "avx512dq")
LEVELS = (
    Level("portable", ("-DPEFSLC_PORTABLE",)),
    Level("x86-64", ()),
    Level("x86-64-v3", ("-march=x86-64-v3",), ("avx2",)),
    Level("AVX-VNNI", ("-march=x86-64-v3", "-mavxvnni"), ("avx2", "avx_vnni")),
    Level("x86-64-v4", ("-march=x86-64-v4",), _V4),
    Level("AVX512-VNNI", ("-march=x86-64-v4", "-mavx512vnni"), (*_V4, "avx512_vnni")),
    Level("AVX512-VBMI", ("-march=x86-64-v4", "-mavx512vnni", "-mavx512vbmi"), (*_V4, "avx512_vnni", "avx512vbmi")),
)
CASES = [
    pytest.param(
        cpu.name,
        level,
        id=f"{cpu.name} as {level.name}",
        marks=[] if level.runs_here else [pytest.mark.skip(f"this machine has no {level.name}")],
    )
    for cpu in CPUS
    for level in LEVELS
    if cpu.name.startswith("x86-64") or not level.flags
]


def _weights(rng: np.random.Generator, shape: tuple[int, ...], bits: int) -> Array:
    """All of `bits` bits: as they come, or each at one of the ends."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    ends = rng.choice([[low, high], [low, low], [high, high]])
    return rng.choice(ends, shape) if rng.random() < 0.6 else rng.integers(low, high + 1, shape)


def _kernels_graph(name: str, seed: int) -> Graph:
    """Convolutions of every form, on codes of every width up to 8 bits, their sums as outputs; some requantized."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(name)
    outputs: list[Value] = []

    def add(x: Value, count: int, kernel: tuple[int, int], groups: int = 1, **window: object) -> Value:
        weight = _weights(rng, (count, x.type.shape[1] // groups, *kernel), int(rng.choice([2, 4, 5, 6, 7, 8, 8])))
        bias = rng.integers(-9000, 9000, count) if rng.random() < 0.7 else None
        y = b.conv(x, weight, bias, groups, **window)
        outputs.append(y)
        return y

    for signed, bits in ((bool(seed % 2), 8), (rng.random() < 0.3, int(rng.integers(2, 8)))):
        channels = int(rng.choice([1, 3, 4, 7, 16]))
        x = b.input((int(rng.choice([1, 2])), channels, 6, int(rng.integers(5, 10))), bits, signed=signed)
        pads = tuple(int(p) for p in rng.integers(0, 3, 4))
        strides = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
        y = add(x, int(rng.choice([1, 5, 16, 17, 24])), (3, 3), pads=pads, strides=strides)
        add(x, int(rng.choice([3, 8, 16, 40])), (1, 1))
        add(x, int(rng.choice([4, 33])), (2, 3), pads=pads, dilations=(2, 1))
        add(x, 2 * channels, (3, 2), channels, pads=pads)
        deep = b.requantize(y, [], 8, signed=False)
        wide = b.concat((deep, b.clamp(deep, 3, 99)), 1) if rng.random() < 0.5 else deep
        many = wide.type.shape[1]
        add(wide, many, (3, 3), many, pads=(1, 1, 1, 1))
        add(wide, many, (min(5, wide.type.shape[2]), 1), many, strides=strides)
        residual = b.requantize(b.conv(deep, _weights(rng, (*[deep.type.shape[1]] * 2, 1, 1), 8)), [], 8)
        outputs.append(b.requantize(b.sum(residual, deep), [], 8, signed=False))
        size = int(np.prod(deep.type.shape[1:]))
        outputs.append(b.dense(b.reshape(deep, (x.type.shape[0], size)), _weights(rng, (19, size), 8)))
    return b.graph(*outputs)


@pytest.mark.parametrize(("cpu", "level"), CASES)
def test_kernels_equal_the_interpreter(cpu, level, bench, sanitizer_flags):  # type: ignore[no-untyped-def]
    target = CTarget(cpu=cpu)
    seed = 1 + 7 * CPUS.index(next(row for row in CPUS if row.name == cpu)) + 3 * LEVELS.index(level)
    bench.add(_kernels_graph("kernels", seed), target)
    bench.check(("-O1", *level.flags, *sanitizer_flags))


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_kernels_are_free_of_warnings(level, bench, check_syntax, clang, gcc):  # type: ignore[no-untyped-def]
    for i, cpu in enumerate(CPUS):
        bench.add(_kernels_graph(f"kernels{i}", i), CTarget(cpu=cpu.name))
    more = ("-Wshadow", "-Wsign-conversion", "-Wcast-qual", "-Wundef", "-Wvla")
    for compiler in (gcc, clang):
        check_syntax(compiler, bench.folder, (*more, *level.flags))
