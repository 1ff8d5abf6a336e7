"""Features that others computed: EASY's .pt11, brain-train's .pt, NumPy's .npy. Files of torch are read as data only.

EASY         a tensor [classes, images, D]: base, val and novel classes one after the other
brain-train  a list of {"name_class": name, "features": tensor [images, D]}, one file for each split
.npy         [classes, images, D]
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.fewshot.data.torch_files import read_torch
from pefslc.files.arrays import read_arrays
from pefslc.files.paths import as_path

__all__ = ["FeatureSet", "load_features"]

_NUMPY_SUFFIXES = (".npy",)


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSet:
    """Features of the pictures of some classes.

    features  float32 [N, D], finite
    labels    int64 [N], in 0 ... len(names) - 1; every class has a picture
    names     of the classes, each once
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    names: tuple[str, ...]

    def split(self, counts: Sequence[int]) -> tuple[FeatureSet, ...]:
        """The first counts[0] classes, the next counts[1], ...: (64, 16, 20) for EASY's miniImageNet and CIFAR-FS.

        Raises CompileError (SPLIT_LIST) unless the counts are positive and sum up to all classes.
        """
        if any(count < 1 for count in counts) or sum(counts) != len(self.names):
            raise CompileError(
                Code.SPLIT_LIST,
                f"{len(self.names)} classes of features are not {' + '.join(map(str, counts))}",
                hint="base, val, novel: 64,16,20 for CIFAR-FS and miniImageNet, 351,97,160 for tieredImageNet, "
                "60,20,20 for FC100",
            )
        parts, first = [], 0
        for count in counts:
            chosen = (self.labels >= first) & (self.labels < first + count)
            names = self.names[first : first + count]
            parts.append(FeatureSet(self.features[chosen], self.labels[chosen] - first, names))
            first += count
        return tuple(parts)


def load_features(path: str | os.PathLike[str]) -> FeatureSet:
    """All features of a file, in the order of its classes. Raises CompileError.

    A file of torch needs torch. It is read with `weights_only`: nothing that it says is executed.
    """
    file = as_path(path, Code.DATA_FILE, "a file of features", "the path of a .pt11, .pt or .npy file")
    if file.suffix in _NUMPY_SUFFIXES:
        return _of_block(next(iter(read_arrays(file).values())), file)
    content = read_torch(file)
    if isinstance(content, list):
        return _of_classes(content, file)
    return _of_block(_as_array(content, file), file)


def _as_array(value: Any, path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = value.detach().cpu().float().numpy()
    except (AttributeError, TypeError, RuntimeError):
        raise CompileError(
            Code.DATA_FILE,
            f"{quote(path)} holds {type(value).__name__}, no features",
            hint="a tensor [classes, images, D], or a list of dicts with name_class and features; a checkpoint is"
            " given with --weights",
        ) from None
    return array


def _of_block(block: NDArray[Any], path: Path) -> FeatureSet:
    if block.ndim != 3 or 0 in block.shape or block.dtype.kind not in "fiu":
        raise CompileError(
            Code.DATA_FILE, f"{quote(path)} holds {block.dtype} {list(block.shape)}, not [classes, images, D]"
        )
    classes, images, width = block.shape
    labels = np.repeat(np.arange(classes, dtype=np.int64), images)
    names = tuple(f"class {label:03d}" for label in range(classes))
    return FeatureSet(_finite(block.reshape(-1, width), path), labels, names)


def _of_classes(classes: list[Any], path: Path) -> FeatureSet:
    if not classes or not all(isinstance(c, dict) and {"name_class", "features"} <= set(c) for c in classes):
        raise CompileError(Code.DATA_FILE, f"{quote(path)} is no list of dicts with name_class and features")
    arrays = [_as_array(c["features"], path) for c in classes]
    if any(a.ndim != 2 or a.shape[1] != arrays[0].shape[1] or 0 in a.shape for a in arrays):
        raise CompileError(Code.DATA_FILE, f"{quote(path)}: the classes have no features [images, D] of one D")
    names = tuple(str(c["name_class"]) for c in classes)
    if len(set(names)) != len(names):
        raise CompileError(Code.DATA_FILE, f"{quote(path)}: two classes have one name")
    labels = np.repeat(np.arange(len(arrays), dtype=np.int64), [len(a) for a in arrays])
    return FeatureSet(_finite(np.concatenate(arrays), path), labels, names)


def _finite(features: NDArray[Any], path: Path) -> NDArray[np.float32]:
    result = np.ascontiguousarray(features, np.float32)
    if not np.isfinite(result).all():
        raise CompileError(
            Code.DATA_FILE,
            f"{quote(path)} holds features that are not finite",
            hint="the network that made them is dead",
        )
    return result
