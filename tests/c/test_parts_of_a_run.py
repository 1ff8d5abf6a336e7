"""A run in calls that follow each other, and in parts at one time: the same integers, whatever the division."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cpu_rows import LAYOUTS
from kernel_graphs import kernels_graph

from pefslc.diagnostics.errors import CompileError
from pefslc.ir.graph import Graph
from pefslc.targets.c.calls import portions, with_threads
from pefslc.targets.c.plan import plan_program
from pefslc.targets.c.target import CTarget
from pefslc.targets.protocol import TargetOptions


def _network(build_graph, rows: int = 1) -> Graph:  # type: ignore[no-untyped-def]
    """Every kind of step, with results that have many bands: convolution, depthwise, pool, map, dense."""
    rng = np.random.default_rng(3)
    b = build_graph("network")
    x = b.input((rows, 3, 13, 11), 6)
    y = b.clamp(b.conv(x, rng.integers(-9, 9, (18, 3, 3, 3)), rng.integers(-9, 9, 18), pads=(1, 1, 1, 1)), -31, 31)
    y = b.clamp(b.conv(y, rng.integers(-9, 9, (18, 1, 3, 3)), None, 18, pads=(0, 1, 1, 0)), 0, 63)
    y = b.clamp(b.sum(y, b.clamp(b.conv(y, rng.integers(-9, 9, (18, 18, 1, 1))), -50, 9)), -20, 44)
    y = b.clamp(b.pool(y, False, kernel=(2, 2), strides=(2, 2)), -99, 99)
    count = int(np.prod(y.type.shape[1:]))
    return b.graph(b.dense(b.reshape(y, (rows, count)), rng.integers(-9, 9, (5, count))))


@pytest.mark.parametrize("cpu", LAYOUTS)
def test_a_run_in_calls_equals_the_interpreter(cpu, bench, build_graph, random_graphs, sanitizer_flags):  # type: ignore[no-untyped-def]
    bench.add(_network(build_graph), CTarget(steps=1, cpu=cpu))
    for seed, most in enumerate((1, 50, 400, 10**9)):
        if (seed + LAYOUTS.index(cpu)) % 2:
            bench.add(random_graphs(seed), CTarget(steps=most, cpu=cpu, caller_arena=seed % 3 == 0))
    bench.check(sanitizer_flags)


@pytest.mark.parametrize("openmp", [False, True])
def test_a_run_in_parts_at_one_time_equals_the_interpreter(openmp, bench, build_graph, monkeypatch):  # type: ignore[no-untyped-def]
    monkeypatch.setattr("pefslc.targets.c.calls._WORTH_THREADS", 1)
    flags = ("-fopenmp",) if openmp else ("-Wno-unknown-pragmas",)
    for i, cpu in enumerate(LAYOUTS):
        graph = _network(build_graph, rows=1 + i % 2)
        bench.add(replace(graph, name=f"parts{i}"), CTarget(threads=2 + i % 3, cpu=cpu, caller_arena=i % 2 == 0))
    bench.check(("-O1", *flags))


_POOL = """
#include <pthread.h>
#include <stdint.h>

typedef struct { void (*part)(const void *, int32_t); const void *context; int32_t number; } work;

static void *worker(void *of)
{
    const work *w = of;
    w->part(w->context, w->number);
    return NULL;
}

void my_pool(void (*part)(const void *context, int32_t number), const void *context, int32_t parts);
void my_pool(void (*part)(const void *context, int32_t number), const void *context, int32_t parts)
{
    pthread_t threads[8];
    work all[8];
    int32_t i;
    for (i = 0; i < parts; i++) {
        all[i].part = part;
        all[i].context = context;
        all[i].number = parts - 1 - i;
        pthread_create(&threads[i], NULL, worker, &all[i]);
    }
    for (i = 0; i < parts; i++) {
        pthread_join(threads[i], NULL);
    }
}
"""


def test_the_parts_may_run_on_threads_of_the_user_and_share_nothing(bench, build_graph, monkeypatch, cc):  # type: ignore[no-untyped-def]
    """The thread sanitizer sees every access of two threads to one place."""
    monkeypatch.setattr("pefslc.targets.c.calls._WORTH_THREADS", 1)
    for i, cpu in enumerate(LAYOUTS):
        bench.add(replace(_network(build_graph), name=f"own{i}"), CTarget(threads=3, cpu=cpu))
    pool = bench.folder / "pool.c"
    pool.write_text(_POOL)
    empty = bench.folder / "empty.c"
    empty.write_text("int main(void) { return 0; }\n")
    made = subprocess.run(
        [cc, "-fsanitize=thread", str(empty), "-o", str(empty) + ".out"], capture_output=True, check=False
    )
    runs = (
        made.returncode == 0 and subprocess.run([str(empty) + ".out"], capture_output=True, check=False).returncode == 0
    )
    sanitizer = ("-fsanitize=thread",) if runs else ()
    bench.check(("-O1", *sanitizer, "-pthread", "-DPEFSLC_PARALLEL=my_pool", str(pool)))


def test_calls_cover_each_band_once(build_graph):  # type: ignore[no-untyped-def]
    program = plan_program(_network(build_graph))
    for most in (1, 7, 1000, 5000, 10**6, 10**12):
        found = portions(program, most)
        assert [p.step for p in found] == list(range(len(program.steps)))
        number = 0
        for portion in found:
            seen: list[int] = []
            for step in range(portion.first, portion.end):
                assert step == number
                number += 1
                begin, end = (_evaluated(text, step) for text in portion.band)
                assert begin < end
                seen += range(begin, end)
            assert seen == list(range(portion.all_bands))
    assert [p.calls for p in portions(program, 10**12)] == [1] * len(program.steps)
    assert max(p.bands for p in portions(program, 1)) == 1


def _evaluated(text: str, step: int) -> int:
    """A C expression of `Portion.band`."""
    choice = re.fullmatch(r"step < (\d+) \? (.+) : (\d+)", text)
    if choice:
        return _evaluated(choice[2], step) if step < int(choice[1]) else int(choice[3])
    return int(eval(text, {"step": step}))


def test_only_steps_that_are_worth_it_are_divided(build_graph):  # type: ignore[no-untyped-def]
    program = plan_program(_network(build_graph))
    divided = with_threads(program, 4)
    assert max(step.threads for step in divided.steps) == 4
    for before, after in zip(program.steps, divided.steps, strict=True):
        for one, all_parts in zip(before.scratch, after.scratch, strict=True):
            each = all_parts.bytes // after.threads
            assert each == one.bytes if after.threads == 1 else each % 64 == 0 <= each - one.bytes < 64
        assert after.threads <= (before.bands or 1)
    assert with_threads(program, 1) == program


@pytest.mark.parametrize(
    ("target", "flags"), [(CTarget(), ()), (CTarget(steps=50), ()), (CTarget(threads=3), ("-fopenmp",))]
)
def test_layers_report_that_they_are_done(target, flags, build_graph, tmp_path: Path, cc, monkeypatch):  # type: ignore[no-untyped-def]
    monkeypatch.setattr("pefslc.targets.c.calls._WORTH_THREADS", 1)
    for name, content in target.lower(_network(build_graph), TargetOptions()).files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "network.h"\n'
        "void seen(int layer, const char *name);\n"
        'void seen(int layer, const char *name) { printf("%d %s\\n", layer, name); }\n'
        "static int8_t x[network_X0_SIZE]; static int32_t y[network_Y0_SIZE];\n"
        "int main(void) { network_run(x, y); return 0; }\n".replace("X0", _argument(tmp_path, 0)).replace(
            "Y0", _argument(tmp_path, 1)
        )
    )
    sources = ["network.c", "network_weights.c", "main.c"]
    subprocess.run(
        [cc, "-std=c99", "-DPEFSLC_LAYER_DONE=seen", *flags, *sources, "-o", "a.out"], cwd=tmp_path, check=True
    )
    lines = subprocess.run(["./a.out"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    steps = len(plan_program(_network(build_graph)).steps)
    assert [int(line.split()[0]) for line in lines] == list(range(steps))


def _argument(folder: Path, index: int) -> str:
    """The name of an argument of the emitted function, as its macros have it."""
    return re.findall(r"#define network_(\w+)_SIZE", (folder / "network.h").read_text())[index]


@pytest.mark.parametrize("cpu", LAYOUTS)
def test_the_source_is_also_cplusplus(cpu, build_graph, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Every kind of step, every kernel, at each level of x86-64."""
    for graph in (_network(build_graph), kernels_graph("kernels", LAYOUTS.index(cpu))):
        for name, content in CTarget(cpu=cpu).lower(graph, TargetOptions()).files.items():
            (tmp_path / name).write_bytes(content)
    v4 = ("-march=x86-64-v4", "-mavx512vnni", "-mavx512vbmi")  # not run: any machine of that kind compiles it
    tiles = ("-march=sapphirerapids",)
    is_x86 = cpu.startswith("x86") and platform.machine() in ("x86_64", "AMD64")
    levels = ((), ("-march=x86-64-v3",), v4, *([tiles] if cpu == "x86-64-amx" else [])) if is_x86 else ((),)
    for level in levels:
        _compile_as_cplusplus(tmp_path, level)


def test_the_source_is_also_cplusplus_with_each_option(random_graphs, tmp_path: Path):  # type: ignore[no-untyped-def]
    for i, options in enumerate(({"steps": 50}, {"threads": 2}, {"weights": "binary"}, {"caller_arena": True})):
        for name, content in CTarget(**options).lower(random_graphs(i), TargetOptions()).files.items():  # type: ignore[arg-type]
            (tmp_path / name).write_bytes(content)
    _compile_as_cplusplus(tmp_path, ())


def _compile_as_cplusplus(folder: Path, level: tuple[str, ...]) -> None:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    sources = [str(path) for path in sorted(folder.glob("*.c"))]
    flags = ["-x", "c++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-fsyntax-only"]
    done = subprocess.run([compiler, *flags, *level, *sources], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]


def test_calls_have_one_thread() -> None:
    with pytest.raises(CompileError, match="one thread"):
        CTarget(steps=100, threads=2)
