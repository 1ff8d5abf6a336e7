"""From a torch network straight to a program: what was trained is what runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("brevitas")

from train_support import Residual, cnn, images  # noqa: E402

import pefslc  # noqa: E402
from pefslc.train import export, fixed_point  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore")]


def trained(net: Any, steps: int = 20) -> Any:
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(steps):
        x = images(32)
        loss = torch.nn.functional.cross_entropy(net(x), (x.mean((1, 2, 3)) * 100).long().abs() % 4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


@pytest.mark.parametrize(("target", "fmt"), [("c", "Q2.3"), ("tensil", "Q3.4")])
@pytest.mark.parametrize("make", [cnn, Residual])
def test_a_trained_network_computes_what_torch_does(target: str, fmt: str, make: Any, tmp_path: Path) -> None:
    net, x = trained(make(fixed_point(fmt))), images(16)
    program = pefslc.compile(net, target=target, fmt=fmt, example=x[:2])
    with torch.no_grad():
        expected = net.eval()(x).double().numpy()
    assert np.array_equal(program.run(x.numpy())["output"], expected)
    assert program.verify({"x": x.numpy(), "output": expected}).equal
    names = [p.name for p in program.save(tmp_path)]
    assert f"{make.__name__.lower() if make is Residual else 'sequential'}.{target}.json" in names


def test_the_network_and_its_file_compile_to_the_same(tmp_path: Path) -> None:
    net, x = cnn(), images()
    export(net, x, tmp_path / "sequential.onnx")
    one = pefslc.compile(net, target="c", example=x)
    two = pefslc.compile(tmp_path / "sequential.onnx", target="c")
    assert one.emission.files == two.emission.files
    assert one.sidecar == two.sidecar


def test_a_network_needs_an_example() -> None:
    with pytest.raises(pefslc.CompileError, match="network Sequential is given without an example") as raised:
        pefslc.compile(cnn(), target="c")
    assert "example=x" in str(raised.value)


def test_torch_is_not_imported_for_the_rest(tmp_path: Path) -> None:
    code = """
import sys
from pefslc.console.cli import run
assert run(["--help"]) == run(["inspect", sys.argv[1]]) == run([sys.argv[1], "--target", "c", "-o", sys.argv[2]]) == 0
import pefslc.driver.compiler
assert not {"torch", "brevitas"} & set(sys.modules)
"""
    model = Path(__file__).parents[2] / "examples" / "cnn_bnfold_q2_3.onnx"
    subprocess.run([sys.executable, "-c", code, str(model), str(tmp_path)], check=True, capture_output=True)
