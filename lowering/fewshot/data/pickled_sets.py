"""Data as pickle files: CIFAR-100 with FC100's or given lists, miniImageNet's cache, MetaOptNet's, tieredImageNet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.fewshot.data.image_set import SPLITS, FewShotData, ImageSet
from pefslc.fewshot.data.layout import Layout, Request
from pefslc.fewshot.data.pictures import Picture, read_pictures
from pefslc.fewshot.data.plain_pickle import array_of, field, load_plain, texts_of
from pefslc.fewshot.data.resize import centre_crop, resize
from pefslc.fewshot.data.split_lists import read_split

__all__ = ["PICKLE_LAYOUTS"]

# Superclasses of CIFAR-100 by split: Oreshkin et al., "TADAM", 2018, supplement.
_FC100 = {
    "base": (1, 2, 3, 4, 5, 6, 9, 10, 15, 17, 18, 19),
    "val": (8, 11, 13, 16),
    "novel": (0, 7, 12, 14),
}
_THREE = {"base": "train", "val": "val", "novel": "test"}  # what these files call the splits


def _sets(parts: Callable[[str], ImageSet], request: Request, name: str) -> FewShotData:
    """Read one split after the other, each resized before the next is loaded: they are large."""
    sets = []
    for i, split in enumerate(SPLITS):
        sets.append(parts(split))
        if request.progress is not None:
            request.progress(i + 1, len(SPLITS), f"reading {name}")
    return FewShotData(sets[0], sets[1], sets[2], name)


def _image_set(
    images: NDArray[Any], labels: NDArray[Any], names: Sequence[str] | None, path: Path, size: int
) -> ImageSet:
    """A set of uint8 [N, H, W, 3] and integer labels, which are made dense; without names, "class <label>"."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
        raise CompileError(
            Code.DATA_FILE,
            f"{quote(path)}: images are {images.dtype} {list(images.shape)}, not uint8 [N, H, W, 3]",
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise CompileError(
            Code.DATA_FILE,
            f"{quote(path)}: {len(images)} images have labels of {labels.dtype} {list(labels.shape)}",
        )
    values, dense = np.unique(labels.astype(np.int64), return_inverse=True)
    if names is not None and not 0 <= int(values[0]) <= int(values[-1]) < len(names):
        raise CompileError(
            Code.DATA_FILE, f"{quote(path)}: labels {values[0]} to {values[-1]} for {len(names)} classes"
        )
    kept = tuple(f"class {value:03d}" if names is None else names[value] for value in values)
    return ImageSet(resize(centre_crop(images), size, size), dense.astype(np.int64).reshape(-1), kept)


# --- CIFAR-100

_CIFAR = ("train", "test", "meta")


def _cifar(folder: Path) -> Path | None:
    for path in (folder, folder / "cifar-100-python"):
        if all((path / name).is_file() for name in _CIFAR):
            return path
    return None


def _read_cifar(folder: Path, request: Request) -> FewShotData:
    root = _cifar(folder)
    assert root is not None
    if request.splits is None:
        raise CompileError(
            Code.SPLIT_LIST,
            f"{quote(folder)} holds CIFAR-100, which is split into classes in several ways",
            hint='give the split: "fc100", or a folder of lists as CIFAR-FS has: {train,val,test}.txt',
        )
    names = texts_of(field(load_plain(root / "meta"), "fine_label_names", root / "meta"), root / "meta", "the classes")
    images, fine, coarse = (np.concatenate(part) for part in zip(*map(_cifar_batch, _batches(root)), strict=True))
    if request.splits == "fc100":
        chosen = {split: np.isin(coarse, superclasses) for split, superclasses in _FC100.items()}
    else:
        lists = read_split(Path(request.splits), names)
        chosen = {split: np.isin(fine, [names.index(n) for n in lists[split]]) for split in SPLITS}
    empty = [split for split, mask in chosen.items() if not mask.any()]
    if empty:
        raise CompileError(Code.CLASS_TOO_SMALL, f"{quote(folder)}: no pictures for {empty[0]}")
    title = "FC100" if request.splits == "fc100" else "CIFAR-100"

    def part(split: str) -> ImageSet:
        return _image_set(images[chosen[split]], fine[chosen[split]], names, root, request.size)

    return _sets(part, request, title)


def _batches(root: Path) -> Iterator[Path]:
    """Both: the split is one of classes, so that the train and test pictures of a class belong together."""
    yield from (root / "train", root / "test")


def _cifar_batch(path: Path) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """(images [N, 32, 32, 3], fine labels, coarse labels); the file has rows of 3 x 1024 bytes, channel by channel."""
    content = load_plain(path)
    data = array_of(field(content, "data", path), path, "data")
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
        raise CompileError(
            Code.DATA_FILE, f"{quote(path)}: data is {data.dtype} {list(data.shape)}, not uint8 [N, 3072]"
        )
    labels = [array_of(field(content, name, path), path, name) for name in ("fine_labels", "coarse_labels")]
    if any(label.shape != data.shape[:1] for label in labels):
        raise CompileError(Code.DATA_FILE, f"{quote(path)}: not one label for each image")
    return data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels[0], labels[1]


# --- miniImageNet's cache: {"image_data": uint8 [N, 84, 84, 3], "class_dict": {"n01532829": [indices]}}


def _cache_file(folder: Path, split: str) -> Path:
    return folder / f"mini-imagenet-cache-{_THREE[split]}.pkl"


def _read_cache(folder: Path, request: Request) -> FewShotData:
    def part(split: str) -> ImageSet:
        path = _cache_file(folder, split)
        content = load_plain(path)
        images = array_of(field(content, "image_data", path), path, "image_data")
        classes = field(content, "class_dict", path)
        if not isinstance(classes, dict) or not classes:
            raise CompileError(Code.DATA_FILE, f"{quote(path)}: class_dict is no dict of classes")
        names = texts_of(list(classes), path, "the names of classes")
        labels = np.full(len(images), -1, np.int64)
        for label, indices in enumerate(classes.values()):
            index = array_of(indices, path, f"the indices of {quote(names[label])}")
            if index.dtype.kind not in "iu" or not index.size or index.min() < 0 or index.max() >= len(images):
                raise CompileError(Code.DATA_FILE, f"{quote(path)}: class {quote(names[label])} has wrong indices")
            labels[index] = label
        return _image_set(images[labels >= 0], labels[labels >= 0], names, path, request.size)

    return _sets(part, request, "miniImageNet")


# --- MetaOptNet: {"data": uint8 [N, H, W, 3], "labels": [N]}, and for miniImageNet "catname2label"

_META_OPT_NET = {  # the name of the data: by split, the file
    "miniImageNet": {
        "base": "miniImageNet_category_split_train_phase_train.pickle",
        "val": "miniImageNet_category_split_val.pickle",
        "novel": "miniImageNet_category_split_test.pickle",
    },
    "CIFAR-FS": {split: f"CIFAR_FS_{name}.pickle" for split, name in _THREE.items()},
    "FC100": {split: f"FC100_{name}.pickle" for split, name in _THREE.items()},
}


def _meta_opt_net(folder: Path) -> str | None:
    for name, files in _META_OPT_NET.items():
        if all((folder / file).is_file() for file in files.values()):
            return name
    return None


def _read_meta_opt_net(folder: Path, request: Request) -> FewShotData:
    name = _meta_opt_net(folder)
    assert name is not None

    def part(split: str) -> ImageSet:
        path = folder / _META_OPT_NET[name][split]
        content = load_plain(path)
        labels = array_of(field(content, "labels", path), path, "labels")
        found = _image_set(array_of(field(content, "data", path), path, "data"), labels, None, path, request.size)
        # Labels of the three files may begin at 0 each: the split keeps their classes apart.
        return ImageSet(found.images, found.labels, tuple(f"{split} {class_name}" for class_name in found.names))

    return _sets(part, request, name)


# --- tieredImageNet: a list of PNG files as arrays of bytes, and {"label_specific": [N], "label_specific_str": names}


def _tiered_files(folder: Path, split: str) -> tuple[Path, Path]:
    return folder / f"{_THREE[split]}_images_png.pkl", folder / f"{_THREE[split]}_labels.pkl"


def _read_tiered(folder: Path, request: Request) -> FewShotData:
    splits = {split: _tiered_classes(*_tiered_files(folder, split)) for split in SPLITS}
    return read_pictures(splits, request.size, "tieredImageNet", request.progress)


def _tiered_classes(images_path: Path, labels_path: Path) -> dict[str, list[Picture]]:
    content = load_plain(labels_path)
    labels = array_of(field(content, "label_specific", labels_path), labels_path, "label_specific")
    names = texts_of(field(content, "label_specific_str", labels_path), labels_path, "label_specific_str")
    images = load_plain(images_path)
    if not isinstance(images, list) or labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise CompileError(Code.DATA_FILE, f"{quote(images_path)} holds no list of as many images as there are labels")
    if not len(labels) or labels.min() < 0 or labels.max() >= len(names):
        raise CompileError(Code.DATA_FILE, f"{quote(labels_path)}: labels that are none of {len(names)} classes")
    if len(set(names)) != len(names):
        raise CompileError(Code.DATA_FILE, f"{quote(labels_path)}: two classes have one name")
    classes: dict[str, list[Picture]] = {name: [] for name in names}
    for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        content = array_of(image, images_path, f"image {i}")
        if content.dtype != np.uint8:
            raise CompileError(Code.DATA_FILE, f"{quote(images_path)}: image {i} is no array of bytes")
        classes[names[label]].append((f"{images_path.name}[{i}]", content.tobytes()))
    return classes


PICKLE_LAYOUTS = (
    Layout(
        "CIFAR-100 pickles",
        ("cifar-100-python/{train,test,meta}", 'with splits="fc100", or a folder of lists'),
        lambda folder: _cifar(folder) is not None,
        _read_cifar,
        takes_splits=True,
    ),
    Layout(
        "miniImageNet cache pickles",
        ("mini-imagenet-cache-{train,val,test}.pkl",),
        lambda folder: all(_cache_file(folder, split).is_file() for split in SPLITS),
        _read_cache,
    ),
    Layout(
        "MetaOptNet pickles",
        tuple(f"{files['base']}, ..." for files in _META_OPT_NET.values()),
        lambda folder: _meta_opt_net(folder) is not None,
        _read_meta_opt_net,
    ),
    Layout(
        "tieredImageNet pickles",
        ("{train,val,test}_images_png.pkl", "{train,val,test}_labels.pkl"),
        lambda folder: all(path.is_file() for split in SPLITS for path in _tiered_files(folder, split)),
        _read_tiered,
    ),
)
