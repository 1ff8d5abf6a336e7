"""The scripts of benchmarks/, on what is small."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import pefslc

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def script(name: str) -> ModuleType:
    """A benchmark script as a module."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def small_resnet12(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model: Path = script("resnet12").write_resnet12(tmp_path_factory.mktemp("resnet12"), 4)
    return model


def test_resnet12_is_written_to_the_same_bytes(small_resnet12: Path, tmp_path: Path) -> None:
    again = script("resnet12").write_resnet12(tmp_path, 4)
    assert again.read_bytes() == small_resnet12.read_bytes()
    assert again.with_suffix(".npz").read_bytes() == small_resnet12.with_suffix(".npz").read_bytes()


def test_resnet12_uses_its_codes_and_equals_its_own_evaluation_on_the_tcu(small_resnet12: Path) -> None:
    program = pefslc.compile(small_resnet12, target="tensil", arch="custom_perf", fmt="Q3.3")
    verification = program.verify(small_resnet12.with_suffix(".npz"))
    assert verification.equal
    assert "y_ref64" in str(verification)
    y = np.load(small_resnet12.with_suffix(".npz"))["y_ref64"]
    assert y.std() > 0.25  # two steps of the format at least
    assert 10 <= max(row.accumulator_bits or 0 for row in program.layers) <= 16
