"""The page of a report as a file: self-contained, the same each time, small, safe with whatever names a model has."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import pefslc
from builders import ModelBuilder
from pefslc.model_report.collect import collect_report
from pefslc.model_report.comparison import read_report
from pefslc.model_report.model import LayerDetail, ModelReport
from pefslc.model_report.report_file import report_content
from pefslc.report_page.network_picture import draw_network
from pefslc.report_page.page import report_page
from pefslc.report_page.picture import report_picture
from pefslc.report_page.theme import LIGHT

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
VOID = {"meta", "link", "br", "col", "input", "img"}


class Reader(HTMLParser):
    """Demands that every element is closed where it was opened; keeps the attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(page: bytes) -> Reader:
    reader = Reader()
    reader.feed(page.decode())
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def report() -> ModelReport:
    program = pefslc.compile(EXAMPLES / "cnn_bnfold_q2_3.onnx", target="tensil", arch="pynqz1")
    return collect_report(program, EXAMPLES / "cnn_bnfold_q2_3.npz")


def test_the_page_asks_for_nothing_else(pages: Path) -> None:
    for name in ("resnet.html", "c.html"):
        content = (pages / name).read_bytes()
        for tag, attribute, value in read(content).attributes:
            if attribute in ("src", "href", "xlink:href", "srcset", "action", "poster", "data"):
                assert value.startswith(("#", "data:")), (tag, attribute, value)
        assert b"@import" not in content
        assert not re.search(rb"url\((?!#)", content)


def test_ids_are_there_once_and_what_is_named_is_there(pages: Path) -> None:
    for name in ("resnet.html", "c.html"):
        attributes = read((pages / name).read_bytes()).attributes
        ids = [value for _, attribute, value in attributes if attribute == "id"]
        assert len(ids) == len(set(ids))
        named = {v for _, a, v in attributes if a in ("aria-controls", "aria-labelledby")}
        named |= {v[1:] for _, a, v in attributes if a == "href" and v.startswith("#")}
        named |= set(re.findall(r"url\(#([^)]+)\)", " ".join(v for _, _, v in attributes)))
        assert named <= set(ids)


def test_the_same_report_gives_the_same_bytes(report: ModelReport) -> None:
    assert report_page(report) == report_page(report)
    assert report_picture(report) == report_picture(report)


def test_the_page_holds_the_numbers(report: ModelReport, tmp_path: Path) -> None:
    (tmp_path / "r.html").write_bytes(report_page(report))
    assert read_report(tmp_path / "r.html") == json.loads(json.dumps(report_content(report)))


def test_pages_and_the_picture_are_small(pages: Path, report: ModelReport) -> None:
    assert (pages / "resnet.html").stat().st_size < 500_000
    assert len(report_picture(report)) < 60_000


@pytest.mark.parametrize("name", ["</script><script>alert(1)</script>", "a&b<c>\"'", "cost $x_1$ %d {{ 7*7 }}", "層"])
def test_names_of_a_model_are_text(report: ModelReport, name: str) -> None:
    first = report.layers[0]
    renamed = replace(first, row=replace(first.row, layer=name))
    nodes = tuple(replace(node, title=name) for node in report.network.nodes)
    network = replace(report.network, nodes=nodes)
    hostile = replace(report, model=name, layers=(renamed, *report.layers[1:]), network=network, notes=(name,))
    page = report_page(hostile)
    reader = read(page)
    assert sum(1 for tag, attribute, _ in reader.attributes if (tag, attribute) == ("script", "type")) == 1
    assert page.count(b"<script") == 2
    assert sum(name in text for text in reader.texts) > 3


def bare_layer(layer: LayerDetail) -> LayerDetail:
    return replace(layer, cost=None, sums=None, curve=None, weights=None, values=None)


def test_a_page_without_costs_inputs_and_sums_is_one(report: ModelReport) -> None:
    bare = replace(
        report, layers=tuple(map(bare_layer, report.layers)), costs=None, cycles=None, clock=None, bytes_per_cycle=None,
        timelines=(), begins=(), macs=0,
    )  # fmt: skip
    read(report_page(bare))
    read(report_picture(bare))


@pytest.mark.parametrize("target", ["c", "tensil"])
@pytest.mark.parametrize("data", [np.zeros((1, 2, 4, 4)), np.full((3, 2, 4, 4), 100.0)], ids=["zeros", "all clip"])
def test_a_network_without_weights_has_a_page(target: str, data: NDArray[np.float64], tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input((1, 2, 4, 4), "x"))
    m.output(m.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]))
    found = collect_report(pefslc.compile(m.save(tmp_path), target=target), {"x": data})
    assert found.macs == 0
    read(report_page(found))
    read(report_picture(found))


def test_the_picture_stands_alone(report: ModelReport) -> None:
    picture = report_picture(report)
    assert picture.startswith(b"<svg ")
    assert b"var(" not in picture
    assert b'xmlns="http://www.w3.org/2000/svg"' in picture
    assert b"cnn_bnfold_q2_3 on tensil (pynqz1)" in picture


def test_the_picture_has_the_colours_of_the_page() -> None:
    css = (Path(pefslc.__file__).parent / "report_page/page/report.css").read_text()
    light = css[: css.index("@media (prefers-color-scheme: dark)")]
    dark = css[css.index("@media (prefers-color-scheme: dark)") : css.index("* { box-sizing")]
    for role, colour in LIGHT.items():
        assert f"--{role}: " in dark
        assert f"--{role}: {colour};" in light, role


def test_no_node_of_the_network_lies_on_another_and_edges_end_at_nodes(report: ModelReport) -> None:
    picture = draw_network(report)
    boxes = [(n.x, n.y, n.x + n.width, n.y + n.height) for n in picture.nodes]
    for number, (left, top, right, bottom) in enumerate(boxes):
        assert 0 <= left < right <= picture.width
        assert 0 <= top < bottom <= picture.height
        for other in boxes[:number]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
    for edge, drawn in zip(report.network.edges, picture.edges, strict=True):
        numbers = [float(n) for n in re.findall(r"-?[\d.]+", drawn.path)]
        places = {node.node.key: node for node in picture.nodes}
        source, target = places[edge.source], places[edge.target]
        assert numbers[1] == pytest.approx(source.y + source.height, abs=0.2)
        assert numbers[-1] == pytest.approx(target.y, abs=0.2)
        assert drawn.label == edge.format
