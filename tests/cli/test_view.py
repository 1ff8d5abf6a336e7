"""`pefslc view`: what is given to Netron, and where it is served."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest
from cli_support import Cli

from builders import lower
from pefslc.frontend import import_model
from pefslc.ir.parse import parse_graph
from pefslc.reports.netron import to_onnx


@dataclass
class Served:
    """A Netron that only remembers."""

    calls: list[tuple[str, bytes, tuple[str, int], bool]] = field(default_factory=list)

    def serve(self, name: str, data: bytes, address: tuple[str, int], browse: bool) -> tuple[str, int]:
        self.calls.append((name, data, address, browse))
        return address[0], 4711

    def wait(self) -> None:
        pass


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    made, module = Served(), ModuleType("netron")
    module.serve, module.wait = made.serve, made.wait  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "netron", module)
    return made


@pytest.fixture
def dump(pefslc: Cli, model: Path, tmp_path: Path) -> Path:
    assert pefslc(model, "--target", "fake", "-o", tmp_path / "out", "--dump-dir", tmp_path / "dump").status == 0
    return tmp_path / "dump"


def test_a_model_is_shown_as_imported_on_the_loopback(pefslc: Cli, models: Path, served: Served) -> None:
    result = pefslc("view", models / "cnn_q2_3.onnx", "--no-open")
    assert (result.status, result.out) == (0, "cnn_q2_3.onnx at http://127.0.0.1:4711  (Ctrl-C ends it)\n")
    ((name, content, address, browse),) = served.calls
    assert (name, address, browse) == ("cnn_q2_3.onnx", ("127.0.0.1", 0), False)
    assert b"QuantizedConstant" not in content
    assert b"quantized level" in content


def test_a_stage_of_a_model_is_the_graph_after_that_pass(pefslc: Cli, models: Path, served: Served) -> None:
    assert pefslc("view", models / "cnn_q2_3.onnx", "--stage", "check-accumulators", "--port", 5).status == 0
    ((name, content, address, browse),) = served.calls
    assert (name, address, browse) == ("cnn_q2_3_check-accumulators.onnx", ("127.0.0.1", 5), True)
    assert content == to_onnx(lower(import_model(models / "cnn_q2_3.onnx")))


def test_of_a_dump_the_last_graph_or_the_one_asked_for_is_shown(pefslc: Cli, dump: Path, served: Served) -> None:
    files = sorted(p.name for p in dump.glob("*.onnx"))
    wanted = {None: files[-1], "import": files[0], files[3].removesuffix(".onnx"): files[3]}
    wanted["merge-stages"] = [n for n in files if n.endswith("_merge-stages.onnx")][-1]
    for stage, name in wanted.items():
        assert pefslc("view", dump, *(() if stage is None else ("--stage", stage))).status == 0
        assert served.calls[-1][:2] == (name, (dump / name).read_bytes())


def test_the_text_of_a_graph_is_drawn(pefslc: Cli, dump: Path, served: Served) -> None:
    text = sorted(dump.glob("*.ir"))[-1]
    assert pefslc("view", text).status == 0
    assert served.calls[-1][1] == to_onnx(parse_graph(text.read_text()))


def test_mistakes_say_what_there_is(pefslc: Cli, model: Path, dump: Path, tmp_path: Path, served: Served) -> None:
    result = pefslc("view", dump, "--stage", "nonsense")
    assert result.status == 2
    assert "no stage 'nonsense'\n  help: --stage takes import, fold-constants, " in result.err
    assert "--stage takes import, fold-constants, " in pefslc("view", model, "--stage", "nonsense").err
    assert "holds no dump" in pefslc("view", tmp_path).err
    assert pefslc("view", tmp_path / "none.onnx").status == 2
    assert "holds one graph" in pefslc("view", sorted(dump.glob("*.ir"))[0], "--stage", "import").err
    assert not served.calls


def test_without_netron_the_extra_is_named(pefslc: Cli, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "netron", None)
    result = pefslc("view", model)
    assert result.status == 2
    assert 'pip install ".[view]"' in result.err
