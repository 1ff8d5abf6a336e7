"""Sums of tensors that have a scale for each channel: exact in C, against the model's exact evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import pefslc
from builders import ModelBuilder, normal
from oracle import evaluate_model

SHAPES = {4: (1, 3, 4, 4), 2: (1, 6)}


def scales(seed: int, rank: int, *, powers: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (1, 4, *[1] * (rank - 2))
    if powers:
        return (2.0 ** -rng.integers(3, 6, shape)).astype(np.float32)
    return rng.uniform(0.02, 0.06, shape).astype(np.float32)


def branches(m: ModelBuilder, rank: int) -> tuple[str, str]:
    x = m.quant(m.input(list(SHAPES[rank]), "x"), 0.125, 5)
    if rank == 4:
        return tuple(m.node("Conv", x, m.weight(normal((4, 3, 1, 1), size), 0.25, 4)) for size in (0.5, 0.7))  # type: ignore[return-value]
    return tuple(m.node("MatMul", x, m.weight(normal((6, 4), size), 0.25, 4)) for size in (0.5, 0.7))  # type: ignore[return-value]


def network(
    folder: Path, op: str, rank: int, lhs: object, rhs: object, *, quantized: bool = True, bits: int = 5
) -> Path:
    m = ModelBuilder()
    y, z = branches(m, rank)
    total = m.node(op, m.quant(y, lhs, bits), m.quant(z, rhs, bits), **({"axis": 1} if op == "Concat" else {}))
    m.output(m.quant(total, float(np.float32(0.07)), 6) if quantized else total)
    return m.save(folder)


def inputs(rank: int) -> np.ndarray:
    return np.random.default_rng(1).integers(-20, 20, (12, *SHAPES[rank][1:])) / 8


@pytest.mark.parametrize("op", ["Add", "Sub", "Concat"])
@pytest.mark.parametrize("rank", [4, 2])
@pytest.mark.parametrize("sides", ["one", "both"])
def test_the_sum_is_the_models_in_c(tmp_path: Path, op: str, rank: int, sides: str) -> None:
    lhs, rhs = scales(1, rank), scales(2, rank) if sides == "both" else float(np.float32(0.043))
    path = network(tmp_path, op, rank, lhs, rhs)
    program = pefslc.compile(path, target="c", require_exact=True, check_passes=True)
    x = inputs(rank)
    (found,) = program.run(x).values()
    np.testing.assert_array_equal(found, exact(path, x))
    program.verify({"x": x}).require()


def exact(path: Path, x: np.ndarray) -> np.ndarray:
    """In fractions, of which all here are float64."""
    model = onnx.load(path)
    return np.concatenate([evaluate_model(model, row[None]) for row in x]).astype(np.float64)


def test_a_sum_that_ends_the_network_has_a_scale_per_channel(tmp_path: Path) -> None:
    path = network(tmp_path, "Add", 4, scales(1, 4), 0.5, quantized=False)
    program = pefslc.compile(path, target="c")
    (output,) = program.graph.outputs
    assert output.map is not None
    assert len(set(output.map.scale)) > 1
    program.verify({"x": inputs(4)}).require()


def test_a_convolution_behind_the_sum_takes_its_scales_in(tmp_path: Path) -> None:
    m = ModelBuilder()
    y, z = branches(m, 4)
    total = m.node("Add", m.quant(y, scales(1, 4), 4), m.quant(z, 0.25, 4))
    m.output(m.quant(m.node("Conv", total, m.weight(normal((2, 4, 3, 3), 0.5), 0.25, 4), pads=[1] * 4), 0.3, 8))
    pefslc.compile(m.save(tmp_path), target="c", check_passes=True).verify({"x": inputs(4)}).require()


def test_on_the_tcu_the_advice_helps(tmp_path: Path) -> None:
    path = network(tmp_path, "Add", 4, scales(1, 4), 0.25)
    with pytest.raises(
        pefslc.CompileError, match="share one quantizer of one scale between the branches, or use power"
    ):
        pefslc.compile(path, target="tensil")
    for lhs in (0.25, scales(1, 4, powers=True)):
        program = pefslc.compile(network(tmp_path, "Add", 4, lhs, 0.25), target="tensil")
        program.verify({"x": inputs(4)}).require()


def test_sums_of_more_than_62_bits_are_refused_with_their_width_where_no_quantizer_follows(tmp_path: Path) -> None:
    lhs, rhs = scales(1, 4) * np.float32(2.0**-60), float(np.float32(0.3))
    with pytest.raises(pefslc.CompileError, match=r"sums take (6[3-9]|[7-9]\d|1\d\d) bits, and 62 are there"):
        pefslc.compile(network(tmp_path, "Add", 4, lhs, rhs, bits=16, quantized=False), target="c")
    path = network(tmp_path, "Add", 4, lhs, rhs, bits=16)
    program = pefslc.compile(path, target="c", require_exact=True, check_passes=True)
    (found,) = program.run(inputs(4)).values()
    np.testing.assert_array_equal(found, exact(path, inputs(4)))


@pytest.mark.parametrize("op", ["Add", "Sub"])
@pytest.mark.parametrize("quantized", [True, False])
def test_a_branch_that_is_always_0_demands_no_grid(tmp_path: Path, op: str, quantized: bool) -> None:
    for name, lhs, rhs in (("large", 1e30, 0.25), ("small", scales(1, 4), 1e-30), ("both", 1e30, 2e30)):
        folder = tmp_path / name
        folder.mkdir()
        m = ModelBuilder()
        x = m.quant(m.input(list(SHAPES[4]), "x"), 0.125, 5)
        y, zero = m.node("Conv", x, m.weight(normal((4, 3, 1, 1), 0.5), 0.25, 4)), m.node("Sub", x, x)
        zero = m.node("Conv", m.quant(zero, 0.125, 5), m.weight(np.zeros((4, 3, 1, 1)), 0.25, 4))
        total = m.node(op, m.quant(y, lhs, 5), m.quant(zero, rhs, 5))
        m.output(m.quant(total, 0.25, 6) if quantized else total)
        path = m.save(folder)
        program = pefslc.compile(path, target="c", check_passes=True)
        (found,) = program.run(inputs(4)).values()
        np.testing.assert_array_equal(found, exact(path, inputs(4)))
