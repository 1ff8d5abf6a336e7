"""Formats from data, and the accumulators that they must fit."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import pefslc.ir.reference
from builders import ModelBuilder, import_bytes, normal, random_network, without_quantizers
from pefslc.analysis.limits import TargetLimits
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.graph import Graph
from pefslc.ir.reference import in_chunks, stream_values
from pefslc.numeric.choose_format import AutoFormat, Calibration
from pefslc.numeric.rounding import round_fraction
from pefslc.passes.calibrate import CalibratedFormats
from pefslc.passes.fit_accumulators import FittedFormats
from pefslc.passes.fold_batch_norm import FoldBatchNorm
from pefslc.passes.manager import run_passes
from pefslc.passes.pipeline import pipeline, to_integer
from pefslc.passes.quantize_after_training import FormatPlan, quantized_by

X = normal((9, 2, 4, 4))


def branches(folder: Path) -> Graph:
    """Two convolutions of one input, one with a ReLU, side by side into a third."""
    b = ModelBuilder()
    x = b.input([1, 2, 4, 4])
    left = b.node("Relu", b.node("Conv", x, b.constant(normal((2, 2, 1, 1)))))
    right = b.node("Conv", x, b.constant(normal((2, 2, 1, 1), 3, seed=1)))
    pooled = b.node("MaxPool", left, kernel_shape=[1, 1])
    joined = b.node("Concat", pooled, right, axis=1)
    b.output(b.node("Conv", joined, b.constant(normal((1, 4, 1, 1)))))
    return import_bytes(b, folder)


def plan(graph: Graph, x: NDArray[np.float64], bits: int = 8, method: Calibration = Calibration.MSE) -> FormatPlan:
    return CalibratedFormats(AutoFormat(bits), {"x": x}, method).plan(graph)


def names(formats: FormatPlan) -> dict[str, str]:
    return {name: str(q) for name, q in formats.activations.items()}


def test_what_is_never_negative_is_unsigned_and_what_is_joined_shares_a_format(tmp_path: Path) -> None:
    b = ModelBuilder()
    x = b.input([1, 2, 4, 4])
    b.output(b.node("Relu", b.node("Conv", x, b.constant([[[[1.0]], [[0.0]]]]))))
    graph = import_bytes(b, tmp_path)
    relu = graph.outputs[0].value.name
    assert names(plan(graph, X / X.max(), method=Calibration.MINMAX))[relu].startswith("UQ")
    assert set(names(plan(graph, np.full((1, 2, 4, 4), 0.75), method=Calibration.MINMAX)).values()) == {"UQ0.8"}
    joined = plan(branches(tmp_path), X)
    assert len(joined.activations) == 3
    one, two = [q for name, q in joined.activations.items() if name != branches(tmp_path).inputs[0].value.name]
    assert one == two
    assert one.signed


def test_a_concat_of_one_tensor_needs_no_other_to_share_a_format_with(tmp_path: Path) -> None:
    b = ModelBuilder()
    joined = b.node("Concat", b.input([1, 2, 4, 4]), axis=1)
    b.output(b.node("Conv", joined, b.constant(np.ones((1, 2, 1, 1)))))
    graph = import_bytes(b, tmp_path)
    assert plan(graph, X).activations.keys() == {graph.inputs[0].value.name}


@pytest.mark.parametrize("between", [None, "Relu"])
def test_a_constant_among_activations_is_refused_before_data_meets_it(between: str | None, tmp_path: Path) -> None:
    """Nine rows of data and one row of the constant cannot be joined."""
    b = ModelBuilder()
    x, constant = b.input([1, 2, 4, 4]), b.constant(np.ones((1, 1, 4, 4)))
    joined = b.node("Concat", x, b.node(between, constant) if between else constant, axis=1)
    b.output(b.node("Conv", joined, b.constant(np.ones((1, 3, 1, 1)))))
    with pytest.raises(CompileError, match=r"PEF0406\]: concat reads a constant where it needs an activation"):
        plan(import_bytes(b, tmp_path), X)


@pytest.mark.parametrize("batches", [1, 3, 70])
def test_inputs_of_different_batch_sizes_go_in_step(
    batches: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress counts the rows of the input that has most, to the last one; plans are compared on 64 batches."""
    b = ModelBuilder()
    for name, rows in (("x", 1), ("y", 2)):
        b.output(b.node("Gemm", b.input([rows, 2], name), b.constant(normal((2, 2))), transB=1))
    graph = import_bytes(b, tmp_path)
    monkeypatch.setattr(pefslc.ir.reference, "_BYTES_AT_ONCE", 1)
    data = {i.name: normal((batches * i.value.type.shape[0], 2)) for i in graph.inputs}
    seen: dict[str, list[tuple[int, int]]] = {}

    def note(done: int, total: int, what: str) -> None:
        seen.setdefault(what, []).append((done, total))

    formats = CalibratedFormats(AutoFormat(6), data, Calibration.MINMAX, note)
    FittedFormats(formats, TargetLimits(10, "narrow"), to_integer()).plan(graph)
    assert seen["calibrating ranges"] == [(2 * done, 2 * batches) for done in range(1, batches + 1)]
    compared = min(batches, 64)
    plans, rest = divmod(len(seen["comparing with the float model"]), compared)
    assert (plans > 1, rest) == (True, 0)
    each = [(2 * done, 2 * compared) for done in range(1, compared + 1)]
    assert seen["comparing with the float model"] == plans * each


@pytest.mark.parametrize("method", list(Calibration))
def test_formats_are_what_a_search_over_exact_rationals_finds(method: Calibration, tmp_path: Path) -> None:
    graph = branches(tmp_path)
    x = np.random.default_rng(3).standard_t(2, (9, 2, 4, 4))  # heavy tails: clipping pays
    chosen = plan(graph, x, 5, method).activations[graph.inputs[0].value.name].fixed_point
    values = [Fraction(float(v)) for v in x.reshape(-1)]

    def measure(fraction_bits: int) -> tuple[Fraction, int]:
        step, clipped, error = Fraction(2) ** -fraction_bits, 0, Fraction(0)
        for v in values:
            code = round_fraction(v / step)
            clipped += not -16 <= code <= 15
            error += (min(max(code, -16), 15) * step - v) ** 2
        return error, clipped

    measured = {n: measure(n) for n in range(-6, 12)}
    allowed = {Calibration.MINMAX: 0, Calibration.PERCENTILE: len(values) // 1000}
    if method is Calibration.MSE:
        best = min(measured, key=lambda n: measured[n][0])
        assert measured[best][1] > 0
    else:
        best = max(n for n, (_, clipped) in measured.items() if clipped <= allowed[method])
    assert chosen is not None
    assert (chosen.bits, chosen.fraction_bits) == (5, best)


def test_pieces_of_the_inputs_show_what_all_of_them_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = branches(tmp_path)
    whole = {v.name: a for v, a in stream_values(graph, {"x": X})}
    before = plan(graph, X)
    monkeypatch.setattr(pefslc.ir.reference, "_BYTES_AT_ONCE", 1)
    pieces = list(in_chunks(graph, {"x": X}))
    assert [len(p["x"]) for p in pieces] == [1] * 9
    assert plan(graph, X) == before
    for name, array in whole.items():
        if array.shape[:1] == (9,):
            parts = [dict((v.name, a) for v, a in stream_values(graph, p))[name] for p in pieces]
            np.testing.assert_allclose(np.concatenate(parts), array, rtol=1e-14)


@pytest.mark.parametrize("bits", [2, 3])
def test_formats_of_the_fewest_bits_that_fit_stay_as_they_are(bits: int, tmp_path: Path) -> None:
    graph = branches(tmp_path)
    formats = CalibratedFormats(AutoFormat(bits), {"x": X})
    assert FittedFormats(formats, TargetLimits(64, "wide"), to_integer()).plan(graph) == formats.plan(graph)


def test_a_mean_gives_up_bits_of_what_it_reads(tmp_path: Path) -> None:
    """16 signed codes of 8 bits need 12: one bit goes, of the input, because a mean has no weights."""
    b = ModelBuilder()
    b.output(b.node("AveragePool", b.input([1, 2, 4, 4]), kernel_shape=[4, 4]))
    graph = import_bytes(b, tmp_path)
    for room, bits in ((12, 8), (11, 7), (10, 6)):
        formats = CalibratedFormats(AutoFormat(8), {"x": X})
        fitted = FittedFormats(formats, TargetLimits(room, "narrow"), to_integer()).plan(graph)
        assert [q.bits for q in fitted.activations.values()] == [bits]


def test_of_two_addends_the_one_with_more_bits_gives_up_more(tmp_path: Path) -> None:
    """x gives up two bits for its mean. y then gives up two more for the sum, and x, which has no more than y, none.

    One of y's does not help: the format with 7 bits has half the range, and the same step.
    """
    b = ModelBuilder()
    x, y, z = (b.input([1, 1, 32, 32], name) for name in "xyz")
    b.output(b.node("AveragePool", x, kernel_shape=[32, 32]))
    b.output(b.node("Add", x, y))
    b.output(b.node("Conv", z, b.constant([[[[0.7]]]])))  # it fits: fewer bits to begin with are no better
    graph = import_bytes(b, tmp_path)
    rng = np.random.default_rng(0)
    data = {name: rng.uniform(-end, end, (4, 1, 32, 32)) for name, end in (("x", 127), ("y", 0.25), ("z", 1))}
    data["y"][0, 0, 0, 0] = 0.34
    formats = CalibratedFormats(AutoFormat(8), data)
    first = [str(formats.plan(graph).activations[i.value.name]) for i in graph.inputs]
    fitted = FittedFormats(formats, TargetLimits(16, "narrow"), to_integer()).plan(graph)
    assert first == ["Q8.0", "Q0.8", "Q1.7"]
    assert [str(fitted.activations[i.value.name]) for i in graph.inputs] == ["Q8.-2", "Q-1.7", "Q1.7"]


@pytest.mark.parametrize("seed", range(6))
def test_fitted_formats_fit_and_change_nothing_where_all_fits_already(seed: int, tmp_path: Path) -> None:
    graph = FoldBatchNorm().run(import_bytes(without_quantizers(random_network(seed)), tmp_path))
    shape = graph.inputs[0].value.type.shape
    formats = CalibratedFormats(AutoFormat(8), {"x": normal((4, *shape[1:]))})
    wide, narrow = TargetLimits(64, "wide"), TargetLimits(13, "narrow")
    assert FittedFormats(formats, wide, to_integer()).plan(graph) == formats.plan(graph)
    fitted = FittedFormats(formats, narrow, to_integer()).plan(graph)
    run_passes(quantized_by(fitted, graph), pipeline(narrow))  # the accumulator check among them
    asked = formats.plan(graph)
    assert all(q.bits <= 8 for q in (*fitted.activations.values(), *fitted.weights.values()))
    assert fitted.activations.keys() == asked.activations.keys()
    assert fitted != asked


def test_the_formats_with_the_least_noise_at_the_outputs_win(tmp_path: Path) -> None:
    """Where 8 bits must shrink, formats that were chosen for fewer bits to begin with are tried, too."""
    graph = branches(tmp_path)
    formats = CalibratedFormats(AutoFormat(8), {"x": X})
    limits = TargetLimits(11, "narrow")
    want = graph.run(X)

    def noise(bits: int) -> float:
        chosen = FittedFormats(CalibratedFormats(AutoFormat(bits), {"x": X}), limits, to_integer()).plan(graph)
        got = quantized_by(chosen, graph).run(X)
        return sum(float(np.square(got[k] - want[k]).sum()) for k in want)

    assert formats.auto.bits == 8
    assert noise(8) <= min(noise(bits) for bits in (7, 6, 5, 4))


@pytest.mark.parametrize(
    ("before", "low", "high", "unsigned"),
    [
        ("Relu", 0.0, 2.0, True),
        ("Relu", -1.0, 2.0, True),
        ("Relu", -1.0, -0.5, False),
        ("Relu", None, 2.0, True),
        ("Identity", 0.0, 2.0, True),
        ("Identity", 0.5, 2.0, True),
        ("Identity", -1.0, 2.0, False),
        ("Identity", None, 2.0, False),
        ("Identity", 0.0, None, True),
    ],
)
def test_a_clip_is_unsigned_where_it_lets_no_negative_value_through(
    before: str, low: float | None, high: float | None, unsigned: bool, tmp_path: Path
) -> None:
    b = ModelBuilder()
    x = b.node("Conv", b.input([1, 2, 4, 4]), b.constant(np.ones((1, 2, 1, 1))))
    limits = ["" if limit is None else b.constant(limit) for limit in (low, high)]
    clipped = b.node("Clip", b.node(before, x), *limits)
    b.output(b.node("Conv", clipped, b.constant(np.ones((1, 1, 1, 1)))))
    graph = import_bytes(b, tmp_path)
    (name,) = (name for name in plan(graph, X).activations if name != graph.inputs[0].value.name)
    assert plan(graph, X).activations[name].signed != unsigned


def test_codes_that_are_added_on_a_fine_grid_give_up_bits(tmp_path: Path) -> None:
    """A large tensor and a small one: the sum counts in steps of the small one."""
    b = ModelBuilder()
    x = b.input([1, 2, 4, 4])
    small = b.node("Relu", b.node("Conv", x, b.constant(np.full((2, 2, 1, 1), 0.01))))
    large = b.node("Relu", b.node("Conv", x, b.constant(np.full((2, 2, 1, 1), 5.0))))
    b.output(b.node("Relu", b.node("Add", small, large)))
    graph = import_bytes(b, tmp_path)
    formats, limits = CalibratedFormats(AutoFormat(8), {"x": X}), TargetLimits(14, "narrow")
    with pytest.raises(CompileError, match="the accumulator needs"):
        run_passes(quantized_by(formats.plan(graph), graph), pipeline(limits))
    run_passes(quantized_by(FittedFormats(formats, limits, to_integer()).plan(graph), graph), pipeline(limits))


def test_what_cannot_fit_is_left_to_the_accumulator_check(tmp_path: Path) -> None:
    graph = branches(tmp_path)
    limits = TargetLimits(3, "tiny")
    fitted = FittedFormats(CalibratedFormats(AutoFormat(4), {"x": X}), limits, to_integer()).plan(graph)
    with pytest.raises(CompileError, match="tiny has 3"):
        run_passes(quantized_by(fitted, graph), pipeline(limits))


def test_what_was_only_seen_to_be_positive_stays_signed(tmp_path: Path) -> None:
    """Positive weights and data: the sums are positive here, and need not be for the next input."""
    b = ModelBuilder()
    x = b.input([1, 2, 4, 4])
    y = b.node("Conv", x, b.constant(np.ones((2, 2, 1, 1))))
    b.output(b.node("Conv", y, b.constant(np.ones((1, 2, 1, 1)))))
    graph = import_bytes(b, tmp_path)
    formats = names(plan(graph, np.abs(X), method=Calibration.MINMAX))
    assert formats[graph.inputs[0].value.name].startswith("UQ")
    assert all(not q.startswith("U") for name, q in formats.items() if name != graph.inputs[0].value.name)
    assert len(formats) == 2


@pytest.mark.parametrize("lowest", [0.0, -0.25])
def test_an_input_is_unsigned_where_none_of_its_values_is_negative(lowest: float, tmp_path: Path) -> None:
    b = ModelBuilder()
    b.output(b.node("Conv", b.input([1, 2, 4, 4]), b.constant(np.ones((2, 2, 1, 1)))))
    graph, x = import_bytes(b, tmp_path), np.full((1, 2, 4, 4), 0.75)
    x[0, 1, 2, 3] = lowest
    assert names(plan(graph, x, method=Calibration.MINMAX))[graph.inputs[0].value.name].startswith("UQ") == (
        lowest == 0
    )
