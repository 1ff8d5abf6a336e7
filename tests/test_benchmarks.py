"""The scripts of benchmarks/, on what is small."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import pefslc

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
    assert cells[3] == "857,174 (RTL)"
    assert cells[5:8] == ["100 k / 5 k", "yes", "40 of 40"]
    assert cells[-1] == "14 s, 2,731 MB"


def test_a_refused_row_says_why() -> None:
    goals = script("goals")
    goal = goals.Goal("cnn_bnfold_q2_3", "custom_perf", "resnet12_strided_64", fmt="Q4.4")
    found = goals.measure(ROOT / "examples" / "cnn_bnfold_q2_3.onnx", goal, 1, 1)
    assert found.startswith("refused: error[PEF")
    cells = goals.row(goal, {"compile_wall_s": 110.3}, found)
    assert cells[:4] == ["cnn_bnfold_q2_3 --fmt Q4.4", "custom_perf", found, "does not compile"]


def test_every_goal_has_tensils_figures() -> None:
    rows = json.loads((BENCHMARKS / "data" / "tensil.json").read_text())["rows"]
    assert all(f"{goal.tensil}/{goal.arch}" in rows for goal in script("goals").GOALS)


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
