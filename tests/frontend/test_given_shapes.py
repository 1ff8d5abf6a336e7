"""--batch and --input-shape fill the axes that a file leaves open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pefslc
from builders import ModelBuilder
from pefslc.diagnostics.error_codes import Code


def model(folder: Path, *shapes: list[int | str] | None) -> Path:
    m = ModelBuilder()
    for index, shape in enumerate(shapes):
        m.output(m.quant(m.input(shape, name=f"x{index}"), output=f"y{index}"))
    return m.save(folder)


def test_a_batch_fills_every_open_first_axis(tmp_path: Path) -> None:
    graph = pefslc.load(model(tmp_path, ["N", 2, 4, 4], ["M", 3]), batch=2)
    assert [i.value.type.shape for i in graph.inputs] == [(2, 2, 4, 4), (2, 3)]
    assert [o.value.type.shape for o in graph.outputs] == [(2, 2, 4, 4), (2, 3)]


def test_a_shape_fills_open_axes_and_missing_shapes(tmp_path: Path) -> None:
    path = model(tmp_path, ["N", 2, "H", "W"], None)
    graph = pefslc.load(path, batch=1, input_shapes={"x0": (1, 2, 8, 6), "x1": (1, 7)})
    assert [i.value.type.shape for i in graph.inputs] == [(1, 2, 8, 6), (1, 7)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shapes": {"x0": (1, 2, 4)}}, "the input is declared [1, 2, 4, 4], which [1, 2, 4] contradicts"),
        ({"input_shapes": {"x0": (1, 3, 4, 4)}}, "the input is declared [1, 2, 4, 4], which [1, 3, 4, 4] contradicts"),
        ({"input_shapes": {"z": (1, 2)}}, "the model has no input 'z'"),
        ({"input_shapes": {"x0": ()}}, "[] is no shape for input 'x0'"),
        ({"input_shapes": {"x0": (0, 2, 4, 4)}}, "[0, 2, 4, 4] is no shape for input 'x0'"),
        ({"batch": 0}, "a batch of 0 is not possible"),
    ],
)
def test_a_shape_that_contradicts_the_file_is_refused(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(pefslc.CompileError) as caught:
        pefslc.load(model(tmp_path, [1, 2, 4, 4]), **options)  # type: ignore[arg-type]
    assert (caught.value.problems[0].code, caught.value.problems[0].message) == (Code.GIVEN_SHAPE, message)


def test_other_open_axes_stay_a_fault(tmp_path: Path) -> None:
    with pytest.raises(pefslc.CompileError, match=r"the input's shape \[1, 2, 'H', 4\] is not fixed"):
        pefslc.load(model(tmp_path, ["N", 2, "H", 4]), batch=1)


@pytest.mark.parametrize(("declared", "asked"), [(1, 3), (4, 1), (4, 3)])
def test_a_batch_may_be_another_than_the_file_fixes(declared: int, asked: int, tmp_path: Path) -> None:
    path = model(tmp_path, [declared, 2, 4, 4], [declared, 3])
    graph, of_file = pefslc.load(path, batch=asked), pefslc.load(path)
    assert [end.value.type.shape for end in (*graph.inputs, *graph.outputs)] == [
        (asked, *end.value.type.shape[1:]) for end in (*of_file.inputs, *of_file.outputs)
    ]
    x = {i.name: np.random.default_rng(0).normal(size=(12, *i.value.type.shape[1:])) for i in graph.inputs}
    for name, values in of_file.run(x).items():
        assert np.array_equal(graph.run(x)[name], values)


def test_a_batch_that_is_not_that_of_all_inputs_is_not_changed(tmp_path: Path) -> None:
    with pytest.raises(pefslc.CompileError, match="a batch of 3 is asked for, and the file fixes another") as caught:
        pefslc.load(model(tmp_path, [1, 2, 4, 4], [2, 3]), batch=3)
    assert caught.value.problems[0].code is Code.GIVEN_SHAPE


@pytest.mark.parametrize("rows", [4, 3])
def test_what_fixes_the_batch_of_the_file_is_named(rows: int, tmp_path: Path) -> None:
    """Where it mixes rows: as the message says, the compile without --batch tells why."""
    m = ModelBuilder()
    x = m.quant(m.input([rows, 4], name="x"))
    y = m.node("Transpose", x, perm=[1, 0])
    m.output(m.quant(m.node("Gemm", y, m.weight(np.ones((4, rows)), 0.25, 4), transB=1)))
    path = m.save(tmp_path)
    with pytest.raises(pefslc.CompileError, match="here the file works with its own batch of") as caught:
        pefslc.load(path, batch=2)
    (problem,) = caught.value.problems
    assert problem.code is Code.GIVEN_SHAPE
    assert f"its own batch of {rows} only" in problem.message
    assert problem.at is not None
    assert problem.at.op_type == "Transpose"
    with pytest.raises(pefslc.CompileError, match="moves the batch axis"):
        pefslc.compile(path, target="c")


def test_a_constant_beside_the_rows_fixes_the_batch_of_the_file(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input([4, 4], name="x"), 0.25, 6)
    m.output(m.node("Concat", x, m.quant(m.constant(np.eye(4)), 0.25, 6), axis=1))
    path = m.save(tmp_path)
    with pytest.raises(pefslc.CompileError, match="here the file works with its own batch of 4") as caught:
        pefslc.load(path, batch=2)
    at = caught.value.problems[0].at
    assert at is not None
    assert at.op_type == "Concat"
    with pytest.raises(pefslc.CompileError, match="reads a constant"):
        pefslc.compile(path, target="c")
