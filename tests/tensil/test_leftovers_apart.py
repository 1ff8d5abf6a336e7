"""Leftover channels of tensors that are added: apart, several pixels in a vector, where that is shorter; exact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensil_support import emit, random_codes, simulate

from builders import ModelBuilder, import_bytes, lower
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.groups.group_program import Role
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import Architecture, load_architecture
from pefslc.targets.tensil.pipeline import lower_graph
from pefslc.targets.tensil.rewriting.rewrite import Context
from pefslc.targets.tensil.words.steps import ChannelAdd, ChannelMultiply
from pefslc.targets.tensil.words.word_program import WordProgram

NAME = "split-leftovers"
BOARD = load_architecture("custom_perf")


def machine(array_size: int, **fields: int) -> Architecture:
    return replace(BOARD, array_size=array_size, **fields)


def blocks(
    folder: Path,
    channels: int = 16,
    size: tuple[int, int] = (16, 16),
    *,
    seed: int = 0,
    shortcut: str = "clamped",
    strides: tuple[int, int] = (1, 1),
    gains: bool = False,
    bits: int = 4,
    act_bits: int = 5,
    ends_in_sum: bool = False,
) -> Graph:
    """Two residual blocks and what reads the second: a strided layer, and one of single pixels.

    shortcut  of each block: the tensor quantized anew, which clamps it; as it is; or a layer of its own
    gains     a factor for each channel in the layer before the addition, that no shift is
    bits      of weights; `act_bits` of all activations
    """
    r, m = np.random.default_rng(seed), ModelBuilder()
    most, step_of_codes = min((1 << (bits - 1)) - 1, 12), 8 / (1 << act_bits)

    def conv(x: str, inputs: int, kernel: int = 3, stride: tuple[int, int] = (1, 1), scaled: bool = False) -> str:
        step = r.uniform(0.1, 0.2, (channels, 1, 1, 1)) if scaled else np.full((channels, 1, 1, 1), 0.125)
        step = step.astype(np.float32).astype(np.float64)
        codes = r.integers(-most, most + 1, (channels, inputs, kernel, kernel))
        scale = step if scaled else 0.125
        weight = m.weight(codes * step, scale, bits)
        bias = m.constant(r.integers(-40, 41, channels) / 64)
        return m.node("Conv", x, weight, bias, strides=list(stride), pads=[kernel // 2] * 4)

    def act(x: str) -> str:
        return m.quant(m.node("Relu", x), step_of_codes, act_bits, signed=0)

    x = act(conv(m.quant(m.input([1, 3, *size]), 0.125, 5), 3))
    for i in range(2):
        stride = strides if i else (1, 1)
        made = m.quant(conv(act(conv(x, channels, stride=stride)), channels, scaled=gains), step_of_codes, act_bits)
        if shortcut == "clamped" and stride == (1, 1):
            x = m.node("Add", made, m.quant(x, step_of_codes, act_bits))
        elif shortcut == "bare" and stride == (1, 1):
            x = m.node("Add", made, x)
        else:
            x = m.node("Add", made, m.quant(conv(x, channels, 1, stride), step_of_codes, act_bits))
        x = act(x)
    if not ends_in_sum:
        m.output(act(conv(x, channels, stride=(2, 2))))
        x = act(conv(x, channels, 1))
    m.output(x)
    return lower(import_bytes(m, folder))


def words(graph: Graph, architecture: Architecture, without: str = "") -> WordProgram:
    return lower_graph(graph, Context(architecture, left_out=frozenset(without.split(",")))).program


def apart(program: WordProgram) -> dict[str, Layout]:
    """By the tensor whose leftover channels they are."""
    return {t.stored.of: t.layout for t in program.tensors.values() if t.stored.role is Role.LEFTOVERS}


def agree(
    graph: Graph, architecture: Architecture, folder: Path, seed: int = 0, *, without: str = ""
) -> tuple[int | None, int | None]:
    """The codes are those of the interpreter with and without the rewrite; the cycles of both. `without`: others."""
    inputs = random_codes(graph, seed)
    expected, cycles = run_codes(graph, inputs), []
    for left_out in (without or None, f"{without},{NAME}" if without else NAME):
        emission = emit(graph, architecture, folder, left_out)
        found = simulate(graph, emission, folder, inputs)
        assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)
        cycles.append(emission.cycles)
    return cycles[0], cycles[1]


@pytest.mark.parametrize("shortcut", ["clamped", "bare", "layer"])
def test_all_that_are_added_lie_alike_and_take_fewer_cycles(tmp_path: Path, shortcut: str) -> None:
    graph = blocks(tmp_path, shortcut=shortcut)
    program = words(graph, BOARD)
    found = apart(program)
    assert len(found) >= 3
    assert len({*found.values()}) == 1
    assert {program.layout(name).channels for name in found} == {12}
    assert found.popitem()[1].channels == 8, "4 channels of two pixels"
    shorter, longer = agree(graph, BOARD, tmp_path)
    assert shorter is not None
    assert longer is not None
    assert shorter < longer


@pytest.mark.parametrize("fields", [{"local_depth": 1100}, {"local_depth": 700}, {"accumulator_depth": 150}])
def test_the_codes_are_the_same_in_small_memories(tmp_path: Path, fields: dict[str, int]) -> None:
    agree(blocks(tmp_path), machine(12, **fields), tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_networks_of_any_size_on_any_array_are_exact(tmp_path: Path, seed: int) -> None:
    r = np.random.default_rng(seed)
    lanes = int(r.choice([5, 6, 9, 12, 16]))
    graph = blocks(
        tmp_path,
        lanes + int(r.integers(1, lanes // 2 + 1)),
        (int(r.choice([12, 15, 18])), int(r.choice([8, 16, 17]))),
        seed=seed,
        shortcut=str(r.choice(["clamped", "bare", "layer"])),
        strides=(int(r.integers(1, 3)), int(r.integers(1, 3))),
    )
    agree(graph, machine(lanes), tmp_path, seed)


def test_factors_of_channels_follow_them(tmp_path: Path) -> None:
    graph = blocks(tmp_path, gains=True)
    program = words(graph, BOARD)
    (made,) = {layout for layout in apart(program).values()}
    steps = [s for g in program.groups if g.result.endswith(".leftovers") for s in g.steps]
    factors = [step.words for step in steps if isinstance(step, ChannelMultiply | ChannelAdd)]
    assert factors
    assert all(len(f) == made.channels and f[: len(f) // 2] == f[len(f) // 2 :] for f in factors)
    inputs = random_codes(graph, 1)
    # What is certified for a channel is certified wherever it lies: if bounded, both ways compute the same.
    emission = emit(graph, BOARD, tmp_path)
    found = simulate(graph, emission, tmp_path, inputs)
    bare = emit(graph, BOARD, tmp_path, NAME)
    expected = simulate(graph, bare, tmp_path, inputs)
    assert all(np.array_equal(found[o.name], expected[o.name]) for o in graph.outputs)


@pytest.mark.parametrize("without", ["", "factor-leftovers,pack-leftovers"])
def test_digits_lie_as_what_they_are_of(tmp_path: Path, without: str) -> None:
    """Eight bits: sums wider than a word, over both digits of tensors whose leftover channels are apart. They are read
    from packed vectors, or as they lie, where local memory has no room for those.
    """
    graph = blocks(tmp_path, bits=8, act_bits=8)
    program = words(graph, BOARD, without)
    made = {f"{name}.leftovers" for name in apart(program)}
    both = {g.result: {*g.add_high.tensors} for g in program.groups if g.add_high is not None}
    assert made & {*both}
    assert any(made & read for read in both.values()) == bool(without)
    shorter, longer = agree(graph, BOARD, tmp_path, without=without)
    assert shorter is not None
    assert longer is not None
    assert shorter < longer


@pytest.mark.parametrize(
    ("channels", "size", "lanes"),
    [
        (24, (16, 16), 12),  # none are left
        (20, (16, 16), 12),  # two pixels of 8 channels are more than a vector
        (16, (23, 23), 12),  # no two pixels share a vector everywhere
        (4, (16, 16), 12),  # nothing but leftover channels
        (16, (4, 4), 12),  # another group takes longer than what is saved
    ],
)
def test_tensors_stay_whole_where_that_is_no_longer(
    tmp_path: Path, channels: int, size: tuple[int, int], lanes: int
) -> None:
    assert not apart(words(blocks(tmp_path, channels, size), machine(lanes)))


@pytest.mark.parametrize(("local_depth", "splits"), [(8192, True), (2000, False)])
def test_tensors_stay_whole_where_each_part_would_read_a_large_tensor_from_dram(
    tmp_path: Path, local_depth: int, splits: bool
) -> None:
    """64 channels of 16 x 16 pixels are 1,536 vectors on 12 lanes: more than half of 2,000."""
    graph = blocks(tmp_path, 64, shortcut="layer")
    assert bool(apart(words(graph, machine(12, local_depth=local_depth)))) == splits


def test_what_the_host_reads_stays_whole_with_all_that_lie_alike(tmp_path: Path) -> None:
    assert not apart(words(blocks(tmp_path, shortcut="bare", ends_in_sum=True), BOARD))
