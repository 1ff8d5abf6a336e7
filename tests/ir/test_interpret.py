"""Running graphs: what is accepted as input, batches, and the host's part."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from builders import QONNX, Feature, ModelBuilder, import_bytes, lower, random_network
from oracle import quantize_value
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Origin, Problem, quote
from pefslc.ir.graph import Graph, OutputMap
from pefslc.ir.interpret import map_codes, run
from pefslc.numeric.format import Quantization
from pefslc.numeric.quantize import quantize_array
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.scale import Scale


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    m = ModelBuilder()
    m.output(m.node("Relu", m.quant(m.input([1, 2, 3, 3], "image"))), [1, 2, 3, 3])
    return lower(import_bytes(m, tmp_path))


def test_any_batch_gives_the_rows_of_single_runs(tmp_path: Path) -> None:
    graph = lower(import_bytes(random_network(3, Feature(float_scales=True)), tmp_path))
    x = np.random.default_rng(0).normal(0, 1, (5, *graph.inputs[0].value.type.shape[1:]))
    (whole,) = run(graph, x).values()
    for row in range(5):
        (single,) = run(graph, x[row : row + 1]).values()
        np.testing.assert_array_equal(single[0], whole[row])


def test_arrays_come_by_name_alone_or_as_x(graph: Graph) -> None:
    x = np.ones((1, 2, 3, 3), dtype=np.float32)
    for inputs in (x, {"image": x}, {"x": x}, x.astype(np.int32)):
        assert run(graph, inputs)["t1"].tolist() == np.ones((1, 2, 3, 3)).tolist()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"other": np.ones(3)}, "no array for input 'image'\n  help: arrays given: 'other'; or name it 'x'"),
        ({}, "no array for input 'image'\n  help: arrays given: none"),
        (np.ones((1, 2, 3, 4)), "input 'image' has shape [1, 2, 3, 4], the model wants [1, 2, 3, 3]"),
        (
            np.ones((2, 3, 3)),
            "input 'image' has shape [2, 3, 3], the model wants [1, 2, 3, 3]\n  help: the batch is missing",
        ),
        (
            np.ones((5, 3, 3, 2)),
            "input 'image' has shape [5, 3, 3, 2], the model wants [1, 2, 3, 3]\n"
            "  help: its channels come last: give numpy.moveaxis(x, 3, 1)",
        ),
        (np.ones((3, 3)), "input 'image' has shape [3, 3], the model wants [1, 2, 3, 3]\n  help: channels before rows"),
        (np.full((1, 2, 3, 3), np.nan), "input 'image' holds NaN or infinity"),
        (
            np.where(np.arange(18).reshape(1, 2, 3, 3) > 12, np.inf, 0),
            "input 'image' holds NaN or infinity\n"
            "  help: the first at [0, 1, 1, 1]: no code stands for it; look at how the array was made, or leave such "
            "rows out",
        ),
        (np.full((1, 2, 3, 3), "a"), "input 'image' holds <U1, not numbers"),
    ],
)
def test_other_arrays_are_refused(graph: Graph, inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(CompileError) as caught:
        run(graph, inputs)
    assert f"error[PEF0809]: {message}" in str(caught.value)


def test_several_inputs_need_their_names_and_one_batch(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.node("Add", m.quant(m.input([1, 2], "a")), m.quant(m.input([1, 2], "b"))))
    graph = lower(import_bytes(m, tmp_path))
    assert run(graph, {"a": np.ones((2, 2)), "b": np.ones((2, 2))})["t2"].tolist() == [[2, 2], [2, 2]]
    with pytest.raises(CompileError, match="the model has 2 inputs: give arrays by name"):
        run(graph, np.ones((1, 2)))
    with pytest.raises(CompileError, match="the inputs have different batch sizes"):
        run(graph, {"a": np.ones((2, 2)), "b": np.ones((1, 2))})


def test_a_huge_input_saturates_and_does_not_wrap(graph: Graph) -> None:
    x = np.array([1e300, -1e300, 2.0**63, -(2.0**64), 1.9, 1.8] * 3).reshape(1, 2, 3, 3)
    assert run(graph, x)["t1"].reshape(-1)[:6].tolist() == [1.875, 0, 1.875, 0, 1.875, 1.75]


@pytest.mark.parametrize("signed", [True, False])
def test_inputs_are_quantized_as_the_definition_says(signed: bool) -> None:
    q = Quantization(bits=5, signed=signed, scale=Scale.power_of_two(-3))
    x = np.arange(-90, 90) / 32
    expected = [quantize_value(Fraction(float(v)), Fraction(1, 8), 5, signed, False, "ROUND") for v in x]
    assert quantize_array(Quantizer(q), x, 0).tolist() == expected


def test_what_float64_arithmetic_rounded_is_not_floored_to_the_code_below(tmp_path: Path) -> None:
    """5 times the float64 0.1 is no float64: the evaluation has the number next to it, which lies below."""
    m = ModelBuilder()
    m.initializers.append(numpy_helper.from_array(np.array(0.1), "scale"))
    x = m.input([1, 1, 1, 32])
    for _ in range(2):
        others = (m.constant(0.0), m.constant(8.0))
        quantized = m.node("Quant", x, "scale", *others, domain=QONNX, signed=1, narrow=0, rounding_mode="FLOOR")
        x = m.node("Relu", quantized)
    m.output(x)
    graph = import_bytes(m, tmp_path)
    codes = np.arange(32.0).reshape(1, 1, 1, 32)
    assert np.array_equal(run(graph, (codes + 0.5) * 0.1)[x], codes * 0.1)


def test_a_moved_input_is_quantized_exactly(tmp_path: Path) -> None:
    """The float64 next to 5 times the float64 0.1 lies below it, and its quotient in float64 is 5."""
    x = 5 * 0.1
    assert Fraction(x) < 5 * Fraction(0.1)
    assert x / 0.1 == 5
    m = ModelBuilder()
    m.initializers.append(numpy_helper.from_array(np.array(0.1), "scale"))
    moved = m.node("Reshape", m.input([1, 1, 1, 1]), m.constant([1, 1], dtype=np.int64))
    others = (m.constant(0.0), m.constant(8.0))
    quantized = m.node("Quant", moved, "scale", *others, domain=QONNX, signed=1, narrow=0, rounding_mode="FLOOR")
    m.output(quantized)
    assert run(import_bytes(m, tmp_path), np.full((1, 1, 1, 1), x))[quantized].item() == 4 * 0.1


def test_channels_lie_where_the_axis_says() -> None:
    q = Quantization(bits=8, signed=True, scale=Scale((Fraction(1, 2), Fraction(1, 4))))
    assert quantize_array(Quantizer(q), np.ones((2, 2)), 0).tolist() == [[2, 2], [4, 4]]
    assert quantize_array(Quantizer(q), np.ones((2, 2)), 1).tolist() == [[2, 4], [2, 4]]


def test_output_maps_are_per_tensor_or_per_channel() -> None:
    codes = np.array([[1, 2], [3, -4]])
    one = OutputMap((Fraction(1, 2),), (Fraction(1, 4),))
    assert map_codes(one, codes).tolist() == [[0.75, 1.25], [1.75, -1.75]]
    two = OutputMap((Fraction(1, 2), Fraction(2)), (Fraction(0), Fraction(-1)))
    assert map_codes(two, codes).tolist() == [[0.5, 3.0], [1.5, -9.0]]
    assert map_codes(two, codes.reshape(1, 2, 1, 2)).tolist() == [[[[0.5, 1.0]], [[5.0, -9.0]]]]


def test_errors_print_what_where_and_what_next() -> None:
    error = CompileError(Code.BIT_WIDTH, "too wide", at=Origin("a/b", "Conv", "t"), hint="be narrow")
    assert str(error) == "error[PEF0302]: too wide\n  at:   a/b (Conv), tensor 't'\n  help: be narrow"
    assert (
        str(CompileError.of([Problem(Code.CYCLE, "a"), Problem(Code.CYCLE, "b", "here")]))
        == "error[PEF0202]: a\nerror[PEF0202]: b\n  at:   here"
    )
    assert quote("a\nb\x1b[31m") == "'a?b?[31m'"
    assert len(quote("n" * 70_000)) == 82
    assert str(Origin("", "input", "x")) == "(input), tensor 'x'"
