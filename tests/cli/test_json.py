"""Real output of every --json against its schema, by a validator that is not ours; and what the numbers in it are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_support import Cli
from jsonschema import Draft202012Validator

from pefslc.console.json_schemas import SCHEMAS
from pefslc.diagnostics.error_codes import Code
from pefslc.passes.manager import Exactness

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
CNN, DATA = EXAMPLES / "cnn_bnfold_q2_3.onnx", EXAMPLES / "cnn_bnfold_q2_3.npz"
FLOAT, FLOAT_DATA = EXAMPLES / "cnn_float.onnx", EXAMPLES / "cnn_float.npz"

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(pefslc: Cli) -> Ask:
    """The object that a command prints, valid by its schema: name of the schema, exit status, arguments."""

    def run(schema: str, status: int, *arguments: object) -> dict[str, Any]:
        result = pefslc(*arguments, "--json")
        assert result.status == status, result.err
        found = json.loads(result.out)
        Draft202012Validator(json.loads(pefslc("schema", schema).out)).validate(found)
        assert isinstance(found, dict)
        return found

    return run


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_and_is_printed(pefslc: Cli, name: str) -> None:
    printed = json.loads(pefslc("schema", name).out)
    Draft202012Validator.check_schema(printed)
    assert printed == SCHEMAS[name]
    assert f"{name} " in pefslc("schema").out


def test_an_unknown_schema_is_answered_with_what_may_be_meant(pefslc: Cli) -> None:
    assert pefslc("schema", "chek").err == "error: no schema 'chek'\n  help: did you mean 'check'?\n"
    assert pefslc("schema", "xyz").err.endswith(f"help: known: {', '.join(SCHEMAS)}\n")


def test_the_schemas_refuse_what_lacks_a_key_or_has_another(ask: Ask, model: Path) -> None:
    for name, arguments in (("check", ("check", model, "--target", "fake")), ("inspect", ("inspect", model))):
        found, validator = ask(name, 0, *arguments), Draft202012Validator(SCHEMAS[name])
        for key in found:
            assert not validator.is_valid({k: v for k, v in found.items() if k != key})
        assert not validator.is_valid({**found, "another": 1})


def test_inspect(ask: Ask, model: Path) -> None:
    found = ask("inspect", 0, "inspect", model)
    assert (found["model"], found["accumulator"]) == (str(model), None)
    (x,), (y,), (layer,) = found["inputs"], found["outputs"], found["layers"]
    assert (x["name"], x["shape"], x["bits"], x["signed"], x["scale"]) == ("x", [1, 4], 5, True, ["1/8"])
    assert (y["name"], y["low"], y["high"], y["scale"], y["offset"]) == ("y", 0, 31, ["1/8"], ["0"])
    assert (layer["layer"], layer["accumulator_bits"], layer["available_bits"], layer["macs"]) == ("fc", 10, None, 12)
    narrow = ask("inspect", 0, "inspect", model, "--target", "fake", "--arch", "narrow")
    accumulator = {"target": "fake", "name": "the fake accumulator", "bits": 8, "every_sum_fits": False}
    assert narrow["accumulator"] == accumulator
    assert ask("inspect", 0, "inspect", CNN, "--target", "tensil")["accumulator"]["every_sum_fits"]


def test_what_inspect_and_the_sidecar_say_of_inputs_and_outputs_is_one(ask: Ask, pefslc: Cli, tmp_path: Path) -> None:
    found = ask("inspect", 0, "inspect", CNN)
    assert pefslc(CNN, "--target", "c", "-o", tmp_path).status == 0
    sidecar = json.loads((tmp_path / "cnn_bnfold_q2_3.c.json").read_text())
    assert (found["inputs"], found["outputs"]) == (sidecar["inputs"], sidecar["outputs"])


def test_check(ask: Ask, model: Path, open_model: Path) -> None:
    assert ask("check", 0, "check", model, "--target", "fake")["ok"]
    assert ask("check", 1, "check", model, "--target", "fake", "--arch", "narrow")["problems"]
    assert ask("check", 1, "check", open_model, "--target", "fake")["exact"] is None
    measured = ask("check", 0, "check", FLOAT, "--target", "c", "--fmt", "auto:8", "--calibrate", FLOAT_DATA)
    assert measured["float_model"]["rows"] > 0


@pytest.mark.parametrize("target", ["c", "tensil"])
def test_a_compile(ask: Ask, tmp_path: Path, target: str) -> None:
    found = ask("compile", 0, CNN, "--target", target, "-o", tmp_path, "--verify", DATA, "--costs")
    assert (found["ok"], found["exact"], found["problems"]) == (True, True, [])
    assert [Path(name) for name in found["files"]] == [p for n in found["files"] for p in tmp_path.glob(Path(n).name)]
    assert {Path(name) for name in found["files"]} == set(tmp_path.iterdir())
    verification = found["verification"]
    assert (verification["inputs"], verification["equal"], verification["as_predicted"]) == (4, True, True)
    assert {c["count"] for c in verification["comparisons"]} == {40}
    assert sum(layer["macs"] for layer in found["layers"]) == found["costs"]["total"]["macs"]


def test_a_compile_without_inputs_has_no_verification(ask: Ask, model: Path, tmp_path: Path) -> None:
    found = ask("compile", 0, model, "--target", "fake", "-o", tmp_path / "out")
    assert (found["verification"], found["costs"]) == (None, None)


def test_a_float_model_and_native_arithmetic(ask: Ask, tmp_path: Path) -> None:
    for target, fmt in (("c", "Q3.4"), ("tensil", "Q8.8")):
        found = ask("compile", 0, FLOAT, "--target", target, "--fmt", fmt, "-o", tmp_path, "--verify", FLOAT_DATA)
        assert found["quantized_to"] == found["exact_to"] == fmt
        assert found["float_model"]["outputs"]
    assert found["verification"]["native_words"]["outside"] == 0
    assert found["verification"]["errors"]


def test_a_refused_compile(ask: Ask, pefslc: Cli, model: Path, tmp_path: Path) -> None:
    arguments = (model, "--target", "fake", "--arch", "narrow", "-o", tmp_path / "out")
    found = ask("compile", 1, *arguments)
    assert [p["code"] for p in found["problems"]] == ["PEF0504"]
    assert (found["files"], found["verification"]) == ([], None)
    assert pefslc(*arguments, "--json").err == ""


def test_a_verification_that_fails(ask: Ask, model: Path, inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = ask("compile", 1, model, "--target", "fake", "--arch", "wrong", "--verify", inputs, "-o", out)
    assert (found["ok"], found["files"]) == (False, [])
    assert {p["code"] for p in found["problems"]} == {Code.DIFFERS.number}
    assert not found["verification"]["as_predicted"]
    assert any(c["differing"] for c in found["verification"]["comparisons"])
    assert not out.exists()


def test_json_and_the_text_of_passes_do_not_mix(pefslc: Cli, model: Path) -> None:
    result = pefslc(model, "--target", "fake", "--json", "--print-ir-after", "all")
    assert (result.status, result.out) == (2, "")


def test_run(ask: Ask, pefslc: Cli, model: Path, inputs: Path, tmp_path: Path) -> None:
    build, output = tmp_path / "build", tmp_path / "y.npz"
    assert pefslc(model, "--target", "fake", "-o", build).status == 0
    found = ask("run", 0, "run", build, "--inputs", inputs, "-o", output)
    assert (found["artifact"], found["target"], found["written"]) == (str(build), "fake", str(output))
    (y,) = found["outputs"]
    assert (y["name"], y["shape"]) == ("y", [8, 3])
    expected = np.load(inputs)["y_ref64"]
    assert np.array_equal(np.array(y["values"]), expected)
    assert np.array_equal(np.load(output)["y"], expected)
    assert ask("run", 0, "run", build, "--inputs", inputs)["written"] is None


def test_a_tmodel_alone(ask: Ask, pefslc: Cli, tmp_path: Path) -> None:
    assert pefslc(CNN, "--target", "tensil", "-o", tmp_path).status == 0
    (tmp_path / "cnn_bnfold_q2_3.tensil.json").unlink()
    (tmp_path / "cnn_bnfold_q2_3_io.py").unlink()
    words = json.loads((tmp_path / "cnn_bnfold_q2_3.tmodel").read_text())["inputs"][0]["size"]
    np.savez(tmp_path / "x.npz", x=np.zeros(words * 8))
    found = ask("run", 0, "run", tmp_path / "cnn_bnfold_q2_3.tmodel", "--inputs", tmp_path / "x.npz")
    assert (found["target"], len(found["outputs"])) == ("tensil", 1)


def test_passes(ask: Ask, pefslc: Cli) -> None:
    found = ask("passes", 0, "passes")
    promises = SCHEMAS["passes"]["properties"]["passes"]["items"]["properties"]["promise"]["enum"]
    assert promises == [e.value for e in Exactness]
    listed = [line.split()[1] for line in pefslc("passes").out.splitlines() if line.split()[:1] and line[0].isdigit()]
    assert [p["name"] for p in found["passes"]][: len(listed)] == listed
    assert set(found["only_with_formats"]) <= {p["name"] for p in found["passes"]} | {
        "change-formats",
        "check-formats",
        "input-grid",
    }


def test_targets(ask: Ask) -> None:
    assert [t["name"] for t in ask("targets", 0, "targets")["targets"]] == ["c", "tensil", "fake"]
    tensil = ask("target", 0, "targets", "tensil", "--arch", "custom_perf")
    (arch,) = (o for o in tensil["options"] if o["name"] == "arch")
    assert arch["value"] == "custom_perf"
    assert "custom_perf" in arch["known"]
    assert ask("target", 0, "targets", "c")["accumulator"]["bits"] == 64
    assert ask("target", 0, "targets", "fake")["stages"] == ["select", "schedule"]


def test_a_report_of_costs(pefslc: Cli, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert pefslc(CNN, "--target", "tensil", "-o", tmp_path / "out", "--report", report).status == 0
    Draft202012Validator(SCHEMAS["costs"]).validate(json.loads(report.read_text()))
