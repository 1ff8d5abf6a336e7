"""input_fmt: inputs in a format of the host's; the model's own input quantizer is then a layer like others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pefslc
from builders import ModelBuilder, import_bytes, normal
from pefslc.ir.quantized import Quantize
from pefslc.numeric.format import FixedPoint
from pefslc.passes.input_grid import InputGrid


def network(folder: Path, *scales: float) -> Path:
    """An input that quantizers of these scales read, each before a convolution of its own."""
    m = ModelBuilder()
    x = m.input([1, 2, 4, 4], "x")
    for scale in scales:
        codes = m.quant(x, scale, 5)
        m.output(m.node("Conv", codes, m.weight(normal((3, 2, 3, 3), 0.5), 0.25, 4)), [1, 3, 2, 2])
    return m.save(folder)


def test_all_that_reads_an_input_reads_it_on_the_grid(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.quant(m.input([1, 4], "x"), 0.125, 5), [1, 4])
    graph = import_bytes(m, tmp_path)
    first, second = InputGrid(FixedPoint.parse("Q8.8")).run(graph).ops[:2]
    assert isinstance(first, Quantize)
    assert isinstance(second, Quantize)
    assert first.input == graph.inputs[0].value
    assert first.quantization == FixedPoint.parse("Q8.8").quantization
    assert second.input == first.result


@pytest.mark.parametrize("target", ["c", "tensil"])
def test_inputs_on_the_grid_have_the_codes_of_the_model(tmp_path: Path, target: str) -> None:
    """Every word of the grid, ties and what saturates among them."""
    path = network(tmp_path, 0.125)
    words = np.arange(-2048, 2048).reshape(-1, 2, 4, 4) / 256
    program = pefslc.compile(path, target=target, input_fmt="Q8.8", check_passes=True)
    assert program.exact
    assert program.sidecar.inputs[0].quantizer.quantization == FixedPoint.parse("Q8.8").quantization
    program.verify(words).require()
    found, expected = program.run(words, codes=True), pefslc.compile(path, target="c").run(words, codes=True)
    for name, codes in expected.items():
        assert (found[name] == codes).all(), name


def test_other_inputs_are_rounded_to_the_grid_first(tmp_path: Path) -> None:
    path = network(tmp_path, 0.125)
    program = pefslc.compile(path, target="c", input_fmt="Q8.8")
    values = np.random.default_rng(1).normal(0, 1, (50, 2, 4, 4))
    found, rounded = program.run(values), program.run(np.rint(values * 256) / 256)
    plain = pefslc.compile(path, target="c").run(values)
    assert all((found[name] == rounded[name]).all() for name in found)
    assert any((found[name] != plain[name]).any() for name in found)


def test_two_quantizers_of_one_input_are_layers_then(tmp_path: Path) -> None:
    path, values = network(tmp_path, 0.125, 0.3), np.random.default_rng(2).normal(0, 1, (20, 2, 4, 4))
    pefslc.compile(path, target="c", input_fmt="Q8.8", verify=values)
    with pytest.raises(pefslc.CompileError, match="two different quantizers"):
        pefslc.compile(path, target="c")


@pytest.mark.parametrize("fmt", ["auto:8", "8.8", 8])
def test_what_is_no_format(tmp_path: Path, fmt: object) -> None:
    with pytest.raises(pefslc.CompileError, match="format") as caught:
        pefslc.compile(network(tmp_path, 0.125), target="c", input_fmt=fmt)  # type: ignore[arg-type]
    assert caught.value.problems[0].code is pefslc.Code.BAD_FORMAT
