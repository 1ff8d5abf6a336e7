"""Pictures to codes: each entry of the table from its definition in rationals, areas of pixels by counting."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.data.resize import centre_crop, resize
from pefslc.fewshot.system.pictures import PictureTable, fit_picture
from pefslc.numeric.format import FixedPoint, Quantization
from pefslc.numeric.quantize import quantize_array
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Root

# The usual ones of ImageNet, and ties: with std 1/255 a byte less its mean is an integer.
MEAN, STD = ("0.485", "0.456", "0.406"), ("0.229", "0.224", "0.225")
Q2_5 = FixedPoint.parse("Q2.5").quantization
BIPOLAR = Quantization(bits=2, signed=True, narrow=True, scale=Scale.of([Fraction(1)]))
PER_COLOUR = Quantization(
    bits=8, signed=True, scale=Scale.of([Fraction(1, 60), Fraction(1, 50), Fraction(3, 128)]), zero_point=3
)


def rounded(y: Fraction, mode: RoundingMode) -> int:
    down, up = floor(y), ceil(y)
    toward, away = (down, up) if y >= 0 else (up, down)
    nearest = toward if abs(y - toward) < abs(away - y) else away
    is_tie = y - down == Fraction(1, 2)
    match mode:
        case RoundingMode.HALF_EVEN:
            return (down if down % 2 == 0 else up) if is_tie else nearest
        case RoundingMode.HALF_AWAY:
            return away if is_tie else nearest
        case RoundingMode.HALF_TO_ZERO:
            return toward if is_tie else nearest
        case RoundingMode.FLOOR:
            return down
        case RoundingMode.CEIL:
            return up
        case RoundingMode.TO_ZERO:
            return toward
        case RoundingMode.AWAY:
            return away
        case RoundingMode.SIGN:
            return 1 if y >= 0 else -1


@pytest.mark.parametrize("mode", RoundingMode)
@pytest.mark.parametrize("last", [False, True], ids=["zero point inside", "zero point last"])
def test_each_entry_is_the_quantizer_of_the_normalized_byte(mode: RoundingMode, last: bool) -> None:
    one = (Fraction(255, 512),) * 3, (Fraction(255, 256),) * 3  # (2 byte - 255) / 510: a tie for each odd multiple
    ties = ("1/510",), ("1/255",)  # byte - 1/2: only ties
    for quantization in (BIPOLAR,) if mode is RoundingMode.SIGN else (Q2_5, PER_COLOUR):
        if mode is RoundingMode.SIGN and last:
            continue  # bipolar codes have no zero point: both orders are one
        for mean, std in ((MEAN, STD), one, ties):
            table = PictureTable.of(Quantizer(quantization, mode, last), mean, std)
            low, high, zero = quantization.low, quantization.high, quantization.zero_point
            for colour in range(3):
                m, s = Fraction(mean[colour % len(mean)]), Fraction(std[colour % len(std)])
                for byte in range(256):
                    y = (Fraction(byte, 255) - m) / s / quantization.scale.channel(colour)
                    code = rounded(y, mode) + zero if last else rounded(y + zero, mode)
                    assert table.codes[colour, byte] == min(max(code, low), high)


def test_a_table_is_what_the_model_computes_from_exact_values() -> None:
    """Where img / 255 is a float64 without rounding, the compiler's own quantizer of arrays says the same."""
    quantizer = Quantizer(PER_COLOUR)
    table = PictureTable.of(quantizer, 0, Fraction(1, 255))  # bytes as they are
    x = np.arange(256, dtype=np.float64) * np.ones((3, 1))
    assert np.array_equal(table.codes, quantize_array(quantizer, x[None], 1)[0])


def test_the_mean_in_other_units_gives_other_codes() -> None:
    """img / 255 - mean / std, as it is found in use, is another picture."""
    right = PictureTable.of(Quantizer(Q2_5), MEAN, STD).codes
    wrong = np.array(
        [
            [
                min(max(rounded((Fraction(b, 255) - Fraction(m) / Fraction(s)) * 32, RoundingMode.HALF_EVEN), -64), 63)
                for b in range(256)
            ]
            for m, s in zip(MEAN, STD, strict=True)
        ]
    )
    assert (right != wrong).mean() > 0.7


def test_floats_and_texts_are_the_decimals_that_they_show() -> None:
    quantizer = Quantizer(Quantization(bits=24, signed=True, scale=Scale.power_of_two(-20)))
    texts = PictureTable.of(quantizer, MEAN, STD).codes
    for convert in (float, np.float64, np.float32, Fraction):
        given = [[convert(n) for n in numbers] for numbers in (MEAN, STD)]
        assert np.array_equal(PictureTable.of(quantizer, *given).codes, texts)
    assert np.array_equal(
        PictureTable.of(quantizer, 0.5, 0.25).codes[1], PictureTable.of(quantizer, ["1/2"], [Fraction(1, 4)]).codes[2]
    )


def test_frames_become_codes_with_channels_first() -> None:
    table = PictureTable.of(Quantizer(Q2_5), MEAN, STD)
    frames = (np.arange(2 * 3 * 4 * 3) * 3 % 256).astype(np.uint8).reshape(2, 3, 4, 3)
    codes = table(frames)
    assert (codes.shape, codes.dtype) == ((2, 3, 3, 4), np.int64)
    for n, c, y, x in np.ndindex(codes.shape):
        assert codes[n, c, y, x] == table.codes[c, frames[n, y, x, c]]
    assert np.array_equal(table(frames[1]), codes[1])
    assert not table.codes.flags.writeable


def area_mean(frame: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The mean of each piece in rationals, from the overlap of each pixel with it."""

    def overlap(pixel: int, piece: int, length: int, parts: int) -> Fraction:
        first, last = Fraction(piece * length, parts), Fraction((piece + 1) * length, parts)
        return max(Fraction(0), min(last, Fraction(pixel + 1)) - max(first, Fraction(pixel))) / (last - first)

    rows, columns = frame.shape[:2]
    out = np.zeros((height, width, 3), dtype=np.uint8)
    for y, x, c in np.ndindex(out.shape):
        weights = (
            (overlap(j, y, rows, height) * overlap(i, x, columns, width), int(frame[j, i, c]))
            for j in range(rows)
            for i in range(columns)
        )
        out[y, x, c] = rounded(sum((w * v for w, v in weights), Fraction(0)), RoundingMode.HALF_AWAY)
    return out


def frame_of(seed: int, rows: int, columns: int) -> NDArray[np.uint8]:
    words = np.random.Philox(key=seed).random_raw(rows * columns * 3)
    return (words >> np.uint64(56)).astype(np.uint8).reshape(rows, columns, 3)


def resized(frame: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    return resize(frame[None], height, width)[0]


@settings(max_examples=50)
@given(st.integers(0, 99), *[st.integers(1, 5)] * 4)
def test_a_resized_pixel_is_the_mean_of_its_area(seed: int, rows: int, columns: int, height: int, width: int) -> None:
    frame = frame_of(seed, rows, columns)
    assert np.array_equal(resized(frame, height, width), area_mean(frame, height, width))


def test_resizing_by_whole_factors_averages_and_repeats() -> None:
    frame = frame_of(1, 12, 20)
    means = frame.reshape(6, 2, 5, 4, 3).astype(np.int64).sum(axis=(1, 3))
    assert np.array_equal(resized(frame, 6, 5), (means + 4) // 8)
    assert np.array_equal(resized(frame, 24, 60), frame.repeat(2, axis=0).repeat(3, axis=1))
    assert np.array_equal(resized(frame, 12, 20), frame)
    assert np.array_equal(resize(np.stack([frame, frame[::-1]]), 6, 5)[0], resized(frame, 6, 5))
    assert (resized(np.full((480, 640, 3), 255, dtype=np.uint8), 84, 84) == 255).all()


@given(*[st.integers(1, 40)] * 4)
def test_the_crop_is_the_largest_in_the_middle(rows: int, columns: int, height: int, width: int) -> None:
    """Pixels that hold their own place tell which part is left."""
    frame = np.stack([*np.indices((rows, columns)), np.zeros((rows, columns))], axis=-1).astype(np.uint8)
    kept = centre_crop(frame, height, width)
    size, start = kept.shape[:2], kept[0, 0, :2].tolist()
    assert size[0] == rows or size[1] == columns
    wanted = (
        (rows, Fraction(rows * width, height))
        if rows * width <= columns * height
        else (Fraction(columns * height, width), columns)
    )
    assert size == tuple(max(1, floor(w)) for w in wanted)
    assert start == [(rows - size[0]) // 2, (columns - size[1]) // 2]
    assert kept[-1, -1, :2].tolist() == [start[0] + size[0] - 1, start[1] + size[1] - 1]


def test_fitting_is_the_crop_and_the_resize() -> None:
    frame = frame_of(2, 30, 53)
    assert np.array_equal(fit_picture(frame, 8, 8), resized(frame[:, 11:41], 8, 8))
    for mode in ("bilinear", "stretch", None):
        with pytest.raises(CompileError, match="there is no mode") as caught:
            fit_picture(frame, 8, 8, mode)  # type: ignore[arg-type]
        assert "'crop'" in str(caught.value)
    with pytest.raises(CompileError, match="a size of 0 x 8 pixels"):
        fit_picture(frame, 0, 8)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (np.zeros((4, 4, 3)), "no bytes"),
        (np.zeros((4, 4, 3), dtype=np.uint16), "no bytes"),
        (np.zeros((4, 4), dtype=np.uint8), "grey"),
        (np.zeros((4, 4, 1), dtype=np.uint8), "grey"),
        (np.zeros((4, 4, 4), dtype=np.uint8), "with a fourth channel"),
        (np.zeros((3, 4, 5), dtype=np.uint8), "frame.transpose(1, 2, 0)"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "no picture"),
        (np.zeros(3, dtype=np.uint8), "no picture"),
        (np.zeros((), dtype=np.uint8), "no picture"),
    ],
)
def test_pictures_of_other_modes_are_refused(frame: NDArray[np.uint8], said: str) -> None:
    table = PictureTable.of(Quantizer(Q2_5), 0, 1)
    for refuse in (
        table,
        lambda f: fit_picture(f, 2, 2),
    ):
        with pytest.raises(CompileError) as caught:
            refuse(frame)
        assert caught.value.problems[0].code is Code.INPUT_PICTURE
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        (0, 0, "std is '0'"),
        (0, ("0.2", "-0.2", "0.2"), "std is"),
        ((0, 0), 1, "mean is '0, 0'"),
        ((), 1, "mean is"),
        (None, 1, "mean is 'None'"),
        ("half", 1, "mean is 'half'"),
        (float("nan"), 1, "mean is 'nan'"),
        (0, float("inf"), "std is 'inf'"),
        (0, "1/0", "std is '1/0'"),
    ],
)
def test_numbers_that_normalize_nothing_are_refused(mean: object, std: object, said: str) -> None:
    with pytest.raises(CompileError) as caught:
        PictureTable.of(Quantizer(Q2_5), mean, std)  # type: ignore[arg-type]
    assert caught.value.problems[0].code is Code.INPUT_PICTURE
    assert said in str(caught.value)


def test_a_network_of_other_channels_is_refused() -> None:
    two = Quantization(bits=8, signed=True, scale=Scale.of([Fraction(1, 60), Fraction(1, 50)]))
    with pytest.raises(CompileError, match="the input has 2 channels, a picture 3"):
        PictureTable.of(Quantizer(two), 0, 1)


@pytest.mark.parametrize("mode", RoundingMode)
@pytest.mark.parametrize("last", [False, True], ids=["zero point inside", "zero point last"])
def test_the_code_of_a_rational_is_found_by_its_bounds_too(mode: RoundingMode, last: bool) -> None:
    """Codes from the definition, and by bisection over the bounds that thresholds are made from."""
    if mode is RoundingMode.SIGN:
        quantizer = Quantizer(BIPOLAR, mode, last)
    else:
        quantizer = Quantizer(
            Quantization(bits=3, signed=True, scale=Scale.of([Fraction(2, 7)]), zero_point=1), mode, last
        )
    for n in range(-40, 41):  # eighths of a step: integers, ties, and what lies between, and what saturates
        x = Fraction(n, 8) * Fraction(2, 7)
        assert quantizer.code_of_rational(x, 0) == quantizer.code_of(Root(x), 0)


def test_a_mean_in_units_of_bytes_is_refused() -> None:
    with pytest.raises(CompileError, match="img / 255, 0 to 1") as caught:
        PictureTable.of(Quantizer(Q2_5), (123, 116, 103), (58, 57, 57))
    assert "divide mean and std by 255" in str(caught.value)
