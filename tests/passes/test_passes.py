"""Each pass alone: the text before and after."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ir_text import XI, X, body, check, unchanged
from pefslc.analysis.limits import TargetLimits
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.graph import Level
from pefslc.ir.integer import Conv2d
from pefslc.ir.parse import parse_graph
from pefslc.ir.quantized import BiasAdd, Conv
from pefslc.ir.text import print_graph
from pefslc.ir.value import IntArray
from pefslc.passes.check_accumulators import CheckAccumulators, accumulator_bits
from pefslc.passes.dead_code import RemoveDeadCode
from pefslc.passes.drop_identities import DropIdentities
from pefslc.passes.fold_constants import FoldConstants
from pefslc.passes.manager import check_pass
from pefslc.passes.merge_stages import MergeStages
from pefslc.passes.separate_bias import SeparateBias
from pefslc.passes.tighten_ranges import TightenRanges


def test_fold_constants_quantizes_and_transposes_what_is_constant() -> None:
    check(
        FoldConstants(),
        X,
        """
        %w: real[2,3] = constant data=[2,3]{0.3, 0.25, -0.75, 9.0, -9.0, 0.0}  // (Quant) w
        %wq: Q2.1[2,3] = quantize %w channel_axis=0  // (Quant)
        %wt: real[3,2] = transpose %wq permutation=(1, 0)  // (Transpose)
        output "y" = %q
        """,
        """
        %w: real[2,3] = constant data=[2,3]{0.3, 0.25, -0.75, 9.0, -9.0, 0.0}  // (Quant) w
        %wq: Q2.1[2,3] = quantized_constant codes=[2,3]{1, 0, -2, 3, -4, 0}  // (Quant)
        %wt: Q2.1[3,2] = quantized_constant codes=[3,2]{1, 3, 0, -4, -2, 0}  // (Transpose)
        output "y" = %q
        """,
    )


def test_fold_constants_reshapes_what_is_constant() -> None:
    check(
        FoldConstants(),
        X,
        """
        %w: real[2,3] = constant data=[2,3]{0.3, 0.25, -0.75, 9.0, -9.0, 0.0}  // (Quant) w
        %wr: real[2,3,1] = reshape %w  // (Reshape)
        %wf: real[6] = reshape %wr  // (Reshape)
        %c: Q2.1[2,3] = quantized_constant codes=[2,3]{1, 0, -2, 3, -4, 0}  // (Quant) c
        %cr: real[2,1,3] = reshape %c  // (Reshape)
        output "y" = %q
        """,
        """
        %w: real[2,3] = constant data=[2,3]{0.3, 0.25, -0.75, 9.0, -9.0, 0.0}  // (Quant) w
        %wr: real[2,3,1] = constant data=[2,3,1]{0.3, 0.25, -0.75, 9.0, -9.0, 0.0}  // (Reshape)
        %wf: real[6] = constant data=[6]{0.3, 0.25, -0.75, 9.0, -9.0, 0.0}  // (Reshape)
        %c: Q2.1[2,3] = quantized_constant codes=[2,3]{1, 0, -2, 3, -4, 0}  // (Quant) c
        %cr: Q2.1[2,1,3] = quantized_constant codes=[2,1,3]{1, 0, -2, 3, -4, 0}  // (Reshape)
        output "y" = %q
        """,
    )


def test_fold_constants_decides_ties_of_float_scales_exactly() -> None:
    """0.15 is 1.5 steps of 0.1 in float64, but neither number is what it prints as: the file's float32 decide."""
    step, value = np.float32(0.1), np.float32(0.25)
    exact = (float(value) / float(step), float(np.float32(3) * step))
    assert exact[0] != 2.5
    text = f"""
        %w: real[2] = constant data=[2]{{{float(value)!r}, {float(step) * 2.5!r}}}  // (Quant) w
        %wq: i4*(13421773*2^-27)[2] = quantize %w channel_axis=0  // (Quant)
        output "y" = %q
        """
    folded = FoldConstants().run(parse_graph(X + body(text)))
    assert folded.ops[-1].codes.data.tolist() == [2, 2]  # type: ignore[attr-defined]


def test_separate_bias_moves_out_what_lies_on_no_grid() -> None:
    check(
        SeparateBias(),
        X,
        """
        %w: Q2.1[1,2,1,1] = quantized_constant codes=[1,2,1,1]{1, -2}  // (Quant)
        %b: real[1] = constant data=[1]{0.3}  // (Conv) b
        %y: real[1,1,2,2] = conv %q %w bias=%b window(1x1) groups=1  // conv (Conv) y
        output "y" = %y
        """,
        f"""
        %w: Q2.1[1,2,1,1] = quantized_constant codes=[1,2,1,1]{{1, -2}}  // (Quant)
        %b: real[1] = constant data=[1]{{0.3}}  // (Conv) b
        %y.products: real[1,1,2,2] = conv %q %w bias=none window(1x1) groups=1  // conv (Conv) y
        %y: real[1,1,2,2] = bias_add %y.products stage=affine(1, 0, 1, {(0.3).as_integer_ratio()[0]}*2^-54)  \
// conv (Conv) y
        output "y" = %y
        """,
    )


def test_separate_bias_leaves_a_bias_on_the_grid() -> None:
    unchanged(
        SeparateBias(),
        X,
        """
        %w: Q2.1[1,2,1,1] = quantized_constant codes=[1,2,1,1]{1, -2}  // (Quant)
        %b: real[1] = constant data=[1]{0.75}  // (Conv) b
        %y: real[1,1,2,2] = conv %q %w bias=%b window(1x1) groups=1  // conv (Conv) y
        output "y" = %y
        """,
    )


@pytest.mark.parametrize(
    ("x", "w", "bias", "separated"),
    [
        ("Q3.1", "Q2.1", "0.75, -0.25", False),
        ("Q3.1", "Q2.1", "0.75, 0.3", True),
        ("Q3.1", "i4*({2^-1, 2^-2})", "0.75, 0.125", False),
        ("Q3.1", "i4*({2^-1, 2^-2})", "0.125, 0.75", True),
        ("i4*({2^-1, 2^-1})", "Q2.1", "0.75, -0.25", True),
        ("real", "Q2.1", "0.75, -0.25", True),
        ("Q3.1", "real", "0.75, -0.25", True),
    ],
)
def test_a_bias_stays_where_each_channel_of_the_accumulator_has_a_grid_that_it_lies_on(
    x: str, w: str, bias: str, separated: bool
) -> None:
    source = "relu %q" if x == "real" else "quantize %q"
    weight = "constant data=[2,2,1,1]{1.0, -1.0, 0.5, 0.0}"
    if w != "real":
        weight = "quantized_constant codes=[2,2,1,1]{1, -2, 3, 0}"
    graph = parse_graph(
        X
        + body(f"""
        %x2: {x}[1,2,2,2] = {source}  // (Quant) x
        %w: {w}[2,2,1,1] = {weight}  // (Quant) w
        %b: real[2] = constant data=[2]{{{bias}}}  // (Conv) b
        %y: real[1,2,2,2] = conv %x2 %w bias=%b window(1x1) groups=1  // conv (Conv) y
        output "y" = %y
        """)
    )
    changed = SeparateBias().run(graph)
    check_pass(SeparateBias(), graph, changed)
    assert len(list(changed.of_type(BiasAdd))) == separated
    assert all((conv.bias is None) == separated for conv in changed.of_type(Conv))


CHAIN = """
    %bn: real[1,2,2,2] = batch_norm %q stage=affine({1, -1}, {0, 2^-1}, {4, 3}, 0)  // bn (BatchNormalization)
    %r: real[1,2,2,2] = relu %bn  // act (Relu)
    %y: UQ2.2[1,2,2,2] = quantize %r  // (Quant)
    output "y" = %y
"""


def test_activations_and_batch_norms_merge_into_the_quantizer() -> None:
    chain = CHAIN.replace(", 0)  // bn", ", {0, 1})  // bn")
    check(
        MergeStages(),
        X,
        chain,
        """
        %bn: real[1,2,2,2] = batch_norm %q stage=affine({1, -1}, {0, 2^-1}, {4, 3}, {0, 1})  // bn (BatchNormalization)
        %r: real[1,2,2,2] = relu %bn  // act (Relu)
        %y: UQ2.2[1,2,2,2] = quantize %q stages=(affine({1, -1}, {0, 2^-1}, {4, 3}, {0, 1}), relu)  // (Quant)
        output "y" = %y
        """,
    )
    merged = RemoveDeadCode(Level.QUANTIZED).run(MergeStages().run(parse_graph(X + body(chain))))
    assert print_graph(merged) == X + body(
        """
        %y: UQ2.2[1,2,2,2] = quantize %q stages=(affine({1, -1}, {0, 2^-1}, {4, 3}, {0, 1}), relu)  // (Quant)
        output "y" = %y
        """
    )


def test_two_batch_norms_before_one_quantizer_are_refused() -> None:
    bn = "affine(1, 0, 3, 0)  // bn (BatchNormalization)"
    graph = parse_graph(
        X
        + body(f"""
        %a: real[1,2,2,2] = batch_norm %q stage={bn}
        %b: real[1,2,2,2] = batch_norm %a stage={bn}
        %y: Q2.2[1,2,2,2] = quantize %b  // (Quant)
        output "y" = %y
        """)
    )
    with pytest.raises(CompileError) as caught:
        MergeStages().run(graph)
    assert str(caught.value) == (
        "error[PEF0314]: two BatchNormalizations stand before one quantizer\n"
        "  at:   bn (BatchNormalization)\n"
        "  help: quantize between them, or fold one into its convolution before exporting"
    )


def test_dead_code_goes_and_what_an_output_needs_stays() -> None:
    check(
        RemoveDeadCode(Level.QUANTIZED),
        X,
        """
        %dead: real[1,2,2,2] = relu %q  // (Relu)
        %deader: real[1,2,2,2] = add %dead %q  // (Add)
        %y: real[1,2,2,2] = relu %q  // (Relu)
        output "y" = %y
        """,
        """
        %y: real[1,2,2,2] = relu %q  // (Relu)
        output "y" = %y
        """,
    )


SMALL = 'graph "g" integer\ninput "x" as %x: [-2..1]*(2^-1)[1,2,2,2] quantizer(Q1.1, half_even)  // (input) x\n'
IDENTITY = "staircase(domain=-2..1, low=-2, rising, thresholds=[1,3]{-1, 0, 1})  // (Quant)"


def test_identities_are_dropped_and_near_identities_are_not() -> None:
    check(
        DropIdentities(),
        SMALL,
        f"""
        %a: [-2..1]*(2^-1)[1,2,2,2] = requantize %x {IDENTITY}
        %b: [-2..1]*(2^-1)[1,2,2,2] = clamp %a low=-2 high=1  // (Clip)
        %c: [-2..1]*(2^-1)[1,2,2,2] = rescale %b factor=1  // (Add)
        %d: [-2..1]*(2^-1)[1,2,2,2] = reshape %c  // (Reshape)
        %e: [-2..0]*(2^-1)[1,2,2,2] = clamp %d low=-2 high=0  // (Clip)
        output "y" = %e map(scale=2^-1, offset=0)
        output "z" = %d map(scale=2^-1, offset=0)
        """,
        """
        %e: [-2..0]*(2^-1)[1,2,2,2] = clamp %x low=-2 high=0  // (Clip)
        output "y" = %e map(scale=2^-1, offset=0)
        output "z" = %x map(scale=2^-1, offset=0)
        """,
    )
    other_scale = f"""
        %a: [-2..1]*(2^-2)[1,2,2,2] = requantize %x {IDENTITY}
        output "y" = %a map(scale=2^-2, offset=0)
        """
    unchanged(DropIdentities(), SMALL, other_scale)


@pytest.mark.parametrize(
    "near",
    [
        "[-2..1]+1*(2^-1)[1,2,2,2] = requantize %x " + IDENTITY,  # the same codes mean other values
        "[-2..0]*(2^-1)[1,2,2,2] = requantize %x staircase(domain=-2..1, low=-2, rising, thresholds=[1,2]{-1, 0})",
        "[-1..1]*(2^-1)[1,2,2,2] = clamp %x low=-1 high=1",
        "[-2..1]*(2^-2)[1,2,2,2] = rescale %x factor=1",
        "[-4..2]*(2^-2)[1,2,2,2] = rescale %x factor=2",
        "[-2..1]*(2^-1)[1,2,4] = reshape %x",
        "[-2..1]*(2^-1)[1,2,2,1] = slice %x begins=(0, 0, 0, 0) steps=(1, 1, 1, 2)",
    ],
)
def test_what_changes_codes_or_their_meaning_is_no_identity(near: str) -> None:
    text = f"%a: {near}" + ("" if "//" in near else "  // (Op)")
    unchanged(DropIdentities(), SMALL, text + '\noutput "y" = %a map(scale=2^-1, offset=0)')


def test_an_operation_that_gives_back_other_zero_points_is_kept() -> None:
    """What plugins may write: the same codes around another zero point are other values, in both directions."""
    for zero_point, kept in (("", True), ("+1", False), ("+2", True)):
        graph = parse_graph(
            SMALL
            + body(f"""
            %r: [-2..1]+1*(2^-1)[1,2,2,2] = requantize %x {IDENTITY}
            %a: [-2..1]{zero_point}*(2^-1)[1,2,2,2] = requantize %r {IDENTITY}
            output "y" = %a map(scale=2^-1, offset=0)
            """)
        )
        assert len(DropIdentities().run(graph).ops) == 1 + kept, zero_point


def test_ranges_become_those_that_can_occur() -> None:
    check(
        TightenRanges(),
        XI,
        """
        %a: [-16..15]*(2^-1)[1,2,2,2] = clamp %x low=-2 high=3  // (Clip)
        %b: [0..3]*(2^0)[1,2,2,2] = requantize %a staircase(domain=-2..15, low=0, rising, thresholds=[1,3]{1, 3, 5})\
  // (Q)
        %c: [0..99]*(2^0)[1,2,2,2] = sum %b %b  // (Add)
        output "y" = %c map(scale=1, offset=0)
        """,
        """
        %a: [-2..3]*(2^-1)[1,2,2,2] = clamp %x low=-2 high=3  // (Clip)
        %b: [0..2]*(2^0)[1,2,2,2] = requantize %a staircase(domain=-2..3, low=0, rising, thresholds=[1,2]{1, 3})  // (Q)
        %c: [0..4]*(2^0)[1,2,2,2] = sum %b %b  // (Add)
        output "y" = %c map(scale=1, offset=0)
        """,
    )


ACCUMULATORS = XI + body("""
    %a: [-93..92]*(2^-1)[1,1,2,2] = conv2d %x weight=[1,2,1,1]{3, -3} bias=none window(1x1) groups=1  // conv1 (Conv) c
    %b: [-372..368]*(2^-1)[1,1,1,1] = sum_pool %a window(2x2)  // pool (AveragePool)
    output "y" = %b map(scale=2^-3, offset=0)
""")


def test_accumulators_that_may_overflow_are_refused_all_at_once() -> None:
    graph = parse_graph(ACCUMULATORS)
    with pytest.raises(CompileError) as caught:
        CheckAccumulators(TargetLimits(7, "a 7-bit accumulator", wider="a longer one")).run(graph)
    hint = (
        ", fewer input channels, or accumulator-aware training; or a longer one; or --allow-overflow, where the target "
        "can saturate and scales are powers of two"
    )
    assert str(caught.value) == (
        "error[PEF0504]: the accumulator needs 8 bits, a 7-bit accumulator has 7\n"
        f"  at:   conv1 (Conv), tensor 'c'\n  help: use 2-bit weights and 5-bit inputs instead of 3 and 5{hint}\n"
        "error[PEF0504]: the accumulator needs 10 bits, a 7-bit accumulator has 7\n"
        f"  at:   pool (AveragePool)\n  help: use fewer bits for weights or activations{hint}"
    )
    with pytest.raises(CompileError) as caught:
        CheckAccumulators(TargetLimits(8, "it")).run(graph)
    assert len(caught.value.problems) == 1


def test_accumulators_that_fit_pass_and_overflow_can_be_accepted() -> None:
    graph = parse_graph(ACCUMULATORS)
    assert CheckAccumulators(TargetLimits(10, "it")).run(graph) is graph
    assert CheckAccumulators(TargetLimits(2, "it"), allow_overflow=True).run(graph) is graph


def test_a_bias_that_only_a_prefix_feels_counts() -> None:
    """32 - 3 * 16 fits 6 bits, the bias alone does not."""
    conv = parse_graph(ACCUMULATORS).ops[0]
    assert isinstance(conv, Conv2d)
    one_sided = replace(conv, weight=IntArray(np.array([[[[-1]], [[0]]]])), bias=IntArray(np.array([33])))
    narrow = replace(one_sided.input, type=replace(one_sided.input.type, element=replace(conv.input.type.codes, low=2)))
    assert accumulator_bits(replace(one_sided, input=narrow)) == 7
