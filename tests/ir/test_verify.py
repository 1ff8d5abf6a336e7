"""Each rule of a legal graph, broken once."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from pefslc.analysis.verify import verify
from pefslc.diagnostics.errors import Origin
from pefslc.ir.graph import Graph, Level
from pefslc.ir.parse import parse_graph
from pefslc.ir.quantized import Quantize
from pefslc.ir.value import Real
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine

INTEGER = """\
graph "g" integer
input "x" as %x: [-4..3]*(1)[1,2,3,3] quantizer(Q3.0, half_even)  // (input) x
%conv: [-8..9]*(1)[1,1,3,3] = conv2d %x weight=[1,2,1,1]{1, -1} bias=[1]{2} window(1x1) groups=1  // (Conv)
%q: [0..2]*(1)[1,1,3,3] = requantize %conv staircase(domain=-8..9, low=0, rising, thresholds=[1,2]{0, 4})  // (Quant)
%clamp: [-2..2]*(1)[1,2,3,3] = clamp %x low=-2 high=2  // (Clip)
%twice: [-4..4]*(1)[1,2,3,3] = rescale %clamp factor=2  // (Add)
%part: [-4..4]*(1)[1,2,3,3] = slice %twice begins=(0, 1, 0, 2) steps=(1, -1, 1, -1)  // (Slice)
%sum: [-8..7]*(1)[1,2,3,3] = sum %x %part  // (Add)
%both: [-8..7]*(1)[1,3,3,3] = concat inputs=(%sum, %q) axis=1  // (Concat)
%pool: [-72..63]*(1)[1,3,1,1] = sum_pool %both window(3x3)  // (AveragePool)
%max: [-72..63]*(1)[1,3,1,1] = max_pool %pool window(1x1)  // (MaxPool)
%flat: [-72..63]*(1)[1,3] = reshape %max  // (Flatten)
%dense: [-72..63]*(1)[1,1] = dense %flat weight=[1,3]{1, 0, 0} bias=none  // (Gemm)
output "y" = %dense map(scale=1, offset=0)
"""

LARGER = """\
graph "g" integer
input "x" as %x: [-4..3]*(1)[1,1,2,2] quantizer(Q3.0, half_even)  // (input) x
%up: [-4..3]*(1)[1,1,4,6] = upsample %x factors=(1, 1, 2, 3)  // (Resize)
%conv: [-4..4]*(1)[1,1,6,10] = conv2d %up weight=[1,1,2,2]{1, 1, 1, -1} bias=none \
window(2x2, input_dilations=2x2) groups=1  // (ConvTranspose)
output "y" = %conv map(scale=1, offset=0)
"""

QUANTIZED = """\
graph "g" quantized
input "x" as %x: real[1,2,3,3]  // (input) x
%q: Q3.0[1,2,3,3] = quantize %x  // (Quant)
%w: Q3.0[1,2,1,1] = quantized_constant codes=[1,2,1,1]{1, -1}  // (Quant)
%conv: real[1,1,3,3] = conv %q %w bias=none window(1x1) groups=1  // (Conv)
%flat: real[1,9] = reshape %conv  // (Flatten)
%m: Q3.0[2,9] = quantized_constant codes=[2,9]{1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}  // (Quant)
%y: real[1,2] = linear %flat %m bias=none  // (Gemm)
output "y" = %y
"""

# A stage of three channels.
AFFINE = "affine({1, 2, 3}, {0, 0, 0}, {1, 1, 1}, {0, 0, 0})"


@pytest.mark.parametrize("text", [INTEGER, LARGER, QUANTIZED], ids=["integer", "larger", "quantized"])
def test_a_legal_graph_has_no_faults(text: str) -> None:
    assert verify(parse_graph(text)) == []


@pytest.mark.parametrize(
    ("text", "old", "new", "fault"),
    [
        (INTEGER, " quantizer(Q3.0, half_even)", "", "input 'x': a quantizer belongs to the integer level"),
        (QUANTIZED, "[1,2,3,3]  // (input)", "[1,2,3,3] quantizer(Q3.0, floor)  // (input)", "input 'x': a quantizer"),
        (INTEGER, " map(scale=1, offset=0)", "", "output 'y': a map belongs to the integer level"),
        (QUANTIZED, '"y" = %y', '"y" = %y map(scale=1, offset=0)', "output 'y': a map belongs to the integer level"),
        (INTEGER, 'output "y" = %dense map(scale=1, offset=0)', "", "the graph has no outputs"),
        (INTEGER, "clamp %x low=-2 high=2", "relu %x", "relu %clamp: the operation does not belong to the"),
        (INTEGER, "[1,1,3,3] = conv2d", "[1,1,3,4] = conv2d", "conv2d %conv: the shape is [1, 1, 3, 4], should be"),
        (INTEGER, "[1,3,1,1] = sum_pool", "[1,3,1,2] = sum_pool", "sum_pool %pool: the shape is [1, 3, 1, 2], should"),
        (INTEGER, "[1,3,1,1] = max_pool", "[1,3,1,2] = max_pool", "max_pool %max: the shape is [1, 3, 1, 2], should"),
        (INTEGER, "[1,3] = reshape", "[1,4] = reshape", "reshape %flat: the shape is [1, 4]"),
        (INTEGER, "[1,3,3,3] = concat", "[1,4,3,3] = concat", "concat %both: the shape is [1, 4, 3, 3], should be"),
        (INTEGER, "[1,1] = dense", "[1,2] = dense", "dense %dense: the shape is [1, 2], should be [1, 1]"),
        (INTEGER, "[1,2,3,3] = clamp", "[1,2,9] = clamp", "clamp %clamp: the shape is [1, 2, 9], should be"),
        (INTEGER, "[1,2,3,3] = rescale", "[1,2,9] = rescale", "rescale %twice: the shape is [1, 2, 9], should be"),
        (INTEGER, "[1,2,3,3] = sum", "[1,2,9] = sum", "sum %sum: the shape is [1, 2, 9], should be"),
        (INTEGER, "[1,1,3,3] = requantize", "[1,1,9] = requantize", "requantize %q: the shape is [1, 1, 9], should be"),
        (QUANTIZED, "[1,1,3,3] = conv", "[1,1,2,3] = conv", "conv %conv: the shape is [1, 1, 2, 3], should be"),
        (QUANTIZED, "[1,2] = linear", "[1,3] = linear", "linear %y: the shape is [1, 3], should be [1, 2]"),
        (QUANTIZED, "Q3.0[1,2,3,3] = quantize", "real[1,2,3,3] = quantize", "quantize %q: the result has no Quantiz"),
        (QUANTIZED, "codes=[1,2,1,1]{", "codes=[2]{", "quantized_constant %w: the shape is [1, 2, 1, 1], sho"),
        (INTEGER, "[-8..9]*(1)[1,1", "[-8..8]*(1)[1,1", "the codes reach [-5, 9], the type says [-8, 8]"),
        (INTEGER, "[0..2]*(1)", "[0..1]*(1)", "requantize %q: the codes reach [0, 2], the type says [0, 1]"),
        (INTEGER, "domain=-8..9", "domain=-8..8", "requantize %q: the input leaves the staircase's domain"),
        (INTEGER, "%part: [-4..4]*(1)", "%part: [-4..4]*(2)", "sum %sum: the operands have different scales"),
        (INTEGER, "[-72..63]*(1)[1,3] =", "real[1,3] =", "reshape %flat: a tensor without codes"),
        (INTEGER, "low=-2 high=2", "low=3 high=2", "clamp %clamp: the limits [3, 2] are empty"),
        (INTEGER, "factor=2", "factor=0", "rescale %twice: the factor is 0"),
        (INTEGER, "steps=(1, -1, 1, -1)", "steps=(1, -1, 1, 0)", "slice from [0, 1, 0, 2] by [1, -1, 1, 0] on 4 axes"),
        (INTEGER, "begins=(0, 1, 0, 2)", "begins=(0, 1, 0)", "slice from [0, 1, 0] by [1, -1, 1, -1] on 4 axes"),
        (INTEGER, "begins=(0, 1, 0, 2)", "begins=(0, 0, 0, 2)", "slice from [0, 0, 0, 2] by [1, -1, 1, -1] of [1, 2"),
        (INTEGER, "begins=(0, 1, 0, 2)", "begins=(0, 1, 1, 2)", "slice from [0, 1, 1, 2] by [1, -1, 1, -1] of [1, 2"),
        (INTEGER, "steps=(1, -1, 1, -1)", "steps=(-1, -1, 1, -1)", "slice from [0, 1, 0, 2] by [-1, -1, 1, -1] of"),
        (LARGER, "(1, 1, 2, 3)", "(1, 1, 2)", "upsample %up: 3 factors for 4 axes"),
        (LARGER, "(1, 1, 2, 3)", "(1, 1, 2, 2)", "upsample %up: the shape is [1, 1, 4, 6], should be [1, 1, 4, 4]"),
        (LARGER, "[1,1,4,6] = upsample %x factors=(1, 1", "[1,2,4,6] = upsample %x factors=(1, 2", "factors [1, 2, 2"),
        (LARGER, "[-4..3]*(1)[1,1,4,6]", "[-4..2]*(1)[1,1,4,6]", "upsample %up: the codes reach [-4, 3], the type"),
        (LARGER, "[-4..4]*(1)", "[-4..3]*(1)", "conv2d %conv: the codes reach [-4, 4], the type says [-4, 3]"),
        (LARGER, "input_dilations=2x2", "input_dilations=2x3", "conv2d %conv: the shape is [1, 1, 6, 10], should be"),
        (LARGER, "6,10] = conv2d", "3,5] = conv2d", "conv2d %conv: the shape is [1, 1, 3, 5], should be [1, 1, 6, 10]"),
        (
            LARGER,
            "[1,1,6,10] = conv2d %up weight=[1,1,2,2]{1, 1, 1, -1} bias=none window(2x2,",
            "[1,1,3,10] = conv2d %up weight=[1,1,2,2]{1, 1, 1, -1} bias=none window(2x2, strides=2x1,",
            "conv2d %conv: strides of [2, 1] over a dilated input",
        ),
        (
            LARGER,
            "conv2d %up weight=[1,1,2,2]{1, 1, 1, -1} bias=none window(2x2, input_dilations=2x2) groups=1",
            "max_pool %up window(2x2, input_dilations=2x2)",
            "max_pool %conv: a pool over a dilated input",
        ),
        (INTEGER, "bias=[1]{2}", "bias=[2]{2, 2}", "conv2d %conv: a bias of shape [2] for 1 output"),
        (INTEGER, "[1,2,1,1]{1, -1}", "[1,1,1,1]{1}", "conv2d %conv: weights of 1 inputs in 1 groups on 2 channels"),
        (INTEGER, "[1,3]{1, 0, 0}", "[1,2]{1, 0}", "dense %dense: weights of 2 inputs in 1 groups on 3 channels"),
        (INTEGER, "groups=1", "groups=2", "conv2d %conv: weights of 2 inputs in 2 groups on 2 channels"),
        (INTEGER, "[1,2,1,1]{1, -1}", "[1,2]{1, -1}", "conv2d %conv: a tensor of shape [1, 2] where 4 axes are needed"),
        (INTEGER, "[1,2]{0, 4}", "[2,2]{0, 4, 0, 4}", "requantize %q: a staircase of 2 channels on 1 channels"),
        (INTEGER, "inputs=(%sum, %q) axis=1", "inputs=(%sum, %q) axis=0", "concat %both: the shape is"),
        (INTEGER, "sum %x %part", "sum %x %q", "sum %sum: shapes [1, 2, 3, 3] and [1, 1, 3, 3] are added"),
        (INTEGER, "[-2..2]*(1)", "[-2..2]+1*(1)", "clamp %clamp: the zero point changes from 0 to 1"),
        (INTEGER, "[-72..63]*(1)[1,3,1,1] = max", "[-72..63]+1*(1)[1,3,1,1] = max", "max_pool %max: the zero point ch"),
        (INTEGER, "[-72..63]*(1)[1,3] = resh", "[-72..63]+1*(1)[1,3] = resh", "reshape %flat: the zero point changes"),
        (INTEGER, "[0..2]*(1)", "[0..2]+1*(1)", "concat %both: the zero point changes from 1 to 0"),
        (INTEGER, "[1,3] = reshape", "[3,1] = reshape", "reshape %flat: the batch axis [1] becomes [3]"),
        (QUANTIZED, "[1,9] = reshape", "[9,1] = reshape", "reshape %flat: the batch axis [1] becomes [9]"),
        (INTEGER, "window(1x1)  // (M", "window(2x2, dilations=2x2, pads=1,1,1,1)  // (M", "%max: some windows see no"),
        (INTEGER, "[-4..3]*(1)[1,2", "[-4..3]+1*(1)[1,2", "conv2d %conv: sums need zero points of 0"),
        (INTEGER, "window(3x3)", "window(3x3, strides=0x2)", "sum_pool %pool: strides of [0, 2], and the least is 1"),
        (INTEGER, "window(3x3)", "window(3x3, strides=-1x1)", "sum_pool %pool: strides of [-1, 1], and the least is"),
        (INTEGER, "window(3x3)", "window(0x3)", "sum_pool %pool: kernel of [0, 3], and the least is 1"),
        (INTEGER, "window(1x1)  // (M", "window(1x1, dilations=1x0)  // (M", "max_pool %max: dilations of [1, 0], and"),
        (LARGER, "input_dilations=2x2", "input_dilations=0x2", "conv2d %conv: input_dilations of [0, 2], and"),
        (QUANTIZED, "window(1x1)", "window(1x1, strides=1x0)", "conv %conv: strides of [1, 0], and the least is 1"),
        (QUANTIZED, "window(1x1)", "window(3x3, pads=1,1,1,1)", "conv %conv: a window of [3, 3] over weights of [1, 1"),
        (QUANTIZED, "[2,9]{1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}", "[0,9]{}", "%m: the shape is [2, 9], should be [0,"),
        (INTEGER, "%flat: [-72..63]*(1)[1,3]", "%flat: [-72..63]*(1)[1,3,0]", "%flat has the shape [1, 3, 0], and the"),
        (INTEGER, "[1,2,3,3] quantizer", "[0,2,3,3] quantizer", "%x has the shape [0, 2, 3, 3], and the least size is"),
        (INTEGER, "%flat: [-72..63]*(1)", "%flat: [-72..63]*({1, 2})", "%flat: a scale of 2 steps on 3 channels"),
        (INTEGER, "quantizer(Q3.0,", "quantizer(i3*({1, 2, 3}),", "input 'x': a scale of 3 steps on 2 channels"),
        (INTEGER, "half_even)  //", f"half_even) stages=({AFFINE}) //", "input 'x': a stage of 3 channels on 2"),
        (INTEGER, "map(scale=1,", "map(scale={1, 2},", "output 'y': a map of 2 scales and 1 offsets on 1 channels"),
        (QUANTIZED, "quantize %x", f"quantize %x stages=({AFFINE})", "quantize %q: a stage of 3 channels on 2"),
        (QUANTIZED, "quantize %x", f"quantize %x stages=({AFFINE}) channel_axis=7", "%q: channels on axis 7 of 4"),
        (QUANTIZED, "quantize %x", "quantize %x stages=(affine(1, 0, 0, 0))", "%q: a radicand of 0, which is not"),
        (QUANTIZED, "quantize %x", "quantize %x stages=(snap(-1/2, 0))", "%q: a step of -1/2, which is not above 0"),
        (QUANTIZED, "%q: Q3.0", "%q: i3*({1, 2, 3})", "quantize %q: a scale of 3 steps on 2 channels"),
        (QUANTIZED, "%w: Q3.0", "%w: i3*({1, 2, 3})", "quantized_constant %w: a scale of 3 steps on the shape [1, 2"),
        (QUANTIZED, "reshape %conv", "transpose %conv permutation=(0, 1, 9)", "the permutation [0, 1, 9] of 4 axes"),
        (INTEGER, "axis=1", "axis=4", "concat %both: 2 inputs side by side along axis 4 of [4] axes"),
        (INTEGER, "inputs=(%sum, %q)", "inputs=()", "concat %both: 0 inputs side by side along axis 1 of [] axes"),
    ],
)  # fmt: skip
def test_each_rule(text: str, old: str, new: str, fault: str) -> None:
    assert old in text
    faults = verify(parse_graph(text.replace(old, new, 1)))
    assert any(fault in f for f in faults), faults


def test_order_and_single_definition() -> None:
    graph = parse_graph(INTEGER)
    conv, *others = graph.ops
    late = replace(graph, ops=(*others, conv))
    assert "requantize %q reads %conv, which is not defined before it" in verify(late)
    twice = replace(graph, ops=(conv, *graph.ops))
    assert verify(twice) == ["%conv is defined twice"]
    gone = replace(graph, ops=graph.ops[:-1])
    assert verify(gone) == ["output 'y' is not defined"]
    assert verify(Graph("g", Level.QUANTIZED, (), (), ())) == ["the graph has no outputs"]


@pytest.mark.parametrize(
    "op",
    [
        f"bias_add %x stage={AFFINE}",
        f"batch_norm %x stage={AFFINE}",
        f"scaling %x stage={AFFINE}",
        "leaky_relu %x stage=leaky_relu({1/2, 1/3, 1/4})",
    ],
)
def test_a_stage_has_one_entry_or_as_many_as_the_tensor_has_channels(op: str) -> None:
    for channels, faults in ((3, []), (2, [f"{op.split()[0]} %y: a stage of 3 channels on 2 channels"])):
        text = f'graph "g" quantized\ninput "x" as %x: real[1,{channels},2,2]  // (input) x\n'
        text += f'%y: real[1,{channels},2,2] = {op}  // (Op)\noutput "y" = %y\n'
        assert verify(parse_graph(text)) == faults


def test_the_four_lists_of_an_affine_stage_have_one_length() -> None:
    graph = parse_graph(QUANTIZED.replace("quantize %x", "quantize %x stages=(affine(1, 0, 1, 0))"))
    op = graph.ops[0]
    assert isinstance(op, Quantize)
    ragged = Affine((Fraction(1),), (Fraction(0),) * 2, (Fraction(1),), (Fraction(0),))
    bad = graph.with_ops([replace(op, stages=(ragged,)), *graph.ops[1:]])
    assert verify(bad) == ["quantize %q: a stage whose lists have 1, 2 entries"]


def test_a_layer_is_not_left_without_outputs() -> None:
    text = QUANTIZED.replace("[2,9]{1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}", "[0,9]{}")
    text = text.replace("Q3.0[2,9]", "Q3.0[0,9]").replace("real[1,2] =", "real[1,0] =")
    assert verify(parse_graph(text)) == [
        "%m has the shape [0, 9], and the least size is 1",
        "%y has the shape [1, 0], and the least size is 1",
    ]


def test_an_operand_must_be_the_value_that_was_defined() -> None:
    """The same name with another type is a stale reference, and the fault says what differs."""
    graph = parse_graph(INTEGER)
    conv, *others = graph.ops
    element = conv.result.type.codes
    changes = {
        "shape [1, 1, 3, 3], not [1, 1, 3, 3, 1]": replace(conv.result.type, shape=(1, 1, 3, 3, 1)),
        "range [-8, 9], not [-8, 10]": replace(conv.result.type, element=replace(element, high=10)),
        "scale 2^0, not 2^1": replace(conv.result.type, element=replace(element, scale=Scale.power_of_two(1))),
        "zero point 0, not 1": replace(conv.result.type, element=replace(element, zero_point=1)),
        "type [-8..9]*(2^0), not real": replace(conv.result.type, element=Real()),
    }
    head = "requantize %q reads %conv with another type or origin than it is defined with: "
    for says, changed in changes.items():
        made = replace(conv, result=replace(conv.result, type=changed))
        assert head + says in verify(replace(graph, ops=(made, *others)))
    made = replace(conv, result=replace(conv.result, origin=Origin("n", "Conv")))
    assert head + "origin (Conv), not n (Conv)" in verify(replace(graph, ops=(made, *others)))


def test_an_output_must_be_the_value_that_was_defined() -> None:
    graph = parse_graph(INTEGER)
    dense = graph.ops[-1]
    made = replace(dense, result=replace(dense.result, type=replace(dense.result.type, shape=(1, 1, 1))))
    says = "output 'y' is %dense with another type or origin than it is defined with: shape [1, 1], not [1, 1, 1]"
    assert says in verify(replace(graph, ops=(*graph.ops[:-1], made)))


@pytest.mark.parametrize(("function", "legal"), [("softmax", False), ("arg_max", False), ("tanh", True)])
def test_a_function_of_an_output_goes_along_an_axis_that_is_there(function: str, legal: bool) -> None:
    text = INTEGER.replace("offset=0)", f"offset=0) function({function}, axis=2)")
    assert verify(parse_graph(text)) == ([] if legal else [f"output 'y': {function} along axis 2 of 2 axes"])
