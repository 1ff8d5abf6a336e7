"""The layer table in a terminal: what does not fit is left out or folded, never cut."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from pefslc.console.summary import print_layers
from pefslc.diagnostics.errors import Origin
from pefslc.reports.layer_report import LayerRow, layer_name


def row(layer: str, cycles: int | None = 35_934) -> LayerRow:
    return LayerRow(
        layer=layer, op="Conv2d", shape=(1, 16, 32, 32), input="UQ2.3", weight="Q2.3", output="UQ2.3",
        accumulator_bits=13, available_bits=16, exact=True, macs=2_359_296, cycles=cycles, implementation="here",
    )  # fmt: skip


def shown(rows: list[LayerRow], width: int, *, terminal: bool = True) -> list[str]:
    file = StringIO()
    print_layers(rows, Console(file=file, width=width, force_terminal=terminal, color_system=None, highlight=False))
    lines = file.getvalue().splitlines()
    rule = next(i for i, line in enumerate(lines) if line.startswith("\u2500"))
    return lines[rule - 1 :]  # cycles are "modelled" in the line above


@pytest.mark.parametrize(
    ("width", "headers"),
    [
        (100, "layer op shape in weight out acc bits file MACs cycles"),
        (95, "layer op shape in weight out acc bits file MACs cycles"),
        (94, "layer shape in weight out acc bits file MACs cycles"),
        (80, "layer shape in out acc bits file MACs cycles"),
        (72, "layer shape out acc bits file MACs cycles"),
        (61, "layer shape out acc bits file cycles"),
        (51, "layer out acc bits file cycles"),
        (41, "layer acc bits file cycles"),
        (30, "layer acc bits file"),
        (5, "layer acc bits file"),
    ],
)
def test_columns_are_dropped_and_nothing_is_cut(width: int, headers: str) -> None:
    lines = shown([row("blocks.0/c1/conv"), row("b", cycles=None)], width)
    assert " ".join(lines[0].split()) == headers
    assert "13/16" in lines[2]
    assert "exact" in lines[2]
    assert ("35,934" in lines[2]) == ("cycles" in headers)
    assert ("2,359,296" in lines[2]) == ("MACs" in headers)
    assert not any("\u2026" in line for line in lines)
    assert max(map(len, lines)) <= max(width, 30)


def test_a_long_name_is_folded_in_a_terminal_and_whole_in_a_file() -> None:
    name = "blocks." * 20 + "conv"
    assert name in shown([row(name)], 80, terminal=False)[2]
    lines = shown([row(name)], 80)
    note = next(i for i, line in enumerate(lines) if line.startswith("left out for want of width: "))
    assert "".join(line.split()[0] for line in lines[2:note]) == name
    assert max(map(len, lines)) <= 80


def test_a_layer_without_a_name_is_called_by_its_tensor() -> None:
    assert layer_name(Origin("", "Conv", "y")) == "y"
    assert layer_name(Origin("", "Conv")) == "Conv"
