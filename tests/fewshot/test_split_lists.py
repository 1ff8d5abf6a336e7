"""Split lists in every form, and a split of one's own classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.data.split_lists import read_split, split_classes, split_path

LISTS = {"base": ("cup", "mug"), "val": ("jar",), "novel": ("pan", "pot")}


def classes(folder: Path, count: int, pictures: int = 20) -> Path:
    for i in range(count):
        (folder / f"class{i:02d}").mkdir(parents=True)
        for j in range(pictures):
            (folder / f"class{i:02d}" / f"{j}.png").touch()
    return folder


FORMS: dict[str, dict[str, str]] = {
    "one json": {"split.json": json.dumps(LISTS)},
    "one json of other names": {"splits.json": '{"train": ["cup", "mug"], "valid": ["jar"], "test": ["pan", "pot"]}'},
    "one csv": {"split.csv": "class,split\ncup,base\nmug,train\njar,val\npan,novel\npot,test\n"},
    "txt": {"base.txt": "cup\nmug\n", "val.txt": "jar", "novel.txt": "pan\r\npot\r\n\r\n"},
    "txt of other names": {"train.txt": "cup\nmug\n", "val.txt": "jar\n", "test.txt": "pan\npot\n"},
    "csv with a head": {
        "train.csv": "id,label\n1,cup\n2,mug\n3,cup\n", "val.csv": "label\njar\n",
        "test.csv": "class,x\npan,1\npot,2\n",
    },
    "csv without": {"base.csv": "cup\nmug\n", "val.csv": "jar\n", "novel.csv": "pan\npot\n"},
    "json lists": {
        "base.json": '["cup", "mug"]', "val.json": '{"label_names": ["jar"]}', "novel.json": '["pan", "pot"]',
    },
    "a byte order mark": {"base.txt": "\ufeffcup\nmug\n", "val.txt": "jar", "novel.txt": "pan\npot"},
}  # fmt: skip


@pytest.mark.parametrize("files", FORMS.values(), ids=FORMS)
def test_every_form_says_the_same(files: dict[str, str], tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content.encode())
    assert read_split(tmp_path) == LISTS
    assert read_split(tmp_path, ["cup", "mug", "jar", "pan", "pot", "another"]) == LISTS


WRONG: dict[str, tuple[dict[str, str], str, Code]] = {
    "none": ({}, "holds no split lists", Code.SPLIT_LIST),
    "two of three": ({"base.txt": "cup", "val.txt": "jar"}, "holds no split lists", Code.SPLIT_LIST),
    "empty": ({"base.txt": "cup", "val.txt": "", "novel.txt": "pan"}, "val.txt' has no class in val", Code.SPLIT_LIST),
    "no class": ({"split.json": '{"base": ["cup"], "val": ["jar"]}'}, "no class in novel", Code.SPLIT_LIST),
    "no json": ({"split.json": "{"}, "it is no JSON", Code.SPLIT_LIST),
    "no object": ({"split.json": "[1]"}, "no object of three lists", Code.SPLIT_LIST),
    "no texts": ({"split.json": '{"base": [1]}'}, "no list of class names", Code.SPLIT_LIST),
    "no split": ({"split.csv": "class,split\ncup,other\n"}, "none of the splits", Code.SPLIT_LIST),
    "no text": ({"base.txt": "\udcff", "val.txt": "jar", "novel.txt": "pan"}, "not UTF-8", Code.SPLIT_LIST),
    "unknown": (
        {"base.txt": "cup", "val.txt": "jar", "novel.txt": "pan\nlid"},
        "class 'lid' in novel",
        Code.SPLIT_LIST,
    ),
    "novel in base": (
        {"base.txt": "cup\npan", "val.txt": "jar", "novel.txt": "pan\npot"},
        "class 'pan' is in novel and in base",
        Code.CLASSES_OVERLAP,
    ),
    "several": (
        {"base.txt": "cup\npan", "val.txt": "pan\ncup", "novel.txt": "pot"},
        "class 'pan' and 1 more is in val and in base",
        Code.CLASSES_OVERLAP,
    ),
}


@pytest.mark.parametrize(("files", "message", "code"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_lists_is_said(files: dict[str, str], message: str, code: Code, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CompileError) as e:
        read_split(tmp_path, ["cup", "mug", "jar", "pan", "pot"])
    assert message in str(e.value)
    assert e.value.problems[0].code is code


def test_lists_are_found_beside_the_classes_and_in_splits(tmp_path: Path) -> None:
    assert split_path(tmp_path) is None
    deep = tmp_path / "splits" / "bertinetto"
    deep.mkdir(parents=True)
    for name in ("train", "val", "test"):
        (deep / f"{name}.txt").touch()
    assert split_path(tmp_path) == deep
    (tmp_path / "split.json").touch()
    assert split_path(tmp_path) == tmp_path


def test_one_s_own_classes_are_split_and_read_back(tmp_path: Path) -> None:
    split = split_classes(classes(tmp_path, 40))
    assert [len(part) for part in (split.base, split.val, split.novel)] == [10, 10, 20]
    assert sorted(split.base + split.val + split.novel) == [f"class{i:02d}" for i in range(40)]
    assert read_split(tmp_path) == {"base": split.base, "val": split.val, "novel": split.novel}
    assert split.too_small == ()


def test_the_split_is_pinned_and_depends_on_the_seed(tmp_path: Path) -> None:
    split = split_classes(classes(tmp_path, 12), val=2, novel=3)
    assert split.novel == ("class03", "class06", "class07")
    path = tmp_path / "split.json"
    content = path.read_bytes()
    assert split_classes(tmp_path, val=2, novel=3) == split  # again: nothing changes
    assert path.read_bytes() == content
    with pytest.raises(CompileError, match="splits the classes otherwise") as e:
        split_classes(tmp_path, val=2, novel=3, seed=1)
    assert e.value.problems[0].code is Code.IN_THE_WAY
    assert path.read_bytes() == content
    assert split_classes(tmp_path, val=2, novel=3, seed=1, replace=True).novel != split.novel


def test_a_class_more_changes_nothing_of_the_order_of_others(tmp_path: Path) -> None:
    before = split_classes(classes(tmp_path, 20), val=3, novel=4)
    (tmp_path / "split.json").unlink()
    classes(tmp_path / "more", 1)
    (tmp_path / "more" / "class00").rename(tmp_path / "zebra")
    (tmp_path / "more").rmdir()
    after = split_classes(tmp_path, val=3, novel=4)
    assert len(set(before.novel) - set(after.novel)) <= 1


def test_a_class_of_few_pictures_is_base(tmp_path: Path) -> None:
    classes(tmp_path, 10)
    for i in range(8):
        for path in list((tmp_path / f"class{i:02d}").iterdir())[: 1 + i % 2]:
            path.unlink()
    split = split_classes(tmp_path, val=2, novel=2, least=19)
    assert split.too_small == ("class01", "class03", "class05", "class07")
    assert set(split.too_small) <= set(split.base)


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (10, {}, "too few for 10 in val, 20 in novel"),
        (40, {"least": 21}, "0 of them with 21 pictures"),
        (10, {"val": 1, "novel": 3}, "1 classes in val"),
        (10, {"val": 2, "novel": 0}, "0 classes in novel"),
        (10, {"val": 4, "novel": 5}, "and 2 in base"),
        (0, {}, "has 0 classes"),
    ],
)
def test_too_few_classes_are_refused(count: int, options: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(CompileError) as e:
        split_classes(classes(tmp_path, count), **options)  # type: ignore[arg-type]
    assert message in str(e.value)
    assert not (tmp_path / "split.json").exists()


def test_a_class_without_pictures_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    classes(tmp_path, 10)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(CompileError, match="class 'nothing' has no pictures"):
        split_classes(tmp_path, 2, 2)
    with pytest.raises(CompileError, match="no such folder"):
        split_classes(tmp_path / "there", 2, 2)
    (tmp_path / "file").touch()
    with pytest.raises(CompileError, match="cannot read"):
        split_classes(tmp_path / "file", 2, 2)
