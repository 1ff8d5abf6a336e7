"""Images with labels, in splits: what contradicts itself is refused, and the digest sees everything."""

from __future__ import annotations

import numpy as np
import pytest

from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.data.image_set import FewShotData, ImageSet


def small(names: str, side: int = 16) -> ImageSet:
    images = np.stack(
        [np.random.default_rng(i).integers(0, 256, (side, side, 3)).astype(np.uint8) for i in range(len(names))]
    )
    return ImageSet(images, np.arange(len(names)), tuple(names))


def test_the_digest_is_of_every_image_label_and_name() -> None:
    data = FewShotData(small("ab"), small("cd"), small("ef"), "x")
    changed = small("ef")
    changed.images[1, 3, 4, 2] ^= 1
    others = [
        FewShotData(small("ab"), small("cd"), changed, "x"),
        FewShotData(small("ab"), small("cd"), small("eg"), "x"),
        FewShotData(small("ab"), small("cd"), small("fe"), "x"),
        FewShotData(small("cd"), small("ab"), small("ef"), "x"),
        FewShotData(ImageSet(small("ab").images, np.array([1, 0]), ("a", "b")), small("cd"), small("ef"), "x"),
    ]
    assert len({data.digest(), *(other.digest() for other in others)}) == 6
    assert FewShotData(small("ab"), small("cd"), small("ef"), "another name").digest() == data.digest()


def test_sets_that_contradict_themselves_are_refused() -> None:
    images = np.zeros((2, 16, 16, 3), np.uint8)
    labels = np.arange(2)
    for wrong in (
        (images.astype(np.int32), labels, ("a", "b")),
        (images[:, :, :, :1], labels, ("a", "b")),
        (images, labels.astype(np.int32), ("a", "b")),
        (images, labels[:1], ("a", "b")),
        (images, labels, ("a", "a")),
        (images, labels, ("a", "b", "c")),
        (images, labels + 1, ("a", "b")),
    ):
        with pytest.raises(CompileError, match="contradicts itself"):
            ImageSet(*wrong)  # type: ignore[arg-type]
    with pytest.raises(CompileError, match="different sizes"):
        FewShotData(small("ab"), small("cd", 20), small("ef"), "x")
