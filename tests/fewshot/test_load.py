"""Each layout of files, made small here, is found and read; what is wrong with one is said."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.data.image_set import ImageSet
from pefslc.fewshot.data.load import LAYOUTS, find_layout, load_data
from pefslc.fewshot.data.resize import resize

SPLITS = ("base", "val", "novel")
THREE = {"base": "train", "val": "val", "novel": "test"}


def picture(*place: int, side: int = 32) -> NDArray[np.uint8]:
    """uint8 [side, side, 3], another one at each place."""
    return np.random.default_rng(place).integers(0, 256, (side, side, 3)).astype(np.uint8)


def pictures(path: Path, *place: int, count: int = 3, side: int = 32, suffix: str = ".png") -> None:
    path.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(picture(*place, i, side=side)).save(path / f"{i}{suffix}")


def image_folder(root: Path) -> None:
    for i, name in enumerate("abcdef"):
        pictures(root / name, i)
    (root / "split.json").write_text('{"base": ["a", "c"], "val": ["b", "d"], "novel": ["e", "f"]}')


def split_folders(root: Path) -> None:
    for i, (split, names) in enumerate({"train": "ac", "validation": "bd", "novel": "ef"}.items()):
        for name in names:
            pictures(root / split / name, "abcdef".index(name) + 0 * i)


def cifar_fs(root: Path) -> None:
    for i, name in enumerate("abcdef"):
        pictures(root / "cifar100" / "data" / name, i)
    lists = root / "cifar100" / "splits" / "bertinetto"
    lists.mkdir(parents=True)
    for split, names in {"train": "a\nc\n", "val": "b\nd\n", "test": "e\nf\n"}.items():
        (lists / f"{split}.txt").write_text(names)


def csv_lists(root: Path) -> None:
    (root / "images").mkdir()
    for split, names in {"train": "ac", "val": "bd", "test": "ef"}.items():
        lines = ["filename,label"]
        for name in names:
            for i in range(3):
                Image.fromarray(picture("abcdef".index(name), i)).save(root / "images" / f"{name}{i}.png")
                lines.append(f"{name}{i}.png,{name}")
        (root / f"{split}.csv").write_text("\n".join(lines))


def dumped(path: Path, content: object, protocol: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol))


def stack(indices: str) -> NDArray[np.uint8]:
    return np.stack([picture("abcdef".index(name), i) for name in indices for i in range(3)])


def mini_cache(root: Path) -> None:
    for split, names in {"train": "ac", "val": "bd", "test": "ef"}.items():
        content = {
            "image_data": stack(names),
            "class_dict": {n: list(range(3 * i, 3 * i + 3)) for i, n in enumerate(names)},
        }
        dumped(root / f"mini-imagenet-cache-{split}.pkl", content)


def tiered(root: Path) -> None:
    for split, names in {"train": "ac", "val": "bd", "test": "ef"}.items():
        encoded = []
        for image in stack(names):
            file = BytesIO()
            Image.fromarray(image).save(file, "PNG")
            encoded.append(np.frombuffer(file.getvalue(), np.uint8))
        dumped(root / f"{split}_images_png.pkl", encoded)
        labels = {
            "label_specific": np.repeat([0, 1], 3), "label_general": np.zeros(6, int),
            "label_specific_str": [n.encode() for n in names], "label_general_str": ["thing"],
        }  # fmt: skip
        dumped(root / f"{split}_labels.pkl", labels)


NAMED: dict[str, tuple[Callable[[Path], None], str]] = {
    "ImageFolder with split lists": (image_folder, "root"),
    "ImageFolder in split folders": (split_folders, "root"),
    "CIFAR-FS folders": (cifar_fs, "CIFAR-FS"),
    "miniImageNet with CSV lists": (csv_lists, "miniImageNet"),
    "miniImageNet cache pickles": (mini_cache, "miniImageNet"),
    "tieredImageNet pickles": (tiered, "tieredImageNet"),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


def require_same(part: ImageSet, names: str, size: int) -> None:
    assert part.names == tuple(names)
    assert part.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert np.array_equal(part.images, resize(stack(names), size, size))


@pytest.mark.parametrize("size", [32, 16, 40])
@pytest.mark.parametrize("layout", NAMED)
def test_a_layout_is_found_and_read(layout: str, size: int, root: Path) -> None:
    make, name = NAMED[layout]
    make(root)
    assert find_layout(root).name == layout
    data = load_data(root, size)
    assert data.name == name
    for split, names in zip(SPLITS, ("ac", "bd", "ef"), strict=True):
        require_same(data.split(split), names, size)


def test_all_layouts_of_the_same_pictures_have_one_digest(tmp_path: Path) -> None:
    digests = set()
    for i, (make, _) in enumerate(NAMED.values()):
        folder = tmp_path / str(i)
        folder.mkdir()
        make(folder)
        digests.add(load_data(str(folder), 32).digest())
    assert len(digests) == 1


def cifar(root: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """10 classes of 4 pictures, each of them in both batches; superclasses of all three splits of FC100."""
    fine, coarse = np.repeat(np.arange(10), 4), np.repeat([1, 8, 0, 2, 11, 7, 3, 13, 12, 19], 4)
    images = np.stack([picture(90, i) for i in range(40)])
    for name, part in (("train", slice(0, 40, 2)), ("test", slice(1, 40, 2))):
        content = {
            b"data": images[part].transpose(0, 3, 1, 2).reshape(-1, 3072), b"fine_labels": fine[part].tolist(),
            b"coarse_labels": coarse[part].tolist(), b"filenames": [b"x.png"] * 20,
        }  # fmt: skip
        dumped(root / "cifar-100-python" / name, content)
    names = [f"thing_{i}".encode() for i in range(10)]
    dumped(root / "cifar-100-python" / "meta", {b"fine_label_names": names, b"coarse_label_names": []})
    return images, fine, coarse


def test_cifar_100_is_split_as_fc100(root: Path) -> None:
    images, fine, _ = cifar(root)
    for folder in (root, root / "cifar-100-python"):
        assert find_layout(folder).name == "CIFAR-100 pickles"
        data = load_data(folder, 32, splits="fc100")
        assert data.name == "FC100"
        for split, classes in (("base", [0, 3, 6, 9]), ("val", [1, 4, 7]), ("novel", [2, 5, 8])):
            part = data.split(split)
            assert part.names == tuple(f"thing_{c}" for c in classes)
            for label, c in enumerate(classes):
                found = part.images[part.labels == label]
                assert sorted(i.tobytes() for i in found) == sorted(i.tobytes() for i in images[fine == c])


def test_cifar_100_is_split_by_given_lists(root: Path, tmp_path: Path) -> None:
    cifar(root)
    for name, classes in {"train": "thing_9\nthing_0\n", "val": "thing_5\n", "test": "thing_1\n"}.items():
        (tmp_path / f"{name}.txt").write_text(classes)
    data = load_data(root, 32, splits=tmp_path)
    assert [data.split(split).names for split in SPLITS] == [("thing_0", "thing_9"), ("thing_5",), ("thing_1",)]
    assert data.base.counts.tolist() == [4, 4]


def test_cifar_100_without_a_split_says_what_to_give(root: Path) -> None:
    cifar(root)
    with pytest.raises(CompileError, match="split into classes in several ways") as e:
        load_data(root, 32)
    assert "fc100" in str(e.value)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("CIFAR-FS", ["CIFAR_FS_train.pickle", "CIFAR_FS_val.pickle", "CIFAR_FS_test.pickle"]),
        ("FC100", ["FC100_train.pickle", "FC100_val.pickle", "FC100_test.pickle"]),
        (
            "miniImageNet",
            [
                "miniImageNet_category_split_train_phase_train.pickle",
                "miniImageNet_category_split_val.pickle",
                "miniImageNet_category_split_test.pickle",
            ],
        ),
    ],
)
def test_pickles_of_meta_opt_net_are_read(name: str, files: list[str], root: Path) -> None:
    for file, names in zip(files, ("ac", "bd", "ef"), strict=True):
        dumped(root / file, {"data": stack(names), "labels": [5, 5, 5, 2, 2, 2]})
    data = load_data(root, 32)
    assert data.name == name
    assert data.base.names == ("base class 002", "base class 005")
    assert data.novel.names == ("novel class 002", "novel class 005")
    assert data.val.labels.tolist() == [1, 1, 1, 0, 0, 0]
    assert np.array_equal(data.val.images, stack("bd"))


def test_omniglot_has_val_alphabets_of_its_background(root: Path) -> None:
    for part, alphabets in (("images_background", "ABCDEFGHIJKL"), ("images_evaluation", "XY")):
        for i, alphabet in enumerate(alphabets):
            for j in (1, 2):
                folder = root / part / alphabet / f"character{j:02d}"
                folder.mkdir(parents=True)
                for k in range(2):
                    bits = np.random.default_rng((i, j, k)).integers(0, 2, (105, 105)).astype(bool)
                    Image.fromarray(bits).save(folder / f"{k}.png")
    data = load_data(root, 28)
    assert find_layout(root).name == data.name == "Omniglot"
    val = {name.split("/")[0] for name in data.val.names}
    assert len(val) == 5
    assert val | {name.split("/")[0] for name in data.base.names} == set("ABCDEFGHIJKL")
    assert data.novel.names == ("X/character01", "X/character02", "Y/character01", "Y/character02")
    assert {name.split("/")[0] for name in load_data(root, 28, seed=1).val.names} != val
    bits = np.random.default_rng((0, 1, 0)).integers(0, 2, (105, 105)).astype(np.uint8)
    expected = resize((bits * 255)[None, :, :, None].repeat(3, 3), 28, 28)[0]
    assert np.array_equal(data.novel.images[0], expected)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_every_layout_is_shown_for_a_folder_of_none(layout: object, root: Path) -> None:
    (root / "papers").mkdir()
    (root / "notes.txt").touch()
    with pytest.raises(CompileError) as e:
        load_data(root, 32)
    assert e.value.problems[0].code is Code.DATA_LAYOUT
    lines = str(e.value).splitlines()
    assert "holds 'notes.txt', 'papers/'" in lines[0]
    assert f"        {layout.name}" in lines  # type: ignore[attr-defined]
    assert all(f"            {line}" in lines for line in layout.tree)  # type: ignore[attr-defined]


def test_what_is_no_folder_is_said(root: Path) -> None:
    (root / "miniImageNet.tar").touch()
    with pytest.raises(CompileError, match="is no folder") as e:
        load_data(root / "miniImageNet.tar")
    assert "unpack" in str(e.value)
    with pytest.raises(CompileError, match="no such folder") as e:
        load_data(root / "not there")
    assert e.value.problems[0].code is Code.NO_SUCH_FILE
    with pytest.raises(CompileError, match=r"holds 'miniImageNet\.tar': it has no layout"):
        load_data(root)
    (root / "miniImageNet.tar").unlink()
    with pytest.raises(CompileError, match="is empty: it has no layout"):
        load_data(root)
    with pytest.raises(CompileError, match="is not a source of pictures"):
        load_data("\0")


def test_pictures_without_lists_are_told_to_be_split(root: Path) -> None:
    pictures(root / "mug", 1)
    with pytest.raises(CompileError, match="no split lists") as e:
        load_data(root)
    assert "pefslc fewshot split" in str(e.value)


def test_lists_may_lie_elsewhere(root: Path, tmp_path: Path) -> None:
    image_folder(root)
    lists = tmp_path / "lists"
    lists.mkdir()
    (root / "split.json").rename(lists / "split.json")
    require_same(load_data(root, 32, splits=lists).novel, "ef", 32)
    with pytest.raises(CompileError, match="no folder of split lists"):
        load_data(root, 32, splits=tmp_path / "none")


@pytest.mark.parametrize("layout", ["ImageFolder in split folders", "tieredImageNet pickles"])
def test_lists_for_data_with_a_split_of_their_own_are_refused(layout: str, root: Path, tmp_path: Path) -> None:
    NAMED[layout][0](root)
    for source in (root, "glyphs"):
        with pytest.raises(CompileError, match="has a split of its own") as e:
            load_data(source, 32, splits=tmp_path)
        assert e.value.problems[0].code is Code.DATA_OPTION


def test_a_class_of_two_splits_is_refused(root: Path) -> None:
    split_folders(root)
    pictures(root / "novel" / "a", 7)
    with pytest.raises(CompileError, match="class 'a' is in novel and in base") as e:
        load_data(root)
    assert e.value.problems[0].code is Code.CLASSES_OVERLAP


def test_a_class_without_pictures_is_refused(root: Path) -> None:
    image_folder(root)
    for path in (root / "e").iterdir():
        path.rename(path.with_suffix(".xyz"))
    with pytest.raises(CompileError, match="class 'e' of novel has no pictures") as e:
        load_data(root)
    assert e.value.problems[0].code is Code.CLASS_TOO_SMALL


def test_csv_lists_name_pictures_of_their_folder_only(root: Path) -> None:
    csv_lists(root)
    (root / "test.csv").write_text("filename,label\n../../secret.png,e\n")
    with pytest.raises(CompileError, match="outside of"):
        load_data(root)
    (root / "test.csv").write_text("filename,label\nmissing.png,e\n")
    with pytest.raises(CompileError, match="no such file"):
        load_data(root)
    (root / "test.csv").write_text("picture\nx\n")
    with pytest.raises(CompileError, match="without a file or a label"):
        load_data(root)


BAD_CACHES = {
    "no dict": ([], "no field 'image_data'"),
    "no images": ({"image_data": np.zeros((6, 4), np.uint8), "class_dict": {"a": [0]}}, "not uint8"),
    "floats": ({"image_data": np.zeros((2, 4, 4, 3)), "class_dict": {"a": [0, 1]}}, "not uint8"),
    "out of range": ({"image_data": stack("a"), "class_dict": {"a": [0, 3]}}, "wrong indices"),
    "no classes": ({"image_data": stack("a"), "class_dict": {}}, "no dict of classes"),
    "empty class": ({"image_data": stack("a"), "class_dict": {"a": []}}, "wrong indices"),
}


@pytest.mark.parametrize(("content", "message"), BAD_CACHES.values(), ids=BAD_CACHES)
def test_a_cache_that_contradicts_itself_is_refused(content: object, message: str, root: Path) -> None:
    mini_cache(root)
    dumped(root / "mini-imagenet-cache-val.pkl", content)
    with pytest.raises(CompileError) as e:
        load_data(root)
    assert message in str(e.value)
    assert e.value.problems[0].code is Code.DATA_FILE


@pytest.mark.parametrize("layout", ["miniImageNet cache pickles", "tieredImageNet pickles"])
def test_files_cut_short_and_hostile_files_are_refused(layout: str, root: Path) -> None:
    NAMED[layout][0](root)
    for path in root.iterdir():
        whole = path.read_bytes()
        for content, code in (
            (whole[: len(whole) // 2], Code.DATA_FILE),
            (b"cos\nsystem\n(S'exit 1'\ntR.", Code.UNSAFE_FILE),
        ):
            path.write_bytes(content)
            with pytest.raises(CompileError) as e:
                load_data(root)
            assert e.value.problems[0].code is code
        path.write_bytes(whole)
    load_data(root)


def test_progress_reaches_its_end(root: Path) -> None:
    image_folder(root)
    seen: list[tuple[int, int, str]] = []
    load_data(root, 32, progress=lambda *step: seen.append(step))
    assert [step[0] for step in seen] == list(range(1, 19))
    assert seen[-1] == (18, 18, "reading pictures")
