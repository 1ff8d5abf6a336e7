"""Two reports compared, and what is refused as one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pefslc.diagnostics.errors import CompileError
from pefslc.model_report.comparison import PAGE_DATA, compare, read_report
from pefslc.model_report.model import ModelReport
from pefslc.model_report.report_file import report_bytes


@pytest.fixture
def before(resnet: ModelReport) -> dict[str, Any]:
    found = json.loads(report_bytes(resnet))
    assert isinstance(found, dict)
    return found


def test_fewer_cycles_are_better_and_less_signal_to_noise_is_worse(float_c: ModelReport, resnet: ModelReport) -> None:
    old, new = (json.loads(report_bytes(resnet)) for _ in range(2))
    new["modelled_cycles"] = old["modelled_cycles"] - 1
    (change,) = [c for c in compare(new, old).totals if c.verdict != "same"]
    assert (change.name, change.verdict) == ("modelled cycles", "better")
    old, new = (json.loads(report_bytes(float_c)) for _ in range(2))
    new["float_model"]["outputs"]["output"]["snr_db"] -= 3
    (change,) = [c for c in compare(new, old).totals if c.verdict != "same"]
    assert (change.name, change.unit, change.verdict) == ("signal to noise of output", "dB", "worse")


def test_a_program_that_is_exact_no_longer_is_worse_and_memory_is_what_the_program_has(
    float_c: ModelReport,
) -> None:
    old, new = (json.loads(report_bytes(float_c)) for _ in range(2))
    new["exact"] = False
    new["costs"]["memories"][0]["available"] *= 2
    changes = {c.name: (c.verdict, c.ratio) for c in compare(new, old).totals if c.verdict != "same"}
    assert changes == {"exact (1) or not (0)": ("worse", 0.0), "working memory": ("worse", 2.0)}


@pytest.mark.parametrize(
    ("key", "value", "text", "verdict"),
    [
        ("exact", False, "bounded, was exact", "worse"),
        ("output", "UQ3.4", "output UQ3.4, was UQ2.3: 2 bits wider", "other"),
        ("weight", "s4", "weight s4, was Q2.3: 1 bit narrower", "other"),
        ("accumulator_bits", 12, "sums of 12 bits, were 13", "better"),
    ],
)
def test_what_became_of_a_layer_is_said(
    before: dict[str, Any], key: str, value: object, text: str, verdict: str
) -> None:
    after = json.loads(json.dumps(before))
    after["layers"][0][key] = value
    (layer,) = compare(after, before).layers
    assert layer.layer == "blocks.0/c1/conv"
    assert layer.changes == ((text, verdict),)


def test_cycles_of_layers_that_are_computed_as_one_are_said_once(before: dict[str, Any]) -> None:
    after = json.loads(json.dumps(before))
    row = after["layers"][3]["cost_row"]
    assert [n for n, layer in enumerate(after["layers"]) if layer["cost_row"] == row] == [3, 4]
    after["costs"]["layers"][row]["modelled_cycles"] += 1000
    (layer,) = compare(after, before).layers
    assert layer.layer == before["layers"][3]["layer"]
    ((text, verdict),) = layer.changes
    assert verdict == "worse"
    assert text.startswith("11,901 modelled cycles, were 10,901 (+9.2%)")


def test_layers_of_one_report_alone_are_named(before: dict[str, Any]) -> None:
    after = json.loads(json.dumps(before))
    after["layers"][0]["layer"] = "stem"
    found = compare(after, before)
    assert (found.added, found.removed) == (("stem",), ("blocks.0/c1/conv",))


def test_layers_of_one_name_are_compared_in_their_order(before: dict[str, Any]) -> None:
    for layer in before["layers"]:
        layer["layer"] = "same"
    after = json.loads(json.dumps(before))
    after["layers"][2]["exact"] = False
    (layer,) = compare(after, before).layers
    assert layer.layer == "same (3)"


def test_a_report_is_read_from_its_page_too(before: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(before))
    (tmp_path / "r.html").write_text(f"<p>{PAGE_DATA}{json.dumps(before)}</script><p>")
    assert read_report(tmp_path / "r.json") == read_report(tmp_path / "r.html") == before


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model": 1}', "<html></html>", "\x00", "[" * 100_000])
def test_what_is_no_report_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(CompileError, match="is no report"):
        read_report(tmp_path / "r.json")


def test_a_report_of_another_format_is_refused(before: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps({**before, "report_format": 99}))
    with pytest.raises(CompileError, match="report of format 99, and this version reads 1"):
        read_report(tmp_path / "r.json")


@pytest.mark.parametrize("value", [None, 3, [], {}, "x", [1], {"layers": [None]}])
def test_a_damaged_report_is_refused_or_compared_and_nothing_else(
    before: dict[str, Any], value: object, tmp_path: Path
) -> None:
    path = tmp_path / "r.json"
    refusals = []
    for key in before:
        if key == "report_format":
            continue
        path.write_text(json.dumps({**before, key: value}))
        try:
            compare(before, read_report(path))
        except CompileError as e:
            refusals.append(str(e))
    assert len(refusals) >= 2
    assert all("lacks what every report has" in refusal for refusal in refusals)


def test_a_report_that_lacks_a_key_of_a_layer_is_refused(before: dict[str, Any], tmp_path: Path) -> None:
    del before["layers"][2]["exact"]
    (tmp_path / "r.json").write_text(json.dumps(before))
    with pytest.raises(CompileError, match="lacks what every report has"):
        read_report(tmp_path / "r.json")
