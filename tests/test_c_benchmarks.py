"""The parts of `make bench-c`, on what is small. Rows whose compiler or emulator is not installed are skipped."""

from __future__ import annotations

import importlib
import platform
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest

import pefslc

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
NETWORKS = {"resnet9": 16_029_696, "resnet20": 40_813_184, "mobilenet": 7_489_664, "mlp": 118_016}


def part(name: str) -> ModuleType:
    """A module of benchmarks/."""
    if str(BENCHMARKS) not in sys.path:
        sys.path.append(str(BENCHMARKS))
    return importlib.import_module(name)


def make(name: str, bits: int, spelling: str) -> Any:
    models = part("c_models")
    return models.make_network(name, models.Precision(bits, bits), models.Spelling[spelling])


@pytest.mark.parametrize(("name", "macs"), NETWORKS.items())
def test_a_network_is_valid_and_has_the_size_that_is_told(name: str, macs: int) -> None:
    network = make(name, 8, "QDQ")
    assert network.macs == macs
    onnx.checker.check_model(network.model)
    codes = network.y / network.y_scale
    assert len(np.unique(codes)) > 3  # it computes something
    assert (codes == np.rint(codes)).all()


@pytest.mark.parametrize(("bits", "spelling"), [(8, "QDQ"), (5, "QONNX")])
def test_a_network_is_the_same_each_time_and_exact_in_c(bits: int, spelling: str, tmp_path: Path) -> None:
    network = make("mlp", bits, spelling)
    path = network.save(tmp_path)
    assert path.read_bytes() == make("mlp", bits, spelling).save(tmp_path / "again").read_bytes()
    program = pefslc.compile(path, target="c")
    assert program.exact
    verification = program.verify({"x": network.x.astype(np.float32), "y_ref64": network.y})
    assert verification.equal
    assert "y_ref64" in str(verification)


def test_without_its_ends_a_network_goes_from_codes_to_codes() -> None:
    network = make("mlp", 8, "QDQ")
    cut = part("c_models").on_codes(network.model)
    onnx.checker.check_model(cut)
    ends = (cut.graph.input[0], cut.graph.output[0])
    assert [end.type.tensor_type.elem_type for end in ends] == [onnx.TensorProto.UINT8] * 2
    assert len(cut.graph.node) == len(network.model.graph.node) - 2


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The MLP of 8 bits, in C."""
    folder = tmp_path_factory.mktemp("emitted")
    network = make("mlp", 8, "QDQ")
    return part("c_build").emit(network, network.save(folder), "generic", folder / "c")


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_a_library_runs_the_network_and_tells_a_wrong_code(emitted: Any, tmp_path: Path) -> None:
    build = part("c_build")
    host = next(host for host in part("c_processors").HOSTS if host.name == "x86-64, gcc")
    path, size = build.build_library(emitted, host, tmp_path)
    assert size.code_bytes > 500
    assert size.constant_bytes >= 118_016
    assert size.stack_bytes
    assert build.Library(emitted, path).differing() == 0
    y = emitted.y.copy()
    y[0, 0] ^= 1
    assert build.Library(replace(emitted, y=y), path).differing() == 1
    assert 0 < build.Library(emitted, path).seconds(3) < 1


def emulated_row(name: str) -> Any:
    row = next(row for row in part("c_processors").EMULATED if row.name == name)
    for command in ("gcc", f"{row.tools}gcc", row.emulator[0]):
        if shutil.which(command) is None:
            pytest.skip(f"needs {command}")
    return row


@pytest.mark.parametrize("name", ["Cortex-M4 -O3", "Cortex-A9 -O3", "RV32IMC -O3"])
def test_a_program_is_counted_and_a_wrong_output_is_refused(name: str, emitted: Any, tmp_path: Path) -> None:
    row, build, emulator = emulated_row(name), part("c_build"), part("c_emulator")
    plugins = emulator.build_plugin(tmp_path)
    program, size = build.build_program(emitted, row, tmp_path / "right")
    assert size.code_bytes > 100
    instructions = emulator.count_instructions(program, row, plugins)
    assert 0.1 < instructions / emitted.network.macs < 20
    assert instructions == emulator.count_instructions(program, row, plugins)
    y = emitted.y.copy()
    y[0, -1] ^= 1
    wrong, _ = build.build_program(replace(emitted, y=y), row, tmp_path / "wrong")
    with pytest.raises(build.Failed, match="ended with status 1"):
        emulator.count_instructions(wrong, row, plugins)


def test_instructions_are_counted_exactly(tmp_path: Path) -> None:
    row, run, emulator = emulated_row("Cortex-A9 -O3"), part("c_build").run, part("c_emulator")
    plugins = emulator.build_plugin(tmp_path)

    def count(loops: int) -> int:
        source = tmp_path / f"loop{loops}.c"
        source.write_text(
            '__attribute__((noinline, used)) void mark(void) { __asm__ volatile("" : : : "memory"); }\n'
            f"int main(void) {{ int n = {loops}; mark();\n"
            '__asm__ volatile("1: nop\\n subs %0, %0, #1\\n bne 1b" : "+r"(n) : : "cc"); mark(); return 0; }\n'
        )
        run([f"{row.tools}gcc", *row.flags, *row.link, source, "-o", source.with_suffix(".elf")])
        return int(emulator.count_instructions(source.with_suffix(".elf"), row, plugins))

    assert count(43_456) - count(456) == 3 * 43_000  # constants of one instruction


def test_ways_take_turns() -> None:
    turns: list[tuple[str, int]] = []

    def way(name: str, seconds: float) -> Any:
        def timed(calls: int) -> float:
            turns.append((name, calls))
            return calls * seconds

        return timed

    samples = part("c_rounds").call_in_turns({"quick": way("quick", 1e-6), "slow": way("slow", 1.0)}, 4, 0.003)
    assert turns[-8:] == [(name, 3000 if name == "quick" else 1) for name in ("quick", "slow", "slow", "quick") * 2]
    np.testing.assert_allclose(samples["quick"], [1e-6] * 4)
    np.testing.assert_allclose(samples["slow"], [1.0] * 4)


def test_only_takes_what_has_all_texts() -> None:
    speed = part("c_speed")
    (found,) = speed.chosen_rows(["resnet9", "W5A5", "cortex-m4 -os"]).items()
    assert found[0] == "resnet9"
    assert [(str(precision), row.name) for precision, row in found[1]] == [("w5a5", "Cortex-M4 -Os")]
    assert set(speed.chosen_rows([])) == set(NETWORKS)
    with pytest.raises(part("c_build").Failed, match="no result is called nobody"):
        speed.measure(["nobody"], 1, Path())


def test_tables_leave_out_what_was_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    tables = part("c_tables")
    timed = tables.Timed(
        network="n", precision="w8a8", row="here", median_us=20.0, least_us=19.0, gmacs=5.0, of_limit=0.5, of_ort=None,
        wrong=0, outputs=40,
    )  # fmt: skip
    counts = [tables.Count("n", "w8a8", "M4", 300, 100), tables.Count("m", "w8a8", "M0", 500, 100)]
    tables.print_tables(tables.Report(timed=[timed], counts=counts, left_out={"clang": "there is no clang"}), {})
    printed = capsys.readouterr().out
    assert "| n w8a8 | here | 20.0 | 19.0 | 5.0 | 50% |  | 0 of 40 |" in printed
    assert "| M4 | 3.000 |  |\n| M0 |  | 5.000 |" in printed
    assert "- clang: there is no clang" in printed
    assert "Sizes" not in printed


@pytest.mark.skipif(shutil.which("gcc") is None or platform.machine() != "x86_64", reason="needs gcc on x86-64")
def test_the_limits_of_this_machine_are_those_that_rows_name(tmp_path: Path) -> None:
    run = part("c_build").run
    run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", BENCHMARKS / "c_limits.c", "-o", tmp_path / "limits"])
    limits = dict(line.split("\t") for line in run([tmp_path / "limits"]).stdout.splitlines())
    assert float(limits["pmaddwd xmm"]) > 1
    source = (BENCHMARKS / "c_limits.c").read_text()
    for host in part("c_processors").HOSTS:
        assert all(f'measure("{name}"' in source for name in (*host.limits, *host.narrow))


def test_onnx_runtime_equals_the_exact_outputs_or_is_told_wrong(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    runtime, network = part("c_runtime"), make("mlp", 8, "QDQ")
    session, wrong = runtime.quantized(network, tmp_path)
    assert session.in_float == []
    assert 0 <= wrong <= network.y.size  # not 0 where the processor has no VNNI
    assert session.seconds(2) > 0
    y = network.y + network.y_scale
    assert session.differing(replace(network, y=y), signed_output=True) >= network.y.size - wrong - 4
