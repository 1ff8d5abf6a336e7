"""The command line in this process, the fake target installed, and small models on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_support import Cli, FakeEntryPoint, FakeTarget, Result, quantized_mlp

from pefslc.console import cli
from pefslc.driver import target_registry as registry


@pytest.fixture
def pefslc(capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run `pefslc` with arguments."""

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        status = cli.run([str(a) for a in arguments])
        captured = capfd.readouterr()
        return Result(status, captured.out, captured.err)

    return run


@pytest.fixture(autouse=True)
def fake_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--target fake` is installed."""
    installed = (FakeEntryPoint("fake", "tests:FakeTarget", FakeTarget),)
    monkeypatch.setattr(registry, "entry_points", lambda group: installed if group == "pefslc.targets" else ())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """mlp.onnx, quantized throughout."""
    path = tmp_path / "mlp.onnx"
    onnx.save(quantized_mlp(), str(path))
    return path


@pytest.fixture
def open_model(tmp_path: Path) -> Path:
    """open.onnx, its input not quantized."""
    path = tmp_path / "open.onnx"
    onnx.save(quantized_mlp(quantized_input=False), str(path))
    return path


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """inputs.npz for mlp.onnx: 8 rows, with the expected values."""
    random = np.random.default_rng(0)
    x = random.normal(0, 1, (8, 4)).astype(np.float32)
    grid = np.clip(np.rint(x.astype(np.float64) * 8), -16, 15)
    weight = np.arange(12).reshape(3, 4) - 6
    y = np.clip(np.rint(np.maximum(grid @ weight.T, 0) / 8), 0, 31) / 8
    path = tmp_path / "inputs.npz"
    np.savez(path, x=x, y_ref64=y)
    return path
