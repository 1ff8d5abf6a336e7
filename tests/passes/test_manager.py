"""Running passes: order, observation, and what the manager catches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from pefslc.analysis.limits import TargetLimits
from pefslc.diagnostics.errors import CompileError, InternalError
from pefslc.frontend import import_model
from pefslc.ir.graph import Graph, Level
from pefslc.ir.integer import Conv2d
from pefslc.ir.parse import parse_graph
from pefslc.ir.structural import Reshape
from pefslc.ir.text import print_graph
from pefslc.ir.value import IntArray
from pefslc.numeric.format import FixedPoint
from pefslc.passes.change_formats import ChangeFormats
from pefslc.passes.drop_identities import DropIdentities
from pefslc.passes.fold_constants import FoldConstants
from pefslc.passes.manager import Difference, Exactness, Pass, check_pass, differences, run_passes
from pefslc.passes.pipeline import pipeline, said_by_user
from pefslc.passes.quantize_after_training import QuantizeAfterTraining


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


def scaled(level: Level, factor: str, batch: int = 1) -> Graph:
    """A graph that multiplies its input, codes or values, by `factor`."""
    if level is Level.INTEGER:
        return parse_graph(f"""graph "g" integer
            input "x" as %x: [1..3]*(1)[{batch},2] quantizer(UQ2.0, half_even)  // (input) x
            %y: [{factor}..{3 * int(factor)}]*(1)[{batch},2] = rescale %x factor={factor}  // (Mul)
            output "y" = %y map(scale=1, offset=0)
        """)
    return parse_graph(f"""graph "g" quantized
        input "x" as %x: real[{batch},2]  // (input) x
        %y: real[{batch},2] = scaling %x stage=affine({factor}, 0, 1, 0)  // (Mul)
        output "y" = %y
    """)


@pytest.mark.parametrize(
    ("level", "before", "after", "worst"),
    [
        (Level.INTEGER, f"{2**40}", f"{2**40 + 1}", "3"),  # the highest code is 3
        (Level.QUANTIZED, f"{10**6}*2^0", f"{10**6 + 1}*2^0", "[0-9.]+"),
    ],
)
def test_any_difference_of_codes_counts_and_of_values_more_than_rounding(
    level: Level, before: str, after: str, worst: str
) -> None:
    with pytest.raises(InternalError, match=f"'count' says it is exact but changed output 'y' by {worst}$"):
        check_pass(Count([]), scaled(level, before), scaled(level, after))


def test_values_may_differ_by_the_rounding_of_float64() -> None:
    one, almost = (scaled(Level.QUANTIZED, factor) for factor in ("1", f"{2**50 + 1}*2^-50"))
    check_pass(Count([]), one, almost)


@pytest.mark.parametrize("level", list(Level))
def test_a_pass_is_checked_on_whole_batches(level: Level) -> None:
    check_pass(Count([]), scaled(level, "3", batch=3), scaled(level, "3", batch=3))


@pytest.mark.parametrize("promise", [Exactness.BOUNDED, Exactness.CHANGES])
def test_a_pass_that_does_not_promise_exactness_is_not_compared(models: Path, promise: Exactness) -> None:
    graph = import_model(models / "cnn_q2_3.onnx")
    run_passes(graph, pipeline(LIMITS, plugins=(SwapChannels(promise),)), check=True)


def test_a_pass_without_a_bound_says_that_it_changes_the_model() -> None:
    passes = [
        *said_by_user(FixedPoint(2, 3), LIMITS, allow_overflow=False, requantize=True),
        *pipeline(LIMITS, fmt=FixedPoint(2, 3)),
    ]
    unbounded = {QuantizeAfterTraining.name, ChangeFormats.name}
    assert {p.name for p in passes if p.exactness is Exactness.CHANGES} == unbounded


def test_a_pass_that_leaves_an_illegal_graph_is_named(models: Path) -> None:
    graph = import_model(models / "cnn_q2_3.onnx")
    with pytest.raises(InternalError) as caught:
        run_passes(graph, (FoldConstants(), Break()))
    assert str(caught.value).startswith("pass 'break' left an illegal graph: ")
    assert str(caught.value).endswith("(passes before it: fold-constants)")


@dataclass(frozen=True, slots=True)
class Change:
    """A pass that does to a graph what it was made for."""

    what: Callable[[Graph], Graph]
    exactness: Exactness = Exactness.CHANGES
    name: ClassVar[str] = "change"
    level: ClassVar[Level] = Level.INTEGER

    def run(self, graph: Graph) -> Graph:
        return self.what(graph)


RENAMED = {
    "its inputs are named 'z', and were 'x'": lambda g: replace(g, inputs=(replace(g.inputs[0], name="z"),)),
    "its outputs are named 'z', and were 'y'": lambda g: replace(g, outputs=(replace(g.outputs[0], name="z"),)),
    "its outputs are named 'y', 'y2', and were 'y'": lambda g: replace(
        g, outputs=(g.outputs[0], replace(g.outputs[0], name="y2"))
    ),
}


@pytest.mark.parametrize(("fault", "what"), RENAMED.items())
def test_a_pass_that_renames_an_input_or_output_is_named(fault: str, what: Callable[[Graph], Graph]) -> None:
    with pytest.raises(InternalError) as caught:
        run_passes(scaled(Level.INTEGER, "3"), [Change(what)])
    assert str(caught.value) == f"pass 'change' left an illegal graph: {fault} (passes before it: none)"


def flattened(graph: Graph) -> Graph:
    """Its output with an axis more."""
    end = graph.outputs[0].value
    value = replace(end, name="more", type=replace(end.type, shape=(*end.type.shape, 1)))
    return graph.with_ops([*graph.ops, Reshape(result=value, input=end)]).with_outputs({end.name: value})


def test_the_shape_of_an_output_stays_but_where_another_model_is_made() -> None:
    before = scaled(Level.INTEGER, "3")
    with pytest.raises(InternalError, match=r"output 'y' has the shape \[1, 2, 1\], and had \[1, 2\] "):
        run_passes(before, [Change(flattened, Exactness.BOUNDED)])
    after, _ = run_passes(before, [Change(flattened)])
    assert differences(before, after)["y"] == Difference(8, 8, float("inf"))


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
