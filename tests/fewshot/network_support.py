"""Pictures and networks so small that they train in a second; only tests that need the extra `train` import this."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.fewshot.networks import Description

SIZE = 16


@dataclass(frozen=True)
class Drawn:
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: tuple[str, ...]


def drawn(classes: int = 4, count: int = 12, seed: int = 0, size: int = SIZE) -> Drawn:
    """A picture of random tiles for each class, `count` times with noise."""
    rng = np.random.default_rng(seed)
    tiles = np.kron(rng.integers(0, 256, (classes, 4, 4, 3)), np.ones((1, size // 4, size // 4, 1)))
    labels = np.repeat(np.arange(classes, dtype=np.int64), count)
    images = np.clip(tiles[labels] + rng.normal(0, 25, (len(labels), size, size, 3)), 0, 255).astype(np.uint8)
    return Drawn(images, labels, tuple(f"class {i}" for i in range(classes)))


def tiny(**changes: object) -> Description:
    return Description(**{"maps": (4, 6, 8), "size": SIZE, **changes})  # type: ignore[arg-type]
