"""`pefslc report`: what is written, what is printed, what is refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from cli_support import Cli
from jsonschema import Draft202012Validator

from pefslc.console.json_schemas import SCHEMAS
from pefslc.model_report.comparison import read_report

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CNN = EXAMPLES / "cnn_bnfold_q2_3.onnx"
DATA = EXAMPLES / "cnn_bnfold_q2_3.npz"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def nothing_to_draw_with(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    missing = ("matplotlib", "graphlay")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name in missing else found(name, *more)
    )


def test_a_page_and_its_numbers_are_written(pefslc: Cli, here: Path) -> None:
    result = pefslc("report", CNN, "--target", "c", "--inputs", DATA)
    assert (result.status, result.err) == (0, "")
    assert result.out == (
        "cnn_bnfold_q2_3 on c: every layer computes exactly what the file says\nwrote report.html, report.json\n"
    )
    numbers = json.loads((here / "report.json").read_text())
    Draft202012Validator(SCHEMAS["report"]).validate(numbers)
    assert read_report(here / "report.html") == numbers
    assert numbers["rows_run"] == 4


def test_a_report_names_the_one_that_it_is_compared_with(pefslc: Cli, here: Path) -> None:
    arguments = ("report", CNN, "--target", "tensil")
    assert pefslc(*arguments, "--arch", "pynqz1", "-o", "a.html", "-q").out == ""
    for against in ("a.json", "a.html"):
        result = pefslc(*arguments, "--arch", "custom_perf", "--json", "--against", against)
        found = json.loads(result.out)["against"]
        assert found["other"] == "cnn_bnfold_q2_3 on tensil (pynqz1)"
        assert found["totals"][0] == {
            "name": "modelled cycles", "unit": "", "before": 7205, "after": 7129, "better": "less", "verdict": "better",
        }  # fmt: skip
    assert sorted(p.name for p in here.iterdir()) == ["a.html", "a.json"]


@pytest.mark.usefixtures("nothing_to_draw_with")
def test_text_and_json_need_nothing_to_draw_with(pefslc: Cli, here: Path) -> None:
    result = pefslc("report", CNN, "--target", "c", "--text")
    assert result.status == 0
    assert result.out.startswith("cnn_bnfold_q2_3 on c\nevery layer computes exactly what the file says\n")
    found = json.loads(pefslc("report", CNN, "--target", "c", "--json").out)
    assert found["model"] == "cnn_bnfold_q2_3"
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("arguments", [(), ("-o", "a.html"), ("--text", "--picture", "a.svg")])
@pytest.mark.usefixtures("nothing_to_draw_with")
def test_a_page_says_what_it_needs(pefslc: Cli, here: Path, arguments: tuple[str, ...]) -> None:
    result = pefslc("report", CNN, "--target", "c", *arguments)
    assert result.status == 2
    assert result.err == (
        "error: a page is drawn with matplotlib and graphlay, and neither is installed\n"
        '  help: pip install matplotlib graphlay, or, in a checkout of pefslc: pip install ".[report]"; --text and '
        "--json need neither\n"
    )
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("name", ["r.html", "r.json", "r.svg"])
def test_only_earlier_reports_are_replaced(pefslc: Cli, here: Path, name: str) -> None:
    arguments = ("report", CNN, "--target", "c", "-o", "r.html", "--picture", "r.svg", "-q")
    (here / name).write_text("mine")
    result = pefslc(*arguments)
    assert result.status == 1
    assert f"'{name}' exists and is no earlier" in result.err
    assert [p.name for p in here.iterdir()] == [name]
    (here / name).unlink()
    assert pefslc(*arguments).status == 0
    first = {p.name: p.read_bytes() for p in here.iterdir()}
    assert pefslc(*arguments).status == 0
    assert {p.name: p.read_bytes() for p in here.iterdir()} == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--text", "--json"), "--text and --json each print the report: give one"),
        (("-o", "report.pdf"), "-o 'report.pdf' is no page: its name ends with .html"),
        (("--against", "none.json"), "no such file: 'none.json'"),
        (("--inputs", "none.npz"), "no such file: 'none.npz'"),
        (("--arch", "pynqz1"), "arch (--arch) is an option of target 'tensil', not of 'c'"),
    ],
)
def test_what_cannot_be_is_a_usage_error(pefslc: Cli, here: Path, arguments: tuple[str, ...], message: str) -> None:
    result = pefslc("report", CNN, "--target", "c", *arguments)
    assert result.status == 2
    assert message in result.err
    assert list(here.iterdir()) == []


def test_another_file_is_no_report_to_compare_with(pefslc: Cli, here: Path) -> None:
    (here / "costs.json").write_text('{"model": "m"}')
    result = pefslc("report", CNN, "--target", "c", "--against", "costs.json", "-q")
    assert result.status == 1
    assert result.err.startswith("error[PEF0816]: 'costs.json' is no report\n  help: ")


def test_a_target_that_says_nothing_of_costs_has_a_report(pefslc: Cli, model: Path, here: Path) -> None:
    result = pefslc("report", model, "--target", "fake", "-o", "r.html")
    assert result.status == 0, result.err
    assert json.loads((here / "r.json").read_text())["costs"] is None


def test_a_float_model_is_measured_on_its_inputs(pefslc: Cli) -> None:
    float_model = EXAMPLES / "cnn_float.onnx"
    arguments = (
        "report",
        float_model,
        "--target",
        "tensil",
        "--fmt",
        "Q8.8",
        "--inputs",
        float_model.with_suffix(".npz"),
    )
    found = json.loads(pefslc(*arguments, "--json").out)
    assert (found["native_format"], found["exact"]) == ("Q8.8", False)
    assert found["float_model"]["rows"] == 64
    assert found["float_model"]["outputs"]["output"]["snr_db"] > 30


def test_formats_by_name_are_those_of_the_report(pefslc: Cli, here: Path) -> None:
    formats = here / "formats.toml"
    formats.write_text('[model]\nweights = "Q2.5"\nactivations = "Q3.4"\n\n[tensors]\ninput = "Q2.6"\n')
    result = pefslc("report", EXAMPLES / "cnn_float.onnx", "--target", "c", "--formats", formats, "--json")
    assert result.status == 0
    (tensor,) = json.loads(result.out)["inputs"]
    assert tensor["format"] == "Q2.6"
