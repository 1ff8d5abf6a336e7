"""Float graphs: BatchNorm folds, quantizers come, and what they compute is what exact rationals say."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ir_text import X, body, unchanged
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.graph import Graph
from pefslc.ir.parse import parse_graph
from pefslc.ir.quantized import BatchNorm, BiasAdd, Constant, Conv, Quantize, QuantizedConstant
from pefslc.ir.text import print_graph
from pefslc.numeric.format import FixedPoint, Quantization, saturate
from pefslc.numeric.rounding import round_fraction
from pefslc.passes.fold_batch_norm import FoldBatchNorm
from pefslc.passes.fold_constants import FoldConstants
from pefslc.passes.quantization_sites import quantization_sites
from pefslc.passes.quantize_after_training import QuantizeAfterTraining, UniformFormat, holding_codes

FLOAT = 'graph "g" quantized\ninput "x" as %x: real[1,2,2,2]  // (input) x\n'
CONV = """
    %w: real[2,2,1,1] = constant data=[2,2,1,1]{0.3, -0.7, 9.0, 0.0625}  // (Conv) w
    %b: real[2] = constant data=[2]{0.01, -0.5}  // (Conv) b
    %c: real[1,2,2,2] = conv %x %w bias=%b window(1x1) groups=1  // (Conv) c
"""


def float_graph(text: str) -> Graph:
    return parse_graph(FLOAT + body(text))


def quantize(graph: Graph, fmt: str, bias: Quantization | None = None) -> Graph:
    return QuantizeAfterTraining(UniformFormat(FixedPoint.parse(fmt)), bias).run(graph)


def test_every_unit_gets_one_quantizer_and_the_graph_remembers_the_format() -> None:
    graph = float_graph(f"""{CONV}
        %r: real[1,2,2,2] = relu %c  // (Relu) r
        %a: real[1,2,2,2] = add %r %x  // (Add) a
        %l: real[1,2,2,2] = leaky_relu %a stage=leaky_relu(2^-3)  // (LeakyRelu) l
        %p: real[1,2,1,1] = max_pool %l window(2x2)  // (MaxPool) p
        output "y" = %p
    """)
    expected = """
        %x.codes: Q3.1[1,2,2,2] = quantize %x  // (input) x
        %w: real[2,2,1,1] = constant data=[2,2,1,1]{0.3, -0.7, 9.0, 0.0625}  // (Conv) w
        %b: real[2] = constant data=[2]{0.01, -0.5}  // (Conv) b
        %c.weight.rounded: real[2,2,1,1] = constant data=[2,2,1,1]{0.0, -0.5, 9.0, 0.0}  // (Conv) w
        %c.weight.codes: Q3.1[2,2,1,1] = quantize %c.weight.rounded channel_axis=0  // (Conv) w
        %c.bias.rounded: real[2] = constant data=[2]{0.0, -0.5}  // (Conv) b
        %c: real[1,2,2,2] = conv %x.codes %c.weight.codes bias=%c.bias.rounded window(1x1) groups=1  // (Conv) c
        %r: real[1,2,2,2] = relu %c  // (Relu) r
        %r.codes: Q3.1[1,2,2,2] = quantize %r  // (Relu) r
        %a: real[1,2,2,2] = add %r.codes %x.codes  // (Add) a
        %l: real[1,2,2,2] = leaky_relu %a stage=leaky_relu(2^-3)  // (LeakyRelu) l
        %l.codes: Q3.1[1,2,2,2] = quantize %l  // (LeakyRelu) l
        %p: Q3.1[1,2,1,1] = max_pool %l.codes window(2x2)  // (MaxPool) p
        output "y" = %p
    """
    quantized = quantize(graph, "Q3.1")
    assert print_graph(quantized) == FLOAT.replace("quantized", "quantized uniform(Q3.1)") + body(expected)
    assert parse_graph(print_graph(quantized)) == quantized
    assert quantize(quantized, "Q3.1") is quantized


def test_a_sum_of_products_that_is_an_output_stays_one_and_a_shared_one_is_stored() -> None:
    alone = float_graph(CONV + 'output "y" = %c')
    assert [v.name for v in quantization_sites(alone)] == ["x"]
    shared = float_graph(f"""{CONV}
        %r: real[1,2,2,2] = relu %c  // (Relu) r
        %s: real[1,2,2,2] = add %r %c  // (Add) s
        output "y" = %s
    """)
    assert [v.name for v in quantization_sites(shared)] == ["x", "c", "r"]


def test_what_a_sum_takes_in_is_not_stored() -> None:
    """x - r and x + r / 4 are sums of codes; r / 3 lies on no grid of theirs."""
    graph = float_graph(f"""{CONV}
        %r: real[1,2,2,2] = relu %c  // (Relu) r
        %n: real[1,2,2,2] = scaling %r stage=affine(-1, 0, 1, 0)  // (Sub) d
        %d: real[1,2,2,2] = add %x %n  // (Sub) d
        %q: real[1,2,2,2] = scaling %r stage=affine(2^-2, 0, 1, 0)  // (Mul) q
        %t: real[1,2,2,2] = scaling %r stage=affine(1/3, 0, 1, 0)  // (Mul) t
        %e: real[1,2,2,2] = add %q %t  // (Add) e
        output "y" = %d
        output "z" = %e
    """)
    assert [v.name for v in quantization_sites(graph)] == ["x", "r", "t"]


def test_a_mean_is_stored_before_it_is_reshaped() -> None:
    graph = float_graph("""
        %p: real[1,2,1,1] = average_pool %x window(2x2)  // (AveragePool) p
        %f: real[1,2] = reshape %p  // (Flatten) f
        %w: real[1,2] = constant data=[1,2]{0.5, 0.25}  // (Gemm) w
        %y: real[1,1] = linear %f %w bias=none  // (Gemm) y
        output "y" = %y
    """)
    assert [v.name for v in quantization_sites(graph)] == ["x", "p"]


def test_a_bias_may_have_a_format_of_its_own() -> None:
    quantized = quantize(float_graph(CONV + 'output "y" = %c'), "Q3.1", FixedPoint(3, 1).quantization)
    bias = next(op for op in FoldConstants().run(quantized).ops if op.result.name == "c.bias.codes")
    assert isinstance(bias, QuantizedConstant)
    assert bias.codes.data.tolist() == [0, -1]


def test_a_quantized_graph_is_left_alone() -> None:
    for p in (FoldBatchNorm(), QuantizeAfterTraining(UniformFormat(FixedPoint(2, 3)))):
        unchanged(p, X, 'output "y" = %q')


def test_a_part_of_a_quantized_graph_is_left_alone() -> None:
    """Parts are tried when the whole is refused, so that all problems are told: its input may be quantized already."""
    part = parse_graph(
        'graph "g" quantized\ninput "x" as %x: Q3.1[1,2,2,2]  // (input) x\n' + body(CONV + 'output "y" = %c')
    )
    assert QuantizeAfterTraining(UniformFormat(FixedPoint(2, 3))).run(part) == part


@pytest.mark.parametrize("between", ["", "%r: real[1,2] = reshape %k  // (Reshape) r\n"])
def test_a_layer_that_reads_a_constant_is_refused(between: str) -> None:
    graph = float_graph(f"""
        %k: real[1,2] = constant data=[1,2]{{0.5, 0.25}}  // (Gemm) k
        {between}%w: real[1,2] = constant data=[1,2]{{0.5, 0.25}}  // (Gemm) w
        %b: real[1] = constant data=[1]{{0.5}}  // (Gemm) b
        %y: real[1,1] = linear {"%r" if between else "%k"} %w bias=%b  // (Gemm) y
        output "y" = %y
    """)
    with pytest.raises(CompileError, match=r"PEF0406\]: linear reads a constant where it needs an activation"):
        QuantizeAfterTraining(UniformFormat(FixedPoint(2, 3))).run(graph)


def test_a_graph_whose_activation_is_a_quantized_constant_is_left_alone() -> None:
    graph = float_graph("""
        %w: real[1,2] = constant data=[1,2]{0.5, 0.25}  // (Gemm) w
        %a: Q2.1[2,2] = quantized_constant codes=[2,2]{1, -2, 3, 0}  // (Quant) a
        %y: real[2,1] = linear %a %w bias=none  // (Gemm) y
        output "y" = %y
    """)
    assert QuantizeAfterTraining(UniformFormat(FixedPoint(2, 3))).run(graph) == graph


def test_weights_that_are_computed_are_refused() -> None:
    graph = float_graph("""
        %f: real[1,8] = reshape %x  // (Flatten) f
        %r: real[1,8] = relu %f  // (Relu) r
        %y: real[1,1] = linear %f %r bias=none  // (Gemm) y
        output "y" = %y
    """)
    with pytest.raises(CompileError, match="the weights are computed at run time"):
        quantize(graph, "Q3.1")


@given(
    # Multiples of 2^-16: their errors add up in float64 exactly, where half a step and 1e-45 would be half a step.
    data=st.lists(
        (st.integers(-40 << 16, 40 << 16) | st.integers(-200, 200).map(lambda k: k << 11)).map(lambda k: k / 2**16),
        min_size=6,
        max_size=6,
    ),
    integer_bits=st.integers(-1, 6),
    bits=st.integers(2, 9),
)
@settings(max_examples=150)
def test_weights_and_biases_are_what_exact_rationals_say(data: list[float], integer_bits: int, bits: int) -> None:
    fmt = FixedPoint(integer_bits, bits - integer_bits)
    w, b = (", ".join(repr(float(v)) for v in part) for part in (data[:4], data[4:]))
    text = CONV.replace("0.3, -0.7, 9.0, 0.0625", w).replace("0.01, -0.5", b) + 'output "y" = %c'
    ops = {op.result.name: op for op in FoldConstants().run(quantize(float_graph(text), str(fmt))).ops}
    weight, bias = ops["c.weight.codes"], ops["c.bias.rounded"]
    assert isinstance(weight, QuantizedConstant)
    assert isinstance(bias, Constant)
    step = Fraction(2) ** -fmt.fraction_bits
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for channel in range(2):
        exact = [Fraction(v) / step for v in data[2 * channel : 2 * channel + 2]]
        codes = weight.codes.data.reshape(2, 2)[channel].tolist()
        ends = [round_fraction(v) <= low or round_fraction(v) >= high for v in exact]
        for code, value, end in zip(codes, exact, ends, strict=True):
            assert code == saturate(round_fraction(value), low, high) if end else abs(code - value) < 1
        assert abs(sum(c - v for c, v, end in zip(codes, exact, ends, strict=True) if not end)) <= Fraction(1, 2)
    assert [Fraction(v) for v in bias.data.data.tolist()] == [
        round_fraction(Fraction(v) / step**2) * step**2 for v in data[4:]
    ]


def test_what_moves_codes_of_one_format_holds_that_format() -> None:
    """Joined formats that differ are no format, and real numbers stay real."""
    graph = float_graph("""
        %a: Q3.1[1,2,2,2] = quantize %x  // (Quant) a
        %b: Q2.3[1,2,2,2] = quantize %x  // (Quant) b
        %same: real[1,4,2,2] = concat inputs=(%b, %b) axis=1  // (Concat) same
        %pool: real[1,2,1,1] = max_pool %b window(2x2)  // (MaxPool) pool
        %mixed: real[1,4,2,2] = concat inputs=(%a, %b) axis=1  // (Concat) mixed
        %open: real[1,4,2,2] = concat inputs=(%a, %x) axis=1  // (Concat) open
        %real: real[1,8] = reshape %x  // (Reshape) real
        %known: Q3.1[1,8] = reshape %a  // (Reshape) known
        %sum: real[1,2,2,2] = add %b %b  // (Add) sum
        output "y" = %sum
    """)
    ops = {op.result.name: op for op in graph.ops}
    for name in ("same", "pool"):
        held = holding_codes(ops[name])
        assert held.result.type.element == FixedPoint(2, 3).quantization
        assert held == replace(ops[name], result=held.result)
    for name in ("mixed", "open", "real", "known", "sum"):
        assert holding_codes(ops[name]) is ops[name]


NORM = "stage=affine({2, -1*2^-1}, {1, 2^-2}, {4, 2^-2}, {3, 0})  // (BatchNormalization) n"


def test_batch_norm_folds_into_the_convolution_that_nothing_else_reads() -> None:
    graph = float_graph(CONV + f"%n: real[1,2,2,2] = batch_norm %c {NORM}\n" + 'output "y" = %n')
    folded = FoldBatchNorm().run(graph)
    ops = {op.result.name: op for op in folded.ops}
    weight, bias, conv = ops["n.weight"], ops["n.bias"], ops["n"]
    assert isinstance(weight, Constant)
    assert isinstance(bias, Constant)
    assert isinstance(conv, Conv)
    # (2 y + 1) / 2 + 3 and (-y / 2 + 1/4) / (1/2), y the convolution with bias 0.01 and -0.5
    assert weight.data.data.reshape(-1).tolist() == [0.3, -0.7, -9.0, -0.0625]
    assert bias.data.data.tolist() == [0.01 + 3.5, 0.5 + 0.5]
    x = np.random.default_rng(0).normal(0, 1, (3, 2, 2, 2))
    np.testing.assert_allclose(folded.run(x)["y"], graph.run(x)["y"], rtol=1e-14)


def test_batch_norm_that_cannot_fold_becomes_a_multiplication_and_an_addition() -> None:
    graph = float_graph(f"""{CONV}
        %r: real[1,2,2,2] = relu %c  // (Relu) r
        %n: real[1,2,2,2] = batch_norm %r {NORM}
        %m: real[1,2,2,2] = batch_norm %n {NORM}
        output "y" = %m
    """)
    folded = FoldBatchNorm().run(graph)
    norms = [op for op in folded.ops if isinstance(op, BatchNorm | BiasAdd)]
    assert len(norms) == 2
    assert not any(op.stage.has_root for op in norms)
    x = np.random.default_rng(0).normal(0, 1, (3, 2, 2, 2))
    np.testing.assert_allclose(folded.run(x)["y"], graph.run(x)["y"], rtol=1e-14)


def test_batch_norm_of_a_shared_convolution_stays_behind_it() -> None:
    graph = float_graph(f"""{CONV}
        %n: real[1,2,2,2] = batch_norm %c {NORM}
        %s: real[1,2,2,2] = add %n %c  // (Add) s
        output "y" = %s
    """)
    folded = FoldBatchNorm().run(graph)
    assert any(isinstance(op, BatchNorm) for op in folded.ops)
    quantized = quantize(folded, "Q6.6")
    assert [op.input.name for op in quantized.of_type(Quantize) if op.channel_axis] == ["x", "c", "n"]
