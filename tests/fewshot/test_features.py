"""Features of EASY, brain-train and NumPy."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.data.features import FeatureSet, load_features

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="files of torch are made and read by torch")
BLOCK = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)


def require_block(found: FeatureSet) -> None:
    assert found.features.dtype == np.float32
    assert np.array_equal(found.features.reshape(5, 3, 4), BLOCK)
    assert found.labels.tolist() == [label for label in range(5) for _ in range(3)]


def saved(path: Path, content: Any, **options: Any) -> Path:
    import torch

    torch.save(content, path, **options)
    return path


def test_numpy_s_file_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", BLOCK)
    require_block(load_features(tmp_path / "x.npy"))


@needs_torch
@pytest.mark.parametrize("zipped", [True, False])
def test_a_tensor_of_easy_is_read(zipped: bool, tmp_path: Path) -> None:
    import torch

    path = saved(tmp_path / "mini.pt11", torch.from_numpy(BLOCK), _use_new_zipfile_serialization=zipped)
    require_block(load_features(path))


@needs_torch
def test_a_list_of_brain_train_is_read(tmp_path: Path) -> None:
    import torch

    content = [
        {"name_class": "mug", "features": torch.from_numpy(BLOCK[0])},
        {"name_class": "jar", "features": torch.from_numpy(BLOCK[1, :2]).half()},
    ]
    found = load_features(saved(tmp_path / "mini_test_features.pt", content))
    assert found.names == ("mug", "jar")
    assert found.labels.tolist() == [0, 0, 0, 1, 1]
    assert np.array_equal(
        found.features, np.concatenate([BLOCK[0], BLOCK[1, :2].astype(np.float16).astype(np.float32)])
    )


def test_classes_are_split_by_counts(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", BLOCK)
    base, val, novel = load_features(tmp_path / "x.npy").split((2, 1, 2))
    assert np.array_equal(base.features, BLOCK[:2].reshape(6, 4))
    assert np.array_equal(val.features, BLOCK[2])
    assert novel.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert novel.names == ("class 003", "class 004")


@pytest.mark.parametrize("counts", [(64, 16, 20), (5, 0, 0), (2, 4, -1), ()])
def test_counts_of_other_data_are_refused(counts: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", BLOCK)
    with pytest.raises(CompileError, match="5 classes of features are not") as e:
        load_features(tmp_path / "x.npy").split(counts)
    assert e.value.problems[0].code is Code.SPLIT_LIST


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (BLOCK[0], r"not \[classes, images, D\]"),
        (BLOCK[:, :0], r"not \[classes, images, D\]"),
        (np.full((2, 2, 2), np.nan), "not finite"),
        (np.full((2, 2, 2), np.inf), "not finite"),
        (BLOCK.astype(complex), r"not \[classes, images, D\]"),
    ],
)
def test_what_is_no_block_of_features_is_refused(array: Any, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(CompileError, match=message) as e:
        load_features(tmp_path / "x.npy")
    assert e.value.problems[0].code is Code.DATA_FILE


def test_missing_files_and_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="no such file"):
        load_features(tmp_path / "x.pt")
    np.save(tmp_path / "x.npy", np.array([print], object), allow_pickle=True)
    with pytest.raises(CompileError, match=r"is not an \.npz file of numbers"):
        load_features(tmp_path / "x.npy")


def test_without_torch_the_message_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    (tmp_path / "x.pt").touch()
    with pytest.raises(CompileError, match="needs torch") as e:
        load_features(tmp_path / "x.pt")
    assert ".[train]" in str(e.value)


MARK: list[int] = []


class Hostile:
    def __reduce__(self) -> Any:
        return (MARK.append, (1,))


@needs_torch
@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_file_of_torch_is_executed(zipped: bool, tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", [Hostile()], _use_new_zipfile_serialization=zipped)
    with pytest.raises(CompileError, match="holds more than tensors") as e:
        load_features(path)
    assert e.value.problems[0].code is Code.UNSAFE_FILE
    assert not MARK


@needs_torch
def test_other_files_of_torch_are_refused(tmp_path: Path) -> None:
    import torch

    for content, message in (
        ({"conv1.weight": torch.zeros(3)}, "holds dict, no features"),
        ([], "no list of dicts"),
        ([{"name_class": "a"}], "no list of dicts"),
        ([{"name_class": "a", "features": torch.zeros(3)}], "no features"),
        ([{"name_class": "a", "features": 3}], "no features"),
        ([{"name_class": "a", "features": torch.zeros(1, 3)}] * 2, "two classes have one name"),
    ):
        with pytest.raises(CompileError, match=message):
            load_features(saved(tmp_path / "x.pt", content))
    whole = saved(tmp_path / "x.pt", torch.from_numpy(BLOCK)).read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "x.pt").write_bytes(whole[:length])
        with pytest.raises(CompileError) as e:
            load_features(tmp_path / "x.pt")
        assert e.value.problems[0].code is Code.DATA_FILE
