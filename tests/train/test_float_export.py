"""A float torch network is exported without a word of Brevitas, and computes what it did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("brevitas")

import pefslc  # noqa: E402
from pefslc.train import export  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore")]


def test_nothing_is_printed_and_no_foreign_domain_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 1)
    ).eval()
    x = torch.randn(3, 3, 8, 8)
    export(net, x, tmp_path / "net.onnx")
    assert capfd.readouterr() == ("", "")
    assert {o.domain for o in onnx.load(tmp_path / "net.onnx").opset_import} == {""}
    with torch.no_grad():
        expected = net.double()(x.double()).numpy()
    assert np.abs(pefslc.load(tmp_path / "net.onnx").run(x.numpy())["output"] - expected).max() < 1e-6
