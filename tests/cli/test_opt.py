"""`pefslc opt`: single passes on the text of a graph."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from cli_support import Cli
from plugin_files import HALVE, write

import pefslc as api
from builders import lower
from pefslc.frontend import import_model
from pefslc.ir.parse import parse_graph
from pefslc.passes.manager import run_passes
from pefslc.passes.pipeline import to_integer

CHAIN = (
    "fold-constants", "quantize-inputs", "merge-padding", "separate-bias", "merge-elementwise", "merge-stages",
    "quantize-before-movement", "merge-stages", "remove-dead-code", "lower-to-integer", "drop-identities",
    "tighten-ranges", "remove-dead-code",
)  # fmt: skip


@pytest.fixture
def text(models: Path, tmp_path: Path) -> Path:
    path = tmp_path / "x.ir"
    path.write_text(str(import_model(models / "cnn_q2_3.onnx")))
    return path


def passes(*names: object) -> list[object]:
    return [word for name in names for word in ("--pass", name)]


def test_without_a_pass_the_text_comes_back(pefslc: Cli, text: Path, models: Path) -> None:
    result = pefslc("opt", text)
    assert (result.status, result.err) == (0, "")
    assert result.out == text.read_text()
    assert pefslc("opt", models / "cnn_q2_3.onnx").out == str(api.load(models / "cnn_q2_3.onnx"))


def test_a_text_may_begin_with_a_byte_order_mark(pefslc: Cli, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = text.read_text()
    text.write_bytes(b"\xef\xbb\xbf" + text.read_bytes())
    assert pefslc("opt", text).out == whole
    monkeypatch.setattr("sys.stdin", io.StringIO(text.read_text(encoding="utf-8")))
    assert pefslc("opt", "-").out == whole


def test_a_chain_of_passes_does_what_a_compile_does(pefslc: Cli, text: Path, models: Path) -> None:
    result = pefslc("opt", text, *passes(*CHAIN), "--verify")
    assert result.status == 0, result.err
    quantized = import_model(models / "cnn_q2_3.onnx")
    assert parse_graph(result.out) == run_passes(quantized, to_integer())[0]
    lines = result.err.splitlines()
    assert [line.split()[0] for line in lines] == list(CHAIN)
    assert all(line.endswith("; 40 of 40 values of 'output' equal on random inputs") for line in lines)


def test_steps_chain_through_files_and_stdin(
    pefslc: Cli, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    between = tmp_path / "between.ir"
    first = pefslc("opt", text, *passes(*CHAIN[:6]), "-o", between, "-q")
    assert (first.status, first.out, first.err) == (0, "", "")
    whole = pefslc("opt", text, *passes(*CHAIN), "-q").out
    assert pefslc("opt", between, *passes(*CHAIN[6:]), "-q").out == whole
    monkeypatch.setattr("sys.stdin", io.StringIO(between.read_text()))
    assert pefslc("opt", "-", *passes(*CHAIN[6:]), "-q").out == whole


def test_of_two_passes_of_one_name_the_one_of_the_graphs_level_runs(pefslc: Cli, models: Path, tmp_path: Path) -> None:
    path = tmp_path / "integer.ir"
    path.write_text(str(lower(import_model(models / "cnn_q2_3.onnx"))))
    result = pefslc("opt", path, *passes("remove-dead-code"))
    assert (result.status, result.err) == (0, "remove-dead-code (exact): unchanged\n")


def test_a_file_of_passes_runs_in_its_order(pefslc: Cli, text: Path, tmp_path: Path) -> None:
    plugin = write(tmp_path, ("B", "QUANTIZED", "return graph"), ("A", "QUANTIZED", "return graph"))
    result = pefslc("opt", text, *passes("fold-constants", plugin), "--short")
    assert result.err == "fold-constants (exact): changed\nB (exact): unchanged\nA (exact): unchanged\n"
    assert result.out.endswith("// data left out\n")


def test_verify_catches_a_pass_that_is_not_as_exact_as_it_says(
    pefslc: Cli, models: Path, text: Path, tmp_path: Path
) -> None:
    text.write_text(str(lower(import_model(models / "cnn_q2_3.onnx"))))
    plugin = write(tmp_path, ("Halves", "INTEGER", HALVE))
    assert pefslc("opt", text, *passes(plugin)).status == 0
    result = pefslc("opt", text, *passes(plugin), "--verify")
    assert result.status == 1
    assert "pass 'Halves' says it is exact, and outputs differ" in result.err
    plugin.write_text(plugin.read_text().replace("= Exactness.EXACT", "= Exactness.CHANGES"))
    result = pefslc("opt", text, *passes(plugin), "--verify")
    assert result.status == 0
    assert "Halves (changes): changed; " in result.err
    assert ", off by at most " in result.err


def test_formats_are_given_as_to_a_compile(pefslc: Cli, text: Path) -> None:
    assert pefslc("opt", text, *passes("change-formats")).status == 2
    result = pefslc("opt", text, *passes("change-formats"), "--fmt", "Q3.3")
    assert (result.status, result.err) == (0, "change-formats (changes): changed\n")
    assert "Q3.3[" in result.out


def test_the_limits_are_those_of_the_target(pefslc: Cli, text: Path) -> None:
    to_the_proof = passes(*CHAIN, "check-accumulators")
    assert pefslc("opt", text, *to_the_proof, "-q").status == 0
    result = pefslc("opt", text, *to_the_proof, "--target", "tensil", "--arch", "custom_perf", "-q")
    assert result.status == 0
    assert "--arch needs --target" in pefslc("opt", text, "--arch", "custom_perf").err


@pytest.mark.parametrize(
    ("change", "message", "status"),
    [
        (("graph ", "grph "), "error[PEF0908]: line 1: expected 'graph'", 1),
        (("%v2: Q2.3[1,", "%v2: Q2.3[7,"), "error[PEF0908]: the graph is not legal: quantize %v2: the shape is", 1),
    ],
)
def test_a_text_that_is_no_legal_graph_is_refused(
    pefslc: Cli, text: Path, change: tuple[str, str], message: str, status: int
) -> None:
    assert change[0] in text.read_text()
    text.write_text(text.read_text().replace(*change, 1))
    result = pefslc("opt", text)
    assert result.status == status
    assert message in result.err
    assert result.out == ""


def test_mistakes_on_the_command_line_say_what_there_is(pefslc: Cli, text: Path, tmp_path: Path) -> None:
    result = pefslc("opt", text, *passes("fold-constant"))
    assert result.status == 2
    assert "did you mean fold-constants?" in result.err
    assert pefslc("opt", tmp_path / "none.ir").status == 2
    assert pefslc("opt", text, *passes("none.py")).status == 2
    (tmp_path / "b.ir").write_bytes(b"\xff\xfe")
    assert "is no text" in pefslc("opt", tmp_path / "b.ir").err
    result = pefslc("opt", text, *passes("tighten-ranges"))
    assert (result.status, result.out) == (1, "")
    assert "error[PEF0907]" in result.err


@pytest.mark.parametrize("content", ["import os\n", "", "another text"])
def test_only_the_text_of_another_graph_is_replaced(pefslc: Cli, text: Path, tmp_path: Path, content: str) -> None:
    other = tmp_path / "other.ir"
    other.write_text(content)
    before = text.read_bytes()
    refused = pefslc("opt", text, "-o", other)
    assert (refused.status, other.read_text()) == (1, content)
    assert f"error[PEF0806]: '{other}' exists and is no text of a graph" in refused.err
    refused = pefslc("opt", text, "-o", text)
    assert (refused.status, text.read_bytes()) == (1, before)
    assert "holds the graph that is read" in refused.err
    other.unlink()
    assert pefslc("opt", text, "-o", other).status == 0
    assert pefslc("opt", text, "-o", other).status == 0, "an earlier result"


@pytest.mark.parametrize("name", ["fold-constants", "tighten-ranges", "input-grid"])
def test_a_file_whose_pass_has_the_name_of_one_of_ours_is_refused_as_by_a_compile(
    pefslc: Cli, models: Path, text: Path, tmp_path: Path, name: str
) -> None:
    plugin = write(tmp_path, ("Mine", "QUANTIZED", "return graph"))
    plugin.write_text(plugin.read_text().replace('= "Mine"', f"= {name!r}"))
    compiled = pefslc("check", models / "cnn_q2_3.onnx", "--target", "c", "--plugin", plugin)
    alone = pefslc("opt", text, "--pass", plugin)
    assert (compiled.status, alone.status) == (1, 1)
    assert compiled.err == alone.err
    assert f"error[PEF0902]: plugin pass {name!r} has the name of a pass of pefslc" in alone.err


@pytest.mark.parametrize(("name", "code"), [("tighten-ranges", "PEF0907"), ("lower-to-integer", "PEF0406")])
def test_a_pass_that_comes_too_early_says_which_passes_run_before_it_and_they_help(
    pefslc: Cli, text: Path, name: str, code: str
) -> None:
    refused = pefslc("opt", text, "--pass", name)
    assert refused.status == 1
    assert f"error[{code}]" in refused.err
    advice = refused.err.split("a compile runs these before it: ")[1].split()
    assert pefslc("opt", text, *advice, "--pass", name).status == 0


def test_a_pass_that_comes_too_late_says_so(pefslc: Cli, text: Path, tmp_path: Path) -> None:
    lowered = tmp_path / "lowered.ir"
    assert pefslc("opt", text, *passes(*CHAIN), "-o", lowered).status == 0
    refused = pefslc("opt", lowered, "--pass", "merge-stages")
    assert refused.status == 1
    assert "help: lower-to-integer has run on this graph: put the pass before it" in refused.err


def test_what_only_a_compile_runs_is_told(pefslc: Cli, text: Path) -> None:
    refused = pefslc("opt", text, "--pass", "check-formats")
    assert refused.status == 2
    assert "pass 'check-formats' runs in a compile only" in refused.err


def test_a_short_text_says_how_to_get_a_whole_one(pefslc: Cli, text: Path, tmp_path: Path) -> None:
    short, whole = tmp_path / "short.ir", tmp_path / "whole.ir"
    assert pefslc("opt", text, "--short", "-o", short).status == 0
    refused = pefslc("opt", short)
    assert refused.status == 1
    assert "`pefslc opt` without --short" in refused.err
    assert pefslc("opt", text, "-o", whole).status == 0
    assert whole.read_text() == text.read_text()
