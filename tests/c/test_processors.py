"""C laid out for each processor, compiled for each level of x86-64 that this machine runs, equals the interpreter.

What ran, and what did not, stands in the names of the tests: `pytest -rs` prints the levels that this machine lacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from cpu_rows import LAYOUTS
from kernel_graphs import kernels_graph

from pefslc.targets.c.cpus import CPUS
from pefslc.targets.c.target import CTarget


@dataclass(frozen=True)
class Level:
    """What a compiler may use.

    needs  the flags of /proc/cpuinfo without which the program does not run
    cpus   the rows whose kernels are others than at the levels before
    """

    name: str
    flags: tuple[str, ...]
    needs: tuple[str, ...] = ()
    cpus: tuple[str, ...] = ()

    @property
    def runs_here(self) -> bool:
        path = Path("/proc/cpuinfo")
        return not self.needs or (path.is_file() and set(self.needs) <= set(path.read_text().split()))


_V4 = ("avx512f", "avx512bw", "avx512vl", "avx512dq")
LEVELS = (
    Level("portable", ("-DPEFSLC_PORTABLE",), cpus=("x86-64", "x86-64-v3", "x86-64-v4", "x86-64-amx")),
    Level("x86-64", (), cpus=tuple(name for name in LAYOUTS if name not in ("x86-64-v4", "x86-64-amx"))),
    Level("AVX", ("-mavx",), ("avx",), ("x86-64",)),
    Level("x86-64-v3", ("-march=x86-64-v3",), ("avx2",), ("x86-64-v3", "x86-64-v4")),
    Level("AVX-VNNI", ("-march=x86-64-v3", "-mavxvnni"), ("avx2", "avx_vnni"), ("x86-64-v3", "x86-64-v4")),
    Level("AVX512-VNNI", ("-march=x86-64-v4", "-mavx512vnni"), (*_V4, "avx512_vnni"), ("x86-64-v4", "x86-64-amx")),
    Level(
        "VBMI",
        ("-march=x86-64-v4", "-mavx512vnni", "-mavx512vbmi"),
        (*_V4, "avx512_vnni", "avx512vbmi"),
        ("x86-64-v4",),
    ),
    Level(
        "AMX",
        ("-march=x86-64-v4", "-mavx512vnni", "-mamx-tile", "-mamx-int8"),
        (*_V4, "avx512_vnni", "amx_tile", "amx_int8"),
        ("x86-64-amx",),
    ),
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
    if cpu.name in level.cpus
]


@pytest.mark.parametrize(("cpu", "level"), CASES)
def test_kernels_equal_the_interpreter(cpu, level, bench, sanitizer_flags):  # type: ignore[no-untyped-def]
    target = CTarget(cpu=cpu)
    seed = 1 + 7 * CPUS.index(next(row for row in CPUS if row.name == cpu)) + 3 * LEVELS.index(level)
    bench.add(kernels_graph("kernels", seed), target)
    bench.check((*level.flags, *sanitizer_flags))


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_optimized_kernels_equal_the_interpreter(level, bench, gcc):  # type: ignore[no-untyped-def]
    """And gcc, which warns of some faults only where it optimizes, has nothing to say."""
    if not level.runs_here:
        pytest.skip(f"this machine has no {level.name}")
    bench.cc = gcc
    for i, cpu in enumerate(level.cpus):
        bench.add(kernels_graph(f"kernels{i}", 200 + 20 * LEVELS.index(level) + i), CTarget(cpu=cpu))
    bench.check(("-O2", *level.flags))


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_kernels_are_free_of_warnings(level, bench, check_syntax, clang, gcc):  # type: ignore[no-untyped-def]
    for i, cpu in enumerate(level.cpus):
        bench.add(kernels_graph(f"kernels{i}", i), CTarget(cpu=cpu))
    more = ("-Wshadow", "-Wsign-conversion", "-Wcast-qual", "-Wundef", "-Wvla")
    for compiler in (gcc, clang):
        check_syntax(compiler, bench.folder, (*more, *level.flags))
