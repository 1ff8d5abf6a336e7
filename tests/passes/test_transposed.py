"""Float decoders quantized after training: ConvTranspose is quantized as Conv is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pefslc
from builders import ModelBuilder, import_bytes
from pefslc.geometry.dilation_phases import taps_together
from pefslc.ir.quantized import BatchNorm, Constant, Conv
from pefslc.numeric.format import FixedPoint
from pefslc.passes.fold_batch_norm import FoldBatchNorm
from pefslc.passes.quantize_after_training import QuantizeAfterTraining, UniformFormat

INPUTS = np.random.default_rng(1).normal(0, 1, (12, 4, 6, 6)).astype(np.float32)


def decoder() -> ModelBuilder:
    m, rng = ModelBuilder(), np.random.default_rng(3)
    x = m.input((1, 4, 6, 6))
    small = m.node(
        "Relu", m.node("Conv", x, m.constant(rng.normal(0, 0.3, (6, 4, 3, 3))), strides=[2, 2], pads=[1] * 4)
    )
    weight, bias = m.constant(rng.normal(0, 0.3, (6, 4, 4, 4))), m.constant(rng.normal(0, 0.3, 4))
    up = m.node("ConvTranspose", small, weight, bias, strides=[2, 2], pads=[1] * 4)
    parts = rng.uniform(0.5, 1.5, 4), rng.normal(0, 0.3, 4), rng.normal(0, 0.3, 4), rng.uniform(0.5, 2, 4)
    up = m.node("Relu", m.node("BatchNormalization", up, *map(m.constant, parts), epsilon=1e-5))
    m.output(m.node("ConvTranspose", up, m.constant(rng.normal(0, 0.3, (4, 2, 2, 2))), strides=[2, 2]))
    return m


def test_batch_norm_folds_into_the_weights(tmp_path: Path) -> None:
    graph = import_bytes(decoder(), tmp_path)
    folded = FoldBatchNorm().run(graph)
    assert not list(folded.of_type(BatchNorm))
    (before,), (after,) = graph.run(INPUTS).values(), folded.run(INPUTS).values()
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-12)


def test_the_errors_of_each_phase_add_up_to_nothing(tmp_path: Path) -> None:
    """No sum is made of a whole kernel."""
    folded = FoldBatchNorm().run(import_bytes(decoder(), tmp_path))
    quantized = QuantizeAfterTraining(UniformFormat(FixedPoint.parse("Q3.5"))).run(folded)
    raw = {op.result.name: op.data.data for op in (*folded.of_type(Constant), *quantized.of_type(Constant))}
    for before in folded.of_type(Conv):
        rounded, weights = raw[f"{before.result.name}.weight.rounded"], raw[before.weight.name]
        for rows, columns in taps_together(before.window):
            errors = (rounded - weights)[:, :, rows, columns] * 2**5
            assert np.abs(errors).max() < 1
            assert np.abs(errors.reshape(len(errors), -1).sum(1)).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(("fmt", "least_snr"), [("auto:8", 30), ("Q4.12", 40)])
def test_the_c_program_is_the_quantized_model_and_near_the_float_one(
    fmt: str, least_snr: float, tmp_path: Path
) -> None:
    check("c", fmt, least_snr, tmp_path)


@pytest.mark.parametrize(("fmt", "least_snr"), [("auto:8", 25), ("Q8.8", 40)])
def test_so_is_the_tcu_program(fmt: str, least_snr: float, tmp_path: Path) -> None:
    check("tensil", fmt, least_snr, tmp_path)


def check(target: str, fmt: str, least_snr: float, folder: Path) -> None:
    path = decoder().save(folder)
    program = pefslc.compile(path, target=target, fmt=fmt, calibrate=INPUTS)
    assert program.verify(INPUTS).equal
    (want,), (got,) = pefslc.load(path).run(INPUTS).values(), program.run(INPUTS).values()
    assert 10 * np.log10((want**2).sum() / ((got - want) ** 2).sum()) >= least_snr


def test_the_tcu_names_the_products_that_one_sum_is_made_of(tmp_path: Path) -> None:
    """4 of 16 taps, of 6 channels."""
    program = pefslc.compile(decoder().save(tmp_path), target="tensil", fmt="Q8.8")
    assert [row.implementation.split(",")[1] for row in program.layers][1] == " 24 products rounded"
