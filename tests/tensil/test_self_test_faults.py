"""The self-test on boards that are broken one way each: what it says is what is broken."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from runpy import run_path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from stock_board import Hardware, StockDriver

import pefslc
from builders import ModelBuilder, normal
from pefslc.targets.tensil.check.checker import check_program
from pefslc.targets.tensil.machine.architecture import Architecture, built_in_architectures, load_architecture
from pefslc.targets.tensil.probes import constants_probe, probes_of
from pefslc.targets.tensil.program.tmodel import IoEntry, TensilProgram
from pefslc.targets.tensil.simulate.simulator import Machine

BOARD = replace(load_architecture("custom_perf"), dram0_depth=1 << 12, dram1_depth=1 << 12)
CNN = Path(__file__).parents[2] / "examples" / "cnn_bnfold_q2_3.onnx"


def written(folder: Path, architecture: Architecture, model: Path = CNN) -> Path:
    tarch = folder / "board.tarch"
    tarch.write_text(json.dumps(architecture.to_json_dict()))
    pefslc.compile(model, target="tensil", arch=tarch).save(folder)
    return folder


@pytest.fixture(scope="module")
def resident(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model: its constants stay in local memory from run to run."""
    return written(tmp_path_factory.mktemp("resident"), BOARD)


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose constants are read from DRAM1 in each run."""
    folder = tmp_path_factory.mktemp("streamed")
    m = ModelBuilder()
    x = m.quant(m.input([1, 24, 7, 7], "x"), 0.125, 5)
    for inputs, outputs in ((24, 60), (60, 24)):
        weight = m.weight(normal((outputs, inputs, 3, 3), 0.3), 0.125, 4)
        x = m.quant(m.node("Relu", m.node("Conv", x, weight, pads=[1] * 4)), 0.25, 5, signed=0)
    m.output(x)
    return written(folder, replace(BOARD, local_depth=1 << 10, accumulator_depth=1 << 10), m.save(folder))


@pytest.fixture(autouse=True)
def _no_alarm() -> Iterator[None]:
    """A board that hangs rings at once; nobody waits for it outside of the script."""
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGALRM, before)


def script_of(folder: Path) -> dict[str, Any]:
    return run_path(str(next(folder.glob("*_run.py"))))


def self_test(folder: Path, hardware: Hardware, architecture: Architecture = BOARD) -> tuple[bool, str]:
    """`io.self_test(driver)`: whether it passes, and what it prints."""
    printed = StringIO()
    driver = StockDriver(architecture, hardware)
    with patch.dict(sys.modules), patch.object(sys, "path", [*sys.path]), redirect_stdout(printed):
        passed: bool = run_path(str(next(folder.glob("*_io.py"))))["self_test"](driver)
    return passed, printed.getvalue()


def test_a_sound_board_passes(resident: Path, streamed: Path) -> None:
    for folder, architecture in ((resident, BOARD), (streamed, architecture_of(streamed))):
        passed, text = self_test(folder, Hardware(architecture), architecture)
        assert (passed, text.startswith("PASS: ")) == (True, True), text


def architecture_of(folder: Path) -> Architecture:
    return load_architecture(folder / "board.tarch")


def zero_dram1(machine: Machine) -> None:
    machine.dram1[:] = 0


def other_dram1(machine: Machine) -> None:
    machine.dram1[:] = np.random.default_rng(1).integers(-300, 300, machine.dram1.shape)


def half_multiplied(machine: Machine) -> None:
    multiply = type(machine.array).multiply
    machine.array.multiply = lambda rows: (multiply(machine.array, rows)[0] >> 1, False)  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("hardware", "said"),
    [
        (
            lambda a: Hardware(a, before=zero_dram1),
            ["the TCU reads others there (they are all zero)", "memory offsets"],
        ),
        (lambda a: Hardware(a, shift1=3), ["the TCU reads others there (they are those of 3 vectors further)"]),
        (lambda a: Hardware(a, shift1=-2), ["the TCU reads others there (they are those of 2 vectors before)"]),
        (lambda a: Hardware(a, before=other_dram1), ["they are others: of another model, or of another program"]),
        (lambda a: Hardware(a, before=half_multiplied), ["tries the array that multiplies gives other words"]),
    ],
)
def test_a_part_that_is_not_the_architectures_is_named(
    hardware: Callable[[Architecture], Hardware], said: list[str], streamed: Path
) -> None:
    architecture = architecture_of(streamed)
    passed, text = self_test(streamed, hardware(architecture), architecture)
    assert not passed
    assert text.startswith("FAIL: output ")
    assert all(part in text for part in said), text


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"local_depth": 512}, "local memory"),
        ({"local_depth": 512, "accumulator_depth": 512}, "local memory"),
        ({"dram0_depth": 8192}, "the strides of moves"),
        ({"accumulator_depth": 512}, "the accumulators"),
        ({"accumulator_depth": 256}, "the accumulators"),
        ({"simd_registers_depth": 3}, "the SIMD unit"),
    ],
)
def test_the_parts_are_tried_whether_a_program_needs_them_or_not(
    change: dict[str, int], part: str, streamed: Path
) -> None:
    names, architecture = script_of(streamed), architecture_of(streamed)
    for built, said in ((architecture, ""), (replace(architecture, **change), f"a small program that tries {part} ")):
        driver = StockDriver(architecture, Hardware(built))
        driver.load_model(str(next(streamed.glob("*.tmodel"))))
        found = names["wrong_part"](driver)
        assert found.startswith(said), found
        assert bool(found) == bool(said), found


@pytest.mark.parametrize("array_size", [8, 11, 16])
def test_another_array_size_does_not_answer(array_size: int, resident: Path) -> None:
    """The first thing that a driver does is to wait for a vector that moves: it goes elsewhere."""
    driving = script_of(resident)["Driving"]
    said = r"(?s)cannot start the driver: the TCU does not answer .*one of another array size"
    with pytest.raises(Exception, match=said), driving("start the driver"):
        StockDriver(BOARD, Hardware(replace(BOARD, array_size=array_size)))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda words: np.zeros_like(words), "they are all zero"),
        (lambda words: np.roll(words, 12), "they are those of 1 vector before"),
        (lambda words: np.roll(words, -24), "they are those of 2 vectors further"),
        (lambda words: words[::-1].copy(), "of another model, or of another program"),
        (lambda words: words ^ (np.arange(len(words)) == 40).astype(np.uint16), "others in 1 of"),
    ],
)
def test_constants_that_the_host_finds_changed_are_described(
    damage: Callable[[np.ndarray], np.ndarray], said: str, streamed: Path
) -> None:
    """Another program wrote into the DMA memory after the model was loaded."""
    names, architecture = script_of(streamed), architecture_of(streamed)
    with patch.dict(sys.modules), patch.object(sys, "path", [*sys.path]):
        driver = StockDriver(architecture, Hardware(architecture))
        names["load"](driver)
        constants = driver.model.consts[0]
        words = constants.size * architecture.array_size
        driver.dram1.mem[:words] = damage(driver.dram1.mem[:words])
        with pytest.raises(Exception, match="FAIL: ") as failure:
            names["self_test"](driver)
    assert "the constants in DRAM1 are not those of the .tdata" in str(failure.value)
    assert said in str(failure.value), str(failure.value)


def test_state_that_is_left_over_is_told_from_a_wrong_first_run(resident: Path) -> None:
    """Something overwrites the constants in local memory after the first run."""
    runs = []

    def overwrites(machine: Machine) -> None:
        if len(runs) >= 3:  # the driver's start, the constants, the first run
            machine.local[:40] = 77
        runs.append(machine)

    passed, text = self_test(resident, Hardware(BOARD, before=overwrites))
    assert not passed
    assert text.startswith(
        "FAIL: the first run is right, and the same inputs after a run of others give\n      output "
    ), text


def test_constants_overwritten_once_are_named(resident: Path) -> None:
    runs = []

    def overwrites(machine: Machine) -> None:
        runs.append(machine)
        if len(runs) == 4:
            machine.local[:40] = 77

    passed, text = self_test(resident, Hardware(BOARD, before=overwrites))
    assert not passed
    assert "the constants in the TCU's local memory were overwritten between two runs" in text, text


def test_garbage_that_changes_is_a_clock_or_another_program(streamed: Path) -> None:
    generator = np.random.default_rng(0)

    def garbage(machine: Machine) -> None:
        machine.dram0[:1000] = generator.integers(-900, 900, (1000, machine.dram0.shape[1]))

    architecture = architecture_of(streamed)
    passed, text = self_test(streamed, Hardware(architecture, after=garbage), architecture)
    assert not passed
    assert "two runs of the same inputs differ: a clock that the design does not reach" in text, text


def test_a_tcu_that_writes_nothing_is_told(streamed: Path) -> None:
    def nothing(machine: Machine) -> None:
        machine.dram0[:1000] = kept[0]

    kept = [np.zeros(0)]

    def keep(machine: Machine) -> None:
        kept[0] = machine.dram0[:1000].copy()

    architecture = architecture_of(streamed)
    passed, text = self_test(streamed, Hardware(architecture, before=keep, after=nothing), architecture)
    assert (passed, "the TCU wrote no output; take the bitstream of the architecture board" in text) == (False, True), (
        text
    )


@pytest.mark.parametrize("name", [*built_in_architectures(), "cut"])
def test_probes_are_legal_and_depend_on_nothing_but_what_they_are_given(name: str) -> None:
    architecture = BOARD if name == "cut" else load_architecture(name)
    probes = probes_of(architecture)
    assert len(probes) == 5
    for probe in probes:
        given = [IoEntry("in", 0, probe.vectors)]
        results = [IoEntry("out", probe.first, len(probe.expected))]
        program = TensilProgram(architecture, probe.part, probe.code, (), tuple(given), tuple(results))
        assert not check_program(replace(program, outputs=())), probe.part
        assert np.ptp(probe.expected) > 100
    code, count = constants_probe(architecture, 20_000)
    assert count == min(20_000, architecture.usable_dram0_vectors)
    assert len(code) % architecture.instruction_size_bytes == 0


def test_the_host_module_is_the_self_test(resident: Path) -> None:
    module = str(next(resident.glob("*_io.py")))
    ended = subprocess.run(
        [sys.executable, module, "--self-test", "--dry-run"], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("PASS: 10 of 10 output codes of the simulator")
    ended = subprocess.run([sys.executable, module], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.split()[:1]) == (2, ["usage:"])
