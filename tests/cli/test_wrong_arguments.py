"""Wrong arguments from Python and of options: an error with a code that names the argument, never a bare TypeError."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cli_support import Cli
from onnx import TensorProto, helper, numpy_helper

import pefslc
from pefslc import Code
from pefslc.analysis.limits import TargetLimits
from pefslc.driver.compiler import lower_model
from pefslc.numeric.format import FixedPoint


def float_model(path: Path) -> Path:
    """image [1, 4] -> Gemm 4x3 -> y [1, 3], not quantized."""
    weight = (np.arange(12, dtype=np.float32).reshape(3, 4) - 6) / 8
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["image", "w"], ["y"], name="/fc/Gemm", transB=1)],
        "float",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def test_one_array_calibrates_and_verifies_a_model_of_one_input(tmp_path: Path) -> None:
    path, x = float_model(tmp_path / "f.onnx"), np.random.default_rng(1).normal(0, 1, (8, 4))
    options: dict[str, Any] = {"target": "c", "fmt": "auto:8", "batch": np.int64(1)}
    one, named = (pefslc.compile(path, calibrate=data, **options) for data in (x, {"image": x}))
    assert one.sidecar.to_bytes() == named.sidecar.to_bytes()
    fake = pefslc.compile(path, target="fake", fmt="Q3.4", batch=1, verify=x)
    assert str(fake.verify(x)) == str(fake.verify({"image": x.tolist()})) == str(fake.verify(x.tolist()))


Call = Callable[[Path], object]


def compiled(path: Path, target: str = "fake", **options: Any) -> pefslc.Program:
    return pefslc.compile(path, target=target, **options)


WRONG: list[tuple[Call, Code, str]] = [
    (lambda m: compiled(m).verify(None), Code.INPUT_ARRAY, "verify is 'None', no arrays"),  # type: ignore[arg-type]
    (lambda m: compiled(m).verify(3), Code.INPUT_ARRAY, "verify is '3', no arrays"),  # type: ignore[arg-type]
    (lambda m: compiled(m, calibrate=3), Code.INPUT_ARRAY, "calibrate is '3', no arrays"),
    (lambda m: compiled(m, calibrate={"x": [[1], [1, 2]]}), Code.INPUT_ARRAY, "calibrate, array 'x': no array can"),
    (lambda m: compiled(m).verify([[1], [1, 2]]), Code.INPUT_ARRAY, "verify: no array can be made"),  # type: ignore[arg-type]
    (lambda m: compiled(m).run([[1], [1, 2]]), Code.INPUT_ARRAY, "input 'x': no array can be made"),  # type: ignore[arg-type]
    (lambda m: compiled(m).run({"x": [[1], [1, 2]]}), Code.INPUT_ARRAY, "input 'x': no array"),  # type: ignore[dict-item]
    (lambda m: compiled(m).run(None), Code.INPUT_ARRAY, "input 'x' holds object"),  # type: ignore[arg-type]
    (lambda m: compiled(m).save(None), Code.CANNOT_WRITE, "'None' is not the path of a folder"),  # type: ignore[arg-type]
    (lambda _: pefslc.load(None), Code.NOT_A_MODEL, "'None' is not the path of a model"),  # type: ignore[arg-type]
    (lambda _: pefslc.load("a\0b"), Code.NOT_A_MODEL, "'a?b' is not the path of a model"),
    (lambda _: compiled(Path("a\0b")), Code.NOT_A_MODEL, "'a?b' is not the path of a model"),
    (lambda _: compiled(Path("\ud800")), Code.NOT_A_MODEL, "'?' is not the path of a model"),
    (lambda m: compiled(m).save("a\0b"), Code.CANNOT_WRITE, "'a?b' is not the path of a folder"),
    (lambda m: compiled(m, plugins="x" * 5000), Code.NO_SUCH_PLUGIN, "no plugin 'xxx"),
    (lambda m: compiled(m, "tensil", clock_mhz="x"), Code.WRONG_OPTION, "(--clock-mhz) is 'x', not a frequency in MHz"),
    (lambda m: compiled(m, "tensil", clock_mhz="100"), Code.WRONG_OPTION, "(--clock-mhz) is '100', not a frequency"),
    (lambda m: compiled(m, "tensil", clock_mhz=True), Code.WRONG_OPTION, "(--clock-mhz) is 'True', not a frequency"),
    (lambda m: compiled(m, "tensil", clock_mhz=float("nan")), Code.WRONG_OPTION, "(--clock-mhz) is nan, not"),
    (lambda m: compiled(m, observe=3), Code.WRONG_OPTION, "observe is '3', not a function"),
    (lambda m: compiled(m, progress=True), Code.WRONG_OPTION, "progress is 'True', not a function"),
    (lambda m: compiled(m, batch=True), Code.GIVEN_SHAPE, "batch is 'True', not a size"),
    (lambda m: compiled(m, fmt=FixedPoint(2, 3, signed="no")), Code.BAD_FORMAT, "signed='no') is not a format"),  # type: ignore[arg-type]
    (lambda m: compiled(m, fmt=FixedPoint(2.5, 3)), Code.BAD_FORMAT, "'Q2.5.3' is not a format"),  # type: ignore[arg-type]
    (lambda m: lower_model(m, TargetLimits(8, "DSP"), allow_overflow="no"), Code.WRONG_OPTION,  # type: ignore[arg-type]
     "allow_overflow is 'no', not True or False"),
    (lambda m: compiled(m, batch="x"), Code.GIVEN_SHAPE, "batch is 'x', not a size"),
    (lambda m: pefslc.load(m, batch=1.5), Code.GIVEN_SHAPE, "batch is '1.5', not a size"),  # type: ignore[arg-type]
    (lambda m: compiled(m, input_shapes={"x": "a"}), Code.GIVEN_SHAPE, "input_shapes['x'] is 'a', not a shape"),
    (lambda m: compiled(m, input_shapes={"x": 4}), Code.GIVEN_SHAPE, "input_shapes['x'] is '4', not a shape"),
    (lambda m: compiled(m, input_shapes=[1, 2]), Code.GIVEN_SHAPE, "input_shapes is '[1, 2]', not a dict"),
    (lambda m: compiled(m, batch=2, input_shapes={"x": (1, 4)}), Code.GIVEN_SHAPE,
     "--batch 2 and the shape [1, 4] given for input 'x' contradict each other"),
]  # fmt: skip


def test_a_path_that_is_too_long_cannot_be_read() -> None:
    with pytest.raises(pefslc.CompileError, match=r"cannot read 'xxx.*: File name too long") as caught:
        pefslc.load("x" * 5000)
    assert caught.value.problems[0].code is Code.UNREADABLE_FILE


@pytest.mark.parametrize(("call", "code", "message"), WRONG, ids=[m for *_, m in WRONG])
def test_a_wrong_argument_is_named(model: Path, call: Call, code: Code, message: str) -> None:
    with pytest.raises(pefslc.CompileError) as caught:
        call(model)
    problem = caught.value.problems[0]
    assert problem.code is code
    assert message in problem.message
    assert problem.hint


SWITCHES = ("allow_overflow", "require_exact", "check_passes", "requantize")


@pytest.mark.parametrize("value", ["no", "", 0, 1, None, [True], np.array([True])], ids=repr)
@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_is_true_or_false(model: Path, name: str, value: object) -> None:
    with pytest.raises(pefslc.CompileError, match=f"{name} is '.*', not True or False") as caught:
        compiled(model, **{name: value})
    assert [p.code for p in caught.value.problems] == [Code.WRONG_OPTION]


def test_every_switch_of_compile_is_checked() -> None:
    switches = {p.name for p in inspect.signature(pefslc.compile).parameters.values() if p.annotation == "bool"}
    assert switches == set(SWITCHES)


@pytest.mark.parametrize("command", [[], ["check"]])
def test_requantize_without_a_format_is_a_usage_error(pefslc: Cli, model: Path, command: list[str]) -> None:
    result = pefslc(*command, model, "--target", "c", "--requantize")
    assert result.status == 2
    assert result.err == (
        "error[PEF0902]: --requantize changes a quantized model to a format, and none is named\n"
        "  help: for example --fmt Q2.3 --requantize\n"
    )


def test_a_second_shape_for_an_input_is_a_usage_error(pefslc: Cli, model: Path) -> None:
    result = pefslc("check", model, "--target", "c", "--input-shape", "x=1,4", "--input-shape", "x=2,4")
    assert result.status == 2
    assert "--input-shape: a second shape for 'x': 'x=2,4'; give one" in result.err


def test_a_batch_may_repeat_what_a_shape_says(pefslc: Cli, model: Path) -> None:
    both = pefslc("check", model, "--target", "c", "--batch", "1", "--input-shape", "x=1,4")
    assert (both.status, both.err) == (0, "")
    contradiction = pefslc("check", model, "--target", "c", "--batch", "2", "--input-shape", "x=1,4")
    assert contradiction.status == 1
    assert "error[PEF0214]: --batch 2 and the shape [1, 4] given for input 'x' contradict" in contradiction.err
