"""ArgMax in the emitted C: keys of integers in the order of the values, against fractions; the C against the host."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pefslc
from builders import ModelBuilder, normal
from pefslc.diagnostics.errors import InternalError
from pefslc.ir.output_function import OutputFunction, OutputFunctionKind

X = np.random.default_rng(4).integers(-32, 32, (60, 6)) / 16
fractions = st.fractions(-4, 4, max_denominator=12)


@given(st.lists(st.tuples(fractions, fractions), min_size=2, max_size=4), st.booleans())
def test_keys_are_in_the_order_of_the_values_and_equal_where_they_are(
    channels: list[tuple[Fraction, Fraction]], one_scale: bool
) -> None:
    scale, offset = ([part[i] for part in channels] for i in (0, 1))
    if one_scale:
        scale = scale[:1]
    factors, addends = OutputFunction(OutputFunctionKind.ARG_MAX).keys(scale, offset)

    def at(values: list, c: int):  # type: ignore[no-untyped-def]
        return values[c if len(values) > 1 else 0]

    for (i, j), a, b in product(product(range(len(channels)), repeat=2), range(-3, 4), range(-3, 4)):
        values = [at(scale, c) * code + offset[c] for c, code in ((i, a), (j, b))]
        keys = [code * at(factors, c) + at(addends, c) for c, code in ((i, a), (j, b))]
        assert (values[0] > values[1], values[0] == values[1]) == (keys[0] > keys[1], keys[0] == keys[1])


def classifier(folder: Path, weight_scale, bias, **attrs: object) -> Path:  # type: ignore[no-untyped-def]
    """Five logits, of which the last two are always equal."""
    m = ModelBuilder()
    kernel = normal((6, 5), 0.5)
    kernel[:, 4] = kernel[:, 3]
    y = m.node("MatMul", m.quant(m.input([1, 6], "x"), float(np.float32(0.123)), 5), m.weight(kernel, weight_scale, 4))
    m.output(m.node("ArgMax", m.node("Add", y, m.constant(bias)) if bias is not None else y, axis=1, **attrs))
    return m.save(folder)


SCALES = np.array([[0.21, 0.23, 0.37, 0.3, 0.3]], dtype=np.float32)
SMALL = [1e-20, -0.123, 0.7, 0.25, 0.25]  # nothing beside the others, but no word holds both
BIAS = [0.31, -0.123, 0.7, 0.25, 0.25]


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize(
    ("scale", "bias", "words"),
    [(0.25, None, 0), (0.25, BIAS, 1), (SCALES, BIAS, 1), (SCALES, SMALL, 2)],
    ids=["codes", "one scale and biases", "scales and biases", "more than 64 bits"],
)
def test_the_c_finds_the_class_of_the_codes(tmp_path: Path, scale, bias, words: int, last: int) -> None:  # type: ignore[no-untyped-def]
    program = pefslc.compile(classifier(tmp_path, scale, bias, select_last_index=last), target="c")
    (function,) = program.emission.details["arg_max"]  # type: ignore[misc, union-attr]
    source = program.emission.files["model.c"].decode()
    assert isinstance(function, dict)
    assert f"void {function['function']}(" in program.emission.files["model.h"].decode()
    assert (f"int64_t key[{words}]" in source) == bool(words)
    (output,) = program.graph.outputs
    codes = program.run(X, codes=True)[output.name]  # held to the host's by the runner, which the next test shows
    assert output.map is not None
    scales, offsets = (part * (5 if len(part) == 1 else 1) for part in (output.map.scale, output.map.offset))
    (found,) = program.run(X).values()
    for row, index in zip(codes.tolist(), found.reshape(-1).tolist(), strict=True):
        values = [s * code + o for s, code, o in zip(scales, row, offsets, strict=True)]
        best = [i for i, value in enumerate(values) if value == max(values)]
        assert index == best[-1 if last else 0]


def test_a_c_function_that_were_wrong_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = pefslc.compile(classifier(tmp_path, 0.25, BIAS), target="c")
    right = OutputFunction.of_codes
    monkeypatch.setattr(OutputFunction, "of_codes", lambda *arguments: right(*arguments) + 1)  # type: ignore[operator]
    with pytest.raises(InternalError, match="ArgMax"):
        program.run(X)


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_a_picture_has_a_class_for_each_pixel_or_a_place_for_each_channel(tmp_path: Path, axis: int) -> None:
    m = ModelBuilder()
    x = m.quant(m.input([2, 3, 4, 5], "x"), 0.125, 5)
    y = m.node("Conv", x, m.weight(normal((4, 3, 1, 1), 0.5), 0.25, 4), m.constant([0.3, 0.1, -0.2, 0.0]))
    m.output(m.node("ArgMax", y, axis=axis, keepdims=0))
    path = m.save(tmp_path)
    program = pefslc.compile(path, target="c")
    assert program.emission.functions
    pictures = np.random.default_rng(0).integers(-32, 32, (6, 3, 4, 5)) / 16
    (found,), (wanted,) = program.run(pictures).values(), pefslc.load(path).run(pictures).values()
    np.testing.assert_array_equal(found, wanted)


def test_the_summary_and_the_header_say_who_finds_the_class(tmp_path: Path) -> None:
    program = pefslc.compile(classifier(tmp_path, 0.25, BIAS), target="c")
    ((name, text),) = program.emission.functions.items()
    (record,) = program.sidecar.details["arg_max"]  # type: ignore[misc, union-attr]
    assert isinstance(record, dict)
    assert record["output"] == name
    what = "the index of the largest value along axis 1, the first of equals"
    assert text == f"{record['function']} computes of them {what}, exactly"
    assert f"void {record['function']}(" in program.emission.files["model.h"].decode()
    assert "arg_max" not in pefslc.compile(classifier(tmp_path, 0.25, BIAS), target="tensil").emission.details


def test_clang_has_nothing_to_say_about_it(tmp_path: Path, clang_is_silent) -> None:  # type: ignore[no-untyped-def]
    pefslc.compile(classifier(tmp_path, SCALES, BIAS), target="c").save(tmp_path / "out")
    clang_is_silent(tmp_path / "out")
