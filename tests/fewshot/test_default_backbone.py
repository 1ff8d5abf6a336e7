"""The backbone in examples/: what the README says of it is what its integers do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import pefslc
from pefslc.fewshot.episodes.intervals import mean_accuracy
from pefslc.fewshot.sweep.card import read_card
from pefslc.fewshot.sweep.evaluation import measure_program
from pefslc.fewshot.sweep.measure import Head
from pefslc.fewshot.sweep.setting import DataSource, Measurement

pytest.importorskip("HersheyFonts", reason="hershey-fonts, of the extra fewshot, is not installed")

ROOT = Path(__file__).parents[2]
BACKBONE = ROOT / "examples" / "glyphs_resnet9.onnx"


def test_its_accuracy_on_novel_classes_is_the_readme_s() -> None:
    """Ten thousand episodes by the compiled C and the integer head, to the last digit."""
    (said,) = re.findall(r"reaches (\S+) % with one shot and (\S+) % with five", (ROOT / "README.md").read_text())
    card = read_card(BACKBONE)
    assert card is not None
    data = DataSource(**card["data"]).load()  # type: ignore[arg-type]
    assert data.digest() == card["data_sha256"]
    network: Any = card["description"]
    program = pefslc.compile(BACKBONE, target="c", batch=1)
    measured, _ = measure_program(program, network["mean"], network["std"], data, Measurement())
    found = [f"{100 * mean_accuracy(measured.by_head[Head.INTEGER][shots]).mean:.2f}" for shots in (1, 5)]
    assert tuple(found) == said


def test_it_runs_on_the_boards_exactly() -> None:
    for arch in ("custom_perf", "pynqz1"):
        assert pefslc.compile(BACKBONE, target="tensil", arch=arch, batch=1).exact
