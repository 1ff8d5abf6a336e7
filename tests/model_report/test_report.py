"""What is in a report: its numbers are those of the compile, and each is also text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

import pefslc
from builders import ModelBuilder
from pefslc.console.json_schemas import SCHEMAS
from pefslc.ir.interpret import quantize_input, run_codes
from pefslc.ir.quantized import Quantize
from pefslc.ir.reference import evaluate_values
from pefslc.model_report.collect import collect_report
from pefslc.model_report.comparison import compare
from pefslc.model_report.model import ModelReport
from pefslc.model_report.report_file import report_bytes, report_content
from pefslc.model_report.text import report_text

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
REPORTS = ("resnet", "float_c", "plain_c")


@pytest.fixture(params=REPORTS)
def report(request: pytest.FixtureRequest) -> ModelReport:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, ModelReport)
    return found


def test_the_json_is_as_its_schema_says(report: ModelReport) -> None:
    content = json.loads(report_bytes(report, compare(report.to_json(), report.to_json())))
    Draft202012Validator(SCHEMAS["report"]).validate(content)
    assert content["against"]["layers"] == []
    assert {total["verdict"] for total in content["against"]["totals"]} == {"same"}


def whole_numbers(content: object) -> Iterator[int]:
    """Those of a report, without what only says where to look."""
    match content:
        case bool():
            return
        case int():
            yield content
        case list():
            for part in content:
                yield from whole_numbers(part)
        case dict():
            for key, part in content.items():
                if key not in ("report_format", "layer", "cost_row", "cost_rows_begin", "step_curve", "format_codes"):
                    yield from whole_numbers(part)


def test_every_whole_number_of_the_json_is_in_the_text(report: ModelReport) -> None:
    content = report_content(report)
    text = report_text(report)
    shown = {int(found.replace(",", "")) for found in re.findall(r"-?\d[\d,]*", text.replace("..", " "))}
    missing = [n for n in whole_numbers(content) if n not in shown]
    assert not missing
    for layer in report.layers:
        if layer.curve is not None:
            steps = " ".join(f"{at}:{code}" for at, code in zip(layer.curve.at, layer.curve.codes, strict=True))
            assert steps in text


def test_the_same_program_gives_the_same_bytes() -> None:
    def once() -> bytes:
        program = pefslc.compile(EXAMPLES / "cnn_bnfold_q2_3.onnx", target="tensil", arch="pynqz1")
        return report_bytes(collect_report(program, EXAMPLES / "cnn_bnfold_q2_3.npz"))

    assert once() == once()


def test_costs_and_cycles_are_those_of_the_program() -> None:
    program = pefslc.compile(EXAMPLES / "cnn_bnfold_q2_3.onnx", target="tensil", arch="pynqz1", clock_mhz=25.0)
    report, costs = collect_report(program), program.costs
    assert report.costs is not None
    assert costs is not None
    assert report.costs.to_json() == costs.to_json()
    assert report.cycles == program.emission.cycles == costs.total.total_cycles
    assert report.milliseconds == costs.milliseconds(costs.total)
    assert [layer.row for layer in report.layers] == list(program.layers)
    for layer in report.layers:
        cost = report.cost_of(layer)
        assert cost is not None
        assert layer.row.layer in cost.layer.split(" + ")


def test_timelines_end_with_the_run_and_hold_its_peaks(resnet: ModelReport) -> None:
    assert resnet.costs is not None
    lines = {line.memory: line for line in resnet.timelines}
    for memory in resnet.costs.memories:
        assert max(lines[memory.name].values) == resnet.costs.total.peaks[memory.name] <= memory.available
    for name, moved in resnet.costs.total.bytes.items():
        assert sum(lines[name].values) == moved
        assert resnet.bytes_per_cycle is not None
        assert max(lines[name].values) <= -(-resnet.bytes_per_cycle * lines[name].end // len(lines[name].values))
    assert {line.end for line in lines.values()} == {resnet.cycles}


def test_buffers_of_c_share_bytes_only_when_their_steps_do_not_meet(plain_c: ModelReport) -> None:
    (line,) = plain_c.timelines
    assert plain_c.costs is not None
    (memory,) = plain_c.costs.memories
    for step, in_use in enumerate(line.values):
        alive = [b for b in plain_c.blocks if b.first <= step <= b.last]
        assert len(set().union(*(range(b.offset, b.offset + b.size) for b in alive))) == in_use
    assert max(b.offset + b.size for b in plain_c.blocks) == memory.available


def test_what_is_seen_of_sums_lies_in_what_is_proved_and_is_what_the_interpreter_has(resnet: ModelReport) -> None:
    name = "pefsl_resnet9_16_strided_bnfold_q2_3"
    program = pefslc.compile(EXAMPLES / f"{name}.onnx", target="c")
    graph, x = program.graph, np.load(EXAMPLES / f"{name}.npz")["x"].astype(np.float64)
    values = run_codes(graph, {i.name: quantize_input(i, x) for i in graph.inputs})
    extremes = {(int(v.min()), int(v.max())) for v in values.values()}
    seen = [layer.sums for layer in resnet.layers if layer.sums is not None]
    assert len(seen) == 16
    for sums in seen:
        assert sums.seen_low is not None
        assert sums.seen_high is not None
        assert sums.low <= sums.seen_low <= sums.seen_high <= sums.high
        assert (sums.seen_low, sums.seen_high) in extremes


def test_values_are_those_before_each_quantizer(resnet: ModelReport) -> None:
    graph = pefslc.load(EXAMPLES / "pefsl_resnet9_16_strided_bnfold_q2_3.onnx")
    x = np.load(EXAMPLES / "pefsl_resnet9_16_strided_bnfold_q2_3.npz")["x"].astype(np.float64)
    values = evaluate_values(graph, {graph.inputs[0].name: x})
    expected = {
        (float(v.min()), float(v.max()), v.size)
        for v in (values[op.input.name] for op in graph.of_type(Quantize) if op.channel_axis == 1)
    }
    found = {(d.low, d.high, d.count) for d in (layer.values for layer in resnet.layers) if d is not None}
    assert len(found) == 15
    assert found < expected
    (given,) = resnet.inputs
    assert given.values is not None
    assert found | {(given.values.low, given.values.high, given.values.count)} == expected
    assert given.values.count == x.size


def test_a_float_model_has_its_distance_and_the_noise_of_its_layers(float_c: ModelReport) -> None:
    measured = float_c.float_model
    assert measured is not None
    assert measured.accuracy is not None
    assert measured.rows == float_c.seen_rows == 64
    by_name = {tensor.name: tensor.noise.snr_db for tensor in measured.tensors}
    assert [layer.snr_db for layer in float_c.layers if layer.snr_db] == [by_name["b1/act"], by_name["b2/act"]]


def test_the_weights_of_a_float_model_are_shown_before_they_are_rounded(float_c: ModelReport) -> None:
    first = float_c.layers[0].weights
    assert first is not None
    assert first.low * 16 != round(first.low * 16), "Q3.4 has steps of 1/16"
    assert first.count == 72


def test_merged_nodes_are_named_from_the_sum_to_the_quantizer(resnet: ModelReport) -> None:
    merged = [(node.operator, node.node) for node in resnet.layers[0].merged]
    assert merged == [("Relu", "blocks.0/c1/act"), ("Quant", "blocks.0/c1/act")]


def test_the_network_has_a_node_for_each_layer_and_both_edges_of_a_sum(resnet: ModelReport) -> None:
    network = resnet.network
    assert [n.layer for n in network.nodes if n.kind == "layer"] == list(range(16))
    total = next(n for n in network.nodes if n.layer == 4)
    assert resnet.layers[4].row.op == "Sum"
    sources = [(edge.source, edge.format) for edge in network.edges if edge.target == total.key]
    assert sources == [("layer3", "Q2.3"), ("layer1", "Q2.3")]
    assert network.edges[0].source == "input0"
    assert network.edges[-1].target == "output0"


def test_a_sum_of_one_tensor_with_itself_is_one_edge(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input((1, 2, 3, 3), "x"))
    m.output(m.node("Add", x, x))
    (tmp_path / "twice.onnx").write_bytes(m.build().SerializeToString())
    report = collect_report(pefslc.compile(tmp_path / "twice.onnx", target="c"))
    layer = [e for e in report.network.edges if e.target == "layer0"]
    assert len(layer) == 1


def test_without_inputs_nothing_is_seen(plain_c: ModelReport) -> None:
    assert (plain_c.given_rows, plain_c.seen_rows) == (0, 0)
    assert all(layer.values is None for layer in plain_c.layers)
    assert all(layer.sums is None or layer.sums.seen_low is None for layer in plain_c.layers)
    assert any(layer.weights is not None for layer in plain_c.layers)
