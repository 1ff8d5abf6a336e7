"""Labelled pictures for training: what is asked of them, and how a batch of them becomes the network's input."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.networks.backbones import Description

__all__ = ["LabelledImages", "require_images", "require_labels", "shifted"]


class LabelledImages(Protocol):
    """Pictures with the classes that they show.

    images  uint8 [N, H, W, 3]
    labels  int64 [N], each the position of its class in names
    names   of the classes
    """

    @property
    def images(self) -> NDArray[np.uint8]: ...

    @property
    def labels(self) -> NDArray[np.int64]: ...

    @property
    def names(self) -> tuple[str, ...]: ...


def require_images(images: NDArray[np.uint8], description: Description) -> None:
    """Demand uint8 [N, size, size, 3] with N >= 1. Raises CompileError."""
    wanted = [description.size, description.size, 3]
    if images.dtype != np.uint8 or images.ndim != 4 or list(images.shape[1:]) != wanted or not len(images):
        raise CompileError(
            Code.TRAINING,
            f"the pictures are {images.dtype} {list(images.shape)}, not uint8 [N, {', '.join(map(str, wanted))}]",
            hint=f"load them in the size of the backbone, {description.size} pixels",
        )


def require_labels(data: LabelledImages) -> None:
    """Demand a label for each picture, and two classes that have pictures. Raises CompileError."""
    labels, classes = data.labels, len(data.names)
    if labels.shape != (len(data.images),) or labels.dtype.kind not in "iu":
        raise CompileError(
            Code.TRAINING,
            f"the labels are {labels.dtype} {list(labels.shape)} for {len(data.images)} pictures",
            hint="one integer a picture",
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise CompileError(
            Code.TRAINING,
            f"the labels reach from {labels.min()} to {labels.max()}, and there are {classes} classes",
            hint="classes count from 0",
        )
    if len(np.unique(labels)) < 2:
        raise CompileError(
            Code.TRAINING, "all pictures are of one class: there is nothing to tell apart", hint="give more classes"
        )


def shifted(images: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Pictures [N, H, W, 3] moved by whole pixels; what comes in repeats the edge.

    offsets  [N, 2]: down and to the right
    """
    rows, columns = (
        np.clip(np.arange(size) - offsets[:, axis, None], 0, size - 1) for axis, size in enumerate(images.shape[1:3])
    )
    return images[np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]
