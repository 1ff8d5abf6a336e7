"""The policy of exactness: what is corrected, and at what price."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tensil_support import simulate

from integer_graphs import GraphBuilder
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.graph import Graph
from pefslc.ir.integer import Requantize
from pefslc.ir.interpret import run_codes
from pefslc.ir.value import Value
from pefslc.numeric.staircase import Staircase
from pefslc.targets.protocol import Emission, TargetOptions
from pefslc.targets.tensil import exact_first
from pefslc.targets.tensil.machine.architecture import DataType, load_architecture
from pefslc.targets.tensil.rewriting.rewrite import Context
from pefslc.targets.tensil.target import TensilTarget
from pefslc.targets.tensil.wide import corrected
from pefslc.targets.tensil.words.channel_fits import ChannelFits


def layer(top: int) -> Graph:
    """8-bit codes and weights up to `top`: a wide sum or a narrow one, and a slope for each channel."""
    b = GraphBuilder("layer")
    return b.graph(requantized_sum(b, b.input((1, 6, 4, 4), 8, signed=False), top, 8, 5))


def requantized_sum(b: GraphBuilder, x: Value, top: int, bits: int, outputs: int, *, bent: bool = False) -> Value:
    rng = np.random.default_rng(7)
    weight = rng.integers(-top, top + 1, (outputs, x.type.channels, 3, 3))
    s = b.conv(x, weight, np.zeros(outputs, dtype=np.int64), pads=(1, 1, 1, 1))
    low, high = s.type.codes.low, s.type.codes.high
    reach = min(-low, high)
    steps = np.arange((1 << bits) - 1) / (1 << bits)
    slope, start = rng.uniform(0.3, 1.0, (outputs, 1)) * reach, rng.uniform(-reach / 4, 0, (outputs, 1))
    thresholds = np.ceil(start + slope * (steps**2 if bent else steps)).astype(np.int64)
    stairs = Staircase(low, high, 0, np.clip(thresholds, low, high + 1), np.ones(outputs, dtype=np.int64))
    return b.steps(s, stairs)


def compiled(graph: Graph, *, wide: bool = False, require_exact: bool = False) -> Emission:
    return TensilTarget(arch="pynqz1", wide=wide).lower(graph, TargetOptions(require_exact=require_exact))


def price_notes(emission: Emission) -> list[str]:
    return [note for note in emission.notes if "--wide" in note]


def test_a_wide_sum_is_exact_without_being_asked(tmp_path: Path) -> None:
    graph = layer(127)
    emission = compiled(graph)
    assert emission.computed is None
    assert not price_notes(emission)
    for name, content in emission.files.items():
        (tmp_path / name).write_bytes(content)
    x = {"x0": np.random.default_rng(1).integers(0, 256, (2, 6, 4, 4))}
    (output,) = graph.outputs
    assert np.array_equal(simulate(graph, emission, tmp_path, x)[output.name], run_codes(graph, x)[output.value.name])


def test_where_exactness_takes_too_many_cycles_the_bounded_program_is_kept_and_the_price_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = layer(127)
    exact = compiled(graph)
    monkeypatch.setattr(exact_first, "MOST_TIMES", 1.01)
    bounded = compiled(graph)
    assert bounded.computed is not None
    assert exact.cycles is not None
    assert bounded.cycles is not None
    (note,) = price_notes(bounded)
    assert note == f"bounded; exact with --wide, at {exact.cycles / bounded.cycles:.1f} times the cycles"
    assert compiled(graph, wide=True).files == exact.files
    assert compiled(graph, require_exact=True).files == exact.files


def test_a_narrow_sum_is_corrected_at_any_price_only() -> None:
    graph = layer(6)
    bounded, exact = compiled(graph), compiled(graph, wide=True)
    assert bounded.computed is not None
    assert exact.computed is None
    assert exact.files == compiled(graph, require_exact=True).files
    (note,) = price_notes(bounded)
    assert note.startswith("bounded: no words were found that give every code of 1 requantization; --wide corrects")
    assert bounded.cautions == (note,)
    assert not price_notes(exact)


def test_where_wide_changes_nothing_it_says_so() -> None:
    b = GraphBuilder("exact")
    s = b.conv(b.input((1, 5, 4, 4), 8, signed=False), np.ones((1, 5, 1, 1), dtype=np.int64))
    on_no_line = np.sort(np.arange(1, 16) * 80 + np.random.default_rng(0).integers(-25, 26, 15))
    for steps, why in (
        (np.arange(1, 16)[None] * 64, "it is exact without a correction"),
        (on_no_line[None], "no requantization that is bounded can be corrected"),
    ):
        stairs = Staircase(s.type.codes.low, s.type.codes.high, 0, steps, np.ones(1, dtype=np.int64))
        graph = b.graph(b.steps(s, stairs))
        found = compiled(graph, wide=True)
        assert price_notes(found) == [f"--wide changes nothing: {why}"]
        assert found.cautions == tuple(price_notes(found))
        before = compiled(graph)
        assert found.files == before.files
        assert "changes nothing" not in "".join(before.notes)


def test_what_corrections_leave_bounded_does_not_pay_for_them() -> None:
    b = GraphBuilder("two")
    x = requantized_sum(b, b.input((1, 6, 4, 4), 8, signed=False), 127, 8, 5)  # would be corrected
    s = b.conv(x, np.ones((1, 5, 1, 1), dtype=np.int64))
    steps = np.sort(np.arange(1, 16) * 80 + np.random.default_rng(0).integers(-25, 26, 15))[None]  # on no line
    stairs = Staircase(s.type.codes.low, s.type.codes.high, 0, steps, np.ones(1, dtype=np.int64))
    graph = b.graph(b.steps(s, stairs))
    bounded, some = compiled(graph), compiled(graph, wide=True)
    assert bounded.computed is not None
    assert some.computed is not None
    assert bounded.cycles is not None
    assert some.cycles is not None
    assert bounded.cycles < some.cycles
    assert any("corrected by the residual" in note for note in some.notes)
    assert not any("corrected by the residual" in note for note in bounded.notes)


def test_a_network_that_no_correction_helps_is_refused_before_one_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("searched")

    monkeypatch.setattr(corrected, "estimated", never)
    monkeypatch.setattr(corrected, "find_words", never)
    b = GraphBuilder("two")
    x = requantized_sum(b, b.input((1, 6, 4, 4), 8, signed=False), 127, 8, 5)  # would be corrected
    graph = b.graph(requantized_sum(b, x, 127, 10, 17, bent=True))
    with pytest.raises(CompileError, match="no exact sequence"):
        compiled(graph)


def test_more_is_corrected_where_a_short_look_missed_that_a_group_has_no_place() -> None:
    b = GraphBuilder("two")
    x = b.input((1, 2, 1, 1), 8, signed=True)
    stairs = Staircase(-128, 127, 0, np.array([[-9, 0, 9]]), np.ones(1, dtype=np.int64))
    graph = b.graph(b.steps(x, stairs), b.steps(x, stairs))
    first, second = (op.result.name for op in graph.of_type(Requantize))
    fits, asked, done = ChannelFits(DataType.FP16BP8), [], object()

    def lower(corrections: frozenset[str], *_: object) -> object:
        asked.append(corrections)
        if len(corrections) == 2:
            return done
        fits.refused.add(second if corrections else first)
        raise CompileError(Code.TCU_NOT_EXACT, "no place")

    context = Context(load_architecture("pynqz1"))
    policy = exact_first.ExactFirst(graph, context, fits, lower, lambda _: None, None, any_words=False)  # type: ignore[arg-type]
    assert policy.run() is done
    assert asked == [frozenset(), {first}, {first, second}]
