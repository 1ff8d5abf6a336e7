"""What the files promise beside their numbers: names, languages, linking, memory, determinism."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builders import ModelBuilder, import_bytes, lower
from pefslc.artifacts.sidecar import make_sidecar
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.interpret import run_codes
from pefslc.ir.value import IntArray
from pefslc.targets.c import host_compiler
from pefslc.targets.c.arena import overlaps, plan_arena
from pefslc.targets.c.naming import Names, comment_text, identifier, model_prefix
from pefslc.targets.c.plan import plan_program
from pefslc.targets.c.target import CTarget
from pefslc.targets.protocol import TargetOptions

EVIL = [
    "int main(){",
    'quote"\nnewline */ int x; /*',
    "int",
    "9lives",
    "x" * 70_000,
    "",
    "résumé",
    "??/",
    "back\\",
    "stdint",
    "string",
    "a_weights",
    "a_VALUES",
    "FIXED",
    "a",
    "A",
    "memcpy",
    "step0",
    "int8_t",
    "EOF",
    "..",
    "\udc80",
]


def _simple(build_graph, name="simple", input_name="x", bits=5):  # type: ignore[no-untyped-def]
    b = build_graph(name)
    x = b.input((1, 2, 4, 4), bits, name=input_name)
    return b.graph(b.clamp(b.conv(x, np.arange(36).reshape(2, 2, 3, 3) - 18, pads=(1, 1, 1, 1)), -100, 100))


@pytest.mark.parametrize("name", EVIL)
def test_any_name_becomes_an_identifier(name):  # type: ignore[no-untyped-def]
    found = model_prefix(name)
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", found, re.ASCII)
    assert len(found) <= 48
    assert found == model_prefix(name)


def test_identifiers_keep_plain_names_and_tell_others_apart():  # type: ignore[no-untyped-def]
    assert identifier("pefsl_resnet9", "model") == "pefsl_resnet9"
    assert identifier("/layer.1/out-put", "model") == "layer_1_out_put"
    assert len({model_prefix(name) for name in EVIL}) == len(EVIL)
    names = Names("net")
    found = [names.unique(name, "input") for name in (*EVIL, *EVIL)]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("text", EVIL)
def test_comments_neither_end_nor_nest(text):  # type: ignore[no-untyped-def]
    found = comment_text(text * 2)
    assert not re.search(r"\*/|/\*|\?\?|\\|\n", found)
    assert len(found) <= 110


def test_models_with_evil_names_compile_and_link_into_one_program(build_graph, bench):  # type: ignore[no-untyped-def]
    for name in EVIL:
        bench.add(_simple(build_graph, name, input_name=name))
    bench.check(("-O0", "-I", str(bench.folder)))


OF_THE_SOURCE = ("net_0_weight", "net_0_bias", "net_arena", "net_arrays", "net_constants", "net_step", "step", "arrays")


@pytest.mark.parametrize(
    "options",
    [{}, {"weights": "binary"}, {"steps": 500}, {"threads": 2}, {"caller_arena": True, "dispatch": True}],
    ids=str,
)
def test_inputs_may_be_named_as_what_the_source_defines(options, build_graph, cc, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    b = build_graph("net")
    inputs = [b.input((1, 8, 12, 12), name=name) for name in OF_THE_SOURCE]
    rng = np.random.default_rng(0)
    sums = [b.conv(x, rng.integers(-9, 10, (8, 8, 3, 3)), rng.integers(1, 9, 8)) for x in inputs]
    graph = b.graph(*sums)
    for name, content in CTarget(**options).lower(graph, TargetOptions()).files.items():
        (tmp_path / name).write_bytes(content)
    flags = ("-std=c99", "-Wall", "-Wextra", "-Wshadow", "-Werror")
    for name in sorted(path.name for path in tmp_path.glob("*.c")):
        subprocess.run([cc, *flags, "-c", name], cwd=tmp_path, check=True)


def test_a_layout_made_later_does_not_change_a_waiting_sum(build_graph, bench):  # type: ignore[no-untyped-def]
    b = build_graph("waiting")
    x, other = b.input((1, 3, 4, 5)), b.input((1, 3, 4, 5))
    total = b.sum(b.clamp(x, -7, 7), other)  # on the rows of the inputs: neither lies channels last yet
    convolved = b.conv(x, np.ones((2, 3, 2, 2), dtype=np.int64))  # now x does
    bench.add(b.graph(b.clamp(total, -9, 9), convolved))
    bench.check(("-O1",))


def test_sums_beyond_64_bits_are_refused(build_graph):  # type: ignore[no-untyped-def]
    b = build_graph("wide")
    x = b.input((1, 1), 5)
    big = np.array([2**62], dtype=np.int64)
    graph = b.graph(b.dense(x, np.array([[2**58]], dtype=np.int64), big))
    (op,) = graph.ops
    wide = replace(graph, ops=(replace(op, bias=IntArray(np.array([2**63 - 1], dtype=np.int64))),))
    with pytest.raises(CompileError, match="64 bits"):
        CTarget().lower(wide, TargetOptions())


def test_gcc_vectorises_the_dot_products(build_graph, tmp_path, cc):  # type: ignore[no-untyped-def]
    if "gcc" not in cc:
        pytest.skip("-fopt-info-vec is gcc's")
    b = build_graph("dot")
    x = b.input((1, 8, 6, 6), 8, signed=False)
    weight = np.random.default_rng(0).integers(-100, 100, (8, 8, 3, 3))
    graph = b.graph(b.clamp(b.conv(x, weight, pads=(1, 1, 1, 1)), -128, 127))
    for name, content in CTarget().lower(graph, TargetOptions()).files.items():
        (tmp_path / name).write_bytes(content)
    command = [cc, "-std=c99", "-O3", "-fopt-info-vec", "-c", "dot.c", "-o", "dot.o"]
    report = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stderr
    lines = (tmp_path / "dot.c").read_text().splitlines()
    vectorised = {int(line.split(":")[1]) for line in report.splitlines() if "loop vectorized" in line}
    assert any("i < taps; i++" in lines[number - 1] for number in vectorised)


def test_the_header_is_also_cplusplus(build_graph, tmp_path):  # type: ignore[no-untyped-def]
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    graph = _simple(build_graph)
    for target in (CTarget(), CTarget(caller_arena=True)):
        header = target.lower(graph, TargetOptions()).files["simple.h"]
        (tmp_path / "simple.h").write_bytes(header)
        (tmp_path / "user.cpp").write_text('#include "simple.h"\n#include "simple.h"\nint main() { return 0; }\n')
        subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", "-c", "user.cpp"], cwd=tmp_path, check=True)


def test_the_source_uses_no_float_no_heap_and_no_stdio(random_graphs):  # type: ignore[no-untyped-def]
    for seed in range(20):
        files = CTarget().lower(random_graphs(seed), TargetOptions()).files
        text = b"\n".join(files.values()).decode()
        code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        code = re.sub(r"#if[^\n]*PEFSLC_FLOATS.*?#endif", "", code, flags=re.DOTALL)  # who asks for floats gets them
        code = re.sub(r"#define \w+_(SCALE|OFFSET) .*", "", code)  # a macro that the network does not use
        assert not re.search(r"\b(float|double|malloc|free|printf)\b|\d\.\d", code)
        code = re.sub(r"#if[^\n]*__ARM_FEATURE_MVE\b[^\n]*\n#include <arm_mve.h>\n#endif", "", code)  # of a kernel
        assert set(re.findall(r"#include <(.*?)>", code)) == {"stdint.h", "string.h"}


def test_the_same_graph_gives_the_same_bytes(random_graphs):  # type: ignore[no-untyped-def]
    for seed in range(10):
        first, second = (CTarget().lower(random_graphs(seed), TargetOptions()) for _ in range(2))
        assert first.files == second.files
        assert first.details == second.details


def test_no_two_buffers_hold_data_in_one_place_at_one_time(random_graphs):  # type: ignore[no-untyped-def]
    for seed in range(60):
        program = plan_program(random_graphs(seed))
        arena = plan_arena(program)
        assert list(overlaps(arena, program)) == []
        assert all(s.end <= arena.bytes and s.offset % s.buffer.type.bytes == 0 for s in arena.slots.values())


def test_the_bytes_in_use_are_those_of_the_places_marked_one_by_one(random_graphs):  # type: ignore[no-untyped-def]
    for seed in range(20):
        program = plan_program(random_graphs(seed))
        arena = plan_arena(program)
        for step in range(len(program.steps)):
            used = np.zeros(arena.bytes, dtype=bool)
            for slot in arena.slots.values():
                if slot.first <= step <= slot.last:
                    used[slot.offset : slot.end] = True
            assert arena.bytes_in_use(step) == int(used.sum())


def test_the_overlap_check_sees_an_overlap(random_graphs):  # type: ignore[no-untyped-def]
    program = plan_program(random_graphs(3))
    arena = plan_arena(program)
    at_zero = {name: replace(slot, offset=0) for name, slot in arena.slots.items()}
    assert list(overlaps(replace(arena, slots=at_zero), program))


def _written(emission, graph, folder):  # type: ignore[no-untyped-def]
    for name, content in emission.files.items():
        (folder / name).write_bytes(content)
    return make_sidecar(graph, "c", "0", "", emission.files, emission.details)


@pytest.mark.usefixtures("cc")
@pytest.mark.parametrize("caller_arena", [False, True])
def test_the_runner_runs_any_batch_from_the_files(build_graph, caller_arena, tmp_path):  # type: ignore[no-untyped-def]
    graph = _simple(build_graph)
    emission = CTarget(caller_arena=caller_arena).lower(graph, TargetOptions())
    runner = CTarget().runner(tmp_path, _written(emission, graph, tmp_path))
    before = sorted(tmp_path.iterdir())
    codes = {"x": np.random.default_rng(0).integers(-16, 16, (7, 2, 4, 4))}
    found = runner.run(codes)
    np.testing.assert_array_equal(found["y0"], run_codes(graph, codes)[graph.outputs[0].value.name])
    assert sorted(tmp_path.iterdir()) == before


def test_without_a_compiler_the_runner_says_what_to_install(build_graph, tmp_path, monkeypatch):  # type: ignore[no-untyped-def]
    graph = _simple(build_graph)
    sidecar = _written(CTarget().lower(graph, TargetOptions()), graph, tmp_path)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(host_compiler, "_COMPILERS", ("no-such-compiler",))
    with pytest.raises(CompileError, match="no C compiler found"):
        CTarget().runner(tmp_path, sidecar)


def test_the_compiler_is_the_one_that_cc_names_with_its_options(build_graph, tmp_path, monkeypatch):  # type: ignore[no-untyped-def]
    graph = _simple(build_graph)
    sidecar = _written(CTarget().lower(graph, TargetOptions()), graph, tmp_path)
    used = tmp_path / "used"
    wrapper = tmp_path / "my-cc"
    wrapper.write_text(f'#!/bin/sh\necho "$1" >{used}\nshift\nexec {" ".join(host_compiler.find_compiler())} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CC", f"{wrapper} --mine")
    CTarget().runner(tmp_path, sidecar)
    assert used.read_text() == "--mine\n"
    monkeypatch.setenv("CC", "no-such-compiler -m32")
    with pytest.raises(CompileError, match="no C compiler 'no-such-compiler', which CC names"):
        CTarget().runner(tmp_path, sidecar)


def test_every_operation_is_reported(random_graphs):  # type: ignore[no-untyped-def]
    for seed in range(30):
        graph = random_graphs(seed)
        emission = CTarget().lower(graph, TargetOptions())
        assert {op.result.name for op in graph.ops} == set(emission.ops)


def test_a_sidecar_that_names_other_code_is_refused(build_graph, tmp_path):  # type: ignore[no-untyped-def]
    graph = _simple(build_graph)
    sidecar = _written(CTarget().lower(graph, TargetOptions()), graph, tmp_path)
    for details in ({}, {**sidecar.details, "sources": ["/etc/passwd"]}, {**sidecar.details, "function": "1 2"}):
        with pytest.raises(CompileError, match="does not describe a C program"):
            CTarget().runner(tmp_path, replace(sidecar, details=details))


def test_what_reads_a_refused_operation_is_no_crash(tmp_path: Path) -> None:
    m = ModelBuilder()
    weight = m.weight(np.array([[511, -300], [77, 512]])[:, :, None, None] / 256, 2.0**-8, 12)
    y = m.node("Conv", m.quant(m.input([1, 2, 2, 2]), 2.0**-8, 16), weight)
    y = m.quant(m.node("LeakyRelu", y, alpha=0.25), 2.0**-19, 32)
    m.output(m.quant(m.node("Relu", y), 1.0, 8))
    with pytest.raises(CompileError, match="codes of 29 bits are no shift of 26 bits") as caught:
        CTarget().lower(lower(import_bytes(m, tmp_path)), TargetOptions())
    assert len(caught.value.problems) == 1
