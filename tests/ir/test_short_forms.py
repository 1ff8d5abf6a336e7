"""A graph in short: its one line, its table, and the picture that a notebook shows."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import lower
from integer_graphs import GraphBuilder
from pefslc.frontend import import_model
from pefslc.ir.graph import Graph
from pefslc.ir.value import IntArray, RealArray

SVG = "{http://www.w3.org/2000/svg}"
LARGEST = 200_000  # characters of a picture


def chain(length: int) -> Graph:
    b = GraphBuilder("long <b>")
    value = b.input((1, 2))
    for _ in range(length):
        value = b.clamp(value, -100, 100)
    return b.graph(value)


def many_ends(count: int) -> Graph:
    b = GraphBuilder("ends")
    return b.graph(*(b.clamp(b.input((1, 2)), -3, 3) for _ in range(count)))


class Drawn:
    """The picture read back: dots by their place, lines between dots, texts."""

    def __init__(self, graph: Graph) -> None:
        frame = ElementTree.fromstring(graph._repr_html_().partition("</strong></div>")[2])
        self.svg = frame[0]
        self.dots = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in self.svg.iter(f"{SVG}circle")]
        self.rows = [t[1].text for t in self.svg.iter(f"{SVG}text")]
        self.lines = [self.points(p.get("d", "")) for p in self.svg.iter(f"{SVG}path")]

    @staticmethod
    def points(path: str) -> list[tuple[float, float]]:
        match = re.fullmatch(r"M(\S+) (\S+)(?: V(\S+))? L(\S+) (\S+)", path)
        assert match is not None, path
        x, y, turn, end_x, end_y = match.groups()
        corners = [(x, y), *([] if turn is None else [(x, turn)]), (end_x, end_y)]
        return [(float(a), float(b)) for a, b in corners]

    def edges(self) -> set[tuple[int, int]]:
        return {(self.dots.index(line[0]), self.dots.index(line[-1])) for line in self.lines}


def test_the_one_line_names_level_size_and_ends(models: Path) -> None:
    quantized = import_model(models / "cnn_q2_3.onnx")
    one_line = "Graph 'cnn_q2_3', integer level: 8 operations, 'input' [1, 1, 16, 16] -> 'output' [1, 10]"
    assert repr(replace(lower(quantized), name="cnn_q2_3")) == f"<{one_line}>"
    assert replace(lower(quantized), name="cnn_q2_3").summary().startswith(f"{one_line}\n")
    assert len(repr(many_ends(50))) < 200


def test_the_text_of_a_graph_stays_whole(models: Path) -> None:
    graph = import_model(models / "cnn_q2_3.onnx")
    assert "data\n@c0: " in str(graph)


def test_the_table_has_a_row_for_each_operation_with_what_it_does(models: Path) -> None:
    graph = lower(import_model(models / "resnet8_q3_5.onnx"))
    rows = graph.summary().split("\n\n")[1].splitlines()[2:]
    assert [row.split()[0] for row in rows] == [op.mnemonic for op in graph.ops]
    assert [row.split()[1] for row in rows] == [f"%{op.result.name}" for op in graph.ops]
    assert "weight 16x3x3x3, 3x3, pads=1,1,1,1" in rows[0]
    assert "codes 0..255, affine, relu" in rows[1]
    assert max(map(len, rows)) < 230


def test_the_table_of_a_large_graph_shows_its_first_and_last_operations() -> None:
    graph = chain(1000)
    rows = graph.summary(7).split("\n\n")[1].splitlines()[2:]
    assert [row.split()[1] for row in rows if row.startswith("clamp")] == [
        f"%{op.result.name}" for op in (*graph.ops[:5], *graph.ops[-2:])
    ]
    assert rows[5] == "(993 more)"
    assert len(graph.summary().splitlines()) < 110


@pytest.mark.parametrize("most", [0, 1, 2, 3])
def test_any_number_of_rows_may_be_asked_for(most: int) -> None:
    assert chain(3).summary(most).count("\nclamp") == most


def test_a_graph_without_operations_has_a_summary_and_a_picture() -> None:
    b = GraphBuilder("empty")
    graph = b.graph(b.input((1, 2)))
    assert len(graph.summary().splitlines()) == 3
    assert Drawn(graph).edges() == {(0, 1)}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3),
    st.lists(st.lists(st.integers(0, 10**6), min_size=1, max_size=2), max_size=24),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=3),
)
def test_the_lines_of_the_picture_are_the_operands_and_run_through_no_dot(
    inputs: int, operations: list[list[int]], outputs: list[int]
) -> None:
    b = GraphBuilder("random")
    values = [b.input((1, 2)) for _ in range(inputs)]
    for reads in operations:
        operands = [values[n % len(values)] for n in reads]
        values.append(b.sum(*operands) if len(operands) == 2 else b.clamp(operands[0], -1, 1))
    graph = b.graph(*(values[n % len(values)] for n in outputs))
    drawn = Drawn(graph)
    number = {v.name: n for n, v in enumerate([*(i.value for i in graph.inputs), *(op.result for op in graph.ops)])}
    wanted = {(number[v.name], number[op.result.name]) for op in graph.ops for v in op.operands}
    wanted |= {(number[o.value.name], len(number) + n) for n, o in enumerate(graph.outputs)}
    assert len(drawn.dots) == len(number) + len(graph.outputs)
    assert drawn.edges() == wanted
    for line in drawn.lines:
        for (x, y), (end_x, end_y) in pairwise(line):
            if x == end_x:
                between = [dot for dot in drawn.dots if dot[0] == x and y < dot[1] < end_y]
                assert not between, f"a line from {line[0]} to {line[-1]} runs through {between}"
            else:
                assert end_y - y == drawn.dots[1][1] - drawn.dots[0][1]  # from a row to the next: no dot lies between


def test_constants_are_not_drawn(models: Path) -> None:
    graph = import_model(models / "cnn_q2_3.onnx")
    constants = {op.result.name for op in graph.ops if not op.operands}
    weights = {op.result.name for op in graph.ops if op.operands and all(v.name in constants for v in op.operands)}
    drawn = [op.mnemonic for op in graph.ops if op.result.name not in constants | weights]
    assert weights
    assert Drawn(graph).rows == ["input input", *drawn, "output output"]


@pytest.mark.parametrize("graph", [chain(5000), many_ends(500)], ids=lambda g: g.name)
def test_the_picture_of_a_large_graph_has_a_largest_size(graph: Graph) -> None:
    assert len(graph._repr_html_()) < LARGEST
    drawn = Drawn(graph)
    assert float(drawn.svg.get("height", "")) < 3000
    assert float(drawn.svg.get("width", "")) < 1200
    assert any("more" in (row or "") for row in drawn.rows)
    assert max(x for x, _ in drawn.dots) < 160


def test_what_is_left_out_stays_connected() -> None:
    drawn = Drawn(chain(5000))
    assert drawn.edges() == {(n, n + 1) for n in range(len(drawn.dots) - 1)}


def test_names_from_files_cannot_become_html() -> None:
    graph = chain(1)
    shown = graph._repr_html_()
    assert "<b>" not in shown
    assert "long &lt;b&gt;" in shown
    graph = replace(graph, inputs=(replace(graph.inputs[0], name="\x00<script>\ud800"),))
    assert "<script>" not in graph._repr_html_()
    assert "&lt;script&gt;" in graph._repr_html_()
    graph._repr_html_().encode()


def test_the_same_graph_gives_the_same_picture() -> None:
    assert many_ends(5)._repr_html_() == many_ends(5)._repr_html_()


def test_arrays_show_their_shape() -> None:
    assert repr(IntArray(np.zeros((2, 3), np.int64))) == "<IntArray [2, 3]>"
    assert repr(RealArray(np.zeros(0))) == "<RealArray [0]>"
