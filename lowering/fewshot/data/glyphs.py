"""The default data set: glyphs drawn by a shaky pen, in colour, as a camera sees them. Nothing is downloaded.

Each image is a function of (seed, class name, its number): more images of a class, other classes or another number of
processes change none of those that were there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.diagnostics.progress import Progress
from pefslc.fewshot.data.drawings import Drawing, drawings
from pefslc.fewshot.data.image_set import SPLITS, FewShotData, ImageSet, require_size
from pefslc.fewshot.data.random_words import between, random_bytes, random_words
from pefslc.fewshot.data.rasterise import DIRECTION_BITS, SUBPIXELS, coverage, sine

__all__ = ["IMAGES_PER_CLASS", "glyph_images", "make_glyphs"]

Integers = NDArray[np.int64]

IMAGES_PER_CLASS = 40  # 5 shots and 15 queries, twice
_MOST_IMAGES = 10_000

_SIDE = 1 << 12  # the side of an image; lengths below are in this unit
_ONE = 1 << DIRECTION_BITS
# As wide as a reader still bears: with half of these, a small network has next to no errors, and tells no two formats
# of numbers apart.
_TURN = 120  # quarters of a degree, either way
_SCALE = (_ONE * 40 // 100, _ONE * 90 // 100)  # of the longer side of the drawing, to the side of the image
_ASPECT = _ONE * 25 // 100
_SHEAR = _ONE * 40 // 100
_SHIFT = _SIDE * 15 // 100
_RADIUS = (_SIDE * 16 // 1000, _SIDE * 36 // 1000)
_WARP = _SIDE * 10 // 100  # of each node of a grid of 4 x 4, between which points move smoothly
_TREMOR = _SIDE * 10 // 1000  # of each point by itself
_PAPER, _INK = (150, 255), (0, 110)  # each channel
_LIGHT = 40  # the difference from one side of the image to the other, at most, either way
_NOISE = 12  # of the noisiest image, either way

_NODES = 4  # a side
_SCALARS = 20  # words of an image that come before those of nodes and points


def make_glyphs(
    size: int = 32, images_per_class: int = IMAGES_PER_CLASS, seed: int = 0, progress: Progress | None = None
) -> FewShotData:
    """Base: Latin, Greek, Cyrillic and Gothic letters; val: symbols; novel: Japanese. The same bytes on every machine.

    size              pixels a side, 16 to 84
    images_per_class  1 to 10,000
    progress          called with (classes done, all classes, "drawing glyphs")

    Raises CompileError, also where the package hershey-fonts is missing.
    """
    require_size(size)
    if not 1 <= images_per_class <= _MOST_IMAGES:
        raise CompileError(
            Code.DATA_OPTION, f"{images_per_class} images a class", hint=f"1 to {_MOST_IMAGES}; 40 is the default"
        )
    every = drawings()
    images: dict[str, list[NDArray[np.uint8]]] = {split: [] for split in SPLITS}
    names: dict[str, list[str]] = {split: [] for split in SPLITS}
    for done, drawing in enumerate(every):
        images[drawing.split].append(glyph_images(drawing, size, images_per_class, seed))
        names[drawing.split].append(drawing.name)
        if progress is not None:
            progress(done + 1, len(every), "drawing glyphs")
    sets = [
        ImageSet(
            np.concatenate(images[split]),
            np.repeat(np.arange(len(names[split]), dtype=np.int64), images_per_class),
            tuple(names[split]),
        )
        for split in SPLITS
    ]
    return FewShotData(sets[0], sets[1], sets[2], "glyphs")


def glyph_images(drawing: Drawing, size: int, count: int, seed: int) -> NDArray[np.uint8]:
    """uint8 [count, size, size, 3] of one class."""
    per_image = _SCALARS + 2 * (_NODES * _NODES + len(drawing.points))
    words = random_words(count * per_image, seed, "glyph", drawing.name).reshape(count, per_image)
    points, radius = _pen(drawing, words)
    scale = size * SUBPIXELS
    ink = coverage(points * scale // _SIDE, drawing.segments, np.maximum(radius * scale // _SIDE, 1), size)
    return _photograph(ink, words, random_bytes(count * size * size * 3, seed, "noise", drawing.name))


def _pen(drawing: Drawing, words: NDArray[np.uint64]) -> tuple[Integers, Integers]:
    """([n, P, 2] points, [n] half widths), in 1/_SIDE of the image's side."""
    low, high = drawing.points.min(0), drawing.points.max(0)
    points = (2 * drawing.points - low - high) * _SIDE // (2 * int((high - low).max()))  # within half a side of 0
    nodes = between(words[:, _SCALARS : _SCALARS + 2 * _NODES**2], -_WARP, _WARP).reshape(len(words), -1, 2)
    tremor = between(words[:, _SCALARS + 2 * _NODES**2 :], -_TREMOR, _TREMOR).reshape(len(words), -1, 2)
    warp = np.einsum("pk,nkc->npc", _node_weights(points), nodes) >> 24
    moved = points + warp + tremor  # [n, P, 2]
    turn = between(words[:, 0], -_TURN, _TURN)
    sin = np.array([sine(angle) for angle in range(-_TURN, _TURN + 1)])[turn + _TURN]
    cos = np.array([sine(360 - abs(angle)) for angle in range(-_TURN, _TURN + 1)])[turn + _TURN]
    scale = between(words[:, 1], *_SCALE)
    aspect = between(words[:, 2], -_ASPECT, _ASPECT)
    x_scale, y_scale = scale * (_ONE + aspect) // _ONE, scale * (_ONE - aspect) // _ONE
    shear = between(words[:, 3], -_SHEAR, _SHEAR)
    x = moved[:, :, 0] * x_scale[:, None] // _ONE
    y = moved[:, :, 1] * y_scale[:, None] // _ONE
    x += y * shear[:, None] // _ONE
    turned = np.stack(
        [(x * cos[:, None] - y * sin[:, None]) // _ONE, (x * sin[:, None] + y * cos[:, None]) // _ONE], axis=2
    )
    shift = between(words[:, 4:6], -_SHIFT, _SHIFT)[:, None, :]
    return turned + shift + _SIDE // 2, between(words[:, 6], *_RADIUS)


def _node_weights(points: Integers) -> Integers:
    """[P, nodes]: the share of each node in the displacement of each point, bilinear; they sum up to _SIDE**2."""
    place = np.clip(points + _SIDE // 2, 0, _SIDE) * (_NODES - 1)
    cell = np.minimum(place // _SIDE, _NODES - 2)
    part = place - cell * _SIDE
    weights = np.zeros((len(points), _NODES, _NODES), np.int64)
    every = np.arange(len(points))
    for right, wx in ((0, _SIDE - part[:, 0]), (1, part[:, 0])):
        for down, wy in ((0, _SIDE - part[:, 1]), (1, part[:, 1])):
            weights[every, cell[:, 1] + down, cell[:, 0] + right] = wx * wy
    return weights.reshape(len(points), -1)


def _photograph(ink: NDArray[np.uint8], words: NDArray[np.uint64], noise: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [n, H, W, 3]: coloured ink on coloured paper, light from one side, and noise."""
    n, size, _ = ink.shape
    paper = between(words[:, 7:10], *_PAPER).astype(np.int32)[:, None, None, :]
    colour = between(words[:, 10:13], *_INK).astype(np.int32)[:, None, None, :]
    image = paper + (colour - paper) * ink[:, :, :, None].astype(np.int32) // 255
    light = between(words[:, 13:15], -_LIGHT, _LIGHT).astype(np.int32)
    place = 2 * np.arange(size, dtype=np.int32) - (size - 1)
    across = light[:, :1] * place // (2 * size)
    down = light[:, 1:] * place // (2 * size)
    image += (across[:, None, :] + down[:, :, None])[:, :, :, None]
    amplitude = between(words[:, 15], 0, _NOISE).astype(np.int32)[:, None, None, None]
    image += (noise.reshape(n, size, size, 3).astype(np.int32) * (2 * amplitude + 1) >> 8) - amplitude
    return np.clip(image, 0, 255).astype(np.uint8)
