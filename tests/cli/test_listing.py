"""inspect, passes, targets: texts compared whole, for they are the user's first look."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli_support import Cli

from pefslc.console.tables import wrapped_table
from pefslc.diagnostics.text_table import plain_table

INSPECTION = """\
input  x [1,4]: Q2.3: 5 bits, step 0.125, range [-2, 1.875]
output y [1,3]: codes 0 to 31, value = code * 0.125

layer  op     shape  in    weight  out    acc bits  MACs
────────────────────────────────────────────────────────
fc     Dense  3      Q2.3  Q2.3    UQ2.3        10    12

1 layer, 12 MACs, widest accumulator 10 bits
"""


def stripped(text: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def test_inspect_needs_no_target(pefslc: Cli, model: Path) -> None:
    result = pefslc("inspect", model)
    assert result.status == 0, result.err
    assert stripped(result.out) == INSPECTION


def test_inspect_compares_with_a_target(pefslc: Cli, model: Path) -> None:
    result = pefslc("inspect", model, "--target", "fake", "--arch", "narrow")
    assert result.status == 0
    assert "10/8" in result.out
    assert result.out.endswith("the fake accumulator, 8 bits: 1 layer may overflow\n")
    assert pefslc("inspect", model, "--target", "fake").out.endswith("32 bits: every sum fits\n")
    assert pefslc("inspect", model, "--arch", "narrow").status == 2


def test_passes_are_listed_in_the_order_in_which_they_run(pefslc: Cli) -> None:
    result = pefslc("passes")
    assert result.status == 0
    rows = [line.split() for line in result.out.splitlines()]
    names = [row[1] for row in rows if row and row[0].isdigit()]
    asked = ["fold-batch-norm", "check-format", "quantize-after-training", "fill-input"]
    assert names[:5] == [*asked, "fold-constants"]
    assert "Only with --fmt, --formats or --input-fmt:\n  fold-batch-norm\n" in result.out
    assert names.index("lower-to-integer") < names.index("tighten-ranges") < names.index("check-accumulators")
    assert all(
        row[2] in ("quantized", "integer") and row[3] in ("exact", "bounded") for row in rows if row[:1] == ["1"]
    )


def test_targets_are_listed_with_their_architectures(pefslc: Cli) -> None:
    result = pefslc("targets")
    assert result.status == 0, result.err
    for expected in ("c ", "tensil ", "fake    interprets the graph's text", "custom_perf", ".tarch file"):
        assert expected in result.out


def test_a_terminal_has_the_last_column_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    header, rows = ("n", "what it does"), [("a", "one two three four five six"), ("b", "seven")]
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((24, 40)))
    assert wrapped_table(header, rows) == plain_table(header, rows)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert wrapped_table(header, rows).splitlines()[2:] == ["a  one two three four", "   five six", "b  seven"]
