"""Picture files in every mode, broken ones, and the resizing against exact fractions."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.data.pictures import decode_picture, pictures_in, read_pictures
from pefslc.fewshot.data.resize import centre_crop, resize

RGB = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype(np.uint8)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> tuple[str, bytes]:
    file = BytesIO()
    image.save(file, kind, **options)
    return f"picture.{kind}", file.getvalue()


def area_mean(image: NDArray[np.uint8], size: int) -> list[list[int]]:
    """Of one channel [s, s], by fractions: the mean over each new pixel, half rounded up."""
    side = len(image)

    def share(new: int, old: int) -> Fraction:
        start, end = Fraction(new * side, size), Fraction((new + 1) * side, size)
        return max(min(end, Fraction(old + 1)) - max(start, Fraction(old)), Fraction(0))

    def value(row: int, column: int) -> int:
        total = sum(share(row, y) * share(column, x) * int(image[y, x]) for y in range(side) for x in range(side))
        return int(total / Fraction(side, size) ** 2 + Fraction(1, 2))

    return [[value(row, column) for column in range(size)] for row in range(size)]


@given(st.integers(1, 7), st.integers(1, 6), st.integers(0, 10**6))
def test_resizing_is_the_mean_over_the_area(side: int, size: int, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (2, side, side, 3)).astype(np.uint8)
    found = resize(images, size, size)
    for i in range(2):
        for channel in range(3):
            assert found[i, :, :, channel].tolist() == area_mean(images[i, :, :, channel], size)


def test_a_half_is_rounded_up() -> None:
    image = np.array([[[0], [1]], [[1], [0]]], np.uint8).repeat(3, 2)[None]
    assert resize(image, 1, 1).tolist() == [[[[1, 1, 1]]]]


def test_large_pictures_are_exact() -> None:
    image = np.full((1, 2003, 2003, 3), 255, np.uint8)
    assert (resize(image, 84, 84) == 255).all()


def test_the_middle_is_kept() -> None:
    image = np.arange(5 * 8 * 3, dtype=np.uint8).reshape(5, 8, 3)
    assert np.array_equal(centre_crop(image), image[:, 1:6])
    assert np.array_equal(centre_crop(image.transpose(1, 0, 2)), image.transpose(1, 0, 2)[1:6])


def test_colours_are_kept() -> None:
    assert np.array_equal(decode_picture(saved(Image.fromarray(RGB))), RGB)


def test_grey_and_bits_are_the_same_in_each_channel() -> None:
    grey = RGB[:, :, 0]
    assert np.array_equal(decode_picture(saved(Image.fromarray(grey))), grey[:, :, None].repeat(3, 2))
    bits = decode_picture(saved(Image.fromarray(grey).convert("1", dither=Image.Dither.NONE)))
    assert np.array_equal(bits, np.where(grey >= 128, 255, 0)[:, :, None].repeat(3, 2))


def test_a_palette_is_looked_up() -> None:
    image = Image.fromarray((np.arange(30) % 3).astype(np.uint8).reshape(6, 5), "L").convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    expected = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]])[(np.arange(30) % 3).reshape(6, 5)]
    assert np.array_equal(decode_picture(saved(image)), expected)


def test_transparent_is_white() -> None:
    alpha = np.array([0, 255, 128, 0, 255], np.uint8)[None].repeat(6, 0)
    found = decode_picture(saved(Image.fromarray(np.dstack([RGB, alpha]))))
    assert (found[:, [0, 3]] == 255).all()
    assert np.array_equal(found[:, [1, 4]], RGB[:, [1, 4]])
    blended = (RGB[:, 2].astype(int) * 128 + 255 * 127) / 255
    assert np.abs(found[:, 2] - blended).max() <= 1  # Pillow's own rounding
    grey = decode_picture(saved(Image.fromarray(np.dstack([RGB[:, :, 0], alpha]), "LA")))
    assert (grey[:, 0] == 255).all()
    assert (grey[:, 1, 0] == RGB[:, 1, 0]).all()


def test_a_palette_with_a_transparent_colour_is_white_there() -> None:
    image = Image.fromarray((np.arange(30) % 2).astype(np.uint8).reshape(6, 5), "L").convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    found = decode_picture(saved(image, transparency=0)).reshape(-1, 3)
    assert (found[::2] == 255).all()
    assert (found[1::2] == [40, 50, 60]).all()


def test_of_16_bits_the_upper_8_are_kept() -> None:
    wide = np.arange(30, dtype=np.uint16).reshape(6, 5) * 2184
    assert np.array_equal(decode_picture(saved(Image.fromarray(wide))), (wide >> 8)[:, :, None].repeat(3, 2))


def test_a_photograph_that_was_turned_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees, clockwise
    assert np.array_equal(decode_picture(saved(Image.fromarray(RGB), exif=exif)), np.rot90(RGB, -1))


def test_of_several_frames_the_first_is_read() -> None:
    frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
    found = decode_picture(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert (found == 10).all()


def refused(picture: tuple[str, bytes] | Path) -> str:
    with pytest.raises(CompileError) as e:
        decode_picture(picture)
    assert e.value.problems[0].code is Code.PICTURE
    return str(e.value)


def test_floats_and_32_bits_are_refused() -> None:
    assert "mode F is not read" in refused(saved(Image.fromarray(np.ones((3, 3), np.float32)), "TIFF"))
    assert "mode I, of 32 bits" in refused(saved(Image.fromarray(np.full((3, 3), 70000, np.int32)), "TIFF"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_a_picture_cut_anywhere_is_refused_or_read(kind: str) -> None:
    name, whole = saved(Image.fromarray(RGB.repeat(4, 0).repeat(4, 1)), kind)
    refusals = 0
    for length in range(0, len(whole) - 1, max(1, len(whole) // 60)):
        try:
            decode_picture((name, whole[:length]))
        except CompileError as e:
            refusals += [problem.code for problem in e.problems] == [Code.PICTURE]
    assert refusals > 30
    assert "picture.P" not in refused(("mug/1.png", whole[: len(whole) // 2]))


def test_a_picture_that_declares_more_pixels_than_anyone_has_is_refused() -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 12000, 12000, 8, 2, 0, 0, 0))
    message = refused(
        ("bomb.png", b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    )
    assert "12000 x 12000 pixels" in message


def test_every_broken_picture_is_told_at_once(tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg"):
        (tmp_path / name).write_bytes(b"no picture")
    Image.fromarray(RGB).save(tmp_path / "c.png")
    splits = {split: {split: pictures_in(tmp_path)} for split in ("base", "val", "novel")}
    with pytest.raises(CompileError) as e:
        read_pictures(splits, 16, "mine")
    assert len(e.value.problems) == 6
    assert "a.png" in str(e.value)
    assert "b.jpg" in str(e.value)


def test_what_is_no_picture_by_its_name_is_passed_over(tmp_path: Path) -> None:
    for name in ("Thumbs.db", ".hidden.png", "notes.txt", "b.PNG", "a.jpeg"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in pictures_in(tmp_path)] == ["a.jpeg", "b.PNG"]


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="no such file") as e:
        decode_picture(tmp_path / "not there.png")
    assert e.value.problems[0].code is Code.NO_SUCH_FILE


def test_without_pillow_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    with pytest.raises(CompileError, match="reading picture files needs pillow"):
        decode_picture(("x.png", b""))
