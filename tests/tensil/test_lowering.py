"""The lowering to the TCU: random networks on random architectures, checked by the simulator reading the files back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensil_support import emit, random_codes, simulate

from builders import Feature, ModelBuilder, import_bytes, lower, random_network
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.graph import Graph
from pefslc.ir.interpret import apply_output_map, quantize_input, run_codes
from pefslc.targets.tensil.groups.layout import Layout, to_vectors
from pefslc.targets.tensil.machine.architecture import DataType, load_architecture
from pefslc.targets.tensil.machine.instructions import DataMove, MoveKind
from pefslc.targets.tensil.matrix import resident_rows
from pefslc.targets.tensil.program.tmodel import load_tmodel
from pefslc.targets.tensil.schedule import pass_steps
from pefslc.targets.tensil.simulate.simulator import Machine
from pefslc.targets.tensil.word_rewrites import addends

FEATURE = Feature(batch_norm=False, leaky=False, most_bits=4)


@pytest.mark.parametrize("seed", range(12))
def test_wide_data_types_take_every_power_of_two_network(seed: int, tmp_path: Path) -> None:
    """With room in the accumulators nothing of these networks is refused (a mean over 9 is no power of two)."""
    architecture = replace(load_architecture("pynqz1"), data_type=DataType["FP32BP16"], array_size=5)
    feature = replace(FEATURE, float_bias=False, average_pool=False)
    graph = lower(import_bytes(random_network(seed, feature), tmp_path))
    emission = emit(graph, architecture, tmp_path)
    inputs = random_codes(graph, seed)
    found = simulate(graph, emission, tmp_path, inputs)
    assert all(np.array_equal(found[o.name], run_codes(graph, inputs)[o.value.name]) for o in graph.outputs)


def test_spilling_to_dram_does_not_change_a_code(tmp_path: Path) -> None:
    """The same network with less and less local memory, down to the refusal that names the resource."""
    graph = lower(import_bytes(random_network(1, replace(FEATURE, average_pool=False)), tmp_path))
    inputs = random_codes(graph, 3)
    expected = run_codes(graph, inputs)
    architecture = replace(load_architecture("pynqz1"), data_type=DataType["FP32BP16"], accumulator_depth=64)
    spilled = 0
    for local_depth in (4096, 300, 150, 100, 80, 60, 50, 40, 20):
        try:
            emission = emit(graph, replace(architecture, local_depth=local_depth), tmp_path)
        except CompileError as e:
            assert "local memory has" in str(e)  # noqa: PT017  # the loop ends here
            break
        found = simulate(graph, emission, tmp_path, inputs)
        assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)
        spilled += local_depth <= 100
    assert spilled


def six_blocks(folder: Path) -> Graph:
    """A convolution to six blocks of four channels."""
    r, m = np.random.default_rng(0), ModelBuilder()
    x = m.quant(m.input([1, 4, 2, 2]), 0.25, 4)
    m.output(m.node("Conv", x, m.weight(r.integers(-7, 8, (24, 4, 1, 1)) / 8, 0.125, 4)))
    return lower(import_bytes(m, folder))


@pytest.mark.parametrize(("local_depth", "together"), [(15, 1), (21, 3)])
def test_blocks_of_a_result_pass_through_local_memory_together(local_depth: int, together: int, tmp_path: Path) -> None:
    """Of six blocks of four pixels the accumulators hold three: so many go to DRAM0 at once, if they find room."""
    graph = six_blocks(tmp_path)
    board = replace(load_architecture("pynqz1"), array_size=4, accumulator_depth=13, local_depth=local_depth)
    emission = emit(graph, board, tmp_path)
    moves = [i for i in load_tmodel(next(tmp_path.glob("*.tmodel"))).instructions if isinstance(i, DataMove)]
    staged = [move.vectors for move in moves if move.kind is MoveKind.ACCUMULATOR_TO_LOCAL]
    assert staged == [4 * together] * (6 // together)
    assert sum(move.vectors for move in moves if move.kind is MoveKind.LOCAL_TO_DRAM0) == 24
    inputs = random_codes(graph, 0)
    found, expected = simulate(graph, emission, tmp_path, inputs), run_codes(graph, inputs)
    assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)


def test_a_layer_needs_a_pixel_on_each_side_and_a_tile_of_weights(tmp_path: Path) -> None:
    """Which is four rows and the bias's: with one vector less, the refusal says so."""
    graph, board = six_blocks(tmp_path), replace(load_architecture("pynqz1"), array_size=4, local_depth=7)
    inputs = random_codes(graph, 0)
    found, expected = simulate(graph, emit(graph, board, tmp_path), tmp_path, inputs), run_codes(graph, inputs)
    assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)
    with pytest.raises(CompileError, match="local memory has 6 vectors, this layer needs 7 free and finds 6"):
        emit(graph, replace(board, local_depth=6), tmp_path)


def test_no_sum_saturates_and_two_runs_in_a_row_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The overflow proof, observed: extreme inputs saturate nothing, from poisoned memories, again and again.

    Without matrix steps, which saturate on purpose; with them, the results are the same.
    """
    graph = lower(import_bytes(random_network(5, FEATURE), tmp_path))
    results = []
    for by_matrix in (True, False):
        if not by_matrix:
            for name in ("leading_plan", "trailing_plan", "addend_plan"):
                for module in (pass_steps, resident_rows, addends):
                    if hasattr(module, name):
                        monkeypatch.setattr(module, name, lambda *_: None)
        emission = emit(graph, load_architecture("custom_perf"), tmp_path)
        program = load_tmodel(tmp_path / str(emission.details["tmodel"]))
        machine = Machine(program.architecture, poison_seed=7)
        machine.load_constants(program)
        name = program.inputs[0].name
        codes = graph.inputs[0].value.type.codes
        record = emission.details["inputs"][0]  # type: ignore[index,call-overload]
        layout, exponent = Layout(*record["layout"]), int(record["exponent"])
        saturated: list[int] = []
        for word in (codes.low << exponent, codes.high << exponent, codes.low << exponent):
            raw = np.full((layout.channels, layout.height, layout.width), word, dtype=np.int64)
            results.append(machine.infer(program, {name: to_vectors(raw, program.architecture.array_size)}))
            saturated += machine.saturated
        assert by_matrix == bool(saturated)
    for i, j in ((0, 2), (0, 3), (1, 4), (2, 5)):
        assert all(np.array_equal(results[i][k], results[j][k]) for k in results[0])


@pytest.mark.parametrize("seed", [1, 5, 6])
def test_few_constants_stay_in_local_memory_from_run_to_run(tmp_path: Path, seed: int) -> None:
    """No run reads DRAM1 then; nothing overwrites them, for several runs agree; and the codes are the same."""
    graph = lower(import_bytes(random_network(seed, FEATURE), tmp_path))
    inputs = random_codes(graph, 3, batch=3)
    expected = run_codes(graph, inputs)
    architecture = replace(load_architecture("custom_perf"), data_type=DataType["FP32BP16"])
    for local_depth, resident in ((8192, True), (250, False)):
        emission = emit(graph, replace(architecture, local_depth=local_depth), tmp_path)
        program = load_tmodel(tmp_path / str(emission.details["tmodel"]))
        reads = [i for i in program.instructions if isinstance(i, DataMove) and i.kind is MoveKind.DRAM1_TO_LOCAL]
        assert program.load_consts_to_local == resident
        assert bool(reads) != resident
        found = simulate(graph, emission, tmp_path, inputs)
        assert all(np.array_equal(found[o.name], expected[o.value.name]) for o in graph.outputs)


def test_host_io_quantizes_and_reads_back_like_the_interpreter(tmp_path: Path) -> None:
    """`<name>_io.py`, with numpy alone, through the driver's own float conversion."""
    graph = lower(import_bytes(random_network(5, FEATURE), tmp_path))
    emission = emit(graph, load_architecture("custom_perf"), tmp_path)
    source = next(c for n, c in emission.files.items() if n.endswith("_io.py"))
    io: dict[str, object] = {}
    exec(compile(source, "io.py", "exec"), io)
    x = np.random.default_rng(0).normal(0, 1, graph.inputs[0].value.type.shape)
    program = load_tmodel(tmp_path / str(emission.details["tmodel"]))
    machine = Machine(program.architecture, poison_seed=1)
    machine.load_constants(program)
    floats = io["to_driver"]({graph.inputs[0].name: x})  # type: ignore[operator]
    one = 1 << program.architecture.data_type.binary_point
    a = program.architecture.array_size
    raw = {name: np.rint(values * one).astype(np.int64).reshape(-1, a) for name, values in floats.items()}
    results = machine.infer(program, raw)
    values = io["from_driver"]({name: v.reshape(-1) / one for name, v in results.items()})  # type: ignore[operator]
    codes = run_codes(graph, {i.name: quantize_input(i, x) for i in graph.inputs})
    for output in graph.outputs:
        assert np.array_equal(values[output.name], apply_output_map(output, codes[output.value.name]))


def test_emitted_bytes_are_the_same_every_time(tmp_path: Path) -> None:
    graph = lower(import_bytes(random_network(8, FEATURE), tmp_path))
    architecture = load_architecture("pynqz1")
    assert emit(graph, architecture, tmp_path).files == emit(graph, architecture, tmp_path).files
