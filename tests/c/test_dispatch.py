"""One library with a path for each x86-64 processor: all of them give the codes of the interpreter."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from integer_graphs import random_inputs
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.interpret import run_codes
from pefslc.targets.c.dispatch import VARIANTS
from pefslc.targets.c.target import CTarget
from pefslc.targets.protocol import TargetOptions


def _saved(folder: Path, target: CTarget, build_graph) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, object]]:  # type: ignore[no-untyped-def]
    """The files; inputs and expected outputs as memory has them."""
    rng = np.random.default_rng(4)
    b = build_graph("net")
    x = b.input((1, 5, 9, 7), 8)
    y = b.clamp(
        b.conv(x, rng.integers(-127, 128, (20, 5, 3, 3)), rng.integers(-999, 999, 20), pads=(1, 1, 1, 1)), -128, 127
    )
    y = b.clamp(b.conv(y, rng.integers(-127, 128, (20, 1, 3, 3)), None, 20), 0, 255)
    graph = b.graph(b.conv(y, rng.integers(-127, 128, (7, 20, 1, 1))))
    emission = target.lower(graph, TargetOptions())
    for name, content in emission.files.items():
        (folder / name).write_bytes(content)
    inputs = random_inputs(graph, 1, 5)
    return inputs, run_codes(graph, inputs)[graph.outputs[0].value.name], dict(emission.details)


@pytest.mark.parametrize("cpu", ["generic", "x86-64", "x86-64-v3", "x86-64-v4"])
def test_every_path_that_this_processor_has_gives_the_codes(cpu, build_graph, cc, tmp_path: Path):  # type: ignore[no-untyped-def]
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("no x86-64 processor: the paths were not run")
    if shutil.which("make") is None:
        pytest.skip("make is not installed: the library was not built")
    target = CTarget(cpu=cpu, dispatch=True, emit_main=True, steps=2000, weights="binary", caller_arena=True)
    inputs, expected, details = _saved(tmp_path, target, build_graph)
    made = subprocess.run(
        ["make", "-s", "test-dispatch", f"CC={cc}"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert made.stdout.startswith("PASS"), "of main.c, with the weights that the library has"
    (data,) = inputs.values()
    arguments: list[dict[str, object]] = details["arguments"]  # type: ignore[assignment]
    kinds = [str(a["type"]) for a in arguments]
    tried = []
    for variant in (None, *VARIANTS):
        run = "net_run" if variant is None else f"net_run_{variant.name}"
        guard = " && ".join(f'__builtin_cpu_supports("{f}")' for f in variant.features) if variant else ""
        (tmp_path / "user.c").write_text(
            f'#include <stdio.h>\n#include "net.h"\nint {run}(net_arena *, const {kinds[0]} *, {kinds[1]} *);\n'
            f"static net_arena arena; static {kinds[0]} x[{data.size}]; static {kinds[1]} y[{expected.size}];\n"
            "static int64_t weights[net_WEIGHTS_BYTES / 8 + 1];\n"
            "int main(void) {\n"
            f"    if (!({guard or 1})) {{ return 9; }}\n"
            '    FILE *f = fopen("net_weights.bin", "rb");\n'
            "    if (fread(weights, net_WEIGHTS_BYTES, 1, f) != 1) { return 1; }\n"
            "    if (net_set_weights(weights, net_WEIGHTS_BYTES)) { return 1; }\n"
            "    if (fread(x, sizeof(x), 1, stdin) != 1) { return 2; }\n"
            f"    if ({run}(&arena, x, y)) {{ return 3; }}\n"
            "    return fwrite(y, sizeof(y), 1, stdout) != 1;\n}\n"
        )
        subprocess.run([cc, "-I.", "user.c", "-L.", "-lnet", "-o", "user"], cwd=tmp_path, check=True)
        given = data.astype(kinds[0][:-2]).tobytes()
        done = subprocess.run(["./user"], cwd=tmp_path, input=given, capture_output=True, check=False)
        if done.returncode == 9:
            continue
        assert done.returncode == 0
        found = np.frombuffer(done.stdout, kinds[1][:-2]).reshape(expected.shape)
        np.testing.assert_array_equal(found, expected)
        tried.append(variant.name if variant else "chosen")
    print("paths that ran:", ", ".join(tried))
    assert {"chosen", VARIANTS[-1].name} <= set(tried)
    subprocess.run(["make", "-s", "clean"], cwd=tmp_path, check=True)
    assert not [*tmp_path.glob("*.o"), *tmp_path.glob("*.a"), *tmp_path.glob("*_test")]


@pytest.mark.parametrize(
    ("flags", "level"), [(None, "-O3"), ("-fopenmp", "-O3"), ("-Os -march=native", "-Os"), ("-O2 -fopenmp", "-O2")]
)
def test_each_path_is_compiled_with_the_users_flags_before_its_own(flags, level, build_graph, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    _saved(tmp_path, CTarget(dispatch=True, emit_main=True, threads=2), build_graph)
    command = ["make", "-n", "dispatch", *([] if flags is None else [f"CFLAGS={flags}"])]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    compiled = [line.split() for line in done.stdout.splitlines() if " -c " in line]
    assert len(compiled) == len(VARIANTS) + 2
    for words in compiled:
        assert set((flags or "").split()) <= set(words)
        assert [word for word in words if word.startswith("-O")][-1] == level
    chooser = VARIANTS[-1]  # what chooses a path, and the constants, must do for each processor
    for words, variant in zip(compiled, (*VARIANTS, chooser, chooser), strict=True):
        marches = [word for word in words if word.startswith("-march")]
        assert marches[-1] == variant.flags.split()[0], "a processor among the user's flags is not that of a path"


def test_another_processor_has_no_paths() -> None:
    with pytest.raises(CompileError, match="of no use for cortex-m4"):
        CTarget(dispatch=True, cpu="cortex-m4")


def test_an_arduino_has_no_paths() -> None:
    with pytest.raises(CompileError, match="no x86-64 processor"):
        CTarget(dispatch=True, arduino=True)
