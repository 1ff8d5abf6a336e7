"""The file of a trained backbone: what was written comes back, and nothing else is read."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch, of the extra train, is not installed")
pytest.importorskip("brevitas", reason="brevitas, of the extra train, is not installed")

from fewshot.network_support import drawn, tiny  # noqa: E402

from pefslc.diagnostics.errors import CompileError  # noqa: E402
from pefslc.fewshot.networks import (  # noqa: E402
    Activation,
    Recipe,
    TrainedFile,
    features_of,
    fit,
    quantized,
    read_trained,
    train,
    write_trained,
)
from pefslc.fewshot.networks.saved_training import network_digest  # noqa: E402
from pefslc.fewshot.networks.training import Trained  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore")]

ORIGIN = {"data": "{}", "recipe": "a recipe"}


@pytest.fixture(scope="module")
def trained() -> Trained:
    description = tiny(inner=(3, 4, 5), strided=False, activation=Activation.LEAKY_RELU)
    return train(description, drawn(), Recipe(epochs=1, batch=8, temperature=7.5))


def test_a_network_comes_back_and_trains_on_alike(trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    write_trained(path, TrainedFile(trained, ORIGIN))
    read = read_trained(path)
    assert read.origin == ORIGIN
    found = read.trained
    assert (found.description, found.classifier.temperature) == (trained.description, 7.5)
    assert [epoch.loss for epoch in found.history] == [epoch.loss for epoch in trained.history]
    images = drawn().images
    wanted, got = (features_of(t.network, t.description, images) for t in (trained, found))
    assert np.array_equal(got, wanted)
    more = Recipe(epochs=1, batch=8)
    ends = [fit(t, drawn(), more, teacher=t.teacher) for t in (trained, found)]
    assert len({network_digest(end.network, end.classifier) for end in ends}) == 1


def test_a_file_cut_short_is_refused(trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    write_trained(path, TrainedFile(trained))
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CompileError, match="no trained backbone"):
            read_trained(path)


class Evil:
    def __reduce__(self) -> object:
        return (pytest.fail, ("a file was executed",))


@pytest.mark.parametrize("content", [{"kind": "another"}, [1], Evil()])
def test_other_files_are_refused_and_not_executed(content: object, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(content, path)
    with pytest.raises(CompileError, match="no trained backbone"):
        read_trained(path)
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(CompileError, match="no trained backbone"):
        read_trained(path)


def test_a_file_that_contradicts_itself_is_refused(trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    write_trained(path, TrainedFile(trained))
    content = torch.load(path, weights_only=True)
    for name, value in (("description", tiny().to_json()), ("network", {}), ("temperature", "warm"), ("history", 3)):
        torch.save({**content, name: value}, path)
        with pytest.raises(CompileError, match="contradicts itself"):
            read_trained(path)


def test_other_files_are_not_replaced(trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "thesis.pt"
    path.write_bytes(b"years")
    with pytest.raises(CompileError, match="exists and is no trained backbone"):
        write_trained(path, TrainedFile(trained))
    assert path.read_bytes() == b"years"
    path.unlink()
    write_trained(path, TrainedFile(trained))
    write_trained(path, TrainedFile(trained, ORIGIN))
    assert read_trained(path).origin == ORIGIN


def test_a_quantized_network_is_not_written(trained: Trained, tmp_path: Path) -> None:
    small = quantized(trained, "Q2.3", drawn().images)
    with pytest.raises(CompileError, match="no float backbone"):
        write_trained(tmp_path / "net.pt", TrainedFile(small))
    with pytest.raises(CompileError, match="no such file"):
        read_trained(tmp_path / "net.pt")
