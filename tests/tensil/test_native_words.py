"""Finer words: native arithmetic with as many bits of fraction as calibration data allow."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pefslc
from builders import ModelBuilder
from native_network import UNIT, Network
from pefslc.numeric.format import FixedPoint
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.native.exponents import highest_exponent
from pefslc.targets.tensil.native.native_words import native_format
from pefslc.targets.tensil.simulate.driver import run_tmodel

FP16 = DataType["FP16BP8"]
ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT.parent / "shared" / "tcu" / "models"


@pytest.mark.parametrize("data_type", ["FP8BP4", "FP16BP8", "FP18BP10", "FP32BP16"])
def test_words_are_as_fine_as_twice_the_largest_value_allows(data_type: str) -> None:
    """Every largest value that is a word, and quarters between, against saturation of the doubled value itself."""
    kind = DataType[data_type]
    every = (
        range(4 * kind.max_code)
        if data_type == "FP8BP4"
        else range(0, 4 * kind.max_code, 997 * max(kind.one >> 8, 1) ** 2)
    )
    for quarters in every:
        largest = Fraction(quarters, 4 * kind.one)
        d = highest_exponent(largest, kind)
        assert 0 <= d <= kind.binary_point
        words = [2 * largest * 2 ** (kind.binary_point + e) for e in (d, d + 1)]
        assert words[0] <= kind.max_code or d == 0
        assert words[1] > kind.max_code or d == kind.binary_point
        assert native_format(kind, d).bits == kind.width_bits
        assert native_format(kind, d).fraction_bits == kind.binary_point + d


def one_layer(m: ModelBuilder, kind: str) -> str:
    """A network with an output of 8 times its input; the input is read by a convolution, a maximum, or an addition."""
    x = m.input([1, 2, 4, 4], "x")
    eight = m.constant(8 * np.eye(2)[:, :, None, None])
    match kind:
        case "conv":
            return m.node("Conv", x, eight)
        case "maximum":
            return m.node("Conv", m.node("MaxPool", x, kernel_shape=[1, 1]), eight)
        case _:
            seven = m.constant(7 * np.eye(2)[:, :, None, None])
            return m.node("Add", m.node("Conv", x, seven), x)


@pytest.mark.parametrize("kind", ["conv", "maximum", "add"])
def test_beyond_the_calibrated_range_words_saturate(kind: str, tmp_path: Path) -> None:
    """They do not wrap: neither sums, nor an input that lies in words that are finer than its format."""
    m = ModelBuilder()
    output = one_layer(m, kind)
    m.output(output, [1, 2, 4, 4])
    largest = np.full((3, 2, 4, 4), 0.25)  # 8 times that is 2: with headroom 4, and no word is 4
    program = pefslc.compile(
        m.save(tmp_path),
        target="tensil",
        fmt="Q8.8",
        arch="pynqz1",
        calibrate={"x": largest * [[[[1]]], [[[-1]]], [[[0]]]]},
    )
    assert program.emission.native == FixedPoint(4, 12)
    for value in (0.25, 0.75, 1.5, 15.0, 127.0):
        for sign in (1, -1):
            found = program.run({"x": sign * largest[:1] * value * 4})[output]
            assert np.abs(found - np.clip(sign * 8 * value, -8, 8)).max() < 0.01


@pytest.mark.parametrize("kind", ["conv", "maximum", "add"])
def test_the_host_module_places_inputs_as_the_runner_does(kind: str, tmp_path: Path) -> None:
    m = ModelBuilder()
    output = one_layer(m, kind)
    m.output(m.node("Relu", output), [1, 2, 4, 4])
    x = np.random.default_rng(0).uniform(-1, 1, (5, 2, 4, 4))
    program = pefslc.compile(m.save(tmp_path), target="tensil", fmt="Q8.8", arch="pynqz1", calibrate={"x": x / 4})
    program.save(tmp_path / "build")
    module: dict[str, Any] = {}
    exec(next((tmp_path / "build").glob("*_io.py")).read_text(), module)
    (path,) = (tmp_path / "build").glob("*.tmodel")
    for row in 40 * x:
        given = {name: array[None] for name, array in module["to_driver"]({"x": row[None]}).items()}
        values = module["from_driver"]({name: array[0] for name, array in run_tmodel(path, given).items()})
        assert all(np.array_equal(values[name], found) for name, found in program.run({"x": row[None]}).items())


def test_of_small_values_words_are_as_fine_as_products(tmp_path: Path) -> None:
    """Next to no input: p bits more, with which no product is rounded, and the biases still are words."""
    m = ModelBuilder()
    weight = m.constant(np.full((1, 1, 1, 1), 3 / 256))
    m.output(m.node("Conv", m.input([1, 1, 2, 2], "x"), weight, m.constant(np.array([0.125]))), [1, 1, 2, 2])
    program = pefslc.compile(
        m.save(tmp_path), target="tensil", fmt="Q8.8", arch="pynqz1", calibrate={"x": np.full((1, 1, 2, 2), 2**-8)}
    )
    assert program.emission.native == FixedPoint(0, 16)
    x = np.arange(4).reshape(1, 1, 2, 2) / 256
    (found,) = program.run({"x": x}).values()
    assert np.array_equal(found, x * 3 / 256 + 0.125)


def test_calibration_costs_next_to_no_cycles_and_divides_the_error(tmp_path: Path) -> None:
    n = Network(4, 3, 16, UNIT / 8)
    output = n.conv(n.activation(n.conv(n.activation(n.conv("x", 20, 3), "Relu"), 12, 3), "Relu"), 10, 3, 2)
    n.m.output(output, [1, *n.known[output].values.shape])
    model = n.m.save(tmp_path)
    data = {"x": np.random.default_rng(9).uniform(-1, 1, (16, *n.x.shape[1:]))}
    plain = pefslc.compile(model, target="tensil", fmt="Q8.8", arch="custom_perf")
    finer = pefslc.compile(model, target="tensil", fmt="Q8.8", arch="custom_perf", calibrate=data)
    assert finer.emission.cycles < 1.02 * plain.emission.cycles
    words = finer.emission.native
    assert words is not None
    assert 2.0**-words.fraction_bits <= n.unit
    rms = [np.sqrt(np.square(p.run({"x": n.x})[output][0] - n.known[output].values).mean()) for p in (plain, finer)]
    assert rms[1] < rms[0] / 4
    assert finer.sidecar.details["native_arithmetic"] == "Q8.8"
    assert finer.sidecar.details["native_words"] == str(words)
    assert any(f"sums of {words}" in n and "on 16 calibration inputs" in n for n in finer.emission.notes)


@pytest.mark.skipif(not MODELS.is_dir(), reason="optional reference data (../shared) is not there")
@pytest.mark.parametrize(
    ("network", "architecture", "theirs"), [("tiny_conv", "custom_perf", 0.0077), ("maxpool_net", "pynqz1", 0.0180)]
)
def test_the_error_is_below_that_of_tensils_program(network: str, architecture: str, theirs: float) -> None:
    """On the inputs on which Tensil's was measured, calibrated on others."""
    model = pefslc.load(MODELS / f"{network}.onnx")
    shape = model.inputs[0].value.type.shape[1:]
    x = np.random.default_rng(7).uniform(-1, 1, (2, *shape)).astype(np.float32).astype(np.float64)
    program = pefslc.compile(
        MODELS / f"{network}.onnx", target="tensil", fmt="Q8.8", arch=architecture,
        calibrate={"x": np.random.default_rng(1234).uniform(-1, 1, (16, *shape))},
    )  # fmt: skip
    (wanted,), (found,) = model.run(x).values(), program.run(x).values()
    assert np.abs(found - wanted).max() < theirs / 30


# --- when, and what is said ------------------------------------------------------------------------------------------
