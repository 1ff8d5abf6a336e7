"""Data as folders of picture files: ImageFolder, CIFAR-FS, miniImageNet with its CSV lists, Omniglot."""

from __future__ import annotations

import csv
from pathlib import Path

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.fewshot.data.image_set import SPLITS, FewShotData
from pefslc.fewshot.data.layout import Layout, Request
from pefslc.fewshot.data.pictures import Classes, Picture, pictures_in, read_pictures
from pefslc.fewshot.data.random_words import random_words
from pefslc.fewshot.data.split_lists import SPLIT_NAMES, class_folders, read_split, split_path

__all__ = ["FOLDER_LAYOUTS"]


def _split_folders(folder: Path) -> dict[str, Path] | None:
    """By split: the folder of it, where all three are there."""
    found = {split: folder / name for split, names in SPLIT_NAMES.items() for name in names if (folder / name).is_dir()}
    return found if len(found) == len(SPLITS) else None


def _read_split_folders(folder: Path, request: Request) -> FewShotData:
    folders = _split_folders(folder)
    assert folders is not None
    splits = {split: _classes(folders[split]) for split in SPLITS}
    return read_pictures(splits, request.size, folder.name, request.progress)


def _classes(folder: Path) -> dict[str, list[Path]]:
    classes = {path.name: pictures_in(path) for path in class_folders(folder)}
    if not classes:
        raise CompileError(
            Code.CLASS_TOO_SMALL, f"{quote(folder)} holds no classes", hint="a folder of pictures for each class"
        )
    return classes


def _has_classes(folder: Path) -> bool:
    return any(pictures_in(path) for path in class_folders(folder))


def _read_listed(folder: Path, request: Request, source: str) -> FewShotData:
    """Folders of classes, and split lists in `folder` or where the request says."""
    lists = _lists_of(request) or split_path(folder)
    if lists is None:
        raise CompileError(
            Code.SPLIT_LIST,
            f"{quote(folder)} holds folders of pictures, and no split lists",
            hint="make one: pefslc fewshot split FOLDER --val 10 --novel 20; or sort the folders into base, val, novel",
        )
    found = {path.name: path for path in class_folders(folder)}
    chosen = read_split(lists, list(found))
    splits = {split: {name: pictures_in(found[name]) for name in names} for split, names in chosen.items()}
    return read_pictures(splits, request.size, source, request.progress)


def _lists_of(request: Request) -> Path | None:
    if request.splits is None:
        return None
    path = Path(request.splits)
    if not path.is_dir():
        raise CompileError(Code.SPLIT_LIST, f"{quote(path)} is no folder of split lists")
    return path


def _cifar_fs(folder: Path) -> Path | None:
    """The folder that holds `data` and `splits`."""
    for path in (folder, folder / "cifar100"):
        if (path / "data").is_dir() and split_path(path) is not None:
            return path
    return None


def _read_cifar_fs(folder: Path, request: Request) -> FewShotData:
    root = _cifar_fs(folder)
    assert root is not None
    lists = _lists_of(request) or split_path(root)
    assert lists is not None
    return _read_listed(root / "data", Request(request.size, lists, request.seed, request.progress), "CIFAR-FS")


def _csv_lists(folder: Path) -> dict[str, Path] | None:
    """miniImageNet: by split, a CSV of file names and labels."""
    if not (folder / "images").is_dir():
        return None
    for path in (folder, folder / "splits", folder / "split"):
        found = {
            split: path / f"{name}.csv"
            for split, names in SPLIT_NAMES.items() for name in names
            if (path / f"{name}.csv").is_file()
        }  # fmt: skip
        if len(found) == len(SPLITS):
            return found
    return None


def _read_csv_lists(folder: Path, request: Request) -> FewShotData:
    lists = _csv_lists(folder)
    assert lists is not None
    splits = {split: _pictures_of_csv(lists[split], folder / "images") for split in SPLITS}
    return read_pictures(splits, request.size, "miniImageNet", request.progress)


def _pictures_of_csv(path: Path, images: Path) -> Classes:
    classes: dict[str, list[Picture]] = {}
    try:
        rows = list(csv.DictReader(path.read_text("utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise CompileError(Code.SPLIT_LIST, f"{quote(path)} cannot be read: {e}") from None
    for row in rows:
        file, label = row.get("filename"), row.get("label")
        if not file or not label:
            raise CompileError(
                Code.SPLIT_LIST, f"{quote(path)} has a line without a file or a label", hint="its head: filename,label"
            )
        if Path(file).is_absolute() or ".." in Path(file).parts:
            raise CompileError(Code.SPLIT_LIST, f"{quote(path)} names {quote(file)}, outside of {quote(images)}")
        classes.setdefault(label, []).append(images / file)
    if not classes:
        raise CompileError(Code.SPLIT_LIST, f"{quote(path)} names no pictures")
    return classes


_OMNIGLOT = ("images_background", "images_evaluation")
_VAL_ALPHABETS = 5  # of the 30 in images_background


def _read_omniglot(folder: Path, request: Request) -> FewShotData:
    """Base and val: images_background, 5 alphabets drawn for val; novel: images_evaluation. A class is a character."""
    background, evaluation = ({p.name: p for p in class_folders(folder / name)} for name in _OMNIGLOT)
    order = sorted(background, key=lambda name: int(random_words(1, request.seed, "omniglot", name)[0]))
    val = set(order[: min(_VAL_ALPHABETS, len(order) // 2)])
    alphabets = {
        "base": [path for name, path in background.items() if name not in val],
        "val": [path for name, path in background.items() if name in val],
        "novel": list(evaluation.values()),
    }
    splits = {
        split: {f"{alphabet.name}/{p.name}": pictures_in(p) for alphabet in paths for p in class_folders(alphabet)}
        for split, paths in alphabets.items()
    }
    empty = [split for split, classes in splits.items() if not classes]
    if empty:
        raise CompileError(
            Code.CLASS_TOO_SMALL, f"{quote(folder)} has no characters for {empty[0]}", hint="two alphabets at least"
        )
    return read_pictures(splits, request.size, "Omniglot", request.progress)


FOLDER_LAYOUTS = (
    Layout(
        "CIFAR-FS folders",
        ("data/apple/*.png ...", "splits/bertinetto/{train,val,test}.txt"),
        lambda folder: _cifar_fs(folder) is not None,
        _read_cifar_fs,
        takes_splits=True,
    ),
    Layout(
        "miniImageNet with CSV lists",
        ("images/*.jpg", "{train,val,test}.csv  (filename,label)"),
        lambda folder: _csv_lists(folder) is not None,
        _read_csv_lists,
    ),
    Layout(
        "Omniglot",
        ("images_background/Latin/character01/*.png ...", "images_evaluation/Tibetan/character01/*.png ..."),
        lambda folder: all((folder / name).is_dir() for name in _OMNIGLOT),
        _read_omniglot,
    ),
    Layout(
        "ImageFolder in split folders",
        ("{base|train}/mug/*.jpg ...", "val/cup/*.jpg ...", "{novel|test}/jar/*.jpg ..."),
        lambda folder: _split_folders(folder) is not None,
        _read_split_folders,
    ),
    Layout(
        "ImageFolder with split lists",
        ("mug/*.jpg ...", "split.json  or  {base,val,novel}.txt"),
        _has_classes,
        lambda folder, request: _read_listed(folder, request, folder.name),
        takes_splits=True,
    ),
)
