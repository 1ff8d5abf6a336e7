"""Float models from the shell and from Python: formats from data, the report, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_support import Cli

import pefslc
from builders import random_network, without_quantizers

EXAMPLES = Path(__file__).parents[2] / "examples"
MODEL, DATA = EXAMPLES / "cnn_float.onnx", EXAMPLES / "cnn_float.npz"


def test_the_report_says_what_the_float_model_and_the_artifacts_say() -> None:
    """Each number again, from the float model's own outputs and from the compiled program's."""
    program = pefslc.compile(MODEL, target="c", fmt="auto:6", calibrate=DATA, verify=DATA)
    report = program.post_training
    assert report is not None
    assert report.accuracy is not None
    with np.load(DATA) as data:
        x, labels = data["x"].astype(np.float64), data["labels"]
    want, got = pefslc.load(MODEL).run(x)["output"], program.run(x)["output"]
    snr = 10 * np.log10((want**2).sum() / ((got - want) ** 2).sum())
    assert report.outputs["output"].snr_db == pytest.approx(snr, abs=1e-9)
    right = [int((v.argmax(axis=1) == labels).sum()) for v in (want, got)]
    assert [report.accuracy.count, report.accuracy.float_right, report.accuracy.quantized_right] == [64, *right]
    assert report.accuracy.same == int((want.argmax(axis=1) == got.argmax(axis=1)).sum())
    assert [t.name for t in report.tensors] == ["input", "b1/act", "b2/act", "fc"]
    assert [t.format for t in report.tensors] == ["Q2.4", "UQ2.4", "UQ3.3", ""]
    assert [t.weight for t in report.tensors] == ["", "Q2.4", "Q1.5", "Q-1.7"]
    assert (report.tensors[0].low, report.tensors[0].high) == (x.min(), x.max())
    # The report evaluates in batches, whose float64 sums may run in another order.
    assert (report.tensors[3].low, report.tensors[3].high) == pytest.approx((want.min(), want.max()), rel=1e-12)
    assert not report.narrowed


def test_the_table_the_sidecar_and_the_accumulator_that_forces_fewer_bits(pefslc: Cli, tmp_path: Path) -> None:
    arguments = (MODEL, "--target", "tensil", "--fmt", "auto:8", "--calibrate", DATA, "-o", tmp_path)
    result = pefslc(*arguments)
    assert result.status == 0, result.err
    assert result.out.startswith("tensor  format  weight            range   clipped  SNR dB\n")
    assert "fewer bits than asked, so that every sum fits the target's accumulator: 6 formats\n" in result.out
    assert "top-1 accuracy: float 90.6 % (58 of 64), quantized " in result.out
    written = json.loads((tmp_path / "cnn_float.tensil.json").read_text())["details"]["post_training"]
    assert written["rows"] == 64
    assert written["tensors"][1]["tensor"] == "b1/act"
    assert written["accuracy"]["float"] == 58
    assert written["narrowed"] == ["input", "b1/conv weights", "b1/act", "b2/conv weights", "b2/act", "fc weights"]
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert pefslc(*arguments).status == 0
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_named_format_is_reported_too_when_there_is_data(pefslc: Cli, tmp_path: Path) -> None:
    result = pefslc(MODEL, "--target", "c", "--fmt", "Q3.4", "--calibrate", DATA, "-o", tmp_path)
    assert result.status == 0, result.err
    assert "b2/act  UQ3.4" in result.out
    assert "%" in next(line for line in result.out.splitlines() if line.startswith("b2/act"))


def test_labels_by_another_name_are_told(pefslc: Cli, tmp_path: Path) -> None:
    arrays = {"x": np.ones((2, 1, 16, 16), np.float32)}
    for name, told in {"label": True, "labels": False}.items():
        np.savez(tmp_path / "d.npz", **arrays, **{name: np.array([3, 7])})
        result = pefslc(
            MODEL, "--target", "c", "--fmt", "Q4.8", "--calibrate", tmp_path / "d.npz", "-o", tmp_path / "a"
        )
        assert (
            "no accuracy: array 'label' is not read; true classes are called 'labels', or 'y'\n" in result.out
        ) == told
        assert ("top-1 accuracy" in result.out) != told


def test_auto_without_data_is_a_usage_error(pefslc: Cli) -> None:
    result = pefslc(MODEL, "--target", "c", "--fmt", "auto:8")
    assert result.status == 2
    assert "--fmt auto:8 chooses formats from data: give --calibrate DATA.npz" in result.err
    assert pefslc(MODEL, "--target", "c", "--fmt", "auto").status == 2
    assert "auto:8 chooses formats at a compile" in pefslc("inspect", MODEL, "--fmt", "auto:8").err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fmt": "auto:8"}, "chooses formats from data, and there is none"),
        ({"fmt": "auto:8", "calibrate": DATA, "calibration": "magic"}, "there is no calibration 'magic'"),
        ({"fmt": "auto:99", "calibrate": DATA}, "between 2 and 32 bits are possible"),
        ({"fmt": "auto:8", "calibrate": {"x": np.zeros((2, 3))}}, "the model wants"),
        (
            {"fmt": "Q3.4", "calibrate": {"x": np.zeros((2, 1, 16, 16)), "labels": np.zeros(3, dtype=int)}},
            "array 'labels' holds int64 of shape [3], not a class for each of 2 inputs",
        ),
        (
            {"fmt": "Q3.4", "calibrate": {"x": np.ones((2, 1, 16, 16)), "labels": np.array([3, 77])}},
            "array 'labels' names class 77, and output 'output' has 10",
        ),
        (
            {"fmt": "Q3.4", "calibrate": {"x": np.ones((2, 1, 16, 16)), "labels": np.array([-1, 3])}},
            "array 'labels' names class -1",
        ),
        ({"fmt": "auto:8", "calibrate": {"x": np.zeros((2, 1, 16, 16))}}, "of input 'input' are all 0"),
        ({"fmt": "auto:8", "calibrate": {"x": np.full((2, 1, 16, 16), 1e-30)}}, "of input 'input' reach 1e-30"),
        ({"fmt": "auto:8", "calibrate": {"x": np.full((2, 1, 16, 16), 1e300)}}, "of input 'input' reach 1e+300"),
    ],
)
def test_what_does_not_fit_together_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(pefslc.CompileError) as caught:
        pefslc.compile(MODEL, target="c", **options)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_a_quantized_model_has_no_formats_to_choose(pefslc: Cli, model: Path, inputs: Path, tmp_path: Path) -> None:
    refused = pefslc(model, "--target", "fake", "--fmt", "auto:8", "--calibrate", inputs, "-o", tmp_path / "a")
    assert refused.status == 1
    assert "this one is quantized already" in refused.err
    unused = pefslc(model, "--target", "fake", "--calibrate", inputs, "-o", tmp_path / "a")
    assert unused.status == 1
    assert "calibration data for a model that is quantized already" in unused.err


@pytest.mark.parametrize("fmt", ["Q4.4", "auto:8"])
@pytest.mark.parametrize("seed", range(4))
def test_random_float_networks_compile_to_c_that_computes_the_quantized_model(
    seed: int, fmt: str, tmp_path: Path
) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(without_quantizers(random_network(seed)), str(path))
    shape = pefslc.load(path).inputs[0].value.type.shape
    x = {"x": np.random.default_rng(seed).normal(0, 1, (5, *shape[1:]))}
    program = pefslc.compile(path, target="c", fmt=fmt, calibrate=x)
    assert program.verify(x).equal
    assert program.post_training is not None
    assert program.lowered.changing_passes == ()


def test_the_reference_of_the_float_file_is_not_expected_of_the_quantized_network() -> None:
    with np.load(DATA) as data:
        arrays = {"x": data["x"][:3], "y_ref64": np.zeros((3, 10))}
    assert pefslc.compile(MODEL, target="c", fmt="Q4.4").verify(arrays).equal


def test_the_report_of_a_program_in_native_arithmetic_says_what_it_leaves_out(pefslc: Cli, tmp_path: Path) -> None:
    arguments = (MODEL, "--calibrate", DATA, "-o", tmp_path, "--fmt")
    line = "of the formats alone, with exact sums: --verify measures the target's own arithmetic\n"
    assert line in pefslc(*arguments, "Q8.8", "--target", "tensil").out
    assert line not in pefslc(*arguments, "Q8.8", "--target", "c").out
