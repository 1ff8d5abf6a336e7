"""The text of the IR: readable, and exact in both directions."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pefslc.numeric.staircase as staircase_module
from builders import Feature, import_bytes, lower, random_network
from pefslc.diagnostics.errors import CompileError, Origin
from pefslc.frontend import import_model
from pefslc.geometry.shapes import Window
from pefslc.ir.graph import Graph, GraphInput, GraphOutput, Level, OutputMap
from pefslc.ir.integer import Conv2d, Requantize, Round
from pefslc.ir.parse import parse_graph
from pefslc.ir.quantized import Clip, Constant, Quantize
from pefslc.ir.structural import Transpose
from pefslc.ir.text import print_graph
from pefslc.ir.value import CodeRange, IntArray, Op, Real, RealArray, TensorType, Value
from pefslc.numeric.format import Quantization
from pefslc.numeric.line import BentLine
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, ClipStage, LeakyReluStage
from pefslc.numeric.staircase import Staircase, staircase_of

TINY = """\
graph "tiny" integer
input "x" as %x: [-16..15]*(2^-3)[1,1,4,4] quantizer(Q2.3, half_even)  // (input) x
%a: [-32..31]*(2^-6)[1,2,3,3] = conv2d %x weight=[2,1,2,2]{1, 0, 0, 0, 0, 0, 0, -1} bias=none window(2x2) groups=1  \
// layer1/conv (Conv) y
%b: [0..4]*(2^-3)[1,2,3,3] = requantize %a staircase(domain=-32..31, low=0, rising, \
thresholds=[1,4]{4, 12, 20, 29})  // layer1/relu (Relu)
%c: [0..4]*(2^-3)[1,2,1,1] = max_pool %b window(3x3, strides=2x2, pads=0,0,0,1)  // (MaxPool)
output "y" = %c map(scale=2^-3, offset={0, -1/3})
"""


def test_a_graph_reads_like_this() -> None:
    graph = parse_graph(TINY)
    assert print_graph(graph) == TINY
    assert str(graph) == TINY
    conv, requantize, pool = graph.ops
    assert isinstance(conv, Conv2d)
    assert conv.weight.data.tolist() == [[[[1, 0], [0, 0]]], [[[0, 0], [0, -1]]]]
    assert conv.result.origin == Origin("layer1/conv", "Conv", "y")
    assert isinstance(requantize, Requantize)
    assert requantize.staircase(np.array([3, 4, 28, 29])).tolist() == [0, 1, 3, 4]
    assert pool.operands == (requantize.result,)
    assert graph.outputs[0].map == OutputMap((Fraction(1, 8),), (Fraction(0), Fraction(-1, 3)))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("feature", [Feature(), Feature(float_scales=True, rounding=("UP", "floor", "ROUND"))])
def test_random_networks_round_trip_on_both_levels(seed: int, feature: Feature, tmp_path: Path) -> None:
    quantized = import_bytes(random_network(seed, feature), tmp_path)
    for graph in (quantized, lower(quantized)):
        assert parse_graph(print_graph(graph)) == graph


@pytest.mark.parametrize("name", ["cnn_q2_3", "cnn_w8pc_a8_float", "resnet8_q3_5"])
def test_trained_networks_round_trip_and_their_text_is_short_without_data(name: str, models: Path) -> None:
    quantized = import_model(models / f"{name}.onnx")
    for graph in (quantized, lower(quantized)):
        assert parse_graph(print_graph(graph)) == graph
        short = print_graph(graph, data=False)
        assert len(short.splitlines()) == 2 + len(graph.inputs) + len(graph.ops) + len(graph.outputs)
        assert max(map(len, short.splitlines())) < 500


names = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", " ", "//", '"', "\\", "a\nb", "a\r\nb\u2028", "(", "%v1", "@c0", "data", "x: y", "'); --", "\ud800"]
    ),
    st.just("n" * 70_000),
)


@settings(max_examples=60)
@given(*[names] * 6)
def test_names_from_files_survive(graph_name: str, value: str, node: str, op: str, tensor: str, outer: str) -> None:
    v = Value(value, TensorType((1, 2), Real()), Origin(node, op, tensor))
    w = Value(value + "'", TensorType((2, 1), Real()), Origin(tensor, node, op))
    graph = Graph(
        graph_name, Level.QUANTIZED, (GraphInput(outer, v),), (Transpose(result=w, input=v, permutation=(1, 0)),),
        (GraphOutput(outer + "o", w),),
    )  # fmt: skip
    text = print_graph(graph)
    assert parse_graph(text) == graph
    assert text.isascii()
    assert len(text.splitlines()) == 4
    assert max(map(len, print_graph(graph, data=False).splitlines())) < 3000


def one_op(op: Op, *operands: Value) -> Graph:
    inputs = tuple(GraphInput(v.name, v) for v in operands)
    return Graph("g", Level.QUANTIZED, inputs, (op,), (GraphOutput("y", op.result),))


def value(name: str, element: object = None, shape: tuple[int, ...] = (1, 2, 2, 2)) -> Value:
    return Value(name, TensorType(shape, element or Real()), Origin("n", "Op"))  # type: ignore[arg-type]


F = Fraction
slopes = st.fractions(F(1, 10**12), 10**6)
fractions = st.one_of(st.fractions(), st.integers(-300, 300).map(lambda e: F(3) * F(2) ** e))
scales = st.lists(st.fractions(F(1, 10**9), 10), min_size=1, max_size=9).map(lambda s: Scale(tuple(s)))
formats = st.builds(
    Quantization,
    bits=st.integers(2, 40), signed=st.booleans(), narrow=st.booleans(), zero_point=st.integers(-9, 9) | st.just(0),
    scale=scales | st.integers(-140, 120).map(Scale.power_of_two),
)  # fmt: skip
stages = st.one_of(
    st.builds(LeakyReluStage, st.lists(fractions, min_size=1, max_size=3).map(tuple)),
    st.builds(ClipStage, st.none() | fractions, st.none() | fractions),
    st.integers(1, 7).flatmap(
        lambda n: st.builds(Affine, *[st.lists(fractions, min_size=n, max_size=n).map(tuple)] * 4)
    ),
)


@given(formats, st.lists(stages, max_size=3), st.sampled_from(RoundingMode), st.booleans(), st.integers(0, 1))
def test_quantizers_and_stages_round_trip(
    q: Quantization, chain: list[object], mode: RoundingMode, last: bool, axis: int
) -> None:
    x = value("x")
    op = Quantize(
        result=value("y", q), input=x, stages=tuple(chain), rounding=mode, adds_zero_point_last=last, channel_axis=axis  # type: ignore[arg-type]
    )  # fmt: skip
    assert parse_graph(print_graph(one_op(op, x))) == one_op(op, x)
    graph_input = GraphInput("x", value("x", CodeRange(low=q.low, high=q.high, scale=q.scale, zero_point=q.zero_point)))
    graph = Graph("g", Level.INTEGER, (replace(graph_input, quantizer=Quantizer(q, mode, last)),), (), ())
    assert parse_graph(print_graph(graph)) == graph


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40), st.integers(0, 63))
def test_integer_arrays_of_any_size_and_width_round_trip(numbers: list[int], shift: int) -> None:
    array = IntArray(np.array(numbers, dtype=np.int64) >> shift)
    x = value("x")
    op = Conv2d(result=value("y"), input=x, weight=array, bias=None, window=Window(kernel=(1, 1)), groups=1)
    assert parse_graph(print_graph(one_op(op, x))) == one_op(op, x)


reals = st.lists(st.floats(allow_nan=False), max_size=40)
singles = st.lists(st.floats(width=32, allow_nan=False), max_size=40)


@given(reals | singles)
def test_real_arrays_round_trip_bit_by_bit(numbers: list[float]) -> None:
    array = RealArray(np.array(numbers, dtype=np.float64))
    op = Constant(result=value("y"), data=array)
    assert parse_graph(print_graph(one_op(op))) == one_op(op)


def test_shapes_without_elements_and_without_axes_round_trip() -> None:
    for array in (np.zeros((3, 0)), np.array(-0.0), np.zeros((2, 0, 5))):
        op = Constant(result=value("y", shape=array.shape), data=RealArray(array))
        assert parse_graph(print_graph(one_op(op))) == one_op(op)


@pytest.mark.parametrize("directions", [[1, 1], [-1, -1], [1, -1]])
@pytest.mark.parametrize("levels", [0, 3, 30])
def test_staircases_round_trip(directions: list[int], levels: int) -> None:
    rows = np.arange(levels)[None] * np.array(directions)[:, None]
    staircase = Staircase(-50, 50, -7, rows, np.array(directions), step=2)
    x = value("x", CodeRange(low=-50, high=50, scale=Scale.power_of_two(0), zero_point=3))
    op = Requantize(result=value("y"), input=x, staircase=staircase)
    assert parse_graph(print_graph(one_op(op, x))) == one_op(op, x)


def _staircase_of_many_steps() -> Staircase:
    """BatchNorm and LeakyRelu on three channels, a channel falls; the quantizer has an odd zero point."""
    batch_norm = Affine((F(1), F(-3), F(2)), (F(0), F(1, 2), F(1)), (F(2), F(3), F(5)), (F(1), F(0), F(1, 3)))
    quantization = Quantization(bits=6, signed=True, scale=Scale((F(1, 4), F(1, 3), F(1, 5))), zero_point=1)
    quantizer = Quantizer(quantization, RoundingMode.HALF_EVEN, adds_zero_point_last=True)
    stages = (batch_norm, LeakyReluStage((F(1, 8),)), ClipStage(F(-9), None))
    return staircase_of(Scale((F(1, 7),)), stages, quantizer, -60, 60, 3)


def test_a_staircase_of_too_many_steps_to_list_is_printed_as_what_it_is_computed_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = value("x", CodeRange(low=-60, high=60, scale=Scale.power_of_two(0)))
    listed = one_op(Requantize(result=value("y"), input=x, staircase=_staircase_of_many_steps().lowered(2)), x)
    monkeypatch.setattr(staircase_module, "_MOST_LISTED", 0)
    graph = one_op(Requantize(result=value("y"), input=x, staircase=_staircase_of_many_steps().lowered(2)), x)
    text = print_graph(graph)
    assert "thresholds" not in text
    assert text == print_graph(listed)
    (read,) = parse_graph(text).ops
    assert isinstance(read, Requantize)
    assert not read.staircase.is_listed
    assert parse_graph(text) == graph == listed
    assert print_graph(parse_graph(text)) == text
    for change in (("channels=3", "channels=2"), ("channels=3", "channels=0"), ("levels=-3", "levels=99")):
        assert change[0] in text
        with pytest.raises(CompileError, match="line 3: levels that fall or are too many, or a list that is not of"):
            parse_graph(text.replace(*change, 1))


@given(slopes, slopes | st.just(F(0)), st.integers(-(2**40), 0), st.integers(0, 2**40))
def test_lines_round_trip(above: Fraction, below: Fraction, low: int, high: int) -> None:
    op = Round(result=value("y"), input=value("x"), line=BentLine(above, below, low, high))
    assert parse_graph(print_graph(one_op(op, op.input))) == one_op(op, op.input)


def test_fields_at_their_default_are_left_out_and_the_others_named() -> None:
    x = value("x")
    clip = Clip(result=value("y"), input=x, low=None, high=F(6))
    assert "%y: real[1,2,2,2] = clip %x low=none high=6  // n (Op)" in print_graph(one_op(clip, x))
    assert "= quantize %x  //" in print_graph(one_op(Quantize(result=value("y"), input=x), x))


def test_without_data_the_text_is_for_reading_only(models: Path) -> None:
    graph = import_model(models / "cnn_q2_3.onnx")
    with pytest.raises(CompileError, match="printed without its data"):
        parse_graph(print_graph(graph, data=False))


def test_the_same_graph_gives_the_same_text(models: Path) -> None:
    path = models / "cnn_q2_3.onnx"
    assert print_graph(import_model(path)) == print_graph(import_model(path))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (("graph ", "grph "), "line 1: expected 'graph', found 'grph \"tiny\" integer'"),
        (("integer", "float"), "line 1: expected quantized or integer, found 'float'"),
        (('"tiny"', "tiny"), "line 1: expected a name in double quotes, found 'tiny integer'"),
        (("%x: [-16", "%x: [16"), "line 2: this line is not legal (an empty range)"),
        (("half_even", "half"), "line 2: expected a rounding mode, found 'half)  // (input) x'"),
        (("*(2^-3)[1,1,4,4]", "*(-2)[1,1,4,4]"), "line 2: a scale is positive"),
        (("*(2^-3)[1,1,4,4]", "*(1/0)[1,1,4,4]"), "line 2: a denominator of 0"),
        (("conv2d %x", "conv3d %x"), "line 3: expected an operation, found 'conv3d"),
        (("conv2d %x", "conv2d %z"), "line 3: %z is not defined before this line"),
        ((" bias=none", ""), "line 3: expected bias=, found '// layer1/conv (Conv) y'"),
        ((" bias=none", " bios=none"), "line 3: expected a field of conv2d or //, found 'bios=none"),
        (("{1, 0,", "{1,"), "line 3: 7 numbers do not fill the shape [2, 1, 2, 2]"),
        (("{1, 0,", "{9223372036854775808, 0,"), "line 3: an integer beyond 64 bits"),
        (("{1, 0,", "{one, 0,"), "line 3: expected an integer, found 'one, 0"),
        (("{4, 12,", "{14, 12,"), "line 4: this line is not legal (thresholds out of order)"),
        (("[1,4]{4", "@c7[1,4]"), "line 4: @c7 is not in the data section"),
        (("%c:", "%b:"), "line 5: %b is defined twice"),
        (("  // (MaxPool)", ""), "line 5: expected a field of max_pool or //, found the end of the line"),
        (("(MaxPool)", "(MaxPool) y z"), "line 5: expected the end of the line, found 'z'"),
        (("[1,2,1,1]", "[1,2,1,-1]"), "line 5: the shape [1, 2, 1, -1] has a negative size"),
        (("2^-3", "2^-9999999"), "line 2: an exponent has 7 digits, and at most 5 are read"),
        (("2^-3", "3*2^-9999999"), "line 2: an exponent has 7 digits, and at most 5 are read"),
        (("(Q2.3", "(Q2.9999999"), "line 2: a format's number has 7 digits, and at most 5 are read"),
        (("(Q2.3", "(i123*(1)"), "line 2: the bit width has 3 digits, and at most 2 are read"),
        (("(Q2.3", f"(i8+{'9' * 21}*(1)"), "line 2: a zero point has 21 digits, and at most 20 are read"),
        (("[1,4]{4, 12, 20, 29}", "[4]{4, 12, 20, 29}"), "line 4: this line is not legal (thresholds are a table: "),
        (("= %c map", "%c map"), "line 6: expected '=', found '%c map"),
    ],
    ids=lambda v: v[1] if isinstance(v, tuple) else "",
)
def test_faults_name_the_line_and_what_was_expected(change: tuple[str, str], error: str) -> None:
    assert change[0] in TINY
    with pytest.raises(CompileError) as caught:
        parse_graph(TINY.replace(*change, 1))
    assert error in str(caught.value)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("@c0: i8[2,9]\n  eNpj", "the data does not fill"),
        ("@c0: i8[2,9]\n  !!!!", "the data is damaged"),
        ("@c0: i8[2,9]\n  AAAA", "the data is damaged"),
        ("@c0: i7[2,9]\n  eNpj", "i7 is no type of constants"),
        ("@c0: rational[3]\n  1, 2", "2 numbers do not fill the shape [3]"),
        ("c0: i8[3]", "expected a constant: @c0: i8[2,3]"),
    ],
)  # fmt: skip
def test_damaged_data_is_refused(data: str, error: str) -> None:
    with pytest.raises(CompileError) as caught:
        parse_graph(f"{TINY}data\n{data}\n")
    assert error in str(caught.value)


def test_a_constant_of_another_kind_or_shape_is_refused() -> None:
    text = TINY.replace("[2,1,2,2]{1, 0, 0, 0, 0, 0, 0, -1}", "@c0[2,1,2,2]")
    for entry in ("@c0: rational[8]\n  1, 2, 3, 4, 5, 6, 7, 8", "@c0: i8[0]\n  eNoDAAAAAAE="):
        with pytest.raises(CompileError, match="line 3: the constant is no array of int64"):
            parse_graph(f"{text}data\n{entry}\n")


def test_a_byte_order_mark_at_the_start_is_no_part_of_the_text() -> None:
    assert parse_graph(f"\ufeff{TINY}") == parse_graph(TINY)


def test_the_empty_text_holds_no_graph() -> None:
    for text in ("", "\n\n"):
        with pytest.raises(CompileError, match="holds no graph"):
            parse_graph(text)


@settings(max_examples=300)
@given(st.integers(0, len(TINY)), st.integers(0, 12), st.text(max_size=6))
def test_no_damage_raises_anything_but_a_compile_error(start: int, length: int, inserted: str) -> None:
    text = TINY[:start] + inserted + TINY[start + length :]
    with suppress(CompileError):
        parse_graph(text)
