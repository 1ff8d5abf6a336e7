"""The list of rewrites: each applies to some network, and without any of them the codes are the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensil_support import emit, random_codes, simulate

import pefslc
from builders import ModelBuilder, import_bytes, lower
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil import pipeline
from pefslc.targets.tensil.group_rewrites import leftover_channels
from pefslc.targets.tensil.groups.group_program import Role
from pefslc.targets.tensil.machine.architecture import load_architecture
from pefslc.targets.tensil.options import REWRITE_NAMES as NAMED_REWRITES
from pefslc.targets.tensil.options import TensilOptions
from pefslc.targets.tensil.pipeline import (
    GROUP_REWRITES,
    NATIVE_GROUP_REWRITES,
    NATIVE_WORD_REWRITES,
    REWRITE_NAMES,
    STAGES,
    WORD_REWRITES,
    lower_graph,
)
from pefslc.targets.tensil.program.encoding import encode
from pefslc.targets.tensil.program.listing import parse_listing
from pefslc.targets.tensil.report import parts_of
from pefslc.targets.tensil.rewriting.rewrite import Context
from pefslc.targets.tensil.schedule.text import print_schedule
from pefslc.targets.tensil.word_rewrites.additions import MergeAdditions
from pefslc.targets.tensil.word_rewrites.offsets import StoreWithOffsets
from pefslc.targets.tensil.word_rewrites.sums_in_packing import RequantizeWhilePacking

BOARD = replace(load_architecture("custom_perf"), array_size=6)
OF_GROUPS, OF_WORDS = ([r.name for r in rewrites] for rewrites in (GROUP_REWRITES, WORD_REWRITES))
OF_OTHERS = ("pack-rows",)  # for which residual_network has nothing to do: test_packed_rows.py
EXACT = *OF_GROUPS, *OF_WORDS, "fold-addends", "requantize-while-adding"
NATIVE = *(r.name for r in (*NATIVE_GROUP_REWRITES, *NATIVE_WORD_REWRITES)), "fuse-sums"


def residual_network() -> ModelBuilder:
    """Every rewrite of exact networks, but OF_OTHERS, has something to do: a grey image, 8 channels on 6
    lanes, a projection and a clamped shortcut that are added, layers of four pixels, one of eight bits, two channels.
    """
    r = np.random.default_rng(2)
    m = ModelBuilder()

    def conv(x: str, outputs: int, inputs: int, kernel: int, stride: int = 1) -> str:
        weight = m.weight(r.integers(-3, 4, (outputs, inputs, kernel, kernel)) / 8, 0.125, 4)
        return m.node("Conv", x, weight, strides=[stride] * 2, pads=[kernel // 2] * 4)

    def act(x: str) -> str:
        return m.quant(m.node("Relu", x), 0.25, 4, signed=0)

    def add(x: str, y: str) -> str:
        return act(m.node("Add", x, y))

    x = m.quant(m.input([1, 1, 12, 12]), 0.25, 4)
    a = act(conv(x, 8, 1, 3))
    b = act(conv(a, 8, 8, 3))
    c = add(m.quant(conv(b, 8, 8, 3), 0.25, 4), m.quant(b, 0.25, 3, signed=0))  # a shortcut that is clamped
    d = act(conv(c, 12, 8, 3, 2))
    e = add(m.quant(conv(d, 12, 12, 3), 0.25, 4), m.quant(conv(c, 12, 8, 1, 2), 0.25, 4))  # a projection
    f = act(conv(m.node("MaxPool", e, kernel_shape=[3, 3], strides=[3, 3]), 40, 12, 3))
    g = act(conv(f, 40, 40, 3))
    m.output(m.node("Gemm", m.node("Flatten", g), m.weight(r.integers(-3, 4, (5, 160)) / 8, 0.125, 4), transB=1))
    # Eight bits, in two digits.
    wide = m.quant(m.node("Relu", conv(f, 8, 40, 3)), 2.0**-6, 8, signed=0)
    wide = m.node("Conv", wide, m.weight(r.integers(-40, 41, (6, 8, 3, 3)) / 64, 2.0**-6, 8), pads=[1] * 4)
    m.output(m.quant(m.node("Relu", wide), 2.0**-6, 8, signed=0))
    m.output(act(conv(act(conv(act(conv(c, 2, 8, 3)), 2, 2, 3)), 6, 2, 3)))  # few channels, of many pixels
    return m


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return lower(import_bytes(residual_network(), tmp_path_factory.mktemp("model")))


def changed_by(graph: Graph, context: Context) -> dict[str, bool]:
    changed: dict[str, bool] = {}
    lower_graph(graph, context, observe=lambda name, _, is_changed: changed.update({name: is_changed}))
    return changed


def test_every_rewrite_says_what_it_needs_and_ensures() -> None:
    rewrites = (*GROUP_REWRITES, *WORD_REWRITES, *NATIVE_GROUP_REWRITES, *NATIVE_WORD_REWRITES)
    assert all(r.name and r.needs and r.ensures for r in rewrites)
    assert set(REWRITE_NAMES) == {*EXACT, *NATIVE}
    assert len(set(REWRITE_NAMES)) == len(REWRITE_NAMES)
    assert RequantizeWhilePacking.name == leftover_channels.SUMS_FOLLOW  # which it cannot import


def test_every_rewrite_applies_to_some_network(network: Graph, tmp_path: Path) -> None:
    exact = changed_by(network, Context(BOARD))
    stages = ["select", *OF_GROUPS, "place", *OF_WORDS]
    assert exact == {name: name not in OF_OTHERS for name in stages}, "extend residual_network()"
    m = ModelBuilder()
    r = np.random.default_rng(0)
    x = m.input([1, 1, 8, 8], "x")
    a = m.node("Relu", m.node("Conv", x, m.constant(r.uniform(-1, 1, (8, 1, 3, 3))), pads=[1, 1, 1, 1]))
    b = m.node("Conv", a, m.constant(r.uniform(-1, 1, (8, 8, 3, 3)) / 4), pads=[1, 1, 1, 1])
    m.output(m.node("GlobalAveragePool", m.node("Relu", m.node("Add", b, a))), [1, 8, 1, 1])
    program = pefslc.compile(m.save(tmp_path), target="c", fmt="Q8.8")
    native = changed_by(program.graph, Context(BOARD))
    assert [name for name, is_changed in native.items() if is_changed] == [
        "select", "pack-inputs", "split-means", "factor-leftovers", "pack-leftovers", "fuse-sums", "place",
    ]  # fmt: skip


def test_the_stages_that_are_seen_are_those_that_are_listed(network: Graph) -> None:
    seen = list(changed_by(network, Context(BOARD)))
    assert [name for name in STAGES if name in seen] == seen


@pytest.mark.parametrize("left_out", [name for name in EXACT if name not in OF_OTHERS])
def test_without_a_rewrite_the_codes_are_the_same(network: Graph, left_out: str, tmp_path: Path) -> None:
    emission = emit(network, BOARD, tmp_path, leave_out=left_out)
    inputs = random_codes(network, 1)
    computed, expected = simulate(network, emission, tmp_path, inputs), run_codes(network, inputs)
    assert all(np.array_equal(computed[o.name], expected[o.value.name]) for o in network.outputs)
    whole = emit(network, BOARD, tmp_path)
    assert emission.files != whole.files, f"{left_out} was not left out"


def test_what_does_not_fit_is_tried_without_the_rewrites_that_need_most_memory(network: Graph) -> None:
    """The reason is shown, and the next try begins where they do."""
    events: list[tuple[str, str]] = []
    board = replace(BOARD, local_depth=300, accumulator_depth=24)
    lower_graph(network, Context(board), observe=lambda name, text, _: events.append((name, text)))
    names = [name for name, _ in events]
    assert names[-1] == "store-with-offsets"
    for at in (i for i, name in enumerate(names) if name == "retry"):
        assert events[at][1].startswith("without keep-activations")


def test_no_try_is_made_twice(network: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the rewrites of leftovers and pixels, the third try would be the second one. The last has no offsets."""

    def refuse(*_: object) -> None:
        raise CompileError(Code.TCU_LOCAL_MEMORY, "too small")

    monkeypatch.setattr(pipeline, "schedule_batch", refuse)
    events: list[str] = []
    context = Context(BOARD, left_out=frozenset(("factor-leftovers", "pack-leftovers", "group-pixels")))
    with pytest.raises(CompileError, match="too small"):
        lower_graph(network, context, observe=lambda name, *_: events.append(name))
    assert events.count("retry") == 2


def test_every_group_of_instructions_serves_the_operations_of_one_part(network: Graph) -> None:
    """Helpers of helpers, and of packed inputs, too: what serves no layer is the loading of constants, and outputs."""
    lowered = lower_graph(network, Context(BOARD))
    parts = parts_of(lowered.split, lowered.program)
    serving = [tensor for _, tensors in parts for tensor in tensors]
    inputs = [port.tensor for port in lowered.program.inputs]
    assert sorted(serving) == sorted([*inputs, *(group.result for group in lowered.schedule.groups)])
    roles = {tensor.stored.role for tensor in lowered.program.tensors.values()}
    assert roles == {Role.VALUE, Role.PACKED, Role.PARTIAL, Role.SUMS, Role.TRANSPOSED, Role.LEFTOVERS}


def test_the_cycles_of_layers_and_of_what_serves_none_are_the_total(network: Graph, tmp_path: Path) -> None:
    emission = emit(network, BOARD, tmp_path)
    cycles = emission.details["cycles"]
    assert isinstance(cycles, dict)
    assert cycles["total"] == emission.cycles
    in_layers = sum(report.cycles or 0 for report in emission.ops.values())
    assert cycles == {"total": emission.cycles, "outside_layers": emission.cycles - in_layers}  # type: ignore[operator]
    assert emission.costs is not None
    assert cycles["outside_layers"] == sum(emission.costs().parts[0].cycles.values())


def test_an_unknown_rewrite_is_refused_with_those_that_there_are_before_anything_runs() -> None:
    with pytest.raises(CompileError, match=r"PEF0902.*the target tensil has no rewrite 'packing'") as refused:
        TensilOptions(leave_out="keep-activations, packing")
    assert "pack-leftovers" in str(refused.value)


def test_the_options_know_the_rewrites() -> None:
    assert NAMED_REWRITES == REWRITE_NAMES


def test_additions_are_merged_last() -> None:
    """They count the rows of all groups: a later rewrite would change those. Offsets count them again."""
    assert [rewrite.name for rewrite in WORD_REWRITES[-2:]] == [MergeAdditions.name, StoreWithOffsets.name]
    assert NATIVE_WORD_REWRITES[-1].name == MergeAdditions.name


def test_the_printed_schedule_says_what_its_instructions_do_and_reads_back(network: Graph) -> None:
    plan = lower_graph(network, Context(BOARD)).schedule
    text = print_schedule(plan, BOARD)
    assert encode(BOARD, parse_listing(text)) == plan.code
    for group in plan.groups:
        assert f"// %{group.result}: " in text
        assert f"// %{group.result} is complete in " in text
