"""--input-fmt: the format of an input that the model leaves open, for it alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_support import Cli
from onnx import TensorProto

import pefslc
from builders import ModelBuilder, normal
from pefslc.numeric.format import FixedPoint


def open_network(folder: Path, *inputs: str) -> Path:
    """Inputs [1, 2, 4, 4] that convolutions read as they are; the sums are quantized in another format, and added."""
    m = ModelBuilder()
    sums = [
        m.quant(m.node("Conv", m.input([1, 2, 4, 4], x), m.weight(normal((3, 2, 3, 3), 0.5), 0.25, 4)), 0.25, 6)
        for x in inputs
    ]
    m.output(m.node("Add", *sums) if len(sums) > 1 else sums[0], [1, 3, 2, 2])
    return m.save(folder)


GRID = np.random.default_rng(1).integers(-128, 128, (20, 2, 4, 4)) / 16


@pytest.mark.parametrize("target", ["c", "tensil"])
def test_an_open_input_gets_its_format_alone(tmp_path: Path, target: str) -> None:
    """On the grid of the format the codes are those of the file, whose other quantizers have other formats."""
    path = open_network(tmp_path, "x")
    program = pefslc.compile(path, target=target, input_fmt={"x": "Q4.4"})
    assert program.exact
    (found,) = program.run(GRID).values()
    (wanted,) = pefslc.load(path).run(GRID).values()
    assert (found == wanted).all()
    assert len(np.unique(found)) > 5


def test_each_of_two_inputs_has_its_own_format(tmp_path: Path) -> None:
    path = open_network(tmp_path, "a", "b")
    program = pefslc.compile(path, target="c", input_fmt={"b": "Q6.2", "a": FixedPoint.parse("Q4.4")})
    quantizations = [record.quantizer.quantization for record in program.sidecar.inputs]
    assert quantizations == [FixedPoint.parse(text).quantization for text in ("Q4.4", "Q6.2")]


def test_the_advice_on_an_open_input_works(pefslc: Cli, tmp_path: Path) -> None:
    path = open_network(tmp_path, "image")
    refused = pefslc(str(path), "--target", "c", "-o", str(tmp_path / "build"))
    assert refused.status == 1
    assert "PEF0308" in refused.err
    advice = refused.err.split("for numbers of 0 to 1, ")[1].split()
    assert advice == ["--input-fmt", "image=UQ0.8"]
    assert pefslc(str(path), "--target", "c", "-o", str(tmp_path / "build"), *advice).status == 0


def test_an_input_of_another_name_is_refused_with_the_names(tmp_path: Path) -> None:
    with pytest.raises(pefslc.CompileError, match="no such input") as caught:
        pefslc.compile(open_network(tmp_path, "a", "b"), target="c", input_fmt={"x": "Q4.4"})
    assert caught.value.problems[0].hint == "its inputs: 'a', 'b'"


@pytest.mark.parametrize(
    "given", [["--input-fmt", "a=Q4.4,b=UQ0.8"], ["--input-fmt", "a=Q4.4", "--input-fmt", "b=UQ0.8"]]
)
def test_formats_of_several_inputs_on_the_command_line(pefslc: Cli, tmp_path: Path, given: list[str]) -> None:
    result = pefslc("inspect", str(open_network(tmp_path, "a", "b")), *given)
    assert result.status == 0
    assert "input  a [1,2,4,4]: Q4.4" in result.out
    assert "input  b [1,2,4,4]: UQ0.8" in result.out


def float_picture_network(folder: Path) -> Path:
    """uint8 [1, 2, 4, 4], Cast, / 255, a convolution and a Relu, all in floats."""
    m = ModelBuilder()
    x = m.input([1, 2, 4, 4], "image", dtype=TensorProto.UINT8)
    scaled = m.node("Div", m.node("Cast", x, to=TensorProto.FLOAT), m.constant(255.0))
    hidden = m.node("Relu", m.node("Conv", scaled, m.constant(normal((3, 2, 3, 3), 0.5))))
    m.output(hidden, [1, 3, 2, 2])
    return m.save(folder)


PICTURES = np.random.default_rng(2).integers(0, 256, (16, 2, 4, 4)).astype(np.uint8)


@pytest.mark.parametrize("fmt", ["Q4.8", "auto:12"])
def test_an_input_of_a_float_model_has_its_format_and_no_other(tmp_path: Path, fmt: str) -> None:
    """Beside --fmt, whose range no byte fits: behind / 255 the values are those of the picture again."""
    path = float_picture_network(tmp_path)
    data = PICTURES if fmt.startswith("auto") else None
    program = pefslc.compile(path, target="c", fmt=fmt, calibrate=data, input_fmt={"image": "UQ8.0"})
    (record,) = program.sidecar.inputs
    assert record.quantizer.quantization == FixedPoint.parse("UQ8.0").quantization
    distance = program.verify(PICTURES).distance
    assert distance is not None
    assert "image" not in {s.name for s in distance.saturated}
    assert 0 < distance.worst.relative < 0.05


def test_a_calibrated_model_with_a_format_of_its_input_is_reported(pefslc: Cli, tmp_path: Path) -> None:
    path, data = float_picture_network(tmp_path), tmp_path / "data.npz"
    np.savez(data, image=PICTURES)
    options = ["--calibrate", str(data), "--input-fmt", "image=UQ8.0"]
    for fmt in ("auto:8", "Q4.8"):
        result = pefslc(str(path), "--target", "c", "-o", str(tmp_path / "b"), "--fmt", fmt, *options)
        assert result.status == 0, result.err
        assert "UQ8.0" in result.out


def test_saturation_behind_a_format_of_an_input_is_said(tmp_path: Path) -> None:
    path = float_picture_network(tmp_path)
    program = pefslc.compile(path, target="c", fmt="Q4.8", input_fmt={"image": "UQ4.0"})
    distance = program.verify(PICTURES).distance
    assert distance is not None
    assert [s.name for s in distance.saturated] == ["image"]
    assert distance.saturated[0].share == (PICTURES > 15).mean()


def test_a_format_that_holds_no_integer_of_an_input_of_integers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(pefslc.CompileError, match="holds no positive integer") as caught:
        pefslc.compile(float_picture_network(tmp_path), target="c", fmt="Q4.8", input_fmt="UQ0.8")
    assert (caught.value.problems[0].hint or "").endswith("--input-fmt image=UQ8.0")


def test_bytes_that_a_format_does_not_hold_are_warned_of_without_data(pefslc: Cli, tmp_path: Path) -> None:
    """The file says what its input holds: no guess at normalised pictures is needed."""
    path = float_picture_network(tmp_path)
    result = pefslc(str(path), "--target", "c", "-o", str(tmp_path / "b"), "--fmt", "Q2.6")
    assert result.status == 0
    assert "image: 99 % of its values saturate" in result.err


@pytest.mark.parametrize("given", ["4.4", "a=", "a=Q4.4,a=Q4.3", "a=Q4.4,Q4.4", "Q4.4,Q4.3", "auto:8"])
def test_what_names_no_format_is_a_usage_error(pefslc: Cli, tmp_path: Path, given: str) -> None:
    result = pefslc("check", str(open_network(tmp_path, "a", "b")), "--target", "c", "--input-fmt", given)
    assert result.status == 2
    assert "--input-fmt: " in result.err


def two_inputs_one_open(folder: Path) -> Path:
    """image has a quantizer of its own, gain has none."""
    m = ModelBuilder()
    image = m.quant(m.input([1, 2, 4, 4], "image"), 0.125, 6)
    gain = m.node("Conv", m.input([1, 2, 4, 4], "gain"), m.weight(normal((2, 2, 1, 1), 0.5), 0.125, 6))
    m.output(m.quant(m.node("Add", m.node("Relu", image), m.quant(gain, 0.125, 6)), 0.125, 6, output="y"))
    return m.save(folder)


GAIN = np.random.default_rng(4).normal(0, 4, (20, 2, 4, 4))


@pytest.mark.parametrize("options", [["--fmt", "Q3.3"], ["--input-fmt", "gain=Q3.3"]])
def test_what_saturates_in_an_open_input_of_a_quantized_model_is_said(
    pefslc: Cli, tmp_path: Path, options: list[str]
) -> None:
    """A quantizer of the model's own clips, too: as the model says, and that is told as another thing."""
    path, data = two_inputs_one_open(tmp_path), tmp_path / "data.npz"
    np.savez(data, gain=GAIN, image=GAIN)
    result = pefslc(path, "--target", "c", "-o", tmp_path / "b", *options, "--verify", data)
    assert result.status == 0, result.err
    share = ((GAIN < -4 - 0.0625) | (GAIN > 4 - 0.125 + 0.0625)).mean()
    line = f"gain: {100 * share:.2g} % of its values saturate: they reach {GAIN.min():.4g} to {GAIN.max():.4g}, "
    line += "Q3.3 holds -4 to 3.875"
    assert f"20 inputs: {line}\n" in result.out
    assert f"20 inputs: input 'image': {100 * share:.2g} % of its values clip: " in result.out
    warning = (
        f"warning: the format given to an input does not suit these inputs: {line}\n  help: --input-fmt gain=Q5.1 "
    )
    assert result.err.startswith(warning)
    again = pefslc(path, "--target", "c", "-o", tmp_path / "b", "--input-fmt", "gain=Q5.1", "--verify", data)
    assert again.status == 0
    assert again.err.startswith("warning: input 'image': ")
    assert again.err.count("warning") == 1
    assert "of its values saturate" not in again.out


def test_an_open_input_that_fits_its_format_is_not_mentioned(pefslc: Cli, tmp_path: Path) -> None:
    path, data = two_inputs_one_open(tmp_path), tmp_path / "data.npz"
    np.savez(data, gain=np.clip(GAIN, -1, 1), image=np.clip(GAIN, -1, 1))
    result = pefslc(path, "--target", "c", "-o", tmp_path / "b", "--fmt", "Q3.3", "--verify", data)
    assert (result.status, result.err) == (0, "")
    assert "of its values saturate" not in result.out


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.INT8])
def test_the_advice_on_two_quantizers_of_one_input_works(tmp_path: Path, kind: int) -> None:
    m = ModelBuilder()
    x = m.input([1, 2, 4, 4], "x", dtype=kind)
    x = m.node("Cast", x, to=TensorProto.FLOAT) if kind == TensorProto.INT8 else x
    m.output(m.quant(m.node("Add", m.quant(x, 0.125, 4), m.quant(x, 0.5, 5)), 0.25, 6, output="y"))
    path = m.save(tmp_path)
    with pytest.raises(pefslc.CompileError) as caught:
        pefslc.compile(path, target="c")
    (problem,) = caught.value.problems
    assert problem.code is pefslc.Code.INPUT_QUANTIZED_TWICE
    name, _, fmt = (problem.hint or "").rpartition("--input-fmt ")[2].partition("=")
    program = pefslc.compile(path, target="c", input_fmt={name: fmt})
    held = FixedPoint.parse(fmt).quantization
    x = np.random.default_rng(1).integers(held.low, held.high + 1, (8, 2, 4, 4)) * float(held.scale.step)
    program.verify(x).require()
    (found,), (wanted,) = program.run(x).values(), pefslc.load(path).run(x).values()
    assert (found == wanted).all()
