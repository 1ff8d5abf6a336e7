"""Networks as Brevitas exports them: the integer interpreter equals the expected outputs, or the model is refused."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from builders import WIDE
from pefslc.diagnostics.errors import CompileError
from pefslc.frontend import import_model
from pefslc.ir.graph import Graph, OutputMap
from pefslc.ir.interpret import run
from pefslc.ir.parse import parse_graph
from pefslc.ir.text import print_graph
from pefslc.numeric.scale import power_of_two_exponent
from pefslc.passes.manager import run_passes
from pefslc.passes.pipeline import pipeline

MODELS = Path(__file__).parent.parent / "data" / "models"
SHARED = Path(__file__).parent.parent.parent.parent / "shared"
ZOO, BAD = SHARED / "zoo", SHARED / "zoo_bad"

# What is not supported, and the reason that the user reads.
REFUSED = {
    "cnn_float": "input 'input' has no quantizer",
    "pefsl_resnet9_16_strided_float": "input 'input' has no quantizer",
}
# Broken in one way or another, and yet a legal meaning: zoo_bad's index says what each is.
HANDLED_THOUGH_BAD = {
    "if_subgraph",
    "function_proto",
    "_valid_base",
    "auto_pad_same_lower",
    "conv1d",
    "evil_tensor_names",
    "ir_version_too_new",
    "missing_opset_import",
    "nonpot_scale",
    "not_topologically_sorted",
    "zeropoint_nonzero",
}

_NO_DATA = "optional reference data (../shared) is not there"


def names(folder: Path) -> list[object]:
    if not folder.is_dir():
        return [pytest.param("", marks=pytest.mark.skip(reason=_NO_DATA))]
    return sorted(p.stem for p in folder.glob("*.onnx"))


def lowered(path: Path) -> Graph:
    return run_passes(import_model(path), pipeline(WIDE))[0]


def is_exact_in_float64(output_map: OutputMap | None) -> bool:
    """Powers of two: then scale * code + offset is not rounded."""
    assert output_map is not None
    return all(power_of_two_exponent(s) is not None for s in output_map.scale)


def compare(path: Path) -> None:
    graph = lowered(path)
    arrays = np.load(path.with_suffix(".npz"))
    outputs = run(graph, arrays["x"])
    assert len(outputs) == 1
    (got,), expected = outputs.values(), arrays["y_ref64"]
    assert got.shape == expected.shape
    if is_exact_in_float64(graph.outputs[0].map):
        np.testing.assert_array_equal(got, expected)
    else:
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9)
        steps = [abs(float(s)) for s in graph.outputs[0].map.scale]  # type: ignore[union-attr]
        assert min(steps) > 1e-8, "a tolerance that could hide a wrong code"
    assert parse_graph(print_graph(graph)) == graph


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.onnx")), ids=lambda p: p.stem)
def test_the_models_in_the_repository_are_exact(path: Path) -> None:
    compare(path)


@pytest.mark.parametrize("name", names(ZOO))
def test_the_zoo_is_exact_or_refused_with_the_reason(name: str) -> None:
    path = ZOO / f"{name}.onnx"
    if name not in REFUSED:
        compare(path)
        return
    with pytest.raises(CompileError) as caught:
        lowered(path)
    assert REFUSED[name] in str(caught.value)


@pytest.mark.parametrize("name", names(BAD))
def test_bad_files_are_refused_with_a_place_or_a_hint(name: str) -> None:
    path = BAD / f"{name}.onnx"
    if name in HANDLED_THOUGH_BAD:
        lowered(path)
        return
    with pytest.raises(CompileError) as caught:
        lowered(path)
    for problem in caught.value.problems:
        assert problem.at is not None or problem.hint is not None
        assert len(str(problem)) < 600


@pytest.mark.skipif(not BAD.is_dir(), reason=_NO_DATA)
def test_every_bad_case_has_a_file() -> None:
    cases = json.loads((BAD / "index.json").read_text())
    assert {c["file"] for c in cases} <= {p.name for p in BAD.iterdir()}


@pytest.mark.skipif(not BAD.is_dir(), reason=_NO_DATA)
@pytest.mark.parametrize("name", ["_valid_base", "auto_pad_same_lower", "evil_tensor_names", "nonpot_scale"])
def test_odd_files_that_are_handled_are_handled_exactly(name: str) -> None:
    """Against the float64 evaluation of the same nodes; tests/oracle.py knows no auto_pad."""
    path = BAD / f"{name}.onnx"
    graph = lowered(path)
    x = np.random.default_rng(0).normal(0, 1, (4, *graph.inputs[0].value.type.shape[1:]))
    for output, expected in run(import_model(path), x).items():
        np.testing.assert_allclose(run(graph, x)[output], expected, rtol=1e-9, atol=1e-9)
    assert all(isinstance(s, Fraction) for s in graph.outputs[0].map.scale)  # type: ignore[union-attr]
