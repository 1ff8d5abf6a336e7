"""The built site, once for all tests of a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from links import ROOT


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built pages; no warning was printed. Skipped where Sphinx or its theme is missing."""
    pytest.importorskip("sphinx")
    pytest.importorskip("furo")
    folder = tmp_path_factory.mktemp("site") / "built"
    command = [sys.executable, str(ROOT / "docsite" / "build.py"), str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    return folder / "html"
