"""--input-fmt: the format of an input that the model leaves open, for it alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_support import Cli

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
    advice = refused.err.split("give the input's format: ")[1].split()
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


@pytest.mark.parametrize("given", ["4.4", "a=", "a=Q4.4,a=Q4.3", "a=Q4.4,Q4.4", "Q4.4,Q4.3", "auto:8"])
def test_what_names_no_format_is_a_usage_error(pefslc: Cli, tmp_path: Path, given: str) -> None:
    result = pefslc("check", str(open_network(tmp_path, "a", "b")), "--target", "c", "--input-fmt", given)
    assert result.status == 2
    assert "--input-fmt: " in result.err
