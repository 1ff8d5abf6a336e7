"""A data set of picture files, so small that networks train on it in a second. Needs pillow."""

from __future__ import annotations

from pathlib import Path

from fewshot.network_support import SIZE, drawn
from PIL import Image


def write_pictures(folder: Path, classes: int = 5, count: int = 8) -> Path:
    """base/, val/ and novel/ with a folder for each class."""
    for seed, split in enumerate(("base", "val", "novel")):
        data = drawn(classes, count, seed, SIZE)
        for position, (image, label) in enumerate(zip(data.images, data.labels, strict=True)):
            of_class = folder / split / f"{split} {label}"
            of_class.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(of_class / f"{position:03}.png")
    return folder
