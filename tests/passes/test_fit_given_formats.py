"""Formats by name beside formats from data: what is named stays, what has a width is chosen and may be narrowed."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import ModelBuilder, import_bytes, normal, random_network, without_quantizers
from pefslc.analysis.limits import TargetLimits
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.graph import Graph
from pefslc.ir.quantized import Constant, Conv, Linear
from pefslc.numeric.choose_format import AutoFormat
from pefslc.numeric.format import FixedPoint
from pefslc.passes.calibrate import CalibratedFormats
from pefslc.passes.fit_accumulators import FittedFormats, FittedUniformFormat
from pefslc.passes.fit_given_formats import FittedGivenFormats, GivenFormats
from pefslc.passes.fold_batch_norm import FoldBatchNorm
from pefslc.passes.given_format import GivenFormat
from pefslc.passes.manager import run_passes
from pefslc.passes.pipeline import pipeline, to_integer
from pefslc.passes.quantization_sites import quantization_sites
from pefslc.passes.quantize_after_training import FormatPlan, quantized_by

WIDE = TargetLimits(64, "wide")


def chain(folder: Path) -> Graph:
    """x -> conv, ReLU -> conv, ReLU -> dense."""
    b = ModelBuilder()
    x = b.input([1, 2, 4, 4])
    for seed in (1, 2):
        x = b.node("Relu", b.node("Conv", x, b.constant(normal((2, 2, 1, 1), seed=seed))))
    b.output(b.node("Gemm", b.node("Flatten", x), b.constant(normal((3, 32), seed=3)), transB=1))
    return import_bytes(b, folder)


X = normal((9, 2, 4, 4))


def everywhere(graph: Graph, text: str, *, exactly: bool = False) -> tuple[dict[str, GivenFormat], ...]:
    """The same entry for every tensor that is stored, and for all weights."""
    fmt = AutoFormat.parse(text) or FixedPoint.parse(text)
    tensors = [v.name for v in quantization_sites(graph)]
    layers = [op.result.name for op in graph.ops if isinstance(op, Conv | Linear)]
    return tuple(dict.fromkeys(names, GivenFormat(fmt, exactly, text)) for names in (tensors, layers))


def planned(graph: Graph, formats: GivenFormats, limits: TargetLimits = WIDE) -> FormatPlan:
    return FittedGivenFormats(formats, limits, to_integer(limits)).plan(graph)


def auto(bits: int) -> CalibratedFormats:
    return CalibratedFormats(AutoFormat(bits), {"x": X})


@pytest.mark.parametrize("room", [10, 16, 64])
def test_one_format_for_all_is_what_fmt_makes_of_it(room: int, tmp_path: Path) -> None:
    """But for its rounding of weights, which is said apart, and for native arithmetic, which it does not mean."""
    graph, limits = chain(tmp_path), TargetLimits(room, "some")
    activations, weights = everywhere(graph, "Q2.3")
    by_fmt = FittedUniformFormat(FixedPoint(2, 3), limits, to_integer(limits)).plan(graph)
    plan = planned(graph, GivenFormats(activations, weights, frozenset(weights)), limits)
    assert (plan.activations, plan.weights, plan.balanced) == (by_fmt.activations, by_fmt.weights, by_fmt.balanced)
    assert plan.uniform is None


@pytest.mark.parametrize("room", [12, 64])
def test_one_width_for_all_is_what_auto_makes_of_it(room: int, tmp_path: Path) -> None:
    graph, limits = chain(tmp_path), TargetLimits(room, "some")
    by_auto = FittedFormats(auto(6), limits, to_integer(limits)).plan(graph)
    assert planned(graph, GivenFormats(*everywhere(graph, "auto:6"), data=auto(6)), limits) == by_auto


def test_each_width_is_chosen_as_if_it_were_asked_for_alone(tmp_path: Path) -> None:
    graph = chain(tmp_path)
    activations, _ = everywhere(graph, "auto:8")
    _, weights = everywhere(graph, "auto:4")
    plan = planned(graph, GivenFormats(activations, weights, data=auto(8)))
    assert plan.activations == auto(8).plan(graph).activations
    assert plan.weights == auto(4).plan(graph).weights


def test_what_is_named_is_not_narrowed_and_what_is_chosen_makes_room(tmp_path: Path) -> None:
    graph, limits = chain(tmp_path), TargetLimits(14, "narrow")
    activations, weights = everywhere(graph, "auto:8")
    first, *_ = weights
    weights[first] = GivenFormat(FixedPoint(3, 4), True, "a layer")
    plan = planned(graph, GivenFormats(activations, weights, data=auto(8)), limits)
    assert plan.weights[first] == FixedPoint(3, 4).quantization
    (x, *_) = activations
    assert plan.activations[x].bits < 8
    run_passes(quantized_by(plan, graph), pipeline(limits))  # the accumulator check among them


def test_what_is_named_and_does_not_fit_is_refused(tmp_path: Path) -> None:
    graph, limits = chain(tmp_path), TargetLimits(12, "narrow")
    plan = planned(graph, GivenFormats(*everywhere(graph, "Q3.5", exactly=True)), limits)
    with pytest.raises(CompileError, match="PEF0504"):
        run_passes(quantized_by(plan, graph), pipeline(limits))


def test_a_sign_that_is_named_stays_and_one_that_is_not_goes_behind_a_relu(tmp_path: Path) -> None:
    graph = chain(tmp_path)
    for exactly, signed in ((True, [True, True, True]), (False, [True, False, False])):
        plan = planned(graph, GivenFormats(*everywhere(graph, "Q3.5", exactly=exactly)))
        assert [q.signed for q in plan.activations.values()] == signed


@pytest.mark.parametrize(("activations", "weights"), [("Q1.0", "Q2.2"), ("Q2.2", "UQ2.2"), ("Q2.2", "Q1.0")])
def test_formats_that_no_float_model_can_have_are_refused_by_entry(
    activations: str, weights: str, tmp_path: Path
) -> None:
    graph = chain(tmp_path)
    formats = GivenFormats(everywhere(graph, activations)[0], everywhere(graph, weights)[1])
    with pytest.raises(CompileError, match=r"PEF0501\]: (Q1.0|UQ2.2): (weights|values) of a float model cannot be"):
        planned(graph, formats)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([16, 64]), st.randoms(use_true_random=False))
def test_any_mixture_has_what_is_named_and_at_most_the_width_asked_for(
    tmp_path_factory: pytest.TempPathFactory, seed: int, room: int, draw: Random
) -> None:
    folder = tmp_path_factory.mktemp("model")
    graph = FoldBatchNorm().run(import_bytes(without_quantizers(random_network(seed)), folder))
    limits = TargetLimits(room, "some")
    widths = {"auto:8": 8, "auto:4": 4}
    said = [GivenFormat(AutoFormat.parse(t) or FixedPoint.parse(t), True, t) for t in (*widths, "Q1.1", "Q3.2")]
    activations, weights = ({name: draw.choice(said) for name in names} for names in everywhere(graph, "auto:8"))
    data = {i.name: normal((4, *i.value.type.shape[1:])) for i in graph.inputs}
    plan = planned(graph, GivenFormats(activations, weights, data=CalibratedFormats(AutoFormat(8), data)), limits)
    for entries, made in ((activations, plan.activations), (weights, plan.weights)):
        assert entries.keys() == made.keys()
        for name, entry in entries.items():
            if isinstance(entry.fmt, FixedPoint):
                assert made[name] == entry.fmt.quantization
            else:
                assert 2 <= made[name].bits <= widths[entry.where]
    arrays = {i.name: data[i.name][: i.value.type.shape[0]] for i in graph.inputs}
    quantized = quantized_by(plan, graph)
    integer, _ = run_passes(quantized, to_integer(limits))
    for name, values in quantized.run(arrays).items():
        assert np.array_equal(integer.run(arrays)[name], values)


def test_what_is_joined_in_several_formats_and_moved_has_a_bias_on_the_finest_grid(tmp_path: Path) -> None:
    b = ModelBuilder()
    x = b.input([1, 2, 4, 4])
    parts = [b.node("Relu", b.node("Conv", x, b.constant(normal((2, 2, 1, 1), seed=seed)))) for seed in (1, 2)]
    pooled = b.node("MaxPool", b.node("Concat", *parts, axis=1), kernel_shape=[2, 2], strides=[2, 2])
    b.output(b.node("Conv", pooled, b.constant(normal((3, 4, 1, 1))), b.constant(normal((3,)))))
    graph = import_bytes(b, tmp_path)
    activations, weights = everywhere(graph, "Q4.4", exactly=True)
    activations[list(activations)[2]] = GivenFormat(FixedPoint(2, 7), True, "a tensor")
    quantized = quantized_by(planned(graph, GivenFormats(activations, weights)), graph)
    (layer,) = [op for op in quantized.of_type(Conv) if op.bias is not None]
    assert layer.bias is not None
    (bias,) = [op.data.data for op in quantized.of_type(Constant) if op.result.name == layer.bias.name]
    expected = [Fraction(round(Fraction(float(v)) * 2**11), 2**11) for v in normal((3,))]
    assert [Fraction(float(v)) for v in bias] == expected
    integer, _ = run_passes(quantized, to_integer(WIDE))
    assert all(np.array_equal(integer.run(X)[name], values) for name, values in quantized.run(X).items())
