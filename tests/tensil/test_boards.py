"""The boards' clocks, and the milliseconds that a compile says."""

from __future__ import annotations

from pathlib import Path

import pytest

import pefslc
from pefslc.artifacts.costs import Clock
from pefslc.targets.tensil.cost.clock import clock_of
from pefslc.targets.tensil.machine.boards import published_design

CNN = Path(__file__).parents[2] / "examples" / "cnn_bnfold_q2_3.onnx"


def test_a_clock_that_the_user_gives_holds_before_that_of_the_board() -> None:
    assert clock_of("pynqz1", 125.0) == Clock(125.0, "--clock-mhz")
    assert clock_of("mine.tarch", 125.0) == Clock(125.0, "--clock-mhz")
    assert clock_of("mine.tarch") is None
    design = published_design("zcu104")
    assert design is not None
    assert clock_of("zcu104") == Clock(design.mhz, design.source) == Clock(100.0, "Tensil's tutorial for the ZCU104")


@pytest.mark.parametrize(("clock", "mhz"), [(None, 50), (200.0, 200)])
def test_a_compile_says_the_milliseconds_of_its_cycles(clock: float | None, mhz: int) -> None:
    emission = pefslc.compile(CNN, target=pefslc.TensilTarget(arch="pynqz1", clock_mhz=clock)).emission
    assert emission.cycles is not None
    (line,) = (note for note in emission.notes if note.startswith("modelled: "))
    seconds = emission.cycles / (mhz * 1e6)
    assert line.startswith(f"modelled: {seconds * 1e3:.3f} ms, {1 / seconds:,.1f} frames a second, at {mhz} MHz (")
    script = next(text.decode() for name, text in emission.files.items() if name.endswith("_run.py"))
    assert f"MODELLED_CYCLES = {emission.cycles}\nCLOCK_MHZ = {mhz}.0 " in script


def test_a_compile_for_a_board_without_a_clock_asks_for_it() -> None:
    emission = pefslc.compile(CNN, target=pefslc.TensilTarget(arch="cmoda7")).emission
    assert (
        "no clock is known for this architecture: --clock-mhz makes milliseconds of modelled cycles" in emission.notes
    )
