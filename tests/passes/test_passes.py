"""Each pass alone: the text before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from builders import ModelBuilder, import_bytes
from pefslc.diagnostics import CompileError, InternalError
from pefslc.frontend import import_model
from pefslc.interpret import run
from pefslc.ir.graph import Graph, Level
from pefslc.ir.integer import Conv2d
from pefslc.ir.parse import parse_graph
from pefslc.ir.quantized import Relu
from pefslc.ir.text import print_graph
from pefslc.ir.value import IntArray
from pefslc.ir.verify import verify
from pefslc.limits import TargetLimits
from pefslc.passes.check_accumulators import CheckAccumulators, accumulator_bits
from pefslc.passes.dead_code import RemoveDeadCode
from pefslc.passes.drop_identities import DropIdentities
from pefslc.passes.fold_constants import FoldConstants
from pefslc.passes.lower_to_integer import LowerToInteger
from pefslc.passes.manager import Exactness, Pass, check_pass, run_passes
from pefslc.passes.merge_stages import MergeActivations, MergeBatchNorm
from pefslc.passes.pipeline import pipeline
from pefslc.passes.separate_bias import SeparateBias
from pefslc.passes.tighten_ranges import TightenRanges

X = 'graph "g" quantized\ninput "x" as %x: real[1,2,2,2]  // (input) x\n%q: Q3.1[1,2,2,2] = quantize %x  // (Quant)\n'
XI = 'graph "g" integer\ninput "x" as %x: [-16..15]*(2^-1)[1,2,2,2] quantizer(Q4.1, half_even)  // (input) x\n'


def body(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines()) + "\n"


def check(p: Pass, head: str, before: str, after: str) -> None:
    """`p` turns the operations `before` into `after`, changes no code, and finds nothing to do a second time."""
    graph = parse_graph(head + body(before))
    changed = p.run(graph)
    assert print_graph(changed) == head + body(after)
    check_pass(p, graph, changed)
    assert p.run(changed) is changed


def unchanged(p: Pass, head: str, text: str) -> None:
    graph = parse_graph(head + body(text))
    assert p.run(graph) is graph


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


CHAIN = """
    %bn: real[1,2,2,2] = batch_norm %q stage=affine({1, -1}, {0, 2^-1}, {4, 3}, 0)  // bn (BatchNormalization)
    %r: real[1,2,2,2] = relu %bn  // act (Relu)
    %y: UQ2.2[1,2,2,2] = quantize %r  // (Quant)
    output "y" = %y
"""


def test_activations_then_batch_norms_merge_into_the_quantizer() -> None:
    chain = CHAIN.replace(", 0)  // bn", ", {0, 1})  // bn")
    check(
        MergeActivations(),
        X,
        chain,
        """
        %bn: real[1,2,2,2] = batch_norm %q stage=affine({1, -1}, {0, 2^-1}, {4, 3}, {0, 1})  // bn (BatchNormalization)
        %r: real[1,2,2,2] = relu %bn  // act (Relu)
        %y: UQ2.2[1,2,2,2] = quantize %bn stages=(relu)  // (Quant)
        output "y" = %y
        """,
    )
    merged = MergeActivations().run(parse_graph(X + body(chain)))
    merged = RemoveDeadCode(Level.QUANTIZED).run(MergeBatchNorm().run(merged))
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
        MergeBatchNorm().run(graph)
    assert str(caught.value) == (
        "error: two BatchNormalizations stand before one quantizer\n"
        "  at:   bn (BatchNormalization)\n"
        "  help: quantize between them, or fold one into its convolution before exporting"
    )


TWO_ROOTS = """
    %p: real[1,2,2,2] = batch_norm %q stage=affine({1, -1}, {0, 2^-1}, {3, 4}, {0, 1})  // bn1 (BatchNormalization)
    %m: real[1,2,1,1] = average_pool %p window(2x2)  // (AveragePool)
    %f: real[1,2] = reshape %m  // (Flatten)
    %b: real[1,2] = batch_norm %f stage=affine({2, 3}, {-1, 2^-2}, {5, 2}, {1, 0})  // bn2 (BatchNormalization)
"""


def test_two_batch_norms_with_a_pool_between_them_are_refused() -> None:
    text = X + body(TWO_ROOTS + '%y: Q2.2[1,2] = quantize %b  // act (Quant)\noutput "y" = %y')
    with pytest.raises(CompileError) as caught:
        LowerToInteger().run(MergeBatchNorm().run(parse_graph(text)))
    assert str(caught.value) == (
        "error: two BatchNormalizations stand before one quantizer\n"
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
        CheckAccumulators(TargetLimits(7, "a 7-bit accumulator")).run(graph)
    hint = (
        "  help: use fewer bits for weights or activations, fewer input channels, or accumulator-aware training; "
        "a wider data type of the target; or accept overflow with --allow-overflow"
    )
    assert str(caught.value) == (
        "error: the accumulator needs 8 bits, a 7-bit accumulator has 7\n"
        f"  at:   conv1 (Conv), tensor 'c'\n{hint}\n"
        "error: the accumulator needs 10 bits, a 7-bit accumulator has 7\n"
        f"  at:   pool (AveragePool)\n{hint}"
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


# --- the manager -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SwapChannels:
    """What a user writes: a class with a name, a promise, a level and `run`. This one lies."""

    exactness: Exactness = Exactness.EXACT
    name: ClassVar[str] = "swap-channels"
    level: ClassVar[Level] = Level.INTEGER

    def run(self, graph: Graph) -> Graph:
        ops = list(graph.ops)
        for i, op in enumerate(ops):
            if isinstance(op, Conv2d):
                ops[i] = replace(op, weight=IntArray(op.weight.data[::-1].copy()))
        return graph.with_ops(ops)


@dataclass(frozen=True, slots=True)
class Count:
    """A user's pass that changes nothing."""

    seen: list[int]
    name: ClassVar[str] = "count"
    exactness: ClassVar[Exactness] = Exactness.EXACT
    level: ClassVar[Level] = Level.INTEGER

    def run(self, graph: Graph) -> Graph:
        self.seen.append(len(graph.ops))
        return graph


@dataclass(frozen=True, slots=True)
class Break:
    """A pass that leaves an illegal graph."""

    name: ClassVar[str] = "break"
    exactness: ClassVar[Exactness] = Exactness.EXACT
    level: ClassVar[Level] = Level.QUANTIZED

    def run(self, graph: Graph) -> Graph:
        return replace(graph, ops=graph.ops[1:])


LIMITS = TargetLimits(32, "int32")


def test_a_users_pass_runs_last_on_its_level(models: Path) -> None:
    seen: list[int] = []
    user = Count(seen)
    assert isinstance(user, Pass)
    graph, records = run_passes(import_model(models / "cnn_q2_3.onnx"), pipeline(LIMITS, plugins=(user,)))
    assert seen == [len(graph.ops)]
    names = [r.name for r in records]
    assert names.index("count") == names.index("check-accumulators") - 1
    assert not records[names.index("count")].changed


def test_a_pass_that_lies_about_exactness_is_caught(models: Path) -> None:
    graph = import_model(models / "cnn_q2_3.onnx")
    with pytest.raises(InternalError, match="pass 'swap-channels' says it is exact but changed output 'output' by"):
        run_passes(graph, pipeline(LIMITS, plugins=(SwapChannels(),)), check=True)


def test_a_pass_that_promises_a_bound_is_not_compared(models: Path) -> None:
    graph = import_model(models / "cnn_q2_3.onnx")
    run_passes(graph, pipeline(LIMITS, plugins=(SwapChannels(Exactness.BOUNDED),)), check=True)


def test_a_pass_that_leaves_an_illegal_graph_is_named(models: Path) -> None:
    graph = import_model(models / "cnn_q2_3.onnx")
    with pytest.raises(InternalError) as caught:
        run_passes(graph, (FoldConstants(), Break()))
    assert str(caught.value).startswith("pass 'break' left an illegal graph: ")
    assert str(caught.value).endswith("(passes before it: fold-constants)")


def test_a_pass_of_the_wrong_level_is_refused(models: Path) -> None:
    with pytest.raises(CompileError, match="'drop-identities' works on the integer level, the graph is on the quan"):
        run_passes(import_model(models / "cnn_q2_3.onnx"), (DropIdentities(),))


def test_each_pass_of_the_pipeline_is_observed(models: Path) -> None:
    seen: list[tuple[str, Level]] = []
    passes = pipeline(LIMITS)
    run_passes(import_model(models / "cnn_q2_3.onnx"), passes, lambda r, g: seen.append((r.name, g.level)))
    assert [name for name, _ in seen] == [p.name for p in passes]
    assert seen[0] == ("fold-constants", Level.QUANTIZED)
    assert seen[-1] == ("check-accumulators", Level.INTEGER)


def test_passes_that_find_nothing_return_the_graph_itself(models: Path) -> None:
    graph, _ = run_passes(import_model(models / "resnet8_q3_5.onnx"), pipeline(LIMITS))
    for p in pipeline(LIMITS):
        if p.level is Level.INTEGER:
            assert p.run(graph) is graph, p.name


def test_the_lowered_network_reads_like_this(models: Path, golden: Callable[[str, str], None]) -> None:
    for name in ("cnn_q2_3", "cnn_w8pc_a8_float", "concat_q3_4", "resnet8_q3_5"):
        graph, _ = run_passes(import_model(models / f"{name}.onnx"), pipeline(LIMITS))
        golden(f"{name}.integer.ir", print_graph(graph, data=False))


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
        "error: input 'x' has no quantizer: conv reads real numbers\n"
        "  at:   conv1 (Conv), tensor 't1'\n"
        "  help: start the network with QuantIdentity, or give the input's format with --fmt Q2.3"
    )


def test_float_weights_and_a_tensor_that_is_not_quantized_together(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = start(m)
    c1 = m.node("Conv", x, m.constant(np.ones((2, 2, 1, 1))), name="c1")
    c2 = m.node("Conv", x, m.weight(np.ones((2, 2, 1, 1))), m.constant([0.3, 0.4]), name="c2")
    m.output(m.node("Conv", m.node("Relu", c2, name="r2"), m.weight(np.ones((1, 2, 1, 1))), name="c3"))
    m.output(c1)
    assert refusal(m, tmp_path) == (
        "error: the weights are not quantized\n"
        "  at:   c1 (Conv), tensor 't1'\n"
        "  help: train with brevitas.nn.QuantConv2d / QuantLinear and export with export_qonnx\n"
        "error: relu reads a tensor that is not quantized\n"
        "  at:   r2 (Relu), tensor 't4'\n"
        "  help: quantize the result of c2 (Conv), tensor 't3' (QuantIdentity or QuantReLU)"
    )


Build = Callable[[ModelBuilder, str], str]
ONES = np.ones((1, 2, 1, 1))


def float_bias_then_pool(m: ModelBuilder, x: str) -> str:
    return m.node("MaxPool", m.node("Conv", x, m.weight(ONES), m.constant([0.3])), kernel_shape=[2, 2])


def scale_per_channel_then_conv(m: ModelBuilder, x: str) -> str:
    return m.node("Conv", m.quant(m.node("Relu", x), [[[[0.1]], [[0.3]]]]), m.weight(ONES))


def computed_weights(m: ModelBuilder, x: str) -> str:
    return m.node("Conv", x, m.quant(m.node("Conv", x, m.weight(np.ones((2, 2, 4, 4))))))


def computed_bias(m: ModelBuilder, x: str) -> str:
    return m.node("Conv", x, m.weight(np.ones((2, 2, 2, 2))), m.node("Relu", m.constant([1.0, 2.0])))


def far_scales(m: ModelBuilder, x: str) -> str:
    return m.node("Add", m.quant(m.node("Relu", x), 0.0007), x)


REFUSED: list[tuple[Build, str]] = [
    (lambda m, x: m.node("LeakyRelu", x, alpha=0.1), "LeakyRelu is not followed by a quantizer"),
    (lambda m, x: m.node("Clip", x, m.constant(0.0), m.constant(1.05)), "Clip's limits are no multiples of the"),
    (lambda m, x: m.quant(m.node("Relu", x), 2.0**-20, 24), "a quantizer of 24 bits on an activation is not"),
    (lambda m, x: m.node("Transpose", x, perm=[0, 2, 3, 1]), "Transpose of an activation is not supported"),
    (lambda m, x: m.node("Add", x, m.quant("x", 0.25)), "input 'x' has two different quantizers"),
    (lambda m, _: m.quant(m.node("Relu", "x")), "input 'x' is not quantized before its first layer"),
    (far_scales, "the scales of add's inputs have no common grid"),
    (scale_per_channel_then_conv, "conv reads a tensor with one scale per channel"),
    (float_bias_then_pool, "max_pool reads a tensor that is not quantized"),
    (computed_weights, "the weights are computed at run time"),
    (computed_bias, "relu reads a constant where it needs an activation"),
]


@pytest.mark.parametrize(("build", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_lowering_refuses(build: Build, message: str, tmp_path: Path) -> None:
    m = ModelBuilder()
    x = start(m)
    m.output(build(m, x))
    assert message in refusal(m, tmp_path)


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


# --- zero points: the ONNX frontend refuses them, the IR's text and plugins can make them -----------------------------

SHIFTED = X.replace("%q: Q3.1", "%q: i4+3*(2^-1)")


@pytest.mark.parametrize(
    "operations",
    [
        "%y: real[1,2,2,2] = relu %q  // (Relu)",
        "%y: real[1,2,2,2] = clip %q low=-1 high=none  // (Clip)",
        "%y: real[1,2,1,1] = max_pool %q window(2x2)  // (MaxPool)",
        "%y: real[1,2,2,2] = max_pool %q window(2x2, pads=1,0,0,1)  // (MaxPool)",
        "%y: real[1,8] = reshape %q  // (Flatten)",
        "%y: real[1,2,2,2] = batch_norm %q stage=affine({1, -1}, {0, 2^-1}, {4, 3}, {0, 1})  // (BatchNormalization)",
        "%y: Q2.1[1,2,2,2] = quantize %q  // (Quant)",
        "%y: Q2.1[1,2,2,2] = quantize %q stages=(affine({1, -1}, {0, 2^-1}, {4, 9}, {0, 1}), relu)  // (Quant)",
        "%y: i3+2*(2^-1)[1,2,2,2] = quantize %q  // (Quant)",
    ],
)
def test_zero_points_are_carried(operations: str) -> None:
    graph = parse_graph(SHIFTED + body(f'{operations}\noutput "y" = %y'))
    lowered = LowerToInteger().run(graph)
    assert verify(lowered) == []
    for x in np.random.default_rng(0).uniform(-8, 5, (20, 1, 2, 2, 2)):
        np.testing.assert_allclose(run(lowered, x)["y"], run(graph, x)["y"], rtol=1e-14)


ZERO_POINT_WEIGHT = "%w: i4+1*(2^-1)[1,2,1,1] = quantized_constant codes=[1,2,1,1]{1, -2}  // (Quant)\n"
WEIGHT = ZERO_POINT_WEIGHT.replace("+1", "")
CONV = "%y: real[1,1,2,2] = conv %q %w bias=none window(1x1) groups=1  // (Conv)"


@pytest.mark.parametrize(
    ("head", "operations", "message"),
    [
        (SHIFTED, WEIGHT + CONV, "conv reads a tensor with zero point 3"),
        (SHIFTED, "%y: real[1,2,1,1] = average_pool %q window(2x2)  // (Pool)", "average_pool reads a"),
        (SHIFTED, "%y: real[1,2,2,2] = add %q %q  // (Add)", "add reads a tensor with zero point 3"),
        (SHIFTED, "%y: real[1,4,2,2] = concat inputs=(%q, %q) axis=1  // (C)", "concat reads a tensor with zero"),
        (X, ZERO_POINT_WEIGHT + CONV, "the weights have zero point 1"),
    ],
)  # fmt: skip
def test_zero_points_in_sums_are_refused(head: str, operations: str, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        LowerToInteger().run(parse_graph(head + body(f'{operations}\noutput "y" = %y')))
    assert message in str(caught.value)
