"""The scripts of benchmarks/, on what is small."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest

import pefslc
from builders import ModelBuilder, normal

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"


def script(name: str) -> ModuleType:
    """A benchmark script as a module."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    if str(BENCHMARKS) not in sys.path:
        sys.path.append(str(BENCHMARKS))  # a script finds its neighbours
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def small_resnet12(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model: Path = script("resnet12").write_resnet12(tmp_path_factory.mktemp("resnet12"), 4)
    return model


def test_resnet12_is_written_to_the_same_bytes(small_resnet12: Path, tmp_path: Path) -> None:
    again = script("resnet12").write_resnet12(tmp_path, 4)
    assert again.read_bytes() == small_resnet12.read_bytes()
    assert again.with_suffix(".npz").read_bytes() == small_resnet12.with_suffix(".npz").read_bytes()


def test_resnet12_uses_its_codes_and_equals_its_own_evaluation_on_the_tcu(small_resnet12: Path) -> None:
    program = pefslc.compile(small_resnet12, target="tensil", arch="custom_perf", fmt="Q3.3")
    verification = program.verify(small_resnet12.with_suffix(".npz"))
    assert verification.equal
    assert "y_ref64" in str(verification)
    y = np.load(small_resnet12.with_suffix(".npz"))["y_ref64"]
    assert y.std() > 0.25  # two steps of the format at least
    assert 10 <= max(row.accumulator_bits or 0 for row in program.layers) <= 16


def test_the_eight_bit_twin_keeps_ranges_and_is_exact_on_the_tcu(small_resnet12: Path, tmp_path: Path) -> None:
    twins = script("eight_bits")
    path = twins.write_eight_bits(tmp_path, small_resnet12)
    assert path.name == f"{twins.name_of(small_resnet12.stem)}.onnx"
    before, after = (quantizers_of(onnx.load(p)) for p in (small_resnet12, path))
    assert [scale * 2**bits for scale, bits in before] == [scale * 2**bits for scale, bits in after]
    assert {bits for _, bits in before} == {6, 10}
    assert [bits for _, bits in after] == [max(bits, 8) for _, bits in before]
    again = twins.write_eight_bits(tmp_path / "again", small_resnet12)
    assert again.read_bytes() == path.read_bytes()
    program = pefslc.compile(path, target="tensil", arch="custom_perf")
    assert max(row.accumulator_bits or 0 for row in program.layers) > 16
    assert program.exact
    assert program.verify(path.with_suffix(".npz")).equal


def quantizers_of(model: onnx.ModelProto) -> list[tuple[float, int]]:
    """(scale, bits) of each."""
    values = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "Quant"]
    return [(float(values[node.input[1]]), int(values[node.input[3]])) for node in nodes]


def test_a_row_of_an_eight_bit_twin() -> None:
    goals = script("goals")
    goal, own = goals.TWINS[1], goals.Measured(1_000, 1_000, 1.0, 0.9, 99.0, "4 of 4")
    cells = goals.twin_row(goal, own, replace(own, cycles=2_200))
    assert len(cells) == len(goals.TWIN_HEADER)
    assert cells[1:7] == ["custom_perf", "1,000", "2,200", "2.20", "yes", "4 of 4"]
    assert goals.twin_row(goal, own, replace(own, cycles=2_201))[5] == "no, 2.2 wanted"
    assert goals.twin_row(goal, own, "refused: why")[2:6] == ["1,000", "refused: why", "", "no"]


def test_a_row_of_the_goal_table() -> None:
    goals = script("goals")
    goal = goals.Goal("cnn_bnfold_q2_3", "custom_perf", "resnet9_strided_16", goal=100, stretch=5)
    found = goals.measure(ROOT / "examples" / "cnn_bnfold_q2_3.onnx", goal, 4, 1)
    assert found.outputs == "40 of 40"
    assert 1_000 < found.cycles < 100_000
    assert 0.1 < found.seconds < 60
    assert 20 < found.megabytes < 1_000
    tensil = json.loads((BENCHMARKS / "data" / "tensil.json").read_text())["rows"]["resnet9_strided_16/custom_perf"]
    cells = goals.row(goal, tensil, found)
    assert len(cells) == len(goals.HEADER)
    assert cells[2] == "1"
    assert cells[4] == "857,174 (RTL)"
    assert cells[6:9] == ["100 k / 5 k", "yes", "40 of 40"]
    assert cells[-1] == "14 s, 2,731 MB"


def test_a_refused_row_says_why() -> None:
    goals = script("goals")
    goal = goals.Goal("cnn_bnfold_q2_3", "custom_perf", "resnet12_strided_64", fmt="Q4.4")
    found = goals.measure(ROOT / "examples" / "cnn_bnfold_q2_3.onnx", goal, 1, 1)
    assert found.startswith("refused: error[PEF")
    cells = goals.row(goal, {"compile_wall_s": 110.3}, found)
    assert cells[:5] == ["cnn_bnfold_q2_3 --fmt Q4.4", "custom_perf", "1", found, "does not compile"]


def test_every_goal_has_tensils_figures() -> None:
    rows = json.loads((BENCHMARKS / "data" / "tensil.json").read_text())["rows"]
    assert all(f"{goal.tensil}/{goal.arch}" in rows for goal in script("goals").GOALS)


@pytest.fixture(scope="module")
def field() -> ModuleType:
    return script("field")


def field_model(field: ModuleType, quantizes: bool) -> object:
    """One whose file is made here: a dense layer, quantized or not, and two wrong outputs of a runtime."""

    def write(folder: Path) -> None:
        m = ModelBuilder()
        x = m.quant(m.input([1, 6], "x"), 0.125, 5)
        kernel = normal((6, 5), 0.5)
        m.output(m.node("MatMul", x, m.weight(kernel, 0.25, 4) if quantizes else m.constant(kernel), output="y"))
        m.save(folder, "dense.onnx")
        data = np.zeros((3, 6), np.float32)
        wrong = np.zeros((3, 5), np.float32)
        wrong[1, :2] = 0.5
        np.savez(folder / "dense.npz", x=data, y=wrong, y_ref64=np.zeros((3, 5)))

    return field.FieldModel("an exporter", "dense", write)


def test_a_row_of_the_field_table_says_what_differs_from_the_runtime_alone(field: ModuleType, tmp_path: Path) -> None:
    row = field.row(field_model(field, True), tmp_path, 100)
    wrong = "2 of 15 differ, 0 of the 2 within what rounding in float32 explains"
    assert (row.exporter, row.models, row.cells) == ("an exporter", ("dense",), ("exact", "exact", wrong, ""))


def test_a_row_of_the_field_table_has_the_reason_of_a_refusal_once(field: ModuleType, tmp_path: Path) -> None:
    assert field.row(field_model(field, False), tmp_path, 100).cells == ("-", "-", "", "the weights are not quantized")


def test_a_model_that_takes_too_long_is_stopped(field: ModuleType, tmp_path: Path) -> None:
    assert field.row(field_model(field, True), tmp_path, 0).cells[:2] == ("not in 0 s",) * 2


def test_models_of_an_exporter_that_are_alike_share_a_row(field: ModuleType) -> None:
    def row(exporter: str, model: str, *cells: str) -> object:
        return field.Row(exporter, (model,), cells)

    rows = [
        row("a", "m1", "exact", "2 of 40 differ", "needs 19 bits, FP16BP8 has 16 (and 2 more)"),
        row("b", "m2", "exact", "2 of 40 differ", "needs 19 bits, FP16BP8 has 16 (and 2 more)"),
        row("a", "m3", "-", "2 of 40 differ", "needs 19 bits, FP16BP8 has 16 (and 2 more)"),
        row("a", "m4", "exact", "16 of 40 differ", "needs 8 bits, FP16BP8 has 16 (and 2 more)"),
    ]
    assert [str(row) for row in field.joined(rows)] == [
        "| a | m1, m4 | exact | 2 to 16 of 40 differ | needs 8 to 19 bits, FP16BP8 has 16 (and 2 more) |",
        "| b | m2 | exact | 2 of 40 differ | needs 19 bits, FP16BP8 has 16 (and 2 more) |",
        "| a | m3 | - | 2 of 40 differ | needs 19 bits, FP16BP8 has 16 (and 2 more) |",
    ]


def test_numbers_in_names_keep_rows_apart(field: ModuleType) -> None:
    rows = [field.Row("a", (f"m{i}",), (f"'{i}' and 'conv{i}' and /{i}/conv/{i}.0 have no quantizer",)) for i in (1, 2)]
    assert field.joined(rows) == rows


def test_the_table_has_an_exporters_models_together(
    field: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    family = ModuleType("models")
    family.NEEDS = ()  # type: ignore[attr-defined]
    listed = [field.FieldModel(exporter, name, print) for name, exporter in ("xb", "yc", "zb")]
    family.models = lambda: listed  # type: ignore[attr-defined]
    monkeypatch.setattr(field, "families", lambda: [("models", family)])
    monkeypatch.setattr(field, "row", lambda model, *_: field.Row(model.exporter, (model.name,), ("exact", "-")))
    field.table(tmp_path, "", 1)
    printed = capsys.readouterr()
    assert printed.out.splitlines()[2:] == ["| b | x, z | exact | - |", "| c | y | exact | - |"]
    assert [row[:9] for row in printed.err.splitlines()] == ["| b | x |", "| b | z |", "| c | y |"]


def test_an_exact_value_that_differs_is_told(field: ModuleType, tmp_path: Path) -> None:
    field_model(field, True).write(tmp_path)  # type: ignore[attr-defined]
    np.savez(tmp_path / "dense.exact.npz", x=np.zeros((3, 6)), y=np.eye(3, 5))
    assert field.judge(tmp_path / "dense.onnx", "c", {})[0] == "3 of 15 differ"


def test_exporters_that_are_not_installed_are_named(
    field: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    family = ModuleType("nobody_models")
    family.NEEDS = ("numpy", "a_package_of_nobody")  # type: ignore[attr-defined]
    monkeypatch.setattr(field, "families", lambda: [("nobody_models", family)])
    field.table(tmp_path, "", 1)
    assert "nobody_models: not installed: a_package_of_nobody; docs/field.md says how" in capsys.readouterr().out


def test_every_exporter_says_what_it_needs_without_having_it(field: ModuleType) -> None:
    assert "onnxruntime_models" in [name for name, family in field.families() if family.NEEDS]


def test_float_networks_are_valid_and_the_same_each_time() -> None:
    script("field")
    from exporters.float_networks import NETWORKS, float_network

    for name in NETWORKS:
        if name != "resnet18_full":
            model = float_network(name)
            onnx.checker.check_model(model)
            assert model.SerializeToString() == float_network(name).SerializeToString()


def test_the_exact_evaluation_of_a_quantized_file_is_the_networks_own() -> None:
    script("field")
    from exporters.exact_evaluation import evaluate
    from static_quantization import NETWORKS, StaticNetwork

    for is_qdq in (True, False):
        m = StaticNetwork(qdq=is_qdq)
        x = np.random.default_rng(4).normal(0, 1, (1, 3, 8, 8)).astype(np.float32)
        y = NETWORKS["mobilenet_v2"](m, m.start(x))
        m.end(y)
        (found,) = evaluate(m.build(), {"x": x}).values()
        np.testing.assert_array_equal(found, y.values.astype(float))


@pytest.mark.parametrize("name", ["resnet18_w8a8", "resnet50_w4a4", "mobilenetv2_w4a4"])
def test_a_small_one_of_the_large_networks_equals_its_own_evaluation_in_c(name: str, tmp_path: Path) -> None:
    large = script("large")
    size = large.Size(picture=32, channels=4, classes=10)
    model = large.write_network(tmp_path, name, size)
    program = pefslc.compile(model, target="c", weights="binary")
    verification = program.verify(model.with_suffix(".npz"))
    assert verification.equal
    assert "y_ref64" in str(verification)
    assert program.exact
    again = large.write_network(tmp_path / "again", name, size)
    assert again.read_bytes() == model.read_bytes()
    assert again.with_suffix(".npz").read_bytes() == model.with_suffix(".npz").read_bytes()
