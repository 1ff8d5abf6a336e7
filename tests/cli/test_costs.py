"""--costs and --report: the table, the JSON and `Program.costs` tell the same, and all call cycles modelled."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from cli_support import Cli
from rich.console import Console

import pefslc as api
from pefslc.artifacts.costs import CostReport, LayerCost, MemorySize
from pefslc.console.cli import run
from pefslc.console.costs import print_costs

EXAMPLE = Path(__file__).parents[2] / "examples" / "cnn_bnfold_q2_3.onnx"


def report(**changes: object) -> CostReport:
    def layer(name: str, matmul: int, simd: int) -> LayerCost:
        return LayerCost(
            layer=name, macs=9_000, useful_macs=8_000, cycles={"MatMul": matmul, "SIMD": simd}, bytes={"DRAM1": 1_250},
            peaks={"local": matmul}, instructions=7,
        )  # fmt: skip

    layers = (layer("blocks.0/c1/conv", 1_000, 20), layer("blocks.0/c2/conv + blocks.0", 3_000, 0), layer("fc", 60, 0))
    fields = {"model": "m", "target": "tensil", "arch": "custom_perf", "layers": layers, "peak_macs": 144} | changes
    return CostReport(memories=(MemorySize("local", "vectors", 8_192),), **fields)  # type: ignore[arg-type]


def shown(found: CostReport, width: int, *, terminal: bool = True) -> list[str]:
    file = StringIO()
    print_costs(found, Console(file=file, width=width, force_terminal=terminal, color_system=None, highlight=False))
    return file.getvalue().splitlines()


def test_the_table(golden: Callable[[str, str], None]) -> None:
    text = "".join(f"{line.rstrip()}\n" for line in shown(report(clock_mhz=100.0), 120))
    assert "4,080 modelled cycles, 0.041 ms at 100 MHz" in text
    golden("costs.txt", text)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 130])
def test_a_narrow_terminal_shows_the_layers_cycles_and_cuts_nothing(width: int) -> None:
    lines = shown(report(), width)
    assert any("3,000" in line for line in lines)
    assert not any("\u2026" in line for line in lines)
    table = lines[: lines.index("4,080 modelled cycles; 4.1% of the array's peak of 144 MACs a cycle")]
    assert max(len(line.rstrip()) for line in table) <= max(width, 25)


def test_a_file_gets_all_columns() -> None:
    header = " ".join(" ".join(shown(report(), 40, terminal=False)[:2]).split())
    assert header == "modelled of DRAM1 local layer cycles % peak MatMul SIMD kB of 8,192 instr."


def test_what_a_target_does_not_model_is_left_out() -> None:
    layers = (LayerCost(layer="conv", macs=1_000, bytes={"constants": 2_000}),)
    text = "\n".join(shown(CostReport(model="m", target="c", arch=None, layers=layers), 80))
    assert "cycles" not in text
    assert "constants 2.0 kB" in text


def test_a_memory_that_nothing_goes_through_has_no_column() -> None:
    layers = (LayerCost(layer="conv", cycles={"MatMul": 10}, bytes={"DRAM0": 1_000, "DRAM1": 0}, peaks={"local": 3}),)
    text = "\n".join(shown(report(layers=layers), 100))
    assert "DRAM0 1.0 kB" in text
    assert "DRAM1" not in text


def test_the_total_is_the_sum_and_the_largest_peak() -> None:
    found = report(clock_mhz=50.0)
    assert found.total.cycles == {"MatMul": 4_060, "SIMD": 20}
    assert found.total.peaks == {"local": 3_000}
    assert found.milliseconds(found.total) == 4_080 / 50_000
    assert found.peak_share(found.layers[2]) == 8_000 / (60 * 144)


@pytest.mark.parametrize(
    ("target", "options"), [("c", []), ("tensil", ["--arch", "custom_perf", "--clock-mhz", "100"])]
)
def test_the_command_writes_what_python_says(
    target: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "costs.json"
    arguments = [str(EXAMPLE), "--target", target, "-o", str(tmp_path), "--costs", "--report", str(file), *options]
    assert run(arguments) == 0
    output = capsys.readouterr().out
    clock = 100.0 if target == "tensil" else None
    program = api.compile(EXAMPLE, target=target, arch="custom_perf" if clock else None, clock_mhz=clock)
    assert program.costs is not None
    written = json.loads(file.read_text())
    assert written == program.costs.to_json()
    assert len(written["layers"]) >= 3
    assert all(layer["nodes"] for layer in written["layers"] if layer["macs"])
    if clock:
        assert f"{written['total']['modelled_cycles']:,} modelled cycles" in output
        assert written["total"]["modelled_milliseconds"] == written["total"]["modelled_cycles"] / 100_000
        assert sum(layer["modelled_cycles"] for layer in written["layers"]) == program.emission.cycles
    else:
        assert written["total"]["bytes"]["constants"] == program.sidecar.details["constant_bytes"]


@pytest.mark.parametrize("clock", ["0", "-5", "nan", "inf"])
def test_a_clock_is_a_positive_number(clock: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(EXAMPLE), "--target", "tensil", "-o", str(tmp_path), f"--clock-mhz={clock}"]
    assert run(arguments) == 2
    assert "not a frequency" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", [("--costs",), ("--report", "costs.json")])
def test_a_target_that_does_not_say_its_costs_is_named(
    option: tuple[str, ...], pefslc: Cli, model: Path, tmp_path: Path
) -> None:
    result = pefslc(model, "--target", "fake", "-o", tmp_path / "build", *option)
    assert result.status == 1
    assert "target 'fake' does not say what its programs cost" in result.err
    assert not (tmp_path / "build").exists()


def test_a_clock_is_for_the_accelerator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([str(EXAMPLE), "--target", "c", "-o", str(tmp_path), "--clock-mhz", "100"]) == 2
    assert "clock_mhz (--clock-mhz) is an option of target 'tensil', not of 'c'" in capsys.readouterr().err
