"""One run tells every problem of a model, and none that only follows from another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_support import FakeTarget
from onnx import TensorProto, helper

import pefslc
from builders import ModelBuilder
from pefslc.diagnostics.error_codes import Code

ONES = np.ones((2, 2, 1, 1))


def problems_of(m: ModelBuilder, folder: Path, **options: object) -> list[tuple[Code, str]]:
    """(code, tensor) of each problem, compiled for a target with an 8-bit accumulator."""
    with pytest.raises(pefslc.CompileError) as caught:
        pefslc.compile(m.save(folder), target=FakeTarget(), arch="narrow", **options)  # type: ignore[arg-type]
    return [(p.code, p.tensor) for p in caught.value.problems]


def conv(m: ModelBuilder, x: str, output: str, bits: int = 5, weight: object = ONES * 2) -> str:
    """A convolution whose sums need 11 bits when `bits` is 5, and fit 8 bits when it is 1 bit of sign less."""
    return m.node("Conv", x, m.weight(weight, bits=bits), output=output, name=output)


def test_faults_of_every_stage_come_together(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input((1, 2, 4, 4)))
    x = m.quant(m.node("Relu", conv(m, x, "wide1")), signed=0)  # overflows
    x = m.node("LpNormalization", x, output="m1", name="m1")  # is unknown
    x = m.quant(x, output="q1")
    x = m.quant(conv(m, x, "wide2"), output="q2")  # overflows behind an unknown tensor
    x = m.node("Conv", x, m.constant(ONES), output="raw", name="raw")  # has no weight quantizer
    x = m.quant(x, output="q3")
    x = m.quant(conv(m, x, "wide3"), output="q4")
    m.output(m.quant(x, scale=-1, output="y"))  # has a negative scale
    assert problems_of(m, tmp_path) == [
        (Code.UNSUPPORTED_OPERATOR, "m1"),
        (Code.SCALE_VALUE, "y"),
        (Code.WEIGHT_NOT_QUANTIZED, "raw"),
        (Code.ACCUMULATOR_OVERFLOW, "wide1"),
        (Code.ACCUMULATOR_OVERFLOW, "wide2"),
        (Code.ACCUMULATOR_OVERFLOW, "wide3"),
    ]


def test_a_contradicted_format_hides_no_overflow(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.quant(conv(m, m.quant(m.input((1, 2, 4, 4)), output="q"), "wide"), output="y"))
    found = problems_of(m, tmp_path, fmt="Q3.4")
    assert (Code.FORMAT_CONTRADICTED, "q") in found
    assert found[-1] == (Code.ACCUMULATOR_OVERFLOW, "wide")


def test_what_follows_an_unknown_tensor_up_to_the_next_quantizer_is_not_judged(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.node("Mystery", m.quant(m.input((1, 2, 4, 4))), output="m", name="m")
    x = m.node("LeakyRelu", conv(m, x, "c"), output="l")  # would overflow, be unquantized ...
    m.output(m.node("Add", x, x, output="y"))
    assert problems_of(m, tmp_path) == [(Code.UNSUPPORTED_OPERATOR, "m")]


def test_the_shapes_behind_an_unknown_operator_are_checked_where_the_file_declares_them(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.node("Mystery", m.quant(m.input((1, 2, 4, 4))), output="m", name="m")
    m.output(conv(m, x, "c", weight=np.ones((2, 3, 1, 1))))
    model = m.build()
    assert [c for c, _ in _imported(model, tmp_path)] == [Code.UNSUPPORTED_OPERATOR]
    model.graph.value_info.append(helper.make_tensor_value_info("m", TensorProto.FLOAT, [1, 2, 4, 4]))
    assert [c for c, _ in _imported(model, tmp_path)] == [Code.UNSUPPORTED_OPERATOR, Code.SHAPE_MISMATCH]


def test_a_tensor_whose_shape_nobody_knows_ends_the_check_of_what_reads_it(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.node("Mystery", m.quant(m.input((1, 2, 4, 4))), output="m", name="m")
    m.output(m.node("Riddle", m.quant(x, scale=-1), output="r", name="r"))
    assert problems_of(m, tmp_path) == [(Code.UNSUPPORTED_OPERATOR, "m"), (Code.UNSUPPORTED_OPERATOR, "r")]


def _imported(model: onnx.ModelProto, folder: Path) -> list[tuple[Code, str]]:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(pefslc.CompileError) as caught:
        pefslc.load(path)
    return [(p.code, p.tensor) for p in caught.value.problems]


def test_a_problem_knows_the_shape_of_its_tensor(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.quant(conv(m, m.quant(m.input((1, 2, 4, 4))), "wide"), output="y"))
    with pytest.raises(pefslc.CompileError) as caught:
        pefslc.compile(m.save(tmp_path), target=FakeTarget(), arch="narrow")
    [problem] = caught.value.problems
    assert problem.shape == (1, 2, 4, 4)
    assert "\n  at:   wide (Conv), tensor 'wide', shape [1, 2, 4, 4]\n" in str(problem)


def test_dynamic_quantization_is_named(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.input((1, 2, 4, 4))
    scale = m.node("Mystery", x, output="scale")
    m.output(m.node("Quant", x, scale, m.constant(0), m.constant(5), domain=m.quant_domain, output="y"))
    assert _imported(m.build(), tmp_path) == [(Code.UNSUPPORTED_OPERATOR, "scale"), (Code.COMPUTED_OPERAND, "y")]
