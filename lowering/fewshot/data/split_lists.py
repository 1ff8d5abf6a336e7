"""Which class belongs to which split: lists beside the pictures, and how to make one for one's own classes.

What is read from a folder, or from its folder `splits`:
    split.json                   {"base": ["cat", ...], "val": [...], "novel": [...]}
    split.csv                    a line "class,split" for each class, under these two headings
    base.txt  val.txt novel.txt  a class on each line; .csv: the column "class" or "label", or the first one
"train" stands for base, "test" for novel, and "valid" or "validation" for val.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.fewshot.data.image_set import SPLITS, require_disjoint
from pefslc.fewshot.data.pictures import pictures_in
from pefslc.files.reading import unreadable
from pefslc.files.staging import write_file

__all__ = ["SPLIT_FILE", "SPLIT_NAMES", "ClassSplit", "read_split", "split_classes", "split_path"]

ClassLists = dict[str, tuple[str, ...]]

SPLIT_FILE = "split.json"
SPLIT_NAMES: dict[str, tuple[str, ...]] = {
    "base": ("base", "train", "meta-train"),
    "val": ("val", "valid", "validation", "meta-val"),
    "novel": ("novel", "test", "meta-test"),
}
_BY_NAME = {name: split for split, names in SPLIT_NAMES.items() for name in names}
_COLUMNS = ("class", "label")


@dataclass(frozen=True, slots=True)
class ClassSplit:
    """What `split_classes` decided: class names by split, and those that are in base for having few pictures."""

    base: tuple[str, ...]
    val: tuple[str, ...]
    novel: tuple[str, ...]
    too_small: tuple[str, ...]


def split_classes(
    folder: Path, val: int = 10, novel: int = 20, seed: int = 0, least: int = 20, replace: bool = False
) -> ClassSplit:
    """Split the classes of an ImageFolder at random, and write `split.json` beside them, whole or not at all.

    val, novel  classes in these splits, at least 2 each; the rest is base
    least       pictures that a class of val and novel must have: shots and queries of an episode. Smaller ones are base
    replace     a `split.json` that says otherwise, which is refused without

    The order of the classes is that of a hash of (seed, name): it depends on no other class and on no machine.
    Raises CompileError.
    """
    for what, count in (("val", val), ("novel", novel)):
        if count < 2:
            raise CompileError(
                Code.DATA_OPTION, f"{count} classes in {what}", hint="at least 2: one class alone is always recognised"
            )
    counts = {path.name: len(pictures_in(path)) for path in class_folders(folder)}
    empty = [name for name, count in counts.items() if not count]
    if empty:
        raise CompileError(
            Code.CLASS_TOO_SMALL, f"{quote(folder)}: class {quote(empty[0])} has no pictures", hint="remove its folder"
        )
    too_small = tuple(name for name in sorted(counts) if counts[name] < least)
    large = sorted((name for name in counts if counts[name] >= least), key=lambda name: _order(seed, name))
    if len(counts) < val + novel + 2 or len(large) < val + novel:
        raise CompileError(
            Code.SPLIT_LIST,
            f"{quote(folder)} has {len(counts)} classes, {len(large)} of them with {least} pictures or more: too few"
            f" for {val} in val, {novel} in novel and 2 in base",
            hint="ask for fewer classes in val and novel; each is a folder of pictures",
        )
    chosen = {"novel": large[:novel], "val": large[novel : novel + val]}
    base = [name for name in counts if name not in {*chosen["novel"], *chosen["val"]}]
    lists = {"base": sorted(base), "val": sorted(chosen["val"]), "novel": sorted(chosen["novel"])}
    content = (json.dumps(lists, indent=1, ensure_ascii=True) + "\n").encode()
    path = folder / SPLIT_FILE
    if not path.is_file() or path.read_bytes() != content:
        if path.exists() and not replace:
            raise CompileError(
                Code.IN_THE_WAY,
                f"{quote(path)} exists and splits the classes otherwise",
                hint="remove it, or say that it is to be replaced: results under the two cannot be compared",
            )
        write_file(path, content)
    return ClassSplit(tuple(lists["base"]), tuple(lists["val"]), tuple(lists["novel"]), too_small)


def _order(seed: int, name: str) -> bytes:
    return sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()


def class_folders(folder: Path) -> list[Path]:
    """The folders in a folder by their names, hidden ones left out. Raises CompileError where it is none."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as e:
        raise unreadable(folder, e, "folder") from None


def split_path(folder: Path) -> Path | None:
    """The folder in which lists lie: `folder`, or `splits`, or the one folder in that; None where there are none."""
    inside = folder / "splits"
    candidates = [folder, inside, folder / "split"]
    if inside.is_dir():
        candidates += class_folders(inside)
    return next((path for path in candidates if path.is_dir() and _list_files(path)), None)


def _list_files(folder: Path) -> dict[str, Path]:
    """By split, or under "": the one file of all."""
    for name in (SPLIT_FILE, "splits.json", "split.csv"):
        if (folder / name).is_file():
            return {"": folder / name}
    for suffix in (".txt", ".csv", ".json"):
        found = {
            split: folder / f"{name}{suffix}"
            for split, names in SPLIT_NAMES.items() for name in names
            if (folder / f"{name}{suffix}").is_file()
        }  # fmt: skip
        if len(found) == len(SPLITS):
            return found
    return {}


def read_split(folder: Path, known: Sequence[str] | None = None) -> ClassLists:
    """The classes of "base", "val" and "novel", in the order of the lists. Raises CompileError.

    folder  where the lists lie; see `split_path`
    known   classes that there are: others in a list are refused, those in no list are left out
    """
    files = _list_files(folder)
    if not files:
        raise CompileError(
            Code.SPLIT_LIST,
            f"{quote(folder)} holds no split lists",
            hint=f"{SPLIT_FILE}, or base.txt, val.txt, novel.txt",
        )
    one = files.get("")
    lists = _read_one(one) if one is not None else {split: _read_list(path) for split, path in files.items()}
    result = {split: tuple(dict.fromkeys(lists.get(split, ()))) for split in SPLITS}
    for split, names in result.items():
        if not names:
            raise CompileError(
                Code.SPLIT_LIST, f"{quote(one or files[split])} has no class in {split}", hint="every split needs some"
            )
        missing = [name for name in names if known is not None and name not in known]
        if missing:
            raise CompileError(
                Code.SPLIT_LIST,
                f"{quote(one or files[split])} names class {quote(missing[0])}"
                f"{f' and {len(missing) - 1} others' if len(missing) > 1 else ''} in {split}: there is none",
                hint="names in lists are those of the classes, letter by letter",
            )
    require_disjoint(result, str(folder))
    return result


def _read_one(path: Path) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {split: [] for split in SPLITS}
    if path.suffix == ".json":
        content = _json(path)
        if not isinstance(content, Mapping):
            raise _not_a_list(path, "it is no object of three lists")
        for name, names in content.items():
            if name in _BY_NAME:
                lists[_BY_NAME[name]] += _texts(names, path)
        return lists
    for row in _rows(path):
        if row.get("split") not in _BY_NAME or not row.get("class"):
            raise _not_a_list(path, "a line has no class, or none of the splits base, val, novel")
        lists[_BY_NAME[row["split"]]].append(row["class"])
    return lists


def _read_list(path: Path) -> list[str]:
    if path.suffix == ".json":
        content = _json(path)
        return _texts(content.get("label_names") if isinstance(content, Mapping) else content, path)
    if path.suffix == ".csv":
        rows = _rows(path)
        column = next((name for name in _COLUMNS if rows and name in rows[0]), None)
        if column is not None:
            return [row[column] for row in rows if row[column]]
    return [line.strip("\r") for line in _text(path).split("\n") if line.strip("\r")]


def _rows(path: Path) -> list[dict[str, str]]:
    reader = csv.DictReader(_text(path).splitlines(), restval="", restkey=None)
    try:
        return [{key: value for key, value in row.items() if isinstance(key, str)} for row in reader]
    except csv.Error as e:
        raise _not_a_list(path, str(e)) from None


def _json(path: Path) -> object:
    try:
        content: object = json.loads(_text(path))
    except (ValueError, RecursionError) as e:
        raise _not_a_list(path, f"it is no JSON: {e}") from None
    return content


def _texts(names: object, path: Path) -> list[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _not_a_list(path, "a split is no list of class names")
    return names


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise _not_a_list(path, "it is not UTF-8") from None
    except OSError as e:
        raise unreadable(path, e) from None


def _not_a_list(path: Path, why: str) -> CompileError:
    return CompileError(Code.SPLIT_LIST, f"{quote(path)} is no split list: {why}")
