"""`pefslc inspect` of float models: ranges as NumPy has them, and formats in which nothing saturates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_support import Cli
from jsonschema import Draft202012Validator

from builders import ModelBuilder
from pefslc.console.json_schemas import SCHEMAS

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
FLOAT, DATA = EXAMPLES / "cnn_float.onnx", EXAMPLES / "cnn_float.npz"


def asked(pefslc: Cli, *arguments: object) -> dict[str, Any]:
    result = pefslc("inspect", *arguments, "--json")
    assert result.status == 0, result.err
    found = json.loads(result.out)
    Draft202012Validator(SCHEMAS["inspect-float"]).validate(found)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """x [1, 3] -> Gemm -> Relu -> Gemm -> y [1, 2], of weights that float32 holds exactly."""
    m = ModelBuilder()
    first = m.constant(np.array([[1.0, -2.5, 0.5], [0.25, 3.0, -1.0]]))
    second = m.constant(np.array([[4.0, -0.125], [1.0, 1.0]]))
    hidden = m.node("Relu", m.node("Gemm", m.input([1, 3]), first, transB=1))
    m.output(m.node("Gemm", hidden, second, transB=1))
    return m.save(tmp_path)


def test_ranges_are_those_of_a_plain_evaluation(pefslc: Cli, network: Path, tmp_path: Path) -> None:
    x = np.array([[1.0, 0, 2], [-3, 1, 0.5], [0, -1, 1]])
    np.savez(tmp_path / "x.npz", x=x)
    hidden = np.maximum(x @ np.array([[1.0, -2.5, 0.5], [0.25, 3.0, -1.0]]).T, 0)
    y = hidden @ np.array([[4.0, -0.125], [1.0, 1.0]]).T
    rows = asked(pefslc, network, "--calibrate", tmp_path / "x.npz")["layers"]
    assert [(r["op"], r["weight_range"], r["value_range"]) for r in rows] == [
        ("input", None, [x.min(), x.max()]),
        ("Linear", [-2.5, 3], None),  # its sums are not rounded: the Relu's are
        ("Relu", None, [hidden.min(), hidden.max()]),
        ("Linear", [-0.125, 4], [y.min(), y.max()]),
    ]
    assert [r["value_range"] for r in asked(pefslc, network)["layers"]] == [None] * 4


def test_the_format_that_is_named_saturates_nowhere_and_one_bit_less_does(pefslc: Cli, tmp_path: Path) -> None:
    narrow, wide = asked(pefslc, FLOAT, "--calibrate", DATA)["formats_that_hold"]
    assert (narrow, wide) == ("Q3.5", "Q3.13")
    for fmt, saturates in ((narrow, False), ("Q2.6", True)):
        arguments = (FLOAT, "--target", "c", "--fmt", fmt, "-o", tmp_path, "--verify", DATA, "--json")
        assert bool(json.loads(pefslc(*arguments).out)["float_model"]["saturated"]) == saturates


def test_the_table_names_them(pefslc: Cli) -> None:
    plain = pefslc("inspect", FLOAT)
    assert (plain.status, plain.err) == (0, "")
    assert "Q2.6: 8 bits, step 0.015625, range [-2, 1.98438] holds all weights\n" in plain.out
    assert plain.out.endswith("--calibrate DATA.npz shows the ranges of the values, too\n")
    measured = pefslc("inspect", FLOAT, "--calibrate", DATA).out
    assert (
        "range [-4, 3.96875] (UQ3.5 to 7.96875 behind a ReLU) holds all weights, and all values that are rounded\n"
        in measured
    )


def test_a_format_makes_it_a_quantized_model(pefslc: Cli) -> None:
    assert "acc bits" in pefslc("inspect", FLOAT, "--fmt", "Q3.4").out


def test_a_quantized_model_takes_no_data(pefslc: Cli, model: Path) -> None:
    result = pefslc("inspect", model, "--calibrate", DATA)
    assert (result.status, result.out) == (2, "")
    assert "--calibrate is for float models" in result.err
