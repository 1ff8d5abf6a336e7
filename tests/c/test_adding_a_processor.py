"""The processor of docs/c-performance.md: its row and kernel, put where the page says, compute the same integers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest

ROOT = Path(__file__).parents[2]
NETWORK = ROOT / "examples" / "cnn_bnfold_q2_3.onnx"
INPUTS = ROOT / "examples" / "cnn_bnfold_q2_3.npz"


def _page() -> tuple[str, str, str]:
    """The row, the kernel and its line."""
    page = (ROOT / "docs" / "c-performance.md").read_text()
    (kernel,) = re.findall(r"```jinja\n(.*?)```", page, re.DOTALL)
    row, line = re.findall(r"```python no-run\n(.*?)```", page, re.DOTALL)
    return indent(row, "    "), kernel, indent(line, "    ")


@pytest.fixture
def changed_sources(tmp_path: Path) -> Path:
    """A folder with pefslc as it is imported, and the page's changes in it."""
    package = tmp_path / "changed" / "pefslc"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "lowering", package, ignore=ignored)
    for folder in ("frontend", "passes", "targets"):
        shutil.copytree(ROOT / folder, package / folder, ignore=ignored)
    row, kernel, line = _page()
    folder = package / "targets" / "c"
    (folder / "kernels" / "tortoise").mkdir()
    (folder / "kernels" / "tortoise" / "dot_rows.j2").write_text(kernel)
    for name, table, text in (("cpus.py", "\nCPUS = (\n", row), ("kernels.py", "\nKERNELS = (\n", line)):
        before = (folder / name).read_text()
        assert before.count(table) == 1
        (folder / name).write_text(before.replace(table, table + text))
    return package.parent


@pytest.mark.parametrize("define", ["-D__TORTOISE__", "-DPEFSLC_PORTABLE"])
def test_the_processor_of_the_page_computes_what_the_network_says(
    define: str, changed_sources: Path, tmp_path: Path, cc: str
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(changed_sources), "CC": f"{cc} {define}"}
    command = [str(NETWORK), "--target", "c", "--cpu", "tortoise", "-o", str(tmp_path / "out"), "--verify", str(INPUTS)]
    done = subprocess.run(
        [sys.executable, "-m", "pefslc", *command],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "outputs equal: c and interpreter" in done.stdout + done.stderr
    source = (tmp_path / "out" / "cnn_bnfold_q2_3.c").read_text()
    assert "defined(__TORTOISE__)" in source
    assert "if (tap != 0)" in source
