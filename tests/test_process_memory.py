"""The measure that other tests judge memory by."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_PEAK = "from process_memory import peak_kilobytes; {}; print(peak_kilobytes())"
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")


def _peak_of(statement: str) -> int:
    command = [sys.executable, "-c", _PEAK.format(statement)]
    return int(subprocess.run(command, cwd=Path(__file__).parent, check=True, stdout=subprocess.PIPE).stdout)


def test_a_parent_s_memory_is_not_counted() -> None:
    held = b"x" * 200_000_000
    assert _peak_of("pass") < 100_000
    assert len(held) == 200_000_000


def test_memory_given_back_is_counted() -> None:
    assert _peak_of("b'x' * 200_000_000") > 200_000_000 // 1024
