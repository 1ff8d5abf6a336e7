"""examples/train_digits.py does what it says, here on a network so small that it takes seconds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("brevitas")
pytest.importorskip("sklearn")

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "train_digits.py"

pytestmark = pytest.mark.train


def test_the_example_trains_and_compiles_what_it_trained(tmp_path: Path) -> None:
    small = ["--epochs", "1", "--width", "4", "--size", "8", "--simulate", "20"]
    ended = subprocess.run(
        [sys.executable, SCRIPT, *small, "-o", tmp_path], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    rows = {name: numbers.split() for name, numbers in re.findall(r"^(\S+, \w+) +(.*)$", ended.stdout, re.MULTILINE)}
    assert list(rows) == ["float, torch", "Q2.3, torch", "Q2.3, C", "Q2.3, Tensil"]
    assert rows["Q2.3, C"] == rows["Q2.3, torch"]
    assert rows["Q2.3, C"][:2] == ["297", "297"]
    assert rows["Q2.3, Tensil"][:2] == ["20", "20"]
    assert float(rows["Q2.3, C"][2].rstrip("%")) > 40  # ten classes: it learned
    assert {"resnet9.onnx", "resnet9.c.json", "resnet9.tensil.json"} <= {p.name for p in tmp_path.iterdir()}
