"""What every source of pictures becomes: images with labels, in three splits that share no class."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote

__all__ = ["LARGEST_SIZE", "SMALLEST_SIZE", "SPLITS", "FewShotData", "ImageSet", "evenly", "require_size"]

SPLITS = ("base", "val", "novel")
SMALLEST_SIZE, LARGEST_SIZE = 16, 84  # pixels a side: what the backbones take


def evenly(images: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """At most `count` of the pictures, evenly spread: sets are sorted by class."""
    fewer = min(len(images), count)
    return images[np.arange(fewer) * len(images) // fewer]


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """Pictures of some classes.

    images  uint8 [N, H, W, 3], RGB
    labels  int64 [N], in 0 ... len(names) - 1; every class has a picture
    names   of the classes, each once

    Raises CompileError (DATA_FILE) for arrays that contradict each other.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        wrong = self._contradiction()
        if wrong:
            raise CompileError(Code.DATA_FILE, f"a set of images contradicts itself: {wrong}")

    def _contradiction(self) -> str:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[3] != 3:
            return f"images are {self.images.dtype} {list(self.images.shape)}, not uint8 [N, H, W, 3]"
        if self.labels.dtype != np.int64 or self.labels.shape != self.images.shape[:1]:
            return f"labels are {self.labels.dtype} {list(self.labels.shape)}, not int64 [{len(self.images)}]"
        if len(set(self.names)) != len(self.names):
            return "two classes have one name"
        if not np.array_equal(np.unique(self.labels), np.arange(len(self.names))):
            return f"labels are not those of {len(self.names)} classes that have pictures"
        return ""

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64 [classes]: the pictures of each class."""
        return np.bincount(self.labels, minlength=len(self.names)).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class FewShotData:
    """The splits: train on base, choose on val, report on novel. No class is in two of them.

    name  of the source, for tables

    Raises CompileError (CLASSES_OVERLAP) where two splits share a class, DATA_FILE where they differ in size.
    """

    base: ImageSet
    val: ImageSet
    novel: ImageSet
    name: str

    def __post_init__(self) -> None:
        require_disjoint({split: self.split(split).names for split in SPLITS}, self.name)
        sizes = {self.split(split).images.shape[1:] for split in SPLITS}
        if len(sizes) != 1:
            raise CompileError(Code.DATA_FILE, f"{quote(self.name)}: the splits have images of different sizes")

    def split(self, name: str) -> ImageSet:
        """The set "base", "val" or "novel"."""
        assert name in SPLITS, name
        return {"base": self.base, "val": self.val, "novel": self.novel}[name]

    @property
    def size(self) -> int:
        """Pixels a side."""
        return int(self.base.images.shape[1])

    def digest(self) -> str:
        """SHA-256, in hex, of every image, label and class name. The name of the source does not count."""
        digest = sha256()
        for split in SPLITS:
            part = self.split(split)
            digest.update(f"{split} {part.images.shape} {len(part.names)}\n".encode())
            digest.update("".join(f"{len(name)} {name}\n" for name in part.names).encode("utf-8", "surrogatepass"))
            digest.update(part.labels.astype("<i8").tobytes())
            digest.update(np.ascontiguousarray(part.images).data)
        return digest.hexdigest()


def require_disjoint(names: dict[str, tuple[str, ...]], source: str) -> None:
    """Demand that no class is in two splits. An accuracy on classes that were trained on would mean nothing.

    names  of the classes, by split
    """
    seen: dict[str, str] = {}
    for split, classes in names.items():
        twice = [name for name in classes if name in seen]
        if twice:
            others = f" and {len(twice) - 1} more" if len(twice) > 1 else ""
            raise CompileError(
                Code.CLASSES_OVERLAP,
                f"{quote(source)}: class {quote(twice[0])}{others} is in {split} and in {seen[twice[0]]}",
                hint="each class belongs to one split: base to train, val to choose, novel to report",
            )
        seen.update(dict.fromkeys(classes, split))


def require_size(size: int) -> None:
    """Demand 16 ... 84 pixels a side. Raises CompileError."""
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or not SMALLEST_SIZE <= size <= LARGEST_SIZE:
        raise CompileError(
            Code.DATA_OPTION,
            f"{size!r} is not a size of images",
            hint=f"pixels a side, {SMALLEST_SIZE} to {LARGEST_SIZE}; 32 is usual",
        )
