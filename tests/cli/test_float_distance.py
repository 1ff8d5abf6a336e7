"""A float model with --fmt is measured against itself: what saturates is named, and no success stands for "right".

All numbers of the network here are dyadic and lie on the grids of the formats: nothing but saturation changes a value.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_support import Cli
from numpy.typing import NDArray

import pefslc
from builders import ModelBuilder
from pefslc.diagnostics.errors import CompileError
from pefslc.numeric.format import FixedPoint
from pefslc.reports import likely_saturation
from pefslc.reports.float_distance import format_that_holds
from pefslc.reports.saturation import Saturation

Floats = NDArray[np.float64]
FIRST = np.array([[4, -2, 1, 3], [-1, 3, 2, -4], [2, 2, 2, 2]], np.float64)
SECOND = np.array([[1, -2, 0.5], [0.25, 1, -1]], np.float64)
EXAMPLES = Path(__file__).parents[2] / "examples"


def inputs(loudest: int) -> Floats:
    return np.random.default_rng(7).integers(-4 * loudest, 4 * loudest + 1, (50, 4)) / 4


def float_outputs(x: Floats, held: float = np.inf, held_input: float = np.inf) -> tuple[Floats, Floats]:
    """The hidden layer before it saturates, and the outputs; by hand."""
    hidden = np.maximum(np.clip(x, -held_input, held_input) @ FIRST.T, 0)
    return hidden, np.minimum(hidden, held) @ SECOND.T


@pytest.fixture
def network(tmp_path: Path) -> Path:
    m = ModelBuilder()
    hidden = m.node("Relu", m.node("Gemm", m.input([1, 4]), m.constant(FIRST), transB=1, name="one"), name="act")
    m.node("Gemm", hidden, m.constant(SECOND), transB=1, name="two", output=m.output("y", [1, 2]))
    return m.save(tmp_path, "net.onnx")


def saved(folder: Path, **arrays: NDArray[np.generic]) -> Path:
    np.savez(folder / "data.npz", **arrays)  # type: ignore[arg-type]
    return folder / "data.npz"


def test_what_saturates_is_named_with_how_often_the_range_needed_and_the_range_there(
    pefslc: Cli, network: Path, tmp_path: Path
) -> None:
    x, held = inputs(6), 16 - 2.0**-4
    hidden, wanted = float_outputs(x)
    errors = np.abs(float_outputs(x, held)[1] - wanted)
    share, largest, reach = (hidden > held).mean(), errors.max(), np.abs(wanted).max()
    assert share > 0.1
    data = saved(tmp_path, x=x, y=wanted)
    result = pefslc(network, "--target", "c", "--fmt", "Q4.4", "-o", tmp_path / "a", "--verify", data)
    assert result.status == 0, result.err  # a measurement, not a failure
    assert (
        "50 inputs: 100 of 100 outputs equal: interpreter and float64 evaluation of the quantized model" in result.out
    )
    for other in ("the float model", "'y'"):
        rms = np.sqrt(np.square(errors).mean())
        text = f"50 inputs: c and {other}: off by at most {largest:.4g} of {reach:.4g}, rms {rms:.4g} ('y'); most at ["
        assert text in result.out
    row, column = (int(i) for i in np.unravel_index(errors.argmax(), errors.shape))
    assert f"; most at [{row}, {column}]: " in result.out
    line = (
        f"act: {100 * share:.2g} % of its values saturate: they reach 0 to {hidden.max():.4g}, UQ4.4 holds 0 to "
        f"{held:.4g}\n"
    )
    assert f"50 inputs: {line}" in result.out
    measured = f"outputs off by at most {largest:.4g} of {reach:.4g}, on 50 inputs"
    assert f"every layer computes exactly what Q4.4 says; against the float model: {measured}\n" in result.out
    assert result.err.startswith(
        f"warning: Q4.4 does not suit this model: {measured}\n  {line}  help: --fmt Q6.2 holds"
    )
    assert "every layer exact" not in result.out


def test_the_advised_format_holds_all(pefslc: Cli, network: Path, tmp_path: Path) -> None:
    data = saved(tmp_path, x=inputs(6))
    arguments = (network, "--target", "c", "-o", tmp_path / "a", "--verify", data, "--max-error", "0")
    assert pefslc(*arguments, "--fmt", "Q5.3").status == 1
    advised = pefslc(*arguments, "--fmt", "Q6.2")  # the grid of the inputs is 1/4, that of the weights, too
    assert (advised.status, advised.err) == (0, "")
    assert "outputs off by at most 0 of " in advised.out
    assert "saturate" not in advised.out


def test_a_largest_error_makes_a_measurement_a_failure(pefslc: Cli, network: Path, tmp_path: Path) -> None:
    x = inputs(6)
    largest = np.abs(float_outputs(x, 16 - 2.0**-4)[1] - float_outputs(x)[1]).max()
    arguments = (network, "--target", "fake", "--fmt", "Q4.4", "-o", tmp_path / "a")
    verified = (*arguments, "--verify", saved(tmp_path, x=x), "--max-error")
    assert pefslc(*verified, largest).status == 0
    assert (tmp_path / "a" / "net.fake").exists()
    far = pefslc(*verified, largest - 2.0**-6, "-o", tmp_path / "b")
    assert far.status == 1
    assert far.err.startswith("error[PEF0813]: verification: fake and the float model: off by at most ")
    assert "help: act: " in far.err
    assert not (tmp_path / "b").exists()
    assert "no inputs to measure the error on" in pefslc(*arguments, "--max-error", "1").err
    assert "(--max-error) is '-1.0', not a number of 0 or more" in pefslc(*verified, "-1").err
    with pytest.raises(CompileError) as caught:
        compile_network(network, max_error=0.5, verify=x)
    assert caught.value.problems[0].code.value[0] == "PEF0813"


def compile_network(path: Path, fmt: str = "Q4.4", **options: object) -> pefslc.Program:
    return pefslc.compile(path, target="fake", fmt=fmt, **options)  # type: ignore[arg-type]


def test_a_model_that_is_quantized_has_nothing_to_be_near_to(
    pefslc: Cli, model: Path, inputs: Path, tmp_path: Path
) -> None:
    refused = pefslc(model, "--target", "fake", "-o", tmp_path / "a", "--verify", inputs, "--max-error", "1")
    assert refused.status == 1
    assert "--fmt changed nothing of the model: its integers must be equal" in refused.err
    assert pefslc(model, "--target", "fake", "-o", tmp_path / "a", "--verify", inputs).status == 0


def test_expected_outputs_of_another_model_are_told_and_those_of_the_quantized_one_are_equal(
    pefslc: Cli, network: Path, tmp_path: Path
) -> None:
    x = inputs(6)
    arguments = (network, "--target", "fake", "--fmt", "Q4.4", "-o", tmp_path / "a", "--verify")
    foreign = pefslc(*arguments, saved(tmp_path, x=x, y=float_outputs(x)[1][::-1]))
    assert foreign.status == 0
    assert "warning: 'y' is what neither the float model nor its quantization to Q4.4 computes\n" in foreign.err
    own = pefslc(*arguments, saved(tmp_path, x=x, y_ref64=float_outputs(x, 16 - 2.0**-4)[1]))
    assert "50 inputs: 100 of 100 outputs equal: fake and 'y_ref64' ('y')\n" in own.out
    assert "neither" not in own.err
    assert "neither" not in pefslc(*arguments, saved(tmp_path, x=x, y=float_outputs(x)[1].astype(np.float32))).err


@pytest.mark.parametrize("target", ["c", "fake"])
def test_calibration_data_measure_the_same_as_verification(target: str, network: Path) -> None:
    x = inputs(6)
    program = pefslc.compile(network, target=target, fmt="Q4.4", calibrate=x)
    assert program.post_training is not None
    ours, theirs = program.post_training.distance, program.verify(x).distance
    assert theirs is not None
    assert (ours.saturated, ours.worst.largest, ours.worst.worst) == (
        theirs.saturated, theirs.worst.largest, theirs.worst.worst,
    )  # fmt: skip


def test_native_arithmetic_names_what_saturates(pefslc: Cli, network: Path, tmp_path: Path) -> None:
    x = inputs(60)
    data = saved(tmp_path, x=x)
    result = pefslc(network, "--target", "tensil", "--fmt", "Q8.8", "-o", tmp_path / "a", "--verify", data)
    assert result.status == 0, result.err
    assert "every layer bounded; against the float model: outputs off by at most " in result.out
    hidden = float_outputs(x)[0]
    share = (hidden > 128 - 2.0**-8).mean()
    assert f"act: {100 * share:.2g} % of its values saturate: they reach 0 to {hidden.max():.4g}, Q8.8" in result.err
    assert "--fmt Q10.6" not in result.err  # its sums would not fit 16 bits
    assert "warning: native arithmetic does not suit this model: outputs off by at most " in result.err
    assert "  sums of one, two saturate\n" in result.err


def test_weights_that_the_format_does_not_hold_are_told_without_data(pefslc: Cli, tmp_path: Path) -> None:
    m = ModelBuilder()
    m.node("Gemm", m.input([1, 4]), m.constant(16 * FIRST), transB=1, name="one", output=m.output("y", [1, 3]))
    result = pefslc("check", m.save(tmp_path), "--target", "c", "--fmt", "Q5.3")
    assert result.status == 0
    beyond = ((16 * FIRST < -16) | (16 * FIRST > 15.875)).mean()
    assert f"one weights: {100 * beyond:.2g} % of its values saturate: they reach -64 to 64, Q5.3 holds" in result.err


def test_without_data_a_likely_saturation_is_a_warning_and_the_examples_have_none(
    pefslc: Cli, network: Path, tmp_path: Path
) -> None:
    likely = pefslc(network, "--target", "c", "--fmt", "Q2.6", "-o", tmp_path / "a")
    assert likely.status == 0
    assert likely.err.startswith("warning: Q2.6 may not suit this model: on random inputs, for want of others,\n  ")
    assert "--verify or --calibrate INPUTS.npz" in likely.err
    again = pefslc(network, "--target", "c", "--fmt", "Q2.6", "-o", tmp_path / "a")
    assert (again.err, again.out.splitlines()[:-9]) == (likely.err, likely.out.splitlines()[:-9])
    assert pefslc(network, "--target", "c", "--fmt", "Q2.6", "-o", tmp_path / "a", "-q").err == ""
    for fmt in ("Q3.4", "Q4.8", "Q8.8", "Q3.12"):
        example = pefslc(EXAMPLES / "cnn_float.onnx", "--target", "c", "--fmt", fmt, "-o", tmp_path / "b")
        assert (example.status, example.err) == (0, "")
        assert "; against the float model: not measured, --verify does\n" in example.out


def test_a_requantized_model_is_measured_against_what_it_was(pefslc: Cli, model: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(3).integers(-16, 16, (40, 4)) / 8
    weight = (np.arange(12).reshape(3, 4) - 6) / 8
    y = np.clip(np.rint(8 * np.maximum(x @ weight.T, 0)), 0, 31) / 8
    data = saved(tmp_path, x=x, y=y)
    arguments = (model, "--target", "fake", "--fmt", "Q1.3", "--requantize", "-o", tmp_path / "a", "--verify", data)
    result = pefslc(*arguments)
    assert result.status == 0, result.err
    assert "every layer computes exactly what Q1.3 says; against the model before --requantize: " in result.out
    assert "40 inputs: fake and 'y': off by at most " in result.out
    assert "40 inputs: 120 of 120 outputs equal: fake and interpreter ('y')" in result.out


def test_the_sidecar_and_check_say_to_what_the_artifacts_are_exact(pefslc: Cli, network: Path, tmp_path: Path) -> None:
    x = inputs(6)
    data = saved(tmp_path, x=x)
    pefslc(network, "--target", "c", "--fmt", "Q4.4", "-o", tmp_path, "--calibrate", data)
    details = json.loads((tmp_path / "net.c.json").read_text())["details"]
    assert (details["exact"], details["quantized_to"]) == (True, "Q4.4")
    (found,) = details["post_training"]["distance"]["saturated"]
    assert (found["tensor"], found["format"], found["held"]) == ("act", "UQ4.4", [0, 15.9375])
    check = ("check", network, "--target", "c", "--fmt", "Q4.4", "--json")
    measured = json.loads(pefslc(*check, "--calibrate", data).out)
    assert (measured["exact"], measured["quantized_to"]) == (True, "Q4.4")
    assert measured["float_model"] == details["post_training"]["distance"]
    assert json.loads(pefslc(*check).out)["float_model"] is None
    assert repr(compile_network(network)) == "<Program 'net' for fake: 2 layers, exact to Q4.4>"


@pytest.mark.parametrize(
    ("largest", "fmt"), [(15, "Q4.4"), (15.9375, "Q4.4"), (16, "Q5.3"), (100, "Q7.1"), (128, None)]
)
def test_the_format_that_holds_what_saturates_has_no_sign_where_there_was_none(largest: float, fmt: str | None) -> None:
    found = format_that_holds(FixedPoint(3, 5), [Saturation("t", "UQ3.5", 0.5, 0.5, 0, largest, (0, 7.96875))])
    assert (None if found is None else str(found)) == fmt


def test_a_network_too_large_for_random_inputs_says_that_only_weights_were_looked_at(
    pefslc: Cli, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence about its tensors would read as if they had been looked at."""
    arguments = (network, "--target", "c", "--fmt", "Q2.6", "-o", tmp_path / "a")
    assert "only its weights" not in pefslc(*arguments).err
    monkeypatch.setattr(likely_saturation, "_MOST_MACS", 10)
    result = pefslc(*arguments)
    assert result.status == 0
    assert result.err.startswith("note: the network is too large to be run on random inputs: only its weights were lo")
    assert "act: " not in result.err
    measured = pefslc(*arguments, "--verify", saved(tmp_path, x=inputs(1)))
    assert "only its weights" not in measured.err
