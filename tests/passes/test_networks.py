"""Random small networks: the integer level means what the file means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builders import WIDE, Feature, import_bytes, lower, random_network
from oracle import evaluate_model
from pefslc.analysis.verify import verify
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run, run_codes
from pefslc.passes.manager import run_passes
from pefslc.passes.pipeline import pipeline

POWERS_OF_TWO = Feature()
FLOATS = Feature(float_scales=True)
EVERY_ROUNDING = Feature(rounding=("ROUND", "FLOOR", "CEIL", "HALF_UP", "HALF_DOWN", "UP", "DOWN"))
ALL = Feature(float_scales=True, rounding=EVERY_ROUNDING.rounding)
features = pytest.mark.parametrize(
    "feature", [POWERS_OF_TWO, FLOATS, EVERY_ROUNDING, ALL], ids=["powers-of-two", "floats", "roundings", "all"]
)


def inputs_of(graph: Graph, seed: int, rows: int) -> np.ndarray:
    """Inputs of which many are ties of the input quantizer."""
    rng = np.random.default_rng(seed)
    shape = (rows, *graph.inputs[0].value.type.shape[1:])
    x = rng.normal(0, 1, shape)
    return np.where(rng.random(shape) < 0.3, np.round(x * 16) / 16, x).astype(np.float32)


@features
@pytest.mark.parametrize("seed", range(15))
def test_the_integer_interpreter_equals_exact_rationals(feature: Feature, seed: int, tmp_path: Path) -> None:
    model = random_network(seed, feature)
    graph = run_passes(import_bytes(model, tmp_path), pipeline(WIDE))[0]
    x = inputs_of(graph, seed, 1)
    expected = evaluate_model(model, x)
    (output,) = graph.outputs
    codes = run_codes(graph, {graph.inputs[0].name: quantized(graph, x)})[output.value.name]
    assert output.map is not None
    scale, offset = output.map.scale, output.map.offset
    for index in np.ndindex(expected.shape):
        channel = index[1] if len(scale) > 1 else 0
        value = scale[channel] * int(codes[index]) + offset[channel]
        assert abs(value - expected[index]) <= abs(expected[index]) / 2**90, "equal, but for a square root in the map"


def quantized(graph: Graph, x: np.ndarray) -> np.ndarray:
    """The input's codes, exactly."""
    from fractions import Fraction

    from pefslc.numeric.stages import Root

    quantizer = graph.inputs[0].quantizer
    assert quantizer is not None
    codes = [quantizer.code_of(Root(Fraction(float(v))), 0) for v in x.reshape(-1)]
    return np.array(codes, dtype=np.int64).reshape(x.shape)


@pytest.mark.parametrize("feature", [POWERS_OF_TWO, FLOATS], ids=["powers-of-two", "floats"])
@pytest.mark.parametrize("seed", range(30))
def test_the_float64_reference_agrees_and_so_does_every_pass(feature: Feature, seed: int, tmp_path: Path) -> None:
    quantized_graph = import_bytes(random_network(seed + 1000, feature), tmp_path)
    graph = lower(quantized_graph)  # compares each pass with the interpreter
    assert verify(graph) == []
    x = inputs_of(graph, seed, 8)
    for name, expected in run(quantized_graph, x).items():
        np.testing.assert_allclose(run(graph, x)[name], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_every_tensor_stays_within_its_type(seed: int, tmp_path: Path) -> None:
    graph = lower(import_bytes(random_network(seed + 2000, ALL), tmp_path))
    rng = np.random.default_rng(seed)
    codes = graph.inputs[0].value.type.codes
    shape = (32, *graph.inputs[0].value.type.shape[1:])
    # Extremes, not noise: the ends of the range are where bounds are met.
    x = rng.choice([codes.low, codes.high], size=shape)
    values = run_codes(graph, {graph.inputs[0].name: x})
    for op in graph.ops:
        found, declared = values[op.result.name], op.result.type.codes
        assert declared.low <= found.min()
        assert found.max() <= declared.high
        assert found.shape == (32, *op.result.type.shape[1:])


def test_lowering_is_deterministic(tmp_path: Path) -> None:
    for seed in range(5):
        model = random_network(seed, ALL)
        assert lower(import_bytes(model, tmp_path)) == lower(import_bytes(model, tmp_path))
