"""Drawn glyphs, kept in a folder: drawing them again gives the same, so the cache saves seconds and decides nothing."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np

from pefslc.diagnostics.errors import CompileError
from pefslc.diagnostics.progress import Progress
from pefslc.fewshot.data.drawings import drawings
from pefslc.fewshot.data.glyphs import glyph_images, make_glyphs
from pefslc.fewshot.data.image_set import SPLITS, FewShotData, ImageSet, require_size
from pefslc.files.arrays import read_arrays, write_arrays
from pefslc.files.reading import make_folder

__all__ = ["cache_path", "cached_glyphs"]

_PROBED = 40  # every so many drawings one is drawn small, to tell this recipe from that of another version


def cached_glyphs(
    folder: Path, size: int, images_per_class: int, seed: int, progress: Progress | None = None
) -> FewShotData:
    """`make_glyphs`, from a file of `folder` where it is there and whole; else drawn, and written whole or not at all.

    The folder is made where it is not there. Raises CompileError, also where it cannot be written.
    """
    require_size(size)
    path = cache_path(folder, size, images_per_class, seed)
    if path.is_file():
        with suppress(CompileError, KeyError, ValueError):  # a file cut short, or not ours: drawn again
            return _read(path)
    data = make_glyphs(size, images_per_class, seed, progress)
    arrays = {f"{split}_images": data.split(split).images for split in SPLITS}
    make_folder(folder)
    write_arrays(path, {**arrays, "digest": np.frombuffer(bytes.fromhex(data.digest()), np.uint8)})
    return data


def cache_path(folder: Path, size: int, images_per_class: int, seed: int) -> Path:
    """The file of these glyphs. Its name holds a hash of some of them as they are drawn now."""
    probe = sha256()
    for drawing in drawings()[::_PROBED]:
        probe.update(glyph_images(drawing, 16, 1, seed).tobytes())
    return folder / f"glyphs-{size}-{images_per_class}-{seed}-{probe.hexdigest()[:12]}.npz"


def _read(path: Path) -> FewShotData:
    arrays = read_arrays(path)
    sets = []
    for split in SPLITS:
        names = tuple(drawing.name for drawing in drawings() if drawing.split == split)
        images = arrays[f"{split}_images"].astype(np.uint8, copy=False)
        per_class = len(images) // len(names)
        sets.append(ImageSet(images, np.repeat(np.arange(len(names), dtype=np.int64), per_class), names))
    data = FewShotData(sets[0], sets[1], sets[2], "glyphs")
    if bytes.fromhex(data.digest()) != arrays["digest"].tobytes():
        raise ValueError("the file is damaged")
    return data
