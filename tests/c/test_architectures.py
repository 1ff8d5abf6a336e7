"""Blocks of known architectures, small: the compiled C equals the exact evaluation of the file, number for number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pefslc
from architectures import ARCHITECTURES, Net, architecture
from oracle import evaluate_model
from pefslc.passes import quantizer_codes


@pytest.mark.usefixtures("cc")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_compiled_c_is_the_exact_evaluation_of_the_file(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


@pytest.mark.usefixtures("cc")
@pytest.mark.parametrize("name", ["mobilenet_v3", "efficientnet"])
def test_functions_behind_accumulators_too_wide_for_a_table(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with 8 bits and hundreds of channels: two staircases for each function, added."""
    monkeypatch.setattr(quantizer_codes, "_LARGEST_TABLE", 64)
    check(name, tmp_path)


def check(name: str, tmp_path: Path) -> None:
    m, shape = architecture(name), ARCHITECTURES[name][1]
    program = pefslc.compile(m.save(tmp_path), target="c")
    assert all(row.exact for row in program.layers)
    x = np.random.default_rng(5).normal(0, 1.5, (3, *shape[1:])).astype(np.float32)
    assert program.verify({"x": x}).equal
    (values,) = program.run(x).values()
    for row, image in zip(values, x, strict=True):
        expected = evaluate_model(m.build(), image[None]).astype(float)
        np.testing.assert_array_equal(row[None], expected)
    assert len(np.unique(values)) > 5, "a network whose output says nothing"


@pytest.mark.usefixtures("cc")
def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    """Two inputs of different shapes, formats and ranks; outputs in the middle, at the end, and of a function."""
    m = Net()
    image = m.act(m.input((1, 4, 6, 6), "image"))
    sound = m.quant(m.input((1, 3, 8), "sound"), 0.1, 8, zero_point=5)
    a = m.act(m.node("Relu", m.conv(image, 3, 4, (3, 3))), signed=0)
    b = m.silu(m.conv(sound, 3, 3, (3,)))
    m.output(m.node("Identity", a, output="features"))
    features = m.node("Flatten", m.node("GlobalAveragePool", a))
    heard = m.node("ReduceMean", b, axes=[2], keepdims=0)
    joined = m.node("Concat", m.act(features), m.act(heard), axis=1, output="joined")
    m.output(joined)
    m.output(m.node("Gemm", m.act(joined), m.weight(m.rng.normal(0, 0.5, (2, 6)), 0.0625, 6), transB=1, output="score"))
    program = pefslc.compile(m.save(tmp_path), target="c")
    rng = np.random.default_rng(5)
    inputs = {"image": rng.normal(0, 1.5, (4, 4, 6, 6)), "sound": rng.normal(0, 3, (4, 3, 8))}
    assert program.verify(inputs).equal
    values = program.run(inputs)
    assert {name: v.shape for name, v in values.items()} == {
        "features": (4, 3, 4, 4),
        "joined": (4, 6),
        "score": (4, 2),
    }
    reference = program.lowered.reference.run(inputs)
    for name, array in values.items():
        np.testing.assert_array_equal(array, reference[name])
