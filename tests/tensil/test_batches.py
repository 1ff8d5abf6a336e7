"""Programs for several pictures: the same codes as one at a time, however the groups share the batch."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from batch_support import assert_computes, deep_network, lowered_network
from hypothesis import given
from hypothesis import strategies as st
from tensil_architectures import NARROW, SMALL, UPWARDS, WIDE, sane_architecture, tiny_architecture
from tensil_support import emit, random_codes, simulate

import pefslc
from builders import ModelBuilder, import_bytes, lower, random_network
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.batch import batch_of, with_batch
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import run_codes
from pefslc.targets.tensil.check.checker import check_program
from pefslc.targets.tensil.cost.cycles import model_cycles
from pefslc.targets.tensil.machine.architecture import Architecture, load_architecture
from pefslc.targets.tensil.pipeline import LoweredNetwork, lower_graph
from pefslc.targets.tensil.program.tmodel import load_tmodel
from pefslc.targets.tensil.rewriting.rewrite import Context
from pefslc.targets.tensil.schedule.as_program import program_of
from pefslc.targets.tensil.schedule.batches import Batches, runs_of_chain
from pefslc.targets.tensil.schedule.schedule import schedule
from pefslc.targets.tensil.simulate.simulator import Machine

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "cnn_bnfold_q2_3.onnx"
FEATURES = (SMALL, NARROW, WIDE, UPWARDS)


# --- the order of runs ------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(1, 9))
def test_every_link_of_the_chain_works_on_every_picture_once_and_after_the_link_before(
    at_once: list[int], size: int
) -> None:
    done = [0] * len(at_once)
    for link, pictures in runs_of_chain(at_once, size):
        assert pictures.start == done[link]
        assert len(pictures) == min(at_once[link], size - pictures.start)
        assert link == 0 or done[link - 1] >= pictures.stop
        done[link] = pictures.stop
    assert done == [size] * len(at_once)


@given(st.lists(st.integers(1, 6), min_size=2, max_size=6).map(sorted), st.integers(1, 9))
def test_no_more_waits_for_a_link_than_it_works_on(at_once: list[int], size: int) -> None:
    """Of links that work on more and more: when a link begins, what waits behind it is less than the next one wants."""
    done = [0] * len(at_once)
    for link, pictures in runs_of_chain(at_once, size):
        if link + 1 < len(at_once):
            assert pictures.start - done[link + 1] < at_once[link + 1]
        done[link] = pictures.stop


# --- the programs -----------------------------------------------------------------------------------------------------


def compares_a_shared_batch(seed: int, folder: Path) -> bool:
    """Whether a random network runs on a random architecture. Its codes are compared, however it shares a batch."""
    architecture = (sane_architecture, tiny_architecture, lambda _: load_architecture("custom_perf"))[seed % 3](seed)
    found = lowered_network(seed, FEATURES[seed % 4], architecture, folder)
    if found is None:
        return False
    graph, lowered = found
    r = np.random.default_rng(seed)
    groups, batch = lowered.program.groups, int(r.integers(2, 6))
    at_once = {group.result: int(r.integers(1, batch + 1)) for group in groups}
    kept = frozenset(group.result for group in groups if r.random() < 0.4)
    try:
        plan = schedule(lowered.program, architecture, batches=Batches(batch, at_once, kept))
    except CompileError:
        return False  # the DRAMs hold one picture, and not so many
    assert_computes(program_of("x", architecture, plan), graph, lowered, batch, seed)
    return True


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_any_way_to_share_a_batch_computes_the_same_codes(first: int, tmp_path: Path) -> None:
    compared = sum(compares_a_shared_batch(seed, tmp_path) for seed in range(first, first + 10))
    assert compared >= 4, "most refuse: they compare nothing"


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5])
def test_emitted_files_take_any_number_of_rows(batch: int, tmp_path: Path) -> None:
    graph = with_batch(lower(import_bytes(random_network(3, SMALL), tmp_path)), batch)
    emission = emit(graph, load_architecture("custom_perf"), tmp_path)
    assert check_program(load_tmodel(next(tmp_path.glob("*.tmodel")))) == []
    for rows in (1, 4, 7):
        inputs = random_codes(graph, rows, rows)
        expected, found = run_codes(graph, inputs), simulate(graph, emission, tmp_path, inputs)
        for output in graph.outputs:
            assert np.array_equal(found[output.name], expected[output.value.name])


def test_a_batch_makes_the_same_bytes_every_time(tmp_path: Path) -> None:
    graph = with_batch(lower(import_bytes(random_network(3, SMALL), tmp_path)), 4)
    architecture = load_architecture("custom_perf")
    assert emit(graph, architecture, tmp_path).files == emit(graph, architecture, tmp_path).files


# --- what it brings ---------------------------------------------------------------------------------------------------


def cycles(lowered: LoweredNetwork, architecture: Architecture, batches: Batches) -> dict[str, int]:
    """By kind, of one picture."""
    plan = schedule(lowered.program, architecture, batches=batches)
    report = model_cycles(program_of("x", architecture, plan), plan.segments)
    found = {kind.value: spent // batches.size for kind, spent in report.of(list(report.spent)).items()}
    return found | {"total": report.total // batches.size}


def test_weights_are_read_once_for_all_pictures_that_a_group_works_on(tmp_path: Path) -> None:
    graph, architecture = deep_network(tmp_path), load_architecture("custom_perf")
    lowered = lower_graph(graph, Context(architecture))
    one = cycles(lowered, architecture, Batches(1))
    four = cycles(lowered, architecture, Batches.uniform(lowered.program.groups, 4))
    assert four["DRAM1"] < 0.3 * one["DRAM1"]
    assert four["weights"] < 0.4 * one["weights"]


def test_weights_that_stay_are_read_by_the_first_run_only(tmp_path: Path) -> None:
    graph, architecture = deep_network(tmp_path), replace(load_architecture("custom_perf"), local_depth=12288)
    lowered = lower_graph(graph, Context(architecture))
    names = [group.result for group in lowered.program.groups]
    again = cycles(lowered, architecture, Batches(4))
    kept = cycles(lowered, architecture, Batches(4, kept=frozenset(names)))
    assert kept["DRAM1"] < 0.3 * again["DRAM1"]


def test_the_chosen_way_takes_no_more_cycles_than_any_uniform_one(tmp_path: Path) -> None:
    graph, architecture = deep_network(tmp_path), replace(load_architecture("custom_perf"), local_depth=1100)
    lowered = lower_graph(graph, Context(architecture), batch=8)
    chosen = lowered.schedule.batches
    uniform = [Batches(8, {group.result: b for group in lowered.program.groups}) for b in (1, 2, 4, 8)]
    assert chosen.size == 8
    assert len(set(chosen.at_once.values())) > 1, "here, groups differ in what they want"
    least = min(cycles(lowered, architecture, batches)["total"] for batches in uniform)
    assert cycles(lowered, architecture, chosen)["total"] <= least


def one_pixel(folder: Path) -> Graph:
    """A layer whose weights move past its one pixel: they leave out the taps beside it."""
    m, r = ModelBuilder(), np.random.default_rng(0)
    x = m.quant(m.input([1, 50, 1, 1], "input"), 0.125, 4)
    weight = m.weight(r.integers(-1, 2, (50, 50, 3, 3)) * 0.25, 0.25, 3)
    m.output(m.quant(m.node("Conv", x, weight, pads=[1, 1, 1, 1]), 0.5, 4), [1, 50, 1, 1])
    return lower(import_bytes(m, folder))


def test_a_batch_has_room_where_one_picture_has(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Moving weights take fewer vectors of DRAM1 here than weights that stay, which a batch is tried with, too."""
    graph, board = one_pixel(tmp_path), load_architecture("custom_perf")
    moving = lower_graph(graph, Context(board))
    staying = lower_graph(graph, Context(board).without("keep-activations"))
    assert any(group.stationary is not None for group in moving.program.groups)
    sizes = [len(lowered.schedule.constants) for lowered in (moving, staying)]
    assert sizes[0] < sizes[1]
    architecture = replace(board, dram1_depth=sizes[0])
    with pytest.raises(CompileError):
        lower_graph(graph, Context(architecture).without("keep-activations"), batch=2)
    with caplog.at_level("DEBUG"):
        lowered = lower_graph(graph, Context(architecture), batch=2)
    assert any(group.stationary is not None for group in lowered.program.groups)
    assert "keep-activations stays" in caplog.text
    assert_computes(program_of("x", architecture, lowered.schedule), graph, lowered, 2, 0)


# --- what the user sees -----------------------------------------------------------------------------------------------


def host_module(folder: Path) -> ModuleType:
    (path,) = folder.glob("*_io.py")
    spec = importlib.util.spec_from_file_location(f"{path.stem}_{folder.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class SimulatedDriver:
    """The driver's `run`, on the simulator; `runs` counts."""

    def __init__(self, folder: Path) -> None:
        self.program, self.runs = load_tmodel(next(folder.glob("*.tmodel"))), 0
        self.machine = Machine(self.program.architecture, poison_seed=1)
        self.machine.load_constants(self.program)

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.runs += 1
        size, one = self.program.architecture.array_size, self.program.architecture.data_type.one
        words = {name: np.rint(x.reshape(-1, size) * one).astype(np.int64) for name, x in inputs.items()}
        return {name: found.reshape(-1) / one for name, found in self.machine.infer(self.program, words).items()}


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_the_host_module_runs_any_number_of_rows_in_batches(rows: int, tmp_path: Path) -> None:
    program = pefslc.compile(EXAMPLE, target="tensil", batch=3)
    program.save(tmp_path)
    x = np.random.default_rng(rows).normal(size=(rows, *program.graph.inputs[0].value.type.shape[1:]))
    io, driver = host_module(tmp_path), SimulatedDriver(tmp_path)
    found, expected = io.run(driver, x), program.graph.run(x)
    for name, values in expected.items():
        assert np.array_equal(found[name], values)
    assert driver.runs == -(-rows // 3)


@pytest.mark.parametrize("host", ["module", "plain"])
def test_an_image_without_its_batch_axis_is_one_row(host: str, tmp_path: Path) -> None:
    """Its channels, fewer than the batch, are no rows."""
    m, r = ModelBuilder(), np.random.default_rng(0)
    x = m.quant(m.input([1, 3, 8, 8], "picture"), 0.125, 5)
    weight = m.weight(r.integers(-2, 3, (4, 3, 3, 3)) * 0.25, 0.25, 4)
    m.output(m.quant(m.node("Conv", x, weight), 0.5, 6), [1, 4, 6, 6])
    program = pefslc.compile(m.save(tmp_path), target="tensil", batch=4, host=host)
    program.save(tmp_path)
    io, driver = host_module(tmp_path), SimulatedDriver(tmp_path)
    image = r.integers(-16, 16, (3, 8, 8)) / 8
    (expected,) = program.graph.run({"picture": image[None]}).values()
    for inputs in (image, {"picture": image}, {"x": image}, {"picture": image[None]}):
        (found,) = io.run(driver, inputs).values()
        assert np.array_equal(found, expected)


def test_the_host_module_refuses_more_rows_than_a_batch(tmp_path: Path) -> None:
    pefslc.compile(EXAMPLE, target="tensil", batch=2).save(tmp_path)
    io = host_module(tmp_path)
    shape = io.INPUTS[0]["shape"]
    with pytest.raises(ValueError, match="or fewer rows"):
        io.to_driver(np.zeros([3, *shape[1:]]))


def test_a_batch_in_the_file_is_that_of_the_program(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input([2, 4], "input"), 0.125, 5)
    m.output(m.node("Gemm", x, m.weight(np.eye(4), 0.25, 4), transB=1), [2, 4])
    graph = lower(import_bytes(m, tmp_path))
    assert batch_of(graph) == 2
    inputs = random_codes(graph, 0, 5)
    found = simulate(graph, emit(graph, load_architecture("pynqz1"), tmp_path), tmp_path, inputs)
    (output,) = graph.outputs
    assert np.array_equal(found[output.name], run_codes(graph, inputs)[output.value.name])


def test_inputs_of_different_batches_are_refused(tmp_path: Path) -> None:
    m = ModelBuilder()
    for i, rows in enumerate((1, 2)):
        m.output(m.quant(m.quant(m.input([rows, 4], f"x{i}"), 0.125, 5), 0.25, 4), [rows, 4])
    with pytest.raises(CompileError, match="a first axis of 2 is not supported") as e:
        emit(lower(import_bytes(m, tmp_path)), load_architecture("pynqz1"), tmp_path)
    assert "give all inputs the same batch" in str(e.value)


def test_the_batch_is_said_with_the_cycles_of_one_picture() -> None:
    one, four = (pefslc.compile(EXAMPLE, target="tensil", arch="custom_perf", batch=b) for b in (1, 4))
    assert one.emission.cycles is not None
    assert four.emission.cycles is not None
    (note,) = (n for n in four.emission.notes if "a picture" in n)
    assert f"{four.emission.cycles / 4:,.0f} modelled cycles a picture" in note
    assert four.emission.cycles < 4 * one.emission.cycles
    assert not any("a picture" in n for n in one.emission.notes)


def test_a_layer_says_on_how_many_pictures_it_works() -> None:
    one, four = (pefslc.compile(EXAMPLE, target="tensil", arch="custom_perf", batch=b) for b in (1, 4))
    for alone, shared in zip(one.layers, four.layers, strict=True):
        assert "at once" not in alone.implementation
        assert shared.implementation.count("of 4 pictures at once") == bool(alone.implementation)


def test_the_numbers_of_pictures_are_in_the_order_of_the_layers() -> None:
    """Each change, also back to a number that was before."""
    assert Batches(4, {"a": 1, "b": 1, "c": 4, "d": 2, "e": 4, "f": 4}).in_order == (1, 4, 2, 4)
