"""Sums wider than a word, made of words: the rewritten graph against the model's, by the interpreter and simulated."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensil_support import emit, simulate
from wide_support import extremes, same, shift, staircase

from integer_graphs import GraphBuilder
from pefslc.analysis.verify import verify
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.graph import Graph
from pefslc.ir.integer import Conv2d
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.groups.selection import select
from pefslc.targets.tensil.machine.architecture import Architecture, DataType, load_architecture
from pefslc.targets.tensil.rewriting.rewrite import Context
from pefslc.targets.tensil.simulate.driver import run_tmodel
from pefslc.targets.tensil.wide.active_range import ActiveRange, saturates_harmlessly
from pefslc.targets.tensil.wide.split_sums import split_sums
from pefslc.targets.tensil.word_rewrites.both_digits import SumBothDigits
from pefslc.targets.tensil.words.placement import place
from pefslc.targets.tensil.words.verify import faults_of_words
from pefslc.targets.tensil.words.word_program import WordProgram

Array = np.ndarray
BOARD = load_architecture("pynqz1")
SMALL = replace(BOARD, data_type=DataType.FP8BP4)


def random_layer(seed: int, data_type: DataType) -> tuple[Graph, Conv2d]:
    """A layer whose sums need up to five bits more than a word, and a staircase with steps anywhere."""
    rng = np.random.default_rng(seed)
    width = data_type.width_bits
    b = GraphBuilder(f"wide{seed}")
    channels, outputs, kernel = int(rng.integers(1, 9)), int(rng.integers(1, 5)), int(rng.integers(1, 4))
    bits = int(rng.integers(2, width // 2 + 2))
    x = b.input((1, channels, kernel, kernel), bits, signed=bool(rng.random() < 0.5))
    target = 2.0 ** (width - 1 + rng.uniform(0, 4.5))
    fan_in = channels * kernel * kernel
    top = max(int(target / fan_in / 2 ** (bits - 1)), 1)
    top = min(top, (1 << width - 1 - data_type.binary_point) - 1)
    weight = rng.integers(-top, top + 1, (outputs, channels, kernel, kernel))
    bias = rng.integers(-(1 << width - 2), 1 << width - 2, outputs) if rng.random() < 0.5 else None
    s = b.conv(x, weight, bias)
    codes = s.type.codes
    active = int(2.0 ** rng.uniform(2, width + 2))
    low = int(rng.integers(min(codes.low, codes.high - active), max(codes.high - active, codes.low) + 1))
    kind, codes_made = rng.integers(0, 3), int(rng.integers(1, 20))
    rows = 1 if rng.random() < 0.4 else outputs
    if kind == 0:
        stairs = shift(s, int(rng.integers(1, width - 5)), int(rng.integers(-20, 1)), codes_made)
    else:
        direction = np.where(rng.random(rows) < 0.3, -1, 1).astype(np.int64)
        thresholds = rng.integers(low, low + active + 1, (rows, codes_made))
        lowest, most = codes.low - (direction < 0)[:, None] * 1, codes.high + (direction > 0)[:, None] * 1
        stairs = staircase(codes.low, codes.high, np.clip(thresholds, lowest, most), direction)
    graph = b.graph(b.steps(s, stairs))
    (conv,) = graph.of_type(Conv2d)
    return graph, conv


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from([DataType.FP8BP4, DataType.FP16BP8, DataType.FP18BP10]))
def test_a_sum_of_words_means_what_the_wide_sum_means(seed: int, data_type: DataType) -> None:
    graph, conv = random_layer(seed, data_type)
    wide = split_sums(graph, replace(BOARD, data_type=data_type, array_size=2))
    assert verify(wide.graph) == [] or all("codes reach" in fault for fault in verify(wide.graph))
    assert all(s.coarser or c is not None for s, c in ((s, 0) for s in wide.stands.values()))
    assert same(graph, wide, extremes(graph, conv, seed))
    if not any(stand.is_near for stand in wide.stands.values()):  # then it is the model's own staircase
        (output,) = graph.outputs
        x = {graph.inputs[0].name: extremes(graph, conv, seed)}
        assert np.array_equal(run_codes(graph, x)[output.value.name], run_codes(wide.graph, x)[output.value.name])


def two_layers(seed: int, architecture: Architecture) -> Graph:
    """Codes of a few bits, a wide layer with padding, its codes, and a wide layer behind them; shifts requantize."""
    rng = np.random.default_rng(seed)
    width, point = architecture.data_type.width_bits, architecture.data_type.binary_point
    b = GraphBuilder(f"two{seed}")
    size, channels = int(rng.integers(2, 6)), int(rng.integers(4, 10))
    bits = int(rng.integers(width // 2 - 1, width // 2 + 1))
    x = b.input((1, channels, size, size), bits, signed=bool(rng.random() < 0.5))
    for _ in range(2):
        channels, kernel, outputs = x.type.channels, 3, int(rng.integers(4, 10))
        fan_in, largest = channels * kernel * kernel, max(-x.type.codes.low, x.type.codes.high)
        top = int(2.0 ** (width + 1 + rng.uniform(0.5, 2.5 if width > 8 else 1)) / fan_in / largest)
        top = min(max(top, 1), (1 << width - 1 - point) - 1)
        weight = rng.integers(-top, top + 1, (outputs, channels, kernel, kernel))
        s = b.conv(x, weight, rng.integers(-20, 20, outputs), pads=(kernel // 2,) * 4)
        signed = bool(rng.random() < 0.4)
        by = int(rng.integers(1, min(width - bits - 1, point) + 1))
        x = b.steps(s, shift(s, by, -(1 << bits - 1) if signed else 0, (1 << bits - 1 if signed else 1 << bits) - 1))
    return b.graph(x)


@pytest.mark.parametrize("data_type", [DataType.FP8BP4, DataType.FP16BP8])
@pytest.mark.parametrize("seed", range(8))
def test_the_program_computes_what_the_model_says(seed: int, data_type: DataType, tmp_path: Path) -> None:
    architecture = replace(BOARD, data_type=data_type, array_size=[2, 3, 4][seed % 3], local_depth=512)
    graph = two_layers(seed, architecture)
    wide = split_sums(graph, architecture)
    assert wide.plans
    emission = emit(graph, architecture, tmp_path)
    assert set(emission.ops) == {op.result.name for op in graph.ops}
    name = graph.inputs[0].name
    codes = graph.inputs[0].value.type.codes
    rng = np.random.default_rng(seed)
    x = rng.integers(codes.low, codes.high + 1, (4, *graph.inputs[0].value.type.shape[1:]))
    x[1], x[2] = rng.choice([codes.low, codes.high], x.shape[1:]), codes.high
    (output,) = graph.outputs
    meant = run_codes(graph if emission.computed is None else emission.computed, {name: x})[output.value.name]
    assert np.array_equal(simulate(graph, emission, tmp_path, {name: x})[output.name], meant)
    assert (emission.computed is None) == all(report.exact for report in emission.ops.values())


def chain(addends: list[tuple[int, int]], bottom: int, top: int) -> bool:
    words = [(np.array([low]), np.array([high])) for low, high in addends]
    return saturates_harmlessly(words, ActiveRange(np.array([bottom]), np.array([top])), -8, 7)


def means_the_same(addends: list[tuple[int, int]], bottom: int, top: int) -> bool:
    """Every choice of addends, one by one: the saturated sum and the true one, on the flat or equal."""
    sums = {(0, 0)}
    for low, high in addends:
        sums = {(max(-8, min(7, word + x)), true + x) for word, true in sums for x in range(low, high + 1)}
    return all(max(bottom, min(top, word)) == max(bottom, min(top, true)) for word, true in sums)


interval = st.tuples(st.integers(-12, 3), st.integers(0, 15)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.lists(interval, min_size=1, max_size=4), st.integers(-9, 7), st.integers(1, 10))
def test_what_is_certified_means_the_same(addends: list[tuple[int, int]], bottom: int, width: int) -> None:
    if chain(addends, bottom, bottom + width):
        assert means_the_same(addends, bottom, bottom + width)


def test_the_certificate_refuses_what_comes_back_from_the_rail() -> None:
    two, three = [(-8, 7)] * 2, [(-8, 7)] * 3
    assert chain(two, -8, 7)  # a sum of two words saturates at its end alone
    assert not chain(three, -8, 7)
    assert not means_the_same(three, -8, 7)
    assert chain([*two, (-2, 2)], -6, 5)  # and what comes later may take it back as far as the flat goes
    assert not chain([*two, (-3, 2)], -6, 5)
    assert not means_the_same([*two, (-3, 2)], -6, 5)


def test_a_sum_without_a_way_stays_and_is_refused(tmp_path: Path) -> None:
    """29 bits of 16-bit codes: neither parts nor two digits of six bits make that of words."""
    b = GraphBuilder("too_wide")
    s = b.conv(b.input((1, 9, 3, 3), 16), np.full((2, 9, 3, 3), 100))
    graph = b.graph(b.steps(s, shift(s, 8, 0, 255)))
    assert split_sums(graph, BOARD).graph is graph
    with pytest.raises(CompileError, match=r"the accumulator needs \d\d bits, the TCU with FP16BP8 has 16") as caught:
        emit(graph, BOARD, tmp_path)
    assert "help: no exact way was found to make this sum of several words: use " in str(caught.value)


def test_a_sum_of_two_words_saturates_where_its_staircase_is_flat(tmp_path: Path) -> None:
    b = GraphBuilder("residual")
    x = b.input((1, 3, 2, 2), 10)
    left, right = (b.conv(x, np.full((3, 3, 1, 1), w)) for w in (20, -21))
    total = b.sum(left, b.conv(x, np.full((3, 3, 1, 1), 21)))
    graph = b.graph(b.steps(total, shift(total, 7, 0, 200)), b.steps(right, shift(right, 7, 0, 200)))
    assert total.type.codes.high > 32767
    assert [str(p) for p in split_sums(graph, BOARD).plans.values()] == ["saturates where no code changes"]
    emission = emit(graph, BOARD, tmp_path)
    assert all(report.exact for report in emission.ops.values())
    inputs = np.stack([np.full((3, 2, 2), code) for code in (-512, -511, -400, -3, 0, 2, 77, 300, 505, 511)])
    expected = run_codes(graph, {"x0": inputs})
    found = simulate(graph, emission, tmp_path, {"x0": inputs})
    assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)


@pytest.mark.parametrize("data_type", [DataType.FP8BP4, DataType.FP16BP8])
@pytest.mark.parametrize("flat", [False, True])
def test_an_output_of_several_words_is_their_sum(data_type: DataType, flat: bool, tmp_path: Path) -> None:
    """By the simulator, and by the emitted module on what a driver returns."""
    rng = np.random.default_rng(3)
    bits = data_type.width_bits // 2
    b = GraphBuilder("wide output")
    x = b.input((1, 7, 2, 3), bits, signed=False)
    top = (1 << data_type.width_bits - 1 - data_type.binary_point) - 1
    if flat:
        y = b.dense(b.reshape(b.requantize(x, [], bits), (1, 42)), rng.integers(-top, top + 1, (5, 42)))
    else:
        weight, bias = rng.integers(-top, top + 1, (5, 7, 1, 1)), rng.integers(-50, 50, 5)
        y = b.transpose(b.conv(x, weight, bias), (0, 2, 3, 1))
    graph = b.graph(y)
    architecture = replace(BOARD, data_type=data_type, array_size=4)
    emission = emit(graph, architecture, tmp_path)
    (record,) = emission.details["outputs"]  # type: ignore[misc]
    assert len(record["words"]) > 1  # type: ignore[index, arg-type, call-overload]
    x0 = rng.integers(0, 1 << bits, (5, 7, 2, 3))
    x0[0] = (1 << bits) - 1
    expected = run_codes(graph, {"x0": x0})[y.name]
    assert np.array_equal(simulate(graph, emission, tmp_path, {"x0": x0})["y0"], expected)
    assert all(report.exact for report in emission.ops.values())
    host = runpy.run_path(str(tmp_path / "wide_output_io.py"))
    for codes, wanted in zip(x0, expected, strict=True):
        results = run_tmodel(tmp_path / "wide output.tmodel", host["codes_to_driver"]({"x0": codes}))
        returned = {name: values[0] for name, values in results.items()}
        assert np.array_equal(host["codes_from_driver"](returned)["y0"], wanted[None])
        assert np.array_equal(host["from_driver"](returned)["y0"], wanted[None])


@pytest.mark.parametrize(("by", "exact"), [(10, True), (12, False)])
def test_a_dense_layer_whose_output_takes_many_words_compiles_with_a_quantizer_too(
    by: int, exact: bool, tmp_path: Path
) -> None:
    """22 bits of 256 products: of the low digits alone nine parts. Behind a shift by 12 it is bounded, and told so."""
    rng = np.random.default_rng(by)
    weight = np.clip(np.rint(rng.normal(0, 64, (10, 256))), -128, 127).astype(np.int64)
    b = GraphBuilder("many_parts")
    s = b.dense(b.input((1, 256), 8), weight, rng.integers(-8000, 8000, 10))
    graph = b.graph(b.steps(s, shift(s, by, -128, 127)))
    emission = emit(graph, BOARD, tmp_path)
    assert max(-s.type.codes.low, s.type.codes.high) >= 1 << 20
    assert all(report.exact for report in emission.ops.values()) == exact
    x = rng.integers(-128, 128, (40, 256))
    x[:10], x[10:20] = np.where(weight > 0, 127, -128), np.where(weight > 0, -128, 127)
    x[20:30] = np.where(rng.random((10, 256)) < 0.5, x[:10], x[30:40])
    meant = run_codes(graph if emission.computed is None else emission.computed, {"x0": x})
    (output,) = graph.outputs
    assert np.array_equal(simulate(graph, emission, tmp_path, {"x0": x})["y0"], meant[output.value.name])


def eight_bits(seed: int) -> Graph:
    """One layer of eight-bit weights and codes, 18 bits, with biases."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder("eight")
    x = b.input((1, 6, 5, 5), 8, signed=False)
    s = b.conv(x, rng.integers(-40, 41, (5, 6, 3, 3)), rng.integers(-99, 99, 5), pads=(1, 1, 1, 1))
    return b.graph(b.steps(s, shift(s, 6, 0, 255)))


def test_both_digits_in_one_pass_are_the_same_codes_in_fewer_cycles(tmp_path: Path) -> None:
    graph = eight_bits(0)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    apart = emit(graph, BOARD, tmp_path / "a", "sum-both-digits")
    together = emit(graph, BOARD, tmp_path / "b")
    assert together.cycles is not None
    assert apart.cycles is not None
    assert together.cycles < apart.cycles
    x = np.random.default_rng(1).integers(0, 256, (3, 6, 5, 5))
    (output,) = graph.outputs
    expected = run_codes(graph, {"x0": x})[output.value.name]
    for emission, name in ((apart, "a"), (together, "b")):
        assert np.array_equal(simulate(graph, emission, tmp_path / name, {"x0": x})["y0"], expected)


def placed(graph: Graph) -> WordProgram:
    """Its groups in words, both digits in one pass."""
    program = place(select(split_sums(graph, BOARD).graph), BOARD.data_type)
    return SumBothDigits().run(program, Context(BOARD))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"word": 256}, "is none of FP16BP8, or no multiple"),
        ({"bias": np.full(5, 32767)}, "a high sum may leave FP16BP8"),
        ({"tensors": ("v1.low3", "v1.low3")}, "adds high sums of tensors of other layouts"),
    ],
)
def test_high_sums_are_verified(changes: dict[str, object], fault: str) -> None:
    program = placed(eight_bits(0))
    assert faults_of_words(program, BOARD.data_type, allow_overflow=False) == []
    (group,) = (g for g in program.groups if g.add_high is not None)
    step = replace(group.add_high, **changes)  # type: ignore[type-var, arg-type]
    changed = replace(group, steps=(step, *group.steps[1:]))
    groups = [changed if g is group else g for g in program.groups]
    faults = faults_of_words(program.with_groups(groups), BOARD.data_type, allow_overflow=False)
    assert any(fault in f for f in faults)
