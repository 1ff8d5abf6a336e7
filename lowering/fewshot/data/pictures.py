"""Picture files to arrays, by Pillow. PNG and its like decode exactly; JPEG as exactly as the installed decoder does.

How the unusual is read:
    turned by EXIF     upright, as a viewer shows it
    grey, 1 bit        the same value in each channel
    palette, CMYK      its RGB colours
    transparent        on white
    16 bit             the upper 8 bits
    several frames     the first
    floating point     refused: nobody knows its range
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem, quote
from pefslc.diagnostics.progress import Progress
from pefslc.fewshot.data.extra import require_package
from pefslc.fewshot.data.image_set import FewShotData, ImageSet
from pefslc.fewshot.data.resize import centre_crop, resize
from pefslc.files.reading import unreadable

__all__ = ["PICTURE_SUFFIXES", "Classes", "Picture", "decode_picture", "pictures_in", "read_pictures"]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
_MOST_PIXELS = 1 << 26  # of one picture; a few kilobytes can declare more than any memory
_MOST_PROBLEMS = 20  # told at once

Picture = Path | tuple[str, bytes]  # a file, or (what it is called, the bytes of one)
Classes = Mapping[str, Sequence[Picture]]  # by class name


def pictures_in(folder: Path) -> list[Path]:
    """The picture files of a folder by their names, hidden ones left out."""
    return sorted(
        path for path in folder.iterdir()
        if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )  # fmt: skip


def read_pictures(
    splits: Mapping[str, Classes], size: int, source: str, progress: Progress | None = None
) -> FewShotData:
    """Decode, crop and resize the pictures of "base", "val" and "novel". Raises CompileError: all that is broken.

    source    what it is called, in messages and tables
    progress  called with (pictures done, all pictures, "reading pictures")
    """
    empty = [(split, name) for split, classes in splits.items() for name, found in classes.items() if not found]
    if empty:
        raise CompileError.of(
            Problem(Code.CLASS_TOO_SMALL, f"class {quote(name)} of {split} has no pictures", hint=_SUFFIX_HINT)
            for split, name in empty[:_MOST_PROBLEMS]
        )
    total = sum(len(found) for classes in splits.values() for found in classes.values())
    done = 0
    sets: dict[str, ImageSet] = {}
    problems: list[Problem] = []
    for split, classes in splits.items():
        images = np.zeros((sum(map(len, classes.values())), size, size, 3), np.uint8)
        labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(found) for found in classes.values()])
        for i, picture in enumerate(picture for found in classes.values() for picture in found):
            try:
                images[i] = resize(centre_crop(decode_picture(picture))[None], size, size)[0]
            except CompileError as e:
                if e.problems[0].code is not Code.PICTURE:
                    raise
                problems += e.problems
                if len(problems) >= _MOST_PROBLEMS:
                    raise CompileError.of(problems) from None
            done += 1
            if progress is not None:
                progress(done, total, "reading pictures")
        if not problems:
            sets[split] = ImageSet(images, labels, tuple(classes))
    if problems:
        raise CompileError.of(problems)
    return FewShotData(sets["base"], sets["val"], sets["novel"], source)


_SUFFIX_HINT = f"pictures end in {', '.join(PICTURE_SUFFIXES)}"


def decode_picture(picture: Picture) -> NDArray[np.uint8]:
    """uint8 [H, W, 3], RGB; see above for other modes. Raises CompileError, also where Pillow is missing."""
    image_module = require_package("PIL.Image", "pillow", "reading picture files")
    turning = require_package("PIL.ImageOps", "pillow", "reading picture files")
    name, content = (str(picture), None) if isinstance(picture, Path) else picture
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong becomes an error below, or does not matter
            with image_module.open(picture if content is None else BytesIO(content)) as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise _problem(name, f"it has {image.width} x {image.height} pixels, more than {_MOST_PIXELS}")
                image.load()
                return _as_rgb(turning.exif_transpose(image), image_module, name)
    except CompileError:
        raise
    except FileNotFoundError as e:
        raise unreadable(Path(name), e) from None
    except MemoryError:
        raise _problem(name, "it is larger than the memory") from None
    except Exception as e:
        # A damaged file makes Pillow's many decoders raise nearly anything.
        raise _problem(name, str(e) or type(e).__name__) from None


def _as_rgb(image: Any, image_module: Any, name: str) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):  # I;16 and its byte orders, or I where a file has 16 bits
        if image.mode == "I" and image.format != "PNG":
            raise _problem(name, "mode I, of 32 bits, is not read")
        wide = np.asarray(image).astype(np.int64)
        if wide.min(initial=0) < 0 or wide.max(initial=0) > 0xFFFF:
            raise _problem(name, f"its values {wide.min()} to {wide.max()} are not of 16 bits")
        return np.repeat((wide >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr"):
        raise _problem(name, f"mode {image.mode} is not read")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        coloured = image.convert("RGBA")
        paper = image_module.new("RGBA", coloured.size, (255, 255, 255, 255))
        image = image_module.alpha_composite(paper, coloured)
    return np.array(image.convert("RGB"), np.uint8)


def _problem(name: str, why: str) -> CompileError:
    return CompileError(
        Code.PICTURE,
        f"picture {quote(Path(name))} cannot be read: {why}",
        hint="save it again as an 8-bit PNG, or remove it",
    )
