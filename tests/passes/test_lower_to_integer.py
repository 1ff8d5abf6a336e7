"""From values to codes: what lowering makes, carries and refuses."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from builders import ModelBuilder, import_bytes, lower
from ir_text import X, body
from pefslc.analysis.limits import TargetLimits
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.integer import Round
from pefslc.ir.interpret import run
from pefslc.ir.parse import parse_graph
from pefslc.ir.quantized import Relu
from pefslc.ir.text import print_graph
from pefslc.numeric.line import BentLine
from pefslc.passes.drop_identities import DropIdentities
from pefslc.passes.integer_builder import HOW_TO_QUANTIZE
from pefslc.passes.lower_to_integer import LowerToInteger
from pefslc.passes.manager import check_pass, run_passes
from pefslc.passes.merge_stages import MergeStages
from pefslc.passes.pipeline import pipeline

LIMITS = TargetLimits(32, "int32")


def test_lowering_turns_values_into_codes() -> None:
    graph = parse_graph(
        X
        + body("""
        %w: Q1.1[1,2,1,1] = quantized_constant codes=[1,2,1,1]{1, -2}  // (Quant)
        %c: real[1,1,2,2] = conv %q %w bias=none window(1x1) groups=1  // conv (Conv)
        %y: UQ1.1[1,1,2,2] = quantize %c stages=(relu)  // (Quant)
        %p: real[1,1,1,1] = average_pool %y window(2x2)  // (AveragePool)
        output "y" = %p
        """)
    )
    lowered = LowerToInteger().run(graph)
    assert print_graph(lowered) == body("""
        graph "g" integer
        input "x" as %x: [-8..7]*(2^-1)[1,2,2,2] quantizer(Q3.1, half_even)  // (input) x
        %c: [-22..23]*(2^-2)[1,1,2,2] = conv2d %x weight=[1,2,1,1]{1, -2} bias=none window(1x1) groups=1  // conv (Conv)
        %y: [0..3]*(2^-1)[1,1,2,2] = requantize %c staircase(domain=-22..23, low=0, rising, thresholds=[1,3]{2, 3, 6})\
  // (Quant)
        %p: [0..12]*(2^-3)[1,1,1,1] = sum_pool %y window(2x2)  // (AveragePool)
        output "y" = %p map(scale=2^-3, offset=0)
        """)
    check_pass(LowerToInteger(), graph, lowered)


def test_a_quantizer_of_many_codes_is_a_line(tmp_path: Path) -> None:
    """Of 30 bits, behind an activation; the second one, for the same codes, goes."""
    m = ModelBuilder()
    x = m.quant(m.input([1, 2, 3, 3], "x"), 2.0**-12, 16)
    sums = m.node("Conv", x, m.weight(np.array([[0.5, -3.25], [1, 2]])[:, :, None, None], 2.0**-16, 22))
    wide = m.quant(m.quant(m.node("LeakyRelu", sums, alpha=0.1), 2.0**-20, 30), 2.0**-20, 30)
    m.output(m.node("Conv", wide, m.weight(np.eye(2)[:, :, None, None], 1.0, 2)), [1, 2, 3, 3])
    quantized = import_bytes(m, tmp_path)
    graph, _ = run_passes(quantized, pipeline(TargetLimits(64, "int64")))
    lines = [op.line for op in graph.ops if isinstance(op, Round)]
    low, high = -0.1 * (0.5 * 2**15 + 3.25 * (2**15 - 1)), 0.5 * (2**15 - 1) + 3.25 * 2**15  # in steps of the input
    assert lines == [BentLine(Fraction(1, 2**8), Fraction(1, 10 * 2**8), round(low * 2**8), round(high * 2**8))]
    assert parse_graph(print_graph(graph)) == graph
    x = np.random.default_rng(0).normal(0, 300, (20, 2, 3, 3))
    wanted, found = run(quantized, x), run(graph, x)
    assert all(np.array_equal(wanted[name], found[name]) for name in wanted)


def test_lowering_aligns_the_scales_of_add_and_concat() -> None:
    graph = parse_graph(
        X
        + body("""
        %f: Q2.3[1,2,2,2] = quantize %q  // (Quant)
        %s: real[1,2,2,2] = add %q %f  // (Add)
        %c: real[1,4,2,2] = concat inputs=(%f, %q) axis=1  // (Concat)
        output "s" = %s
        output "c" = %c
        """)
    )
    lowered = LowerToInteger().run(graph)
    wanted = """
        %s.aligned0: [-32..28]*(2^-3)[1,2,2,2] = rescale %x factor=4  // (input) x
        %s: [-48..43]*(2^-3)[1,2,2,2] = sum %s.aligned0 %f  // (Add)
        %c.aligned1: [-32..28]*(2^-3)[1,2,2,2] = rescale %x factor=4  // (input) x
        %c: [-32..28]*(2^-3)[1,4,2,2] = concat inputs=(%f, %c.aligned1) axis=1  // (Concat)
        """
    assert body(wanted) in print_graph(lowered)
    check_pass(LowerToInteger(), graph, lowered)


def test_the_factors_of_a_sum_take_in_those_of_the_model() -> None:
    """x - 3 / 4 f and g / 4 + q, whose codes need no factor at all but mean something else."""
    graph = parse_graph(
        X
        + body("""
        %f: Q2.3[1,2,2,2] = quantize %q  // (Quant)
        %n: real[1,2,2,2] = scaling %f stage=affine(-3*2^-2, 0, 1, 0)  // (Mul)
        %s: real[1,2,2,2] = add %q %n  // (Add)
        %g: Q5.-1[1,2,2,2] = quantize %q  // (Quant)
        %h: real[1,2,2,2] = scaling %g stage=affine(2^-2, 0, 1, 0)  // (Mul)
        %t: real[1,2,2,2] = add %h %q  // (Add)
        output "s" = %s
        output "t" = %t
        """)
    )
    lowered = LowerToInteger().run(graph)
    text = print_graph(lowered)
    assert "%s.aligned0: [-128..112]*(2^-5)[1,2,2,2] = rescale %x factor=16" in text
    assert "%s.aligned1: [-45..48]*(2^-5)[1,2,2,2] = rescale %f factor=-3" in text
    assert "%t.aligned0: [-2..2]*(2^-1)[1,2,2,2] = rescale %g factor=1" in text
    check_pass(LowerToInteger(), graph, lowered)
    assert "rescale %g factor=1" in print_graph(DropIdentities().run(lowered))


TWO_ROOTS = """
    %p: real[1,2,2,2] = batch_norm %q stage=affine({1, -1}, {0, 2^-1}, {3, 4}, {0, 1})  // bn1 (BatchNormalization)
    %m: real[1,2,1,1] = average_pool %p window(2x2)  // (AveragePool)
    %f: real[1,2] = reshape %m  // (Flatten)
    %b: real[1,2] = batch_norm %f stage=affine({2, 3}, {-1, 2^-2}, {5, 2}, {1, 0})  // bn2 (BatchNormalization)
"""


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        (8, "a quantizer of 32 bits on an activation"),
        (24, "a function that neither rises nor falls, on 16777216 codes"),
    ],
)
def test_a_turning_function_before_a_wide_quantizer_is_refused(bits: int, message: str, tmp_path: Path) -> None:
    """Nothing may list the 2^32 codes."""
    m = ModelBuilder()
    x = m.quant(m.input([1, 2, 1, 1]), 2.0**-4, bits)
    m.output(m.quant(m.node("PRelu", x, m.constant(np.full((1, 1, 1), -0.5))), 2.0**-16, 32))
    with pytest.raises(CompileError, match=message):
        run_passes(import_bytes(m, tmp_path), pipeline(LIMITS))


def test_two_batch_norms_with_a_pool_between_them_are_refused() -> None:
    text = X + body(TWO_ROOTS + '%y: Q2.2[1,2] = quantize %b  // act (Quant)\noutput "y" = %y')
    with pytest.raises(CompileError) as caught:
        LowerToInteger().run(MergeStages().run(parse_graph(text)))
    assert str(caught.value) == (
        "error[PEF0314]: two BatchNormalizations stand before one quantizer\n"
        "  at:   act (Quant)\n"
        "  help: quantize between them, or fold one into its convolution before exporting"
    )


def test_two_batch_norms_before_an_output_are_the_hosts() -> None:
    graph = parse_graph(X + body(TWO_ROOTS + 'output "y" = %b'))
    lowered = LowerToInteger().run(graph)
    x = np.linspace(-4, 4, 8).reshape(1, 2, 2, 2)
    mean = np.rint(np.clip(x, -4, 3.5) * 2) / 2
    mean = mean.mean(axis=(2, 3))
    first = np.stack([mean[:, 0] / np.sqrt(3), (-mean[:, 1] + 0.5) / 2 + 1], axis=1)
    wanted = np.stack([(2 * first[:, 0] - 1) / np.sqrt(5) + 1, (3 * first[:, 1] + 0.25) / np.sqrt(2)], axis=1)
    np.testing.assert_allclose(run(lowered, x)["y"], wanted, rtol=1e-14)
    np.testing.assert_allclose(run(graph, x)["y"], wanted, rtol=1e-14)


# --- what lowering refuses ---------------------------------------------------------------------------------------


def refusal(m: ModelBuilder, folder: Path) -> str:
    with pytest.raises(CompileError) as caught:
        run_passes(import_bytes(m, folder), pipeline(LIMITS))
    return str(caught.value)


def start(m: ModelBuilder, channels: int = 2) -> str:
    return m.quant(m.input([1, channels, 4, 4]), output="q")


def test_an_input_without_a_quantizer(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.node("Conv", m.input([1, 2, 4, 4]), m.weight(np.ones((1, 2, 1, 1)))))
    assert refusal(m, tmp_path) == (
        "error[PEF0308]: input 'x' has no quantizer: conv reads real numbers\n"
        "  at:   conv1 (Conv), tensor 't1'\n"
        "  help: start the network with QuantIdentity, or give the input's format: for numbers of 0 to 1, "
        "--input-fmt x=UQ0.8"
    )


def test_a_multiple_on_no_grid_of_the_others(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = start(m)
    m.output(m.node("Add", m.quant(x), m.node("Mul", x, m.constant(1e-16), name="small"), name="a"))
    assert refusal(m, tmp_path) == (
        "error[PEF0313]: on the common grid of the scales of add's inputs sums take 83 bits, and 62 are there\n"
        "  at:   a (Add), tensor 't3'\n"
        "  help: quantize the result of small (Mul), tensor 't2', too (QuantIdentity); or share one quantizer between "
        "the branches, or use power-of-two scales"
    )


def test_float_weights_and_a_tensor_that_is_not_quantized_together(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = start(m)
    c1 = m.node("Conv", x, m.constant(np.ones((2, 2, 1, 1))), name="c1")
    c2 = m.node("Conv", x, m.weight(np.ones((2, 2, 1, 1))), m.constant([0.3, 0.4]), name="c2")
    m.output(m.node("Conv", m.node("Relu", c2, name="r2"), m.weight(np.ones((1, 2, 1, 1))), name="c3"))
    m.output(c1)
    assert refusal(m, tmp_path) == (
        "error[PEF0311]: the weights are not quantized\n"
        "  at:   c1 (Conv), tensor 't1'\n"
        "  help: train with brevitas.nn.QuantConv2d / QuantLinear and export with export_qonnx; ONNX Runtime's "
        "quantize_static with QuantFormat.QDQ does all but nodes_to_exclude and types not in op_types_to_quantize\n"
        "error[PEF0310]: relu reads a tensor that is not quantized\n"
        "  at:   r2 (Relu), tensor 't4'\n"
        f"  help: quantize the result of c2 (Conv), tensor 't3' ({HOW_TO_QUANTIZE})"
    )


Build = Callable[[ModelBuilder, str], str]
ONES = np.ones((1, 2, 1, 1))


def scale_per_channel_then_conv(m: ModelBuilder, x: str) -> str:
    return m.node("Conv", m.quant(m.node("Relu", x), [[[[0.1]], [[0.3]]]]), m.weight(ONES))


def scales_per_channel_far_apart(m: ModelBuilder, x: str) -> str:
    return m.node("Conv", m.node("Mul", x, m.constant([[[[1.0]], [[1e-20]]]])), m.weight(ONES))


def offset_before_padding(m: ModelBuilder, x: str) -> str:
    return m.node("Conv", m.node("Add", x, m.constant(0.3)), m.weight(np.ones((1, 2, 3, 3))), pads=[1, 1, 1, 1])


def sums_of_long_scales(m: ModelBuilder, x: str) -> str:
    """Scales of 24 bits each, multiplied, and the sums of many products."""
    codes = np.full((2, 2, 4, 4), 127)
    y = m.node("Conv", m.quant(x, 0.1, 16), m.weight(codes * 0.3, 0.3, 8), name="c1", pads=[2, 2, 1, 1])
    return m.node("Add", y, m.quant(x, 0.7, 16))


def computed_weights(m: ModelBuilder, x: str) -> str:
    return m.node("Conv", x, m.quant(m.node("Conv", x, m.weight(np.ones((2, 2, 4, 4))))))


def computed_bias(m: ModelBuilder, x: str) -> str:
    return m.node("Conv", x, m.weight(np.ones((2, 2, 2, 2))), m.node("LeakyRelu", m.constant([1.0, 2.0])))


def float_bias_then_padded_mean(m: ModelBuilder, x: str) -> str:
    """The border is 0 and not the bias: the mean of the sums plus the bias is no longer the mean."""
    y = m.node("Add", x, m.constant(np.full((1, 2, 1, 1), 0.3)))
    return m.quant(m.node("AveragePool", y, kernel_shape=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1))


def batch_norm_then_padded_mean(m: ModelBuilder, x: str) -> str:
    y = m.node("BatchNormalization", x, *(m.constant(np.full(2, v)) for v in (1.5, 0.75, 0.25, 2.0)))
    return m.quant(m.node("AveragePool", y, kernel_shape=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1))


def far_scales(m: ModelBuilder, x: str) -> str:
    return m.node("Add", m.quant(m.node("Relu", x), 1e-15), x)


def scale_per_channel_then_pad(m: ModelBuilder, x: str, pads: list[int]) -> str:
    y = m.quant(m.node("Relu", x), [[[[0.1]], [[0.3]]]])
    return m.node("Pad", y, m.constant(pads, dtype=np.int64))


REFUSED: list[tuple[Build, str]] = [
    (lambda m, x: m.node("Elu", x), "Elu is not followed by a quantizer"),
    (lambda m, x: m.quant(m.node("Log", x)), "for some code the quantizer's operand has no value: the logarithm of"),
    (
        lambda m, x: m.quant(m.node("Reciprocal", x)),
        "for some code the quantizer's operand has no value: a division by 0",
    ),
    (lambda m, x: m.node("LeakyRelu", x, alpha=0.1), "LeakyRelu is not followed by a quantizer"),
    (lambda m, x: m.node("Clip", x, m.constant(0.0), m.constant(1.05)), "Clip's limits are no multiples of the"),
    (
        lambda m, x: m.quant(m.node("Add", x, m.constant(0.3)), 2.0**-20, 24),
        "a quantizer of 24 bits on an activation is not",
    ),
    (lambda m, x: m.node("Transpose", x, perm=[1, 0, 2, 3]), "Transpose with perm=[1, 0, 2, 3] moves the batch axis"),
    (lambda m, x: m.node("Add", x, m.quant("x", 0.25)), "input 'x' has two different quantizers"),
    (lambda m, _: m.quant(m.node("Sigmoid", "x")), "input 'x' has a function before its quantizer"),
    (far_scales, "on the common grid of the scales of add's inputs sums take"),
    (scale_per_channel_then_conv, "quantize its input per tensor, or with power-of-two scales, for the weights take"),
    (scales_per_channel_far_apart, "conv reads a tensor with one scale per channel"),
    (offset_before_padding, "conv pads with 0, and no code of its input is worth 0"),
    (sums_of_long_scales, "quantize the result of c1 (Conv), tensor 't3', too (QuantIdentity); or share one quantizer"),
    (
        lambda m, x: scale_per_channel_then_pad(m, x, [0, 1, 0, 0, 0, 0, 0, 0]),
        "pad reads a tensor with one scale per channel",
    ),
    (float_bias_then_padded_mean, "average_pool reads a tensor that is not quantized"),
    (batch_norm_then_padded_mean, "average_pool reads a tensor that is not quantized"),
    (computed_weights, "the weights are computed at run time"),
    (computed_bias, "leaky_relu reads a constant where it needs an activation"),
]


def test_rows_and_columns_may_be_padded_where_each_channel_has_a_scale(tmp_path: Path) -> None:
    """The border is code 0 in every channel; a new channel would have no scale."""
    m = ModelBuilder()
    m.output(scale_per_channel_then_pad(m, start(m), [0, 0, 1, 2, 0, 0, 0, 1]))
    graph = lower(import_bytes(m, tmp_path))
    x = np.random.default_rng(0).normal(0, 1, (3, *graph.inputs[0].value.type.shape[1:]))
    (y,) = graph.run(x).values()
    assert not y[:, :, 0].any()
    assert not y[:, :, :, [0, 1, -1]].any()
    assert y[:, :, 1:, 2:-1].any()


@pytest.mark.parametrize(
    ("build", "message"), REFUSED, ids=[f"{build.__name__} {message}" for build, message in REFUSED]
)
def test_what_lowering_refuses(build: Build, message: str, tmp_path: Path) -> None:
    m = ModelBuilder()
    x = start(m)
    m.output(build(m, x))
    assert message in refusal(m, tmp_path)


@pytest.mark.parametrize("values", ["2.5, 1e+30", "1e+30, 2.5", "-2.305843009213694e+18, 0.0"])
def test_a_bias_of_which_one_channel_needs_more_than_64_bits(values: str) -> None:
    """In steps of 2^-2: the last one is -2^63, whose magnitude int64 does not hold."""
    graph = parse_graph(
        X
        + body(f"""
        %w: Q1.1[2,2,1,1] = quantized_constant codes=[2,2,1,1]{{1, -2, 1, 1}}  // (Quant)
        %b: real[2] = constant data=[2]{{{values}}}  // (Conv) b
        %y: real[1,2,2,2] = conv %q %w bias=%b window(1x1) groups=1  // conv (Conv)
        output "y" = %y
        """)
    )
    with pytest.raises(CompileError, match="the bias needs more than 64 bits"):
        LowerToInteger().run(graph)


def test_an_input_that_nothing_reads(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = start(m)
    m.input([1, 3], "unused")
    m.output(m.node("Relu", x))
    assert "input 'unused' is read by nothing" in refusal(m, tmp_path)


def test_an_activation_without_a_quantizer_is_a_clamp_of_codes(tmp_path: Path) -> None:
    m = ModelBuilder()
    m.output(m.node("Clip", m.node("Relu", start(m)), m.constant(0.25), m.constant(1.0)))
    graph = import_bytes(m, tmp_path)
    assert any(isinstance(op, Relu) for op in graph.ops)
    lowered, _ = run_passes(graph, pipeline(LIMITS), check=True)
    assert [op.mnemonic for op in lowered.ops] == ["clamp", "clamp"]
    x = np.linspace(-3, 3, 32).reshape(1, 2, 4, 4)
    np.testing.assert_array_equal(run(lowered, x)["t2"], run(graph, x)["t2"])


@pytest.mark.parametrize(
    ("limits", "value"), [("low=none high=-1", -1.0), ("low=9 high=none", 9.0), ("low=2 high=-1", -1.0)]
)
def test_a_clip_beside_the_range_is_its_limit(limits: str, value: float) -> None:
    """min(max(x, low), high): the later limit wins where the two contradict each other."""
    head = X.replace("Q3.1", "UQ2.1")
    graph = parse_graph(head + body(f'%y: real[1,2,2,2] = clip %q {limits}  // (Clip)\noutput "y" = %y'))
    lowered = LowerToInteger().run(graph)
    x = np.linspace(-1, 5, 8).reshape(1, 2, 2, 2)
    assert run(graph, x)["y"].tolist() == np.full((1, 2, 2, 2), value).tolist()
    assert run(lowered, x)["y"].tolist() == np.full((1, 2, 2, 2), value).tolist()


@pytest.mark.parametrize(("low", "high"), [(-9.1, 4.6), (-0.6, 6.0), (-2.41, 2.11), (0.0, 100.0)])
def test_limits_between_codes_that_no_code_reaches_do_nothing(tmp_path: Path, low: float, high: float) -> None:
    """ReLU6 of codes that end at 2.1: all 16 codes of 4 bits, scale 0.3."""
    m = ModelBuilder()
    clipped = m.node("Clip", m.quant(m.input([16, 1], "x"), 0.3, 4), m.constant(low), m.constant(high))
    m.output(clipped, [16, 1])
    graph = import_bytes(m, tmp_path)
    x = 0.3 * np.arange(-8, 8)[:, None]
    (found,), (wanted,) = (run(g, {"x": x}).values() for g in (lower(graph), graph))
    np.testing.assert_array_equal(found, wanted)
    assert len(np.unique(found)) > 7
