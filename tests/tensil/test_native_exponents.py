"""Native words layer by layer: where they stand, what brings them there, and how far the outputs may be off."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import pefslc
from builders import ModelBuilder
from native_network import Network
from pefslc.ir.integer import Dense
from pefslc.numeric.rounding import round_fraction
from pefslc.targets.protocol import Stage
from pefslc.targets.tensil.machine.architecture import DataType, load_architecture
from pefslc.targets.tensil.matrix.matrix_plan import matrix_plan
from pefslc.targets.tensil.matrix.matrix_steps import SlopesByMatrix, apply_matrix_steps
from pefslc.targets.tensil.native.activations import Activation, two_slopes
from pefslc.targets.tensil.words.steps import LeakyRelu, Maximum, TwoSlopes, apply_steps

Floats = NDArray[np.float64]
FP8, FP16, FP32 = (DataType[name] for name in ("FP8BP4", "FP16BP8", "FP32BP16"))


# --- two slopes ------------------------------------------------------------------------------------------------------


def by_definition(step: TwoSlopes, word: int, data_type: DataType) -> int:
    """In exact rationals."""
    products = word * step.below, max(word, 0) * (step.above - step.below)
    return sum(round_fraction(Fraction(product, data_type.one)) for product in products)


@pytest.mark.parametrize(
    ("data_type", "slopes"),
    [
        (FP8, [(above, below) for above in range(1, FP8.one) for below in range(above)]),
        (FP16, [(255, 0), (250, 25), (60, 6), (30, 3), (1, 0), (255, 254), (129, 13)]),
    ],
)
def test_two_slopes_are_the_same_by_simd_and_by_matmuls(data_type: DataType, slopes: list[tuple[int, int]]) -> None:
    """Every word."""
    words = np.arange(data_type.min_code, data_type.max_code + 1)
    for above, below in slopes:
        step = TwoSlopes(above, below)
        plan = matrix_plan((step,), data_type.min_code, data_type.max_code, data_type)
        assert plan is not None
        by_simd = apply_steps([step], words, data_type)
        assert np.array_equal(apply_matrix_steps(plan.alone, words, data_type), by_simd)
        assert [by_definition(step, int(word), data_type) for word in words[::7]] == by_simd[::7].tolist()


def test_a_plan_for_two_slopes_that_is_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    step = TwoSlopes(60, 6)
    matrix_plan.cache_clear()
    monkeypatch.setattr(
        SlopesByMatrix, "constant", lambda self, one: -self.lowest * (self.above - self.below) // one + 1
    )
    assert matrix_plan((step,), FP16.min_code, FP16.max_code, FP16) is None
    matrix_plan.cache_clear()
    monkeypatch.undo()
    assert matrix_plan((step,), FP16.min_code, FP16.max_code, FP16) is not None
    assert matrix_plan((step, Maximum(0)), FP16.min_code, FP16.max_code, FP16) is None
    assert matrix_plan((step,), FP32.min_code, FP32.max_code, FP32) is None  # too many words to try


@pytest.mark.parametrize("word", [256, 128, 64, 32, 16, 8, 4, 2, 1])
@pytest.mark.parametrize("alpha", [Fraction(1, 10), Fraction(1, 100), Fraction(1, 3), Fraction(1, 4), Fraction(3, 10)])
def test_slopes_are_in_proportion_as_nearly_as_words_can_be(word: int, alpha: Fraction) -> None:
    own = round_fraction(alpha * 256)
    found = two_slopes(Activation((LeakyRelu(own),), Fraction(0), alpha), word, 256)
    every = (Fraction(b, a) for a in range(word // 2 + 1, min(word, 255) + 1) for b in range(a))
    nearest = min(abs(ratio - alpha) for ratio in every)
    if found is None:
        assert nearest > abs(Fraction(own, 256) - alpha), "few words have no better slopes"
    else:
        assert word / 2 < found.above <= min(word, 255)
        assert found.suits(256)
        assert abs(Fraction(found.below, found.above) - alpha) == nearest <= abs(Fraction(own, 256) - alpha)
    assert two_slopes(Activation((Maximum(0),), Fraction(0), Fraction(0)), word, 256) is None
    assert two_slopes(Activation((LeakyRelu(26), Maximum(3)), Fraction(0), alpha), word, 256) is None


@pytest.mark.parametrize("numerator", [13, 64])
def test_a_slope_that_is_a_word_needs_no_other(numerator: int, tmp_path: Path) -> None:
    """Of words that nothing moves: 256 above zero would be none of two slopes, nor 1."""
    r, m = np.random.default_rng(0), ModelBuilder()
    weights = r.uniform(-0.001, 0.001, (16, 16, 3, 3)), r.uniform(-100, 100, (16, 16, 3, 3))
    weights[0][0] = r.uniform(-3.5, 3.5, (16, 3, 3))
    weights[1][:, 0] *= 0.001
    sums = m.node("Conv", m.input([1, 16, 6, 6], "x"), m.constant(weights[0]), pads=[1] * 4)
    leaky = m.node("LeakyRelu", sums, alpha=numerator / 256)
    m.output(m.node("Conv", leaky, m.constant(weights[1]), pads=[1] * 4), [1, 16, 6, 6])
    stages: dict[str, Stage] = {}
    pefslc.compile(
        m.save(tmp_path), target="tensil", fmt="Q8.8", arch="custom_perf",
        calibrate={"x": r.uniform(-1, 1, (3, 16, 6, 6))},
        observe_target=lambda stage: stages.update({stage.name: stage}),
    )  # fmt: skip
    assert f" leaky relu {numerator}\n" in stages["place"].text
    assert "below zero" not in stages["place"].text


# --- whole networks --------------------------------------------------------------------------------------------------


def calibrated(
    n: Network, output: str, folder: Path, architecture: str, rows: int = 3
) -> tuple[pefslc.Program, str, dict[str, Floats]]:
    """The program, its schedule, and the inputs that it was calibrated on."""
    values = n.known[output].values
    n.m.output(output, [1, *values.shape, *[1] * (3 - values.ndim)])
    data = {"x": np.random.default_rng(3).uniform(-1, 1, (rows, *n.x.shape[1:]))}
    stages: dict[str, Stage] = {}
    program = pefslc.compile(
        n.m.save(folder), target="tensil", fmt="Q8.8", arch=architecture, calibrate=data,
        observe_target=lambda stage: stages.update({stage.name: stage}),
    )  # fmt: skip
    return program, stages["schedule"].text, data


def board(folder: Path, **changes: int) -> str:
    path = folder / "board.tarch"
    path.write_text(json.dumps(replace(load_architecture("custom_perf"), **changes).to_json_dict()))  # type: ignore[arg-type]
    return str(path)


def require_right(program: pefslc.Program, inputs: dict[str, Floats]) -> None:
    """Every layer is what it should be of what it read, and outputs are off the float model as little as promised."""
    verified = program.verify(inputs)
    assert verified.layers
    assert not any(layer.outside or layer.saturated for layer in verified.layers)
    (ours,) = (error for error in verified.errors if "tensil" in error.compared)
    layers = program.sidecar.details["native_layers"]
    assert isinstance(layers, dict)
    bounds = layers["bounds"]
    assert isinstance(bounds, dict)
    (bound,) = bounds.values()
    assert isinstance(bound, float)
    assert 0 < ours.largest <= bound


@pytest.mark.parametrize("seed", range(8))
def test_layers_are_right_and_the_bound_holds_on_any_board(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    n = Network(seed, int(rng.integers(1, 5)), int(rng.integers(4, 9)), step=2.0**-8)
    current = n.activation(n.conv("x", int(rng.integers(3, 14)), 3), "LeakyRelu", 0.1)
    for _ in range(2):
        channels = len(n.known[current].values)
        activation = (("Relu",), ("LeakyRelu", 0.1), ("LeakyRelu", 0.25))[rng.integers(3)]
        body = n.conv(n.activation(n.conv(current, channels, 3), *activation), channels, int(rng.choice([1, 3])))
        current = n.activation(n.add(body, current), *activation)
    output = n.mean(current) if rng.integers(2) else n.conv(current, 5, 1)
    size, depth = int(rng.integers(3, 14)), int(rng.integers(300, 3000))
    architecture = board(tmp_path, array_size=size, local_depth=depth, accumulator_depth=int(rng.integers(60, 600)))
    program, _, data = calibrated(n, output, tmp_path, architecture)
    require_right(program, data)


@pytest.mark.parametrize("by_matmul", [True, False])
def test_two_slopes_go_by_matmuls_where_local_memory_holds_their_rows(by_matmul: bool, tmp_path: Path) -> None:
    n = Network(1, 3, 12, step=2.0**-8)
    first = n.activation(n.conv("x", 10, 3), "LeakyRelu", 0.1)
    output = n.conv(n.activation(n.conv(first, 10, 3), "LeakyRelu", 0.1), 10, 3, 2)
    architecture = "custom_perf" if by_matmul else board(tmp_path, array_size=10, local_depth=420)
    program, schedule, data = calibrated(n, output, tmp_path, architecture, rows=2)
    require_right(program, data)
    assert ("below zero by" in schedule) == by_matmul
    assert ("steps by SIMD" in schedule) != by_matmul


def test_a_shortcut_of_other_words_is_a_term_and_packing_requantizes(tmp_path: Path) -> None:
    n = Network(2, 3, 16, step=2.0**-8)
    first = n.activation(n.conv("x", 16, 3), "Relu")
    current = n.activation(n.add(n.conv(n.activation(n.conv(first, 16, 3), "Relu"), 16, 3), first), "Relu")
    output = n.conv(n.activation(n.conv(current, 16, 3), "Relu"), 10, 3, 2)
    program, schedule, data = calibrated(n, output, tmp_path, "custom_perf")
    require_right(program, data)
    assert ".sums" in schedule, "some layer's leftover channels are stored as sums"
    assert "add the tensor" not in schedule


def test_weights_have_finer_words_than_the_data_types_own(tmp_path: Path) -> None:
    """Two layers: by 8 fraction bits alone, their weights would be off by more than all that is left."""
    n = Network(5, 4, 12, step=2.0**-8)
    weights = np.random.default_rng(1).uniform(-0.3, 0.3, (2, 12, 12, 3, 3))
    m = ModelBuilder()
    first = m.node("Relu", m.node("Conv", m.input([1, 12, 12, 12], "x"), m.constant(weights[0]), pads=[1] * 4))
    output = m.node("Conv", first, m.constant(weights[1]), pads=[1] * 4)
    m.output(output, [1, 12, 12, 12])
    x = np.rint(n.rng.uniform(-1, 1, (6, 12, 12, 12)) * 256) / 256
    model = m.save(tmp_path)
    program = pefslc.compile(model, target="tensil", fmt="Q8.8", arch="custom_perf", calibrate={"x": x})
    wanted, found = pefslc.load(model).run(x)[output], program.run({"x": x})[output]
    rounded = weights - np.rint(weights * 256) / 256
    # sqrt(n) products of a second layer's rounded weights by what it reads, alone
    alone = np.sqrt(
        12 * 9 * np.square(rounded[1]).mean() * 0.5 * np.square(x).mean() * 12 * 9 * np.square(weights).mean()
    )
    assert np.sqrt(np.square(found - wanted).mean()) < alone


def test_the_bound_of_one_layer_is_what_its_parts_add_up_to(tmp_path: Path) -> None:
    """Against a sum of its own: the input's half step, the weights' errors, half a word for each product."""
    m = ModelBuilder()
    weight = np.random.default_rng(0).uniform(0.1, 0.2, (3, 4, 1, 1))
    m.output(m.node("Conv", m.input([1, 4, 2, 2], "x"), m.constant(weight)), [1, 3, 2, 2])
    x = np.full((1, 4, 2, 2), 1.0)
    program = pefslc.compile(m.save(tmp_path), target="tensil", fmt="Q8.8", arch="pynqz1", calibrate={"x": x})
    layers = program.sidecar.details["native_layers"]
    assert isinstance(layers, dict)
    (bound,) = layers["bounds"].values()  # type: ignore[union-attr]
    assert layers["layers"] == {next(iter(layers["layers"])): {"sums": "Q2.14", "stored": "Q2.14"}}  # type: ignore[arg-type, call-overload]
    unit = 2.0**-14  # 4 * 0.2 times 2 is below 2; weights have the same words, as the input has 8 bits of fraction
    parts = np.abs(weight).sum(axis=(1, 2, 3)).max() * 2.0**-9 + 4 * unit / 2
    assert parts < bound < parts + 4 * 1.5 * unit + 4 * 2.0**-16
    assert any("a bound for inputs whose layers stay within the measured ranges" in n for n in program.emission.notes)


def test_weights_below_their_grid_count_in_the_bound(tmp_path: Path) -> None:
    """A quarter of a step each: signs of the input that suit how they were rounded make the most of it."""
    m = ModelBuilder()
    m.output(m.node("Gemm", m.input([1, 1024], "x"), m.constant(np.full((1, 1024), 2.0**-18)), transB=1), [1, 1])
    model, x = m.save(tmp_path), np.full((1, 1024), 100.0)
    program = pefslc.compile(model, target="tensil", fmt="Q8.8", arch="custom_perf", calibrate={"x": x})
    (codes,) = (op.weight.data for op in program.graph.ops if isinstance(op, Dense))
    assert not codes.all(), "some are rounded to 0"
    require_right(program, {"x": np.where(codes > 0, x, -x)})


def test_weights_beyond_their_format_have_no_bound(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.node("Gemm", m.input([1, 4], "x"), m.constant(np.full((1, 4), 200.0)), transB=1), [1, 1])
    program = pefslc.compile(
        m.save(tmp_path), target="tensil", fmt="Q8.8", arch="custom_perf", calibrate={"x": np.full((2, 4), 0.05)}
    )
    layers = program.sidecar.details["native_layers"]
    assert layers["bounds"] == {}  # type: ignore[index,call-overload]
    assert any("no bound, for weights at the end of their format" in note for note in program.emission.notes)
    assert not any("off the float model" in note for note in program.emission.notes)


@pytest.mark.parametrize("function", ["ArgMax", "LogSoftmax"])
def test_the_bound_of_an_output_that_ends_in_a_function_is_of_what_that_is_taken_of(
    function: str, tmp_path: Path
) -> None:
    r, m = np.random.default_rng(0), ModelBuilder()
    y = m.node("Gemm", m.input([1, 8], "x"), m.constant(r.uniform(-1, 1, (5, 8))), transB=1)
    m.output(m.node(function, y, axis=1), [1, 1] if function == "ArgMax" else [1, 5])
    program = pefslc.compile(
        m.save(tmp_path), target="tensil", fmt="Q8.8", arch="custom_perf", calibrate={"x": r.uniform(-1, 1, (4, 8))}
    )
    (note,) = (note for note in program.emission.notes if "off the float model" in note)
    assert note.startswith("what the ")
    assert " is taken of: off the float model by at most " in note


@pytest.mark.parametrize("seed", range(3))
def test_ranges_that_are_proven_of_an_input_format_make_finer_words_without_data(seed: int, tmp_path: Path) -> None:
    """With inputs below 1 instead of 128: from any of them, no sum saturates, and the bound is for all."""
    n = Network(seed, 3, 6, step=2.0**-8)
    output = n.conv(n.activation(n.conv("x", 8, 3), "Relu"), 5, 1)
    n.m.output(output, [1, *n.known[output].values.shape])
    model = n.m.save(tmp_path)
    plain = pefslc.compile(model, target="tensil", fmt="Q8.8", arch="custom_perf")
    proven = pefslc.compile(model, target="tensil", fmt="Q8.8", arch="custom_perf", input_fmt="Q1.7")
    assert plain.emission.cycles == proven.emission.cycles
    assert not any("bound" in note for note in plain.emission.notes)
    assert any("a bound for all inputs that their formats hold" in note for note in proven.emission.notes)
    x = np.rint(np.random.default_rng(seed).uniform(-1, 1, (4, *n.x.shape[1:])) * 127) / 128
    require_right(proven, {"x": np.concatenate([x, np.sign(x) * 127 / 128])})
    wanted = pefslc.load(model).run(x)[output]
    errors = [np.square(p.run({"x": x})[output] - wanted).mean() for p in (plain, proven)]
    assert errors[1] < errors[0] / 4


@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize("input_fmt", ["Q1.15", "Q2.14", "Q3.11"])
def test_an_input_of_more_fraction_bits_than_the_words_lies_in_finer_ones(
    input_fmt: str, calibrated: bool, tmp_path: Path
) -> None:
    m = ModelBuilder()
    m.output(m.node("Conv", m.input([1, 2, 3, 3], "x"), m.constant(np.full((2, 2, 1, 1), 0.5))), [1, 2, 3, 3])
    x = np.random.default_rng(0).uniform(-0.99, 0.99, (5, 2, 3, 3))
    program = pefslc.compile(
        m.save(tmp_path), target="tensil", fmt="Q8.8", arch="pynqz1", input_fmt=input_fmt,
        calibrate={"x": x} if calibrated else None,
    )  # fmt: skip
    (found,) = program.run({"x": x}).values()
    assert np.abs(found - x.sum(1, keepdims=True) / 2).max() < 2.0**-10
