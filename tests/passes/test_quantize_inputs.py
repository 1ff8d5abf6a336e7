"""What stands before an input's quantizer: the host applies it, or it changes places with the quantizer, exactly."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from ends import constant_per_channel, front_network, host_module_of, input_codes

import pefslc
from builders import ModelBuilder, normal
from oracle_functions import square_root
from pefslc.driver.compiled_artifact import open_artifact
from pefslc.ir.interpret import quantize_input
from pefslc.ir.parse import parse_graph

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
F = Fraction


def exact(number: float) -> Fraction:
    """The float32 that a file holds."""
    return F(float(np.float32(number)))


def divided(m: ModelBuilder, x: str) -> str:
    return m.node("Div", x, m.constant(255))


def multiplied(m: ModelBuilder, x: str) -> str:
    return m.node("Mul", x, m.constant(1 / 255))


def centred(m: ModelBuilder, x: str) -> str:
    return m.node("Sub", m.node("Mul", x, m.constant(2)), m.constant(1))


def normalized(m: ModelBuilder, x: str) -> str:
    x = m.node("Sub", divided(m, x), constant_per_channel(m, *MEAN))
    return m.node("Div", x, constant_per_channel(m, *STD))


def batch_norm(m: ModelBuilder, x: str) -> str:
    rows = ((0.5, -1.5, 2.0), (0.25, 0.1, -0.3), (1.0, 2.0, -0.5), (0.7, 3.0, 0.01))
    return m.node("BatchNormalization", x, *(m.constant(row) for row in rows))


def batch_norm_value(x: Fraction, c: int) -> Fraction:
    gamma, beta, mean, var = (
        exact(row[c]) for row in ((0.5, -1.5, 2.0), (0.25, 0.1, -0.3), (1.0, 2.0, -0.5), (0.7, 3.0, 0.01))
    )
    return gamma * (x - mean) / square_root(var + exact(1e-5)) + beta


def clipped(m: ModelBuilder, x: str) -> str:
    return normalized(m, m.node("Clip", x, m.constant(10), m.constant(200)))


def normalized_value(x: Fraction, c: int) -> Fraction:
    return (x / 255 - exact(MEAN[c])) / exact(STD[c])


FRONTS: dict[str, tuple[Callable[[ModelBuilder, str], str], Callable[[Fraction, int], Fraction]]] = {
    "divided": (divided, lambda x, _: x / 255),
    "multiplied": (multiplied, lambda x, _: x * exact(1 / 255)),
    "centred": (centred, lambda x, _: 2 * x - 1),
    "normalized": (normalized, normalized_value),
    "batch_norm": (batch_norm, batch_norm_value),
    "clipped": (clipped, lambda x, c: normalized_value(min(max(x, F(10)), F(200)), c)),
    "relu": (lambda m, x: m.node("Relu", x), lambda x, _: max(x, F(0))),
    "leaky": (lambda m, x: m.node("LeakyRelu", x, alpha=0.25), lambda x, _: x if x >= 0 else x / 4),
    "falling": (lambda m, x: m.node("Neg", x), lambda x, _: -x),
}


def images() -> np.ndarray:
    """[9, 3, 4, 4]: bytes; floats; numbers on ties of a step of 1/8, and next to them. Others in each channel."""
    rng = np.random.default_rng(3)
    ties = np.arange(-20, 20) / 16
    numbers = [np.arange(0, 256, 5), rng.normal(0, 1, 20), rng.normal(100, 60, 20), ties, np.nextafter(ties, np.inf)]
    flat = np.concatenate(numbers)
    return np.resize(np.concatenate([flat, np.roll(flat, 16), np.roll(flat, 32)]), (9, 3, 4, 4))


@pytest.mark.parametrize("name", FRONTS)
@pytest.mark.parametrize(
    ("signed", "rounding", "scale"), [(True, "ROUND", 0.125), (False, "FLOOR", 0.1), (True, "HALF_UP", 1 / 255)]
)
def test_the_host_makes_the_codes_of_exact_rationals(
    tmp_path: Path, name: str, signed: bool, rounding: str, scale: float
) -> None:
    front, value = FRONTS[name]
    path = front_network(tmp_path, front, scale=scale, bits=7, signed=int(signed), rounding=rounding)
    program, x = pefslc.compile(path, target="tensil"), images()
    (graph_input,) = program.graph.inputs
    wanted = input_codes(x, value, scale, 7, signed=signed, rounding=rounding)
    assert (quantize_input(graph_input, x) == wanted).all()
    assert parse_graph(str(program.graph)) == program.graph
    # The emitted module, on one image after the other.
    io = host_module_of(program)
    assert all(
        (io["quantize"](io["INPUTS"][0], image[None]) == codes).all() for image, codes in zip(x, wanted, strict=True)
    )


@pytest.mark.parametrize("name", ["divided", "batch_norm", "clipped", "leaky"])
def test_artifacts_are_run_as_the_program_is(tmp_path: Path, name: str) -> None:
    """By the sidecar, which holds the stages; and the float64 evaluation of the file takes the same ones."""
    path = front_network(tmp_path, FRONTS[name][0], scale=1 / 255, bits=7)
    x = images()
    program = pefslc.compile(path, target="c", verify=x)
    program.save(tmp_path / "build")
    found = open_artifact(tmp_path / "build").run({"x": x})
    assert all((found[output] == y).all() for output, y in program.run(x).items())


def moved(path: Path) -> np.ndarray:
    """The output of the compiled C, and a check that it is that of the file in float64: all numbers are dyadic."""
    program = pefslc.compile(path, target="c")
    shape = program.graph.inputs[0].value.type.shape
    x = np.random.default_rng(1).integers(-64, 64, (8, *shape[1:])) / 32
    program.verify(x).require()
    (found,) = program.run(x).values()
    (wanted,) = pefslc.load(path).run(x).values()
    assert (found == wanted).all()
    assert len(np.unique(found)) > 5
    return found


def dense_behind(m: ModelBuilder, x: str, size: int) -> None:
    m.output(m.node("MatMul", x, m.weight(normal((size, 3), 0.5), 0.25, 4)))


def test_a_flattening_before_the_quantizer(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.node("Flatten", centred(m, m.input([1, 2, 3, 3]))), 0.125, 5)
    dense_behind(m, x, 18)
    moved(m.save(tmp_path))


def test_channels_that_come_last_and_are_normalized(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.node("Transpose", m.input([1, 4, 4, 3]), perm=[0, 3, 1, 2])
    x = m.quant(m.node("Mul", x, constant_per_channel(m, 0.25, -0.5, 1.0)), 0.125, 5)
    m.output(m.node("Conv", x, m.weight(normal((4, 3, 3, 3), 0.5), 0.25, 4)))
    path = m.save(tmp_path)
    moved(path)
    (graph_input,) = pefslc.compile(path, target="c").graph.inputs
    assert graph_input.channel_axis == 3


def test_zeros_around_an_image(tmp_path: Path) -> None:
    def front(m: ModelBuilder, x: str) -> str:
        return m.node("Pad", m.node("Mul", x, m.constant(0.5)), m.constant([0, 0, 1, 2, 0, 0, 0, 1], dtype=np.int64))

    moved(front_network(tmp_path, front))


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_a_maximum_of_what_rises(tmp_path: Path, factor: float) -> None:
    def front(m: ModelBuilder, x: str) -> str:
        return m.node("MaxPool", m.node("Mul", x, m.constant(factor)), kernel_shape=[2, 2])

    moved(front_network(tmp_path, front))


def test_parts_of_an_input_that_are_joined_again(tmp_path: Path) -> None:
    m = ModelBuilder()
    parts = m.split(m.input([1, 4, 4, 4]), [1, 3], 2)
    x = m.quant(m.node("Concat", parts[1], parts[0], axis=1), 0.125, 5)
    m.output(m.node("Conv", x, m.weight(normal((4, 4, 3, 3), 0.5), 0.25, 4)))
    moved(m.save(tmp_path))


@pytest.mark.parametrize("front", ["padded_after_offset", "maximum_of_what_falls", "function", "mean"])
def test_what_does_not_change_places_is_refused(tmp_path: Path, front: str) -> None:
    pads = [0, 0, 1, 1, 0, 0, 1, 1]
    fronts: dict[str, Callable[[ModelBuilder, str], str]] = {
        "padded_after_offset": lambda m, x: centred(m, m.node("Pad", x, m.constant(pads, dtype=np.int64))),
        "maximum_of_what_falls": lambda m, x: m.node("Neg", m.node("MaxPool", x, kernel_shape=[2, 2])),
        "function": lambda m, x: m.node("Sigmoid", x),
        "mean": lambda m, x: m.node("AveragePool", x, kernel_shape=[2, 2]),
    }
    with pytest.raises(pefslc.CompileError) as caught:
        pefslc.compile(front_network(tmp_path, fronts[front]), target="c")
    assert caught.value.problems[0].code is pefslc.Code.INPUT_NOT_QUANTIZED


def test_a_falling_maximum_is_no_maximum_of_codes(tmp_path: Path) -> None:
    """max(-x) commutes, -max(x) does not: the first compiles and is the file's."""

    def front(m: ModelBuilder, x: str) -> str:
        return m.node("MaxPool", m.node("Neg", x), kernel_shape=[2, 2])

    moved(front_network(tmp_path, front))


def test_the_header_says_each_step(tmp_path: Path) -> None:
    program = pefslc.compile(front_network(tmp_path, clipped), target="c")
    header = next(text for name, text in program.emission.files.items() if name == "model.h").decode()
    words = " ".join(header.replace(" *", " ").split())
    assert "y = x, then y = min(max(y, 10), 200), then y = per channel [" in words
    assert "then code = clip(round(y / scale), -16, 15), round half even" in words
