"""Verification against outputs in float32: what their rounding explains, what it does not, and raw weights.

The reference is ONNX' own evaluation, in float32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_support import Cli
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from builders import ModelBuilder, normal
from pefslc import load
from pefslc.evaluation.float32_radius import float32_radii

Floats = NDArray[np.float32]


def averaging(*, power_of_two: bool = False, seed: int = 0, tail: str | None = None) -> ModelBuilder:
    """Codes of 4 bits, their mean over 6 x 6 pixels quantized to 4/36 of their scale, a dense layer, and a tail."""
    m, random = ModelBuilder(opset=19), np.random.default_rng(seed)
    scale = 0.25 if power_of_two else np.float32(random.uniform(0.1, 0.3))
    mean_scale = 0.125 if power_of_two else np.float32(scale * np.float32(4 / 36))
    weight_scale = 0.125 if power_of_two else np.float32(random.uniform(0.01, 0.1))

    def quantized(x: str, step: object, signed: bool) -> str:
        zero = m.constant(0, dtype=np.int8 if signed else np.uint8)
        step_name = m.constant(step)
        codes = m.node("QuantizeLinear", x, step_name, zero)
        return m.node("DequantizeLinear", codes, step_name, zero)

    x = quantized(m.input([1, 3, 6, 6]), scale, signed=True)
    mean = quantized(m.node("GlobalAveragePool", m.node("Relu", x)), mean_scale, signed=False)
    codes = m.constant(random.integers(-7, 8, (4, 3)), dtype=np.int8)
    step, zero = m.constant(weight_scale), m.constant(0, dtype=np.int8)
    weight = m.node("DequantizeLinear", codes, step, zero)
    flat = m.node("Flatten", mean)
    if tail is None:
        m.node("Gemm", flat, weight, transB=1, name="fc", output=m.output("y", [1, 4]))
        return m
    logits = m.node("Gemm", flat, weight, transB=1, name="fc")
    if tail == "ArgMax":
        m.node(tail, logits, axis=1, output=m.output("y", [1, 1], onnx.TensorProto.INT64))
    else:
        m.node(tail, logits, output=m.output("y", [1, 4]))
    return m


def in_float32(model: onnx.ModelProto, x: Floats) -> Floats:
    evaluator = ReferenceEvaluator(model)
    return np.concatenate([evaluator.run(None, {"x": row[None]})[0] for row in x])


def pictures(rows: int = 16) -> Floats:
    return normal((rows, 3, 6, 6)).astype(np.float32)


@pytest.mark.parametrize("target", ["c", "tensil"])
def test_a_quantizer_no_step_of_which_is_reached_has_no_ties(pefslc: Cli, tmp_path: Path, target: str) -> None:
    """Its step is larger than any mean of the codes: one code is left."""
    m = ModelBuilder(opset=19)
    m.output(m.quant(m.node("GlobalAveragePool", m.quant(m.input([1, 3, 6, 6]), 2.0**-7, 8)), 10.0, 8))
    result = pefslc(m.save(tmp_path), "--target", target, "-o", tmp_path / "build")
    assert (result.status, result.err) == (0, "")
    assert "wrote" in result.out


def test_ties_of_a_float32_reference_are_said_to_be_ties(pefslc: Cli, tmp_path: Path) -> None:
    m, x = averaging(), pictures()
    path, y = m.save(tmp_path), in_float32(m.build(), x)
    ours = load(path).run(x)["y"]
    differing = int((np.abs(ours - y) > 1e-5).sum())
    assert differing > 0  # else this shows nothing
    np.savez(tmp_path / "d.npz", x=x, y=y)
    result = pefslc(path, "--target", "fake", "-o", tmp_path / "a", "--verify", tmp_path / "d.npz")
    assert result.status == 1
    assert f"{differing} of 64 differ: fake and 'y'; first at [" in result.err
    assert "; all within what rounding in float32 explains; on a threshold, or too near for float32: " in result.err
    assert "exact arithmetic; compare with outputs computed in float64, or leave the array out" in result.err
    np.savez(tmp_path / "d.npz", x=x)
    alone = pefslc(path, "--target", "fake", "-o", tmp_path / "a", "--verify", tmp_path / "d.npz")
    assert alone.status == 0
    assert alone.out.count("thresholds of ") == 1
    assert "are next to sums that occur: there torch and ONNX Runtime, in float32, may give the next code" in alone.out
    dyadic = pefslc(averaging(power_of_two=True).save(tmp_path), "--target", "fake", "-o", tmp_path / "a")
    assert "thresholds of " not in dyadic.out


def test_many_quantizers_with_ties_are_one_note(pefslc: Cli, tmp_path: Path) -> None:
    m, scale = ModelBuilder(opset=19), np.float32(0.25)
    x = m.quant(m.input([1, 2, 6, 6]), scale)
    for i in range(5):
        mean = m.node("AveragePool", x, kernel_shape=[6, 6], pads=[3, 3, 2, 2], count_include_pad=1)
        scale = np.float32(scale * np.float32(4 / 36))
        x = m.quant(mean, scale, output=f"mean{i}")
    m.output(x)
    result = pefslc(m.save(tmp_path), "--target", "fake", "-o", tmp_path / "a")
    (note,) = [line for line in result.out.splitlines() if "thresholds of " in line]
    assert note.startswith("note: 124 of 124 thresholds of quant2, quant6, quant8 and 1 more are next to sums that")


def test_what_rounding_does_not_explain_is_found_among_the_ties(pefslc: Cli, tmp_path: Path) -> None:
    m, x = averaging(), pictures()
    y = in_float32(m.build(), x)
    y[9, 2] += 0.5
    np.savez(tmp_path / "d.npz", x=x, y=y)
    result = pefslc(m.save(tmp_path), "--target", "fake", "-o", tmp_path / "a", "--verify", tmp_path / "d.npz")
    assert result.status == 1
    assert "; the first that is not: [9, 2], off by " in result.err
    assert "does the array belong to these inputs and to this model?" in result.err


@pytest.mark.parametrize("target", ["fake", "c"])
def test_sums_that_float32_rounded_are_the_same_codes_and_what_is_off_by_more_is_not(
    pefslc: Cli, tmp_path: Path, target: str
) -> None:
    """A dense layer at the end, without a quantizer: its sums cancel, so that their roundings are large beside them."""
    m, random = ModelBuilder(opset=19), np.random.default_rng(4)
    zero, steps = m.constant(0, dtype=np.int8), [m.constant(np.float32(step)) for step in (0.0173, 0.0231)]
    codes = m.node("QuantizeLinear", m.input([1, 8]), steps[0], zero)
    weights = m.constant(random.integers(-128, 128, (5, 8)), dtype=np.int8)
    operands = (m.node("DequantizeLinear", codes, steps[0], zero), m.node("DequantizeLinear", weights, steps[1], zero))
    m.node("Gemm", *operands, transB=1, output=m.output("y", [1, 5]))
    path, inputs = m.save(tmp_path), random.normal(0, 0.5, (64, 8)).astype(np.float32)
    exact = load(path).run(inputs.astype(np.float64))["y"]
    step = float(np.float32(0.0173)) * float(np.float32(0.0231))
    y = in_float32(m.build(), inputs)
    assert (np.abs(y - exact) > 8 * 2.0**-23 * np.abs(exact)).any()  # else this shows nothing
    for off, status in ((0.0, 0), (0.1 * step, 1)):
        moved = y.copy()
        moved[11, 3] += off
        np.savez(tmp_path / "d.npz", x=inputs, y=moved)
        result = pefslc(path, "--target", target, "-o", tmp_path / target, "--verify", tmp_path / "d.npz")
        assert result.status == status, result.err
    assert "1 of 320 differ" in result.err
    assert "the first that is not: [11, 3], off by " in result.err


def test_where_float32_rounds_nothing_no_difference_is_a_tie(pefslc: Cli, tmp_path: Path) -> None:
    m = averaging(power_of_two=True)
    x = (np.random.default_rng(1).integers(0, 3, (4, 3, 6, 6)) * 36 / 4).astype(np.float32)  # means on the grid
    y = in_float32(m.build(), x)
    y[2, 1] += 2.0**-6  # one code
    np.savez(tmp_path / "d.npz", x=x, y=y)
    result = pefslc(m.save(tmp_path), "--target", "fake", "-o", tmp_path / "a", "--verify", tmp_path / "d.npz")
    assert "1 of 16 differ: fake and 'y'; first at [2, 1]: " in result.err
    assert "0 of the 1 within what rounding in float32 explains" in result.err


TAILS = ["Softmax", "LogSoftmax", "Sigmoid", "Tanh", "ArgMax"]


@pytest.mark.parametrize("tail", TAILS)
def test_ties_before_the_hosts_last_step_are_said_to_be_ties(tail: str, pefslc: Cli, tmp_path: Path) -> None:
    m, x = averaging(tail=tail, seed=6), pictures(300)  # ties that turn the order of two logits, too
    path, y = m.save(tmp_path), in_float32(m.build(), x)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    result = pefslc(path, "--target", "fake", "-o", tmp_path / "a", "--verify", tmp_path / "d.npz")
    assert result.status == 1
    assert f" of {y.size} differ: fake and 'y'" in result.err
    assert "; all within what rounding in float32 explains; on a threshold, or too near for float32: " in result.err


@pytest.mark.parametrize("tail", TAILS)
def test_what_rounding_does_not_explain_is_found_before_the_hosts_last_step(
    tail: str, pefslc: Cli, tmp_path: Path
) -> None:
    m, x = averaging(tail=tail), pictures()
    path, y = m.save(tmp_path), in_float32(m.build(), x)
    logits = load(averaging().save(tmp_path, "logits")).run(x)["y"]
    if tail == "ArgMax":
        y[9, 0] = logits[9].argmin()
        said = f"; the first that is not: [9, 0], whose value is below the largest by {np.ptp(logits[9]):.3g} where "
    else:
        y[9, 2] += 2
        said = "; the first that is not: [9, 2], off by 2 where float32 explains "
    np.savez(tmp_path / "d.npz", x=x, y=y)
    result = pefslc(path, "--target", "fake", "-o", tmp_path / "a", "--verify", tmp_path / "d.npz")
    assert result.status == 1
    assert said in result.err


def test_an_index_that_is_none_is_not_explained(pefslc: Cli, tmp_path: Path) -> None:
    m, x = averaging(tail="ArgMax"), pictures()
    path, y = m.save(tmp_path), in_float32(m.build(), x)
    y[3, 0] = 4
    np.savez(tmp_path / "d.npz", x=x, y=y)
    result = pefslc(path, "--target", "fake", "-o", tmp_path / "a", "--verify", tmp_path / "d.npz")
    assert "; the first that is not: [3, 0], which is no index" in result.err


@pytest.mark.parametrize("seed", range(6))
def test_no_evaluation_in_float32_is_outside_of_the_bound(seed: int, tmp_path: Path) -> None:
    m, x = averaging(seed=seed), pictures(40)
    graph, y = load(m.save(tmp_path)), in_float32(m.build(), x)
    *_, last = float32_radii(graph, {"x": x.astype(np.float64)})
    off = np.abs(y - last.exact)
    assert (off <= last.radius).all()
    assert last.radius.max() < np.abs(last.exact).max()  # it says something


@pytest.mark.parametrize(("mode", "said"), [("FLOOR", "weights rounded by FLOOR"), ("CEIL", "weights rounded by CEIL")])
def test_raw_weights_of_a_network_that_rounds_otherwise_are_named(
    pefslc: Cli, tmp_path: Path, mode: str, said: str
) -> None:
    raw = normal((3, 4), 0.5).astype(np.float32)
    m = ModelBuilder()
    x = m.quant(m.input([1, 4]))
    weight = m.weight(raw)
    m.node("Gemm", x, weight, transB=1, name="fc", output=m.output("y", [1, 3]))
    codes = np.random.default_rng(2).integers(-16, 16, (5, 4)) / 8
    rounded = {"FLOOR": np.floor, "CEIL": np.ceil}[mode](raw * 8.0).clip(-16, 15) / 8
    np.savez(tmp_path / "d.npz", x=codes, y=(codes @ rounded.T).astype(np.float32))
    result = pefslc(m.save(tmp_path), "--target", "fake", "-o", tmp_path / "a", "--verify", tmp_path / "d.npz")
    assert result.status == 1
    assert said in result.err
    assert "as Brevitas' export always does" in result.err
