"""`pefslc check`: every problem, as text or JSON; nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_support import Cli

from builders import ModelBuilder


@pytest.fixture
def dynamic(tmp_path: Path) -> Path:
    m = ModelBuilder()
    m.output(m.quant(m.input(["N", 3, 4, 4]), output="y"))
    return m.save(tmp_path)


def test_a_model_that_compiles(pefslc: Cli, model: Path) -> None:
    before = sorted(model.parent.iterdir())
    assert pefslc("check", model, "--target", "fake").out.startswith("mlp compiles for fake: ")
    result = pefslc("check", model, "--target", "fake", "--json")
    assert result.status == 0
    found = json.loads(result.out)
    own = {"exact": True, "exact_to": "the file", "quantized_to": None, "float_model": None}
    assert found == {"model": str(model), "target": "fake", "ok": True, **own, "problems": []}
    assert sorted(model.parent.iterdir()) == before


@pytest.mark.parametrize(("host", "said"), [("module", False), ("plain", True), ("dense", True)])
def test_what_a_plain_host_rounds_twice_is_said(pefslc: Cli, host: str, said: bool, tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.quant(m.input([1, 8, 4, 4], "input"), 0.125, 4))
    result = pefslc("check", m.save(tmp_path), "--target", "tensil", "--arch", "pynqz1", "--host", host)
    assert result.status == 0
    assert ("input 'input' is rounded twice, by the driver and by the model" in result.out) == said


def test_outputs_of_inputs_that_a_plain_host_rounds_say_that_where_they_differ(pefslc: Cli, tmp_path: Path) -> None:
    """0.1874 is 1 in steps of 0.125; in words of Q8.8 it is 0.1875, and halfway to 2."""
    m = ModelBuilder()
    m.output(m.quant(m.input([1, 8, 4, 4], "input"), 0.125, 4, output="output"))
    model, arrays = m.save(tmp_path), tmp_path / "x.npz"
    np.savez(arrays, input=np.full((1, 8, 4, 4), 0.1874), output=np.full((1, 8, 4, 4), 0.125))
    options = "--target", "tensil", "--arch", "pynqz1", "--verify", arrays, "-o", tmp_path / "build"
    assert pefslc(model, *options).status == 0
    result = pefslc(model, *options, "--host", "plain")
    assert result.status == 1
    assert "128 of 128 differ: tensil and 'output'; first at [0, 0, 0, 0]: " in result.err
    assert "; input 'input' is rounded to Q8.8 first\n" in result.err
    assert "help: model, interpreter and artifacts agree: input 'input' is rounded to Q8.8 first, by " in result.err


def test_problems_as_json(pefslc: Cli, model: Path) -> None:
    result = pefslc("check", model, "--target", "fake", "--arch", "narrow", "--fmt", "Q3.4", "--json")
    assert (result.status, result.err) == (1, "")
    found = json.loads(result.out)
    assert (found["ok"], found["exact"]) == (False, None)
    assert [p["code"] for p in found["problems"]] == ["PEF0502"] * 3 + ["PEF0504"]
    assert found["problems"][-1] == {
        "code": "PEF0504",
        "title": "a sum may overflow the accumulator",
        "reason": "the accumulator needs 10 bits, the fake accumulator has 8",
        "node": "/fc/Gemm",
        "operator": "Gemm",
        "tensor": "acc",
        "shape": [1, 3],
        "place": None,
        "help": found["problems"][-1]["help"],
    }


def test_open_axes_are_given(pefslc: Cli, dynamic: Path) -> None:
    refused = pefslc("check", dynamic, "--target", "c")
    assert refused.status == 1
    assert "or give the open sizes: --batch 1 or --input-shape x=1,3,4,4" in refused.err
    assert pefslc("check", dynamic, "--target", "c", "--batch", "1").status == 0
    assert pefslc("check", dynamic, "--target", "c", "--input-shape", "x=1,3,4,4").status == 0
    assert pefslc("inspect", dynamic, "--batch", "1").status == 0


def test_a_batch_that_the_output_contradicts(pefslc: Cli, tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.quant(m.input(["N", 3, 4, 4]), output="y"), [1, 3, 4, 4])
    result = pefslc("check", m.save(tmp_path), "--target", "c", "--batch", "3")
    assert "the output is declared [1, 3, 4, 4] but computed [3, 3, 4, 4]" in result.err
    assert "help: the file fixes this shape: give --batch and --input-shape that agree with it" in result.err


@pytest.mark.parametrize("option", ["x", "x=", "x=1,two", "1,2"])
def test_a_shape_that_is_none_is_a_usage_error(pefslc: Cli, dynamic: Path, option: str) -> None:
    result = pefslc("check", dynamic, "--target", "c", "--input-shape", option)
    assert result.status == 2
    assert "is not NAME=SIZES; for example x=1,3,32,32" in result.err
