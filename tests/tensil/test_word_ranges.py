"""Whether native words may saturate, whatever the inputs are: against every input, and every order of the products."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest

import pefslc
from builders import ModelBuilder
from native_network import Network
from pefslc.diagnostics.errors import Origin
from pefslc.geometry.shapes import Window
from pefslc.targets.tensil import pipeline
from pefslc.targets.tensil.groups.group_program import Port, StoredTensor
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.native.word_ranges import may_saturate
from pefslc.targets.tensil.words.steps import Accumulate, Maximum, Multiply, RawStep
from pefslc.targets.tensil.words.word_group import SumHead, WordGroup, WordTerm
from pefslc.targets.tensil.words.word_program import WordProgram, WordTensor

FP8 = DataType["FP8BP4"]
POINT = Layout(1, 1, 1)
HERE = Origin("Conv", "here")


def one_sum(weights: tuple[int, ...], bias: int, codes: tuple[int, int], *steps: RawStep) -> WordProgram:
    """One result of as many inputs, by words of FP8BP4."""
    layout = Layout(len(weights), 1, 1)
    tensors = {name: StoredTensor(name, shape, *codes) for name, shape in (("x", layout), ("y", POINT))}
    term = WordTerm("x", np.array(weights).reshape(1, -1, 1, 1), Window(kernel=(1, 1)))
    whole = FP8.min_code, FP8.max_code
    partial = np.array([whole[0]]), np.array([whole[1]])
    group = WordGroup("y", POINT, SumHead(), (term,), np.array([bias]), steps, whole, partial, None, HERE)
    ends = (Port("x", "x", "x"),), (Port("y", "y", "y"),)
    return WordProgram(*ends, (group,), {name: WordTensor(tensor, 0) for name, tensor in tensors.items()}, ())


def furthest(weights: tuple[int, ...], bias: int, codes: tuple[int, int]) -> int:
    """By how much partial sums, with the bias anywhere, go beyond a word of FP8BP4 at most; negative if none does."""

    def beyond(total: int) -> int:
        return max(total - FP8.max_code, FP8.min_code - total)

    found = []
    for inputs in product(range(codes[0], codes[1] + 1), repeat=len(weights)):
        rounded = [round(Fraction(x * w, FP8.one)) for x, w in zip(inputs, weights, strict=True)]
        for order in permutations([bias, *rounded]):
            found += [beyond(sum(order[:n])) for n in range(1, len(order) + 1)]
    return max(found)


@pytest.mark.parametrize("seed", range(30))
def test_sums_that_may_saturate_are_those_that_some_input_makes_saturate(seed: int) -> None:
    """Up to a word for each product that may be a tie."""
    rng = np.random.default_rng(seed)
    weights = tuple(int(w) for w in rng.integers(-128, 128, 3))
    low = int(rng.integers(-6, 1))
    codes, bias = (low, low + 6), int(rng.integers(-60, 60))
    actual = furthest(weights, bias, codes)
    said = list(may_saturate(one_sum(weights, bias, codes), FP8)) == ["y"]
    assert said or actual <= 0
    assert not said or actual > -len(weights)


@pytest.mark.parametrize(
    ("weights", "codes", "steps", "said"),
    [
        ((16, 16), (-64, 63), (), False),  # -128 is a word
        ((16, 16), (-64, 64), (), True),  # 128 is none
        ((16, 16), (-65, 63), (), True),
        ((16, -16), (-64, 63), (), False),
        ((16, -16), (-64, 64), (), True),
        ((16,), (-129, 0), (), True),  # an input that is no word
        ((16,), (-60, 60), (Multiply(32),), False),
        ((16,), (-60, 64), (Multiply(32),), True),
        ((16,), (-65, 60), (Maximum(-64), Multiply(32)), False),
        ((16,), (-60, 63), (Accumulate("x", -60, 63),), False),
        ((16,), (-60, 64), (Accumulate("x", -60, 64),), True),
    ],
)
def test_the_ends_of_words_are_told_from_what_lies_beyond(
    weights: tuple[int, ...], codes: tuple[int, int], steps: tuple[RawStep, ...], said: bool
) -> None:
    assert bool(list(may_saturate(one_sum(weights, 0, codes, *steps), FP8))) == said


@pytest.mark.parametrize("weight", [0.93, 3.66])
@pytest.mark.parametrize("size", [4, 6, 16])
def test_a_mean_of_the_largest_inputs_of_a_format_does_not_saturate(size: int, weight: float, tmp_path: Path) -> None:
    """Its steps hold as much as what they are a mean of."""
    m = ModelBuilder()
    x = m.input([1, 2, size, size], "x")
    sums = m.node("Relu", m.node("Conv", x, m.constant(np.full((3, 2, 1, 1), weight))))
    mean = m.node("Flatten", m.node("GlobalAveragePool", sums), axis=1)
    m.output(m.node("Gemm", mean, m.constant(np.eye(3) / 2), transB=1), [1, 3])
    program = pefslc.compile(m.save(tmp_path), target="tensil", fmt="Q8.8", arch="custom_perf", input_fmt="Q1.7")
    assert any("on all inputs they saturate at" in note for note in program.emission.notes)
    verified = program.verify({"x": np.full((1, 2, size, size), 127 / 128)})
    assert not any(layer.outside or layer.saturated for layer in verified.layers)
    assert all(error.largest < 0.01 * weight for error in verified.errors)


def test_words_without_headroom_are_taken_only_where_they_prove_to_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = Network(3, 3, 6, step=2.0**-8)
    output = n.conv(n.activation(n.conv("x", 8, 3), "Relu"), 5, 1)
    n.m.output(output, [1, *n.known[output].values.shape])
    model = n.m.save(tmp_path)

    def compiled() -> pefslc.Program:
        return pefslc.compile(model, target="tensil", fmt="Q8.8", arch="custom_perf", input_fmt="Q1.7")

    finer, asked = compiled(), []
    monkeypatch.setattr(pipeline, "may_saturate", lambda *given: asked.append(given) or iter(["y"] * (len(asked) == 1)))
    coarser = compiled()
    monkeypatch.setattr(pipeline, "may_saturate", lambda *_: iter(["y"]))
    refused = compiled()
    words = [program.emission.native for program in (finer, coarser, refused)]
    assert all(words)
    assert words[0].fraction_bits == words[1].fraction_bits + 1 == words[2].fraction_bits + 1  # type: ignore[union-attr]
    assert [any("a bound for all inputs" in note for note in p.emission.notes) for p in (finer, coarser, refused)] == [
        True, True, False,
    ]  # fmt: skip


def test_who_knows_nothing_of_the_inputs_is_told_what_that_costs(tmp_path: Path) -> None:
    """The rounding of 12 products to 2^-8, of a sum of them."""
    m = ModelBuilder()
    m.output(m.node("Gemm", m.input([1, 12], "x"), m.constant(np.full((2, 12), 0.3)), transB=1), [1, 2])
    model = m.save(tmp_path)
    told = [
        [note for note in program.emission.notes if "--calibrate DATA" in note]
        for program in (
            pefslc.compile(model, target="tensil", fmt="Q8.8", arch="pynqz1", **more)
            for more in ({}, {"input_fmt": "Q1.7"}, {"calibrate": {"x": np.full((1, 12), 0.5)}})
        )
    ]
    assert [len(notes) for notes in told] == [1, 0, 0]
    assert "12 products a sum, whose rounding alone is 0.0039 (rms)" in told[0][0]
    assert "--input-fmt" in told[0][0]
    assert "Q1.7 for [-1, 1)" in told[0][0]


def test_without_data_a_mean_before_a_dense_layer_reaches_as_far_as_words(tmp_path: Path) -> None:
    m = ModelBuilder()
    mean = m.node("Flatten", m.node("GlobalAveragePool", m.node("Relu", m.input([1, 2, 16, 16], "x"))), axis=1)
    m.output(m.node("Gemm", mean, m.constant(np.eye(2) / 2), transB=1), [1, 2])
    program = pefslc.compile(m.save(tmp_path), target="tensil", fmt="Q8.8", arch="custom_perf")
    for value in (1.0, 5.0, 100.0, 127.0):
        (found,) = program.run({"x": np.full((1, 2, 16, 16), value)}).values()
        assert np.array_equal(found, np.full((1, 2), value / 2))
