"""What a notebook shows of the results of a compile, and of its errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from traceback import format_exception
from xml.etree import ElementTree

import numpy as np
import pytest

import pefslc
from pefslc.ir.graph import Graph, Level
from pefslc.passes.manager import Exactness

EXAMPLE = "examples/cnn_bnfold_q2_3"
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def program() -> pefslc.Program:
    return pefslc.compile(ROOT / f"{EXAMPLE}.onnx", target="tensil", arch="custom_perf", clock_mhz=100)


def tables(html: str) -> list[list[list[str]]]:
    """Cells of the rows of each table, headers first."""
    root = ElementTree.fromstring(f"<div>{html.replace('<br>', ' ')}</div>")
    return [[["".join(c.itertext()) for c in row] for row in table.iter("tr")] for table in root.iter("table")]


def test_a_program_shows_its_layers_files_and_graph(program: pefslc.Program) -> None:
    html = program._repr_html_()
    header, *rows = tables(html)[0]
    assert [row[0] for row in rows] == [layer.layer for layer in program.layers]
    assert [row[header.index("MACs")] for row in rows] == [f"{layer.macs:,}" for layer in program.layers]
    assert all(name in html for name in program.file_names)
    assert "<svg" in html
    assert len(html) < 100_000


def test_costs_show_what_their_json_has(program: pefslc.Program) -> None:
    costs = program.costs
    assert costs is not None
    header, *rows = tables(costs._repr_html_())[0]
    found = costs.to_json()
    layers = [*found["layers"], found["total"]]  # type: ignore[misc]
    assert [row[0] for row in rows] == [layer["layer"] for layer in layers]
    assert [row[header.index("modelled cycles")] for row in rows] == [f"{x['modelled_cycles']:,}" for x in layers]
    assert [row[header.index("instructions")] for row in rows] == [f"{x['instructions']:,}" for x in layers]
    at = header.index("ms at 100 MHz")
    assert [float(row[at]) for row in rows] == pytest.approx([x["modelled_milliseconds"] for x in layers], abs=5e-4)
    assert repr(costs).startswith(f"<CostReport 'cnn_bnfold_q2_3' on tensil (custom_perf): {len(costs.layers)} rows, ")
    assert len(repr(costs)) < 150


def test_costs_of_c_show_no_column_of_the_accelerator() -> None:
    costs = pefslc.compile(ROOT / f"{EXAMPLE}.onnx", target="c").costs
    assert costs is not None
    assert "cycles" not in costs._repr_html_()
    assert repr(costs).endswith(" MACs>")


def test_a_verification_says_whether_integers_differ(program: pefslc.Program) -> None:
    found = program.verify(np.zeros((2, 1, 16, 16)))
    assert repr(found) == "<Verification on 2 inputs: every compared integer is equal>"
    header, *rows = tables(found._repr_html_())[0]
    assert header == ["output", "compared", "equal", "first difference"]
    assert [row[2] for row in rows] == [f"{c.count} of {c.count}" for c in found.comparisons]
    first = replace(found.comparisons[0], differing=3, first="[0, <1>]: code 1 instead of 2")
    wrong = replace(found, comparisons=(first, *found.comparisons[1:]))
    total = sum(c.count for c in found.comparisons)
    assert repr(wrong) == f"<Verification on 2 inputs: 3 of {total} compared integers differ>"
    assert tables(wrong._repr_html_())[0][1][3] == "[0, <1>]: code 1 instead of 2"
    bounded = replace(found, comparisons=(replace(first, bounded=True),))
    assert repr(bounded) == f"<Verification on 2 inputs: 3 of {first.count} compared integers differ as predicted>"


CHAINS = ("The above exception was the direct cause", "During handling of the above exception")


def test_a_refusal_is_shown_once() -> None:
    with pytest.raises(pefslc.CompileError, match="PEF0504") as caught:
        pefslc.compile(ROOT / "examples/cnn_float.onnx", target="tensil", fmt="Q8.10")
    shown = "".join(format_exception(caught.value))
    assert not any(text in shown for text in CHAINS)


class Fails:
    """Has a mistake."""

    name = "fails"
    exactness = Exactness.EXACT
    level = Level.INTEGER

    def run(self, graph: Graph) -> Graph:
        del graph
        raise KeyError("attention")


def test_the_exception_of_a_users_pass_stays_with_its_lines_and_is_followed_by_ours_alone() -> None:
    with pytest.raises(pefslc.CompileError, match="PEF0905") as caught:
        pefslc.compile(ROOT / f"{EXAMPLE}.onnx", target="c", plugins=[Fails()])
    shown = "".join(format_exception(caught.value))
    assert [shown.count(text) for text in CHAINS] == [1, 0]
    assert 'raise KeyError("attention")' in shown
    assert shown.count("error[PEF0905]") == 1


def test_a_class_in_place_of_a_target_is_told_what_was_meant() -> None:
    with pytest.raises(pefslc.CompileError) as caught:
        pefslc.compile(ROOT / f"{EXAMPLE}.onnx", target=pefslc.CTarget)  # type: ignore[arg-type]
    assert "help: it is a class: did you mean an object of it, CTarget()?" in str(caught.value)
    with pytest.raises(pefslc.CompileError) as caught:
        pefslc.compile(ROOT / f"{EXAMPLE}.onnx", target=Fails)  # type: ignore[arg-type]
    assert "did you mean" not in str(caught.value)
