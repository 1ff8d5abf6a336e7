"""Rows, tables and fronts of a sweep against fractions and brute force."""

from __future__ import annotations

import csv
import io
import json
from fractions import Fraction
from statistics import stdev

import pytest
from fewshot.sweep_support import SETTING, dead, result, seeded
from hypothesis import given
from hypothesis import strategies as st

from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.sweep.cells import Cell, Method, Prune
from pefslc.fewshot.sweep.pareto import pareto_front
from pefslc.fewshot.sweep.rows import fronts, rows_of
from pefslc.fewshot.sweep.table import to_csv, to_json, to_markdown, to_text

FLOAT = Cell(method=Method.FLOAT)
PTQ = Cell(method=Method.PTQ, fmt="auto:3")
QAT = Cell(method=Method.QAT, fmt="Q2.1")
PRUNED = Cell(method=Method.QAT, fmt="auto:3", prune=Prune(0.5, 12), distill=True)

RIGHT = {  # by cell and seed, of 4 answers in 8 episodes
    (FLOAT, 0): {1: [4, 3, 4, 2, 4, 4, 3, 4], 5: [4, 4, 4, 3, 4, 4, 4, 4]},
    (FLOAT, 1): {1: [3, 3, 4, 3, 4, 2, 3, 4], 5: [4, 4, 3, 3, 4, 4, 4, 4]},
    (PTQ, 0): {1: [2, 3, 3, 2, 4, 4, 3, 1], 5: [4, 4, 3, 3, 4, 3, 4, 4]},
    (PTQ, 1): {1: [2, 3, 3, 1, 4, 2, 3, 4], 5: [4, 3, 3, 3, 4, 4, 2, 4]},
}
RESULTS = [(seeded(cell, seed), result(seeded(cell, seed), right)) for (cell, seed), right in RIGHT.items()]


def mean(values: list[Fraction]) -> Fraction:
    return sum(values, Fraction(0)) / len(values)


@pytest.mark.parametrize("shots", [1, 5])
def test_means_differences_and_spread_are_those_of_fractions(shots: int) -> None:
    floating, ptq = rows_of(RESULTS)
    assert (floating.label, ptq.label, ptq.seeds) == ("float", "PTQ auto:3", (0, 1))
    by_seed = {cell: [[Fraction(n, 4) for n in RIGHT[cell, seed][shots]] for seed in (0, 1)] for cell in (FLOAT, PTQ)}
    episodes = {cell: [mean([*both]) for both in zip(*found, strict=True)] for cell, found in by_seed.items()}
    found = ptq.shots[shots]
    assert found.accuracy.mean == float(mean(episodes[PTQ]))
    half = 1.959963984540054 * stdev(map(float, episodes[PTQ])) / 8**0.5
    assert found.accuracy.half_width == pytest.approx(half, rel=1e-12)
    paired = [a - b for a, b in zip(episodes[PTQ], episodes[FLOAT], strict=True)]
    assert found.difference is not None
    assert found.difference.mean == pytest.approx(float(mean(paired)), rel=1e-12)
    assert found.difference.half_width == pytest.approx(1.959963984540054 * stdev(map(float, paired)) / 8**0.5)
    assert found.spread.sd == pytest.approx(stdev(float(mean(values)) for values in by_seed[PTQ]))
    assert floating.shots[shots].difference is None
    assert found.head == "integer NCM"
    assert found.ties == 1 / 32


def test_a_row_with_a_dead_seed_has_no_accuracy() -> None:
    cells = [(seeded(QAT, 0), result(seeded(QAT, 0), RIGHT[PTQ, 0])), (seeded(QAT, 1), dead(seeded(QAT, 1)))]
    *_, row = rows_of([*RESULTS, *cells])
    assert (row.status, row.shots) == ("dead", {})
    assert row.reason == "all rows are equal (seed 1 of 2)"
    text = to_text(rows_of([*RESULTS, *cells]), SETTING)
    (line,) = (line for line in text.splitlines() if line.startswith("QAT Q2.1 "))
    assert "dead" in line
    assert "%" not in line
    assert "QAT Q2.1: dead: all rows are equal (seed 1 of 2)" in text


def test_differences_need_the_float_network_of_each_seed() -> None:
    *_, ptq = rows_of([entry for entry in RESULTS if entry[0] != seeded(FLOAT, 1)])
    assert ptq.shots[1].difference is None


def test_a_pruned_float_network_is_compared_with_the_whole_one() -> None:
    small = Cell(method=Method.FLOAT, prune=Prune(0.5, 12))
    *_, row = rows_of([RESULTS[0], (small, result(small, RIGHT[PTQ, 0]))])
    assert row.shots[1].difference is not None
    assert row.shots[1].difference.mean == float(
        mean([Fraction(a - b, 4) for a, b in zip(RIGHT[PTQ, 0][1], RIGHT[FLOAT, 0][1], strict=True)])
    )


def test_other_episodes_are_not_compared() -> None:
    other = result(PTQ, RIGHT[PTQ, 0])
    other["shots"]["1"]["integer"]["episodes_sha256"] = "others"
    with pytest.raises(CompileError, match="results of a row are of different episodes"):
        rows_of([RESULTS[0], (PTQ, other)])


points = st.tuples(st.integers(0, 5).map(float), st.integers(0, 5).map(float))


@given(st.lists(points, max_size=12))
def test_the_front_is_what_nothing_beats(found: list[tuple[float, float]]) -> None:
    def beaten(cost: float, value: float) -> bool:
        return any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in found)

    assert pareto_front(found) == {i for i, (cost, value) in enumerate(found) if not beaten(cost, value)}


def everything() -> list[tuple[Cell, dict[str, object]]]:
    cheap = result(PRUNED, RIGHT[PTQ, 0])
    cheap["boards"]["custom_perf"]["modelled_cycles"] = 250
    fails = result(QAT, RIGHT[PTQ, 1])
    fails["boards"]["custom_perf"] = {"modelled_cycles": None, "exact": None, "reason": "too large"}
    return [*RESULTS, (PRUNED, cheap), (QAT, fails)]


def test_fronts_name_the_rows() -> None:
    rows = rows_of(everything())
    by_label = {row.label: row for row in rows}
    accuracy = {label: row.shots[5].accuracy.mean for label, row in by_label.items()}
    assert accuracy[PRUNED.label] > accuracy["PTQ auto:3"]
    assert fronts(rows, 5)["cycles on custom_perf"] == (PRUNED.label,)
    assert by_label["QAT Q2.1"].cycles == {"custom_perf": None}


def test_the_csv_has_a_line_for_each_row_and_number_of_shots() -> None:
    rows = rows_of([*everything(), (seeded(QAT, 7), dead(QAT))][:-2])
    read = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert [(line["label"], line["shots"]) for line in read] == [(row.label, str(n)) for row in rows for n in (1, 5)]
    ptq = rows[1].shots[5]
    assert float(read[3]["accuracy"]) == ptq.accuracy.mean
    assert float(read[3]["difference"]) == (ptq.difference.mean if ptq.difference else None)
    assert (read[3]["bits"], read[3]["constant_bytes"], read[3]["modelled_cycles_custom_perf"]) == ("3", "1000", "500")
    assert read[0]["difference"] == read[0]["bits"] == ""
    (line,) = csv.DictReader(io.StringIO(to_csv(rows_of([(QAT, dead(QAT))]))))
    assert (line["status"], line["shots"], line["accuracy"], line["reason"]) == (
        "dead", "", "", "all rows are equal (seed 0 of 1)",
    )  # fmt: skip


def test_markdown_rows_have_the_cells_of_their_header() -> None:
    header, *lines = [line for line in to_markdown(rows_of(everything()), SETTING).splitlines() if line[:1] == "|"]
    assert {line.count("|") for line in lines} == {header.count("|")}
    assert len(lines) == 1 + len(rows_of(everything()))


def test_times_stand_in_every_form_where_they_were_measured() -> None:
    rows = rows_of(everything())
    times = {rows[1].label: 0.25}
    header, *lines = to_text(rows, SETTING, times).splitlines()
    assert "C ms" in header
    assert "0.250" in next(line for line in lines if line.startswith(rows[1].label))
    assert "C ms" not in to_text(rows, SETTING)
    read = list(csv.DictReader(io.StringIO(to_csv(rows, times))))
    assert {line["c_milliseconds"] for line in read if line["label"] == rows[1].label} == {"0.25"}
    assert {line["c_milliseconds"] for line in read if line["label"] == rows[0].label} == {""}
    content = json.loads(to_json(rows, SETTING, [], times))
    assert [row["c_milliseconds"] for row in content["rows"]][:2] == [None, 0.25]


def test_the_json_has_every_result_with_its_key() -> None:
    results = [(cell, f"key {i}", found) for i, (cell, found) in enumerate(everything())]
    content = json.loads(to_json(rows_of(everything()), SETTING, results))
    assert [cell.pop("key") for cell in content["cells"]] == [f"key {i}" for i in range(len(results))]
    assert content["cells"] == [json.loads(json.dumps(found)) for _, found in everything()]
    assert content["setting"]["data_digest"] == SETTING.data_digest
    assert content["setting"]["data"]["source"] == "glyphs"
    assert content["pareto"]["5"]["cycles on custom_perf"] == [PRUNED.label]


def test_every_table_names_heads_data_and_episodes() -> None:
    rows = rows_of(everything())
    for text in (to_text(rows, SETTING), to_markdown(rows, SETTING)):
        assert "heads: float NCM; integer NCM" in text
        assert "8 episodes of seed 0" in text
        assert SETTING.data_digest[:12] in text
        assert "Fewer bits do not save cycles" in text
