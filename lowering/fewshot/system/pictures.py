"""Camera frames to the codes of a network's input, exactly: a table of 256 entries a channel, and a resize in integers.

A network is trained on (img / 255 - mean) / std and quantizes that. A byte has 256 values, so the whole of it is a
table, computed once in rationals. Frames are RGB, as Pillow gives them; OpenCV's are BGR, to be turned by
frame[:, :, ::-1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote_given
from pefslc.fewshot.data.resize import centre_crop, resize
from pefslc.numeric.quantizer import Quantizer

__all__ = ["Number", "PictureTable", "by_colour", "fit_picture"]

Frames = NDArray[np.uint8]
Number = Fraction | int | float | np.number | str

CROP = "crop"  # the one way to another shape
_BYTES = 256
_RANGE = 255
_COLOURS = 3


@dataclass(frozen=True, slots=True, eq=False)
class PictureTable:
    """codes [3, 256] int64: the input code of each byte of red, green and blue."""

    codes: NDArray[np.int64]

    @classmethod
    def of(cls, quantizer: Quantizer, mean: Sequence[Number] | Number, std: Sequence[Number] | Number) -> PictureTable:
        """quantizer((byte / 255 - mean) / std), computed without rounding before the quantizer's own.

        quantizer  of the network's input; its scale may be one for each colour
        mean, std  one number, or one for each colour, in units of img / 255. Texts and floats are the decimals that
                   they show: "0.485" and 0.485 are 485/1000. A quantizer that takes bytes as they are: 0 and "1/255"
        Raises CompileError for numbers that are none, and for a std that is not positive.
        """
        means, stds = by_colour(mean, "mean"), by_colour(std, "std")
        if min(stds) <= 0:
            raise CompileError(Code.INPUT_PICTURE, f"std is {_shown(std)}", hint="positive, in units of img / 255")
        if max(means) > 1:  # of numbers in 0 to 1; in units of bytes nearly all codes would be the lowest one
            raise CompileError(
                Code.INPUT_PICTURE,
                f"mean is {_shown(mean)}, and the values of pictures are img / 255, 0 to 1",
                hint="divide mean and std by 255",
            )
        steps = len(quantizer.quantization.scale.steps)
        if steps not in (1, _COLOURS):
            raise CompileError(
                Code.INPUT_PICTURE,
                f"the input has {steps} channels, a picture 3",
                hint="a network with an input [1, 3, H, W]",
            )
        rows = [
            [quantizer.code_of_rational((Fraction(byte, _RANGE) - m) / s, colour) for byte in range(_BYTES)]
            for colour, (m, s) in enumerate(zip(means, stds, strict=True))
        ]
        table = np.array(rows, dtype=np.int64)
        table.setflags(write=False)
        return cls(table)

    @property
    def digest(self) -> str:
        """SHA-256 of the codes as int32, little-endian, in 64 hexadecimal digits."""
        return sha256(self.codes.astype("<i4").tobytes()).hexdigest()

    def __call__(self, frames: Frames) -> NDArray[np.int64]:
        """Codes [..., 3, H, W] of frames uint8 [..., H, W, 3]. Raises CompileError for pictures of other modes."""
        checked = _check_frames(frames)
        planes = [self.codes[colour][checked[..., colour]] for colour in range(_COLOURS)]
        return np.stack(planes, axis=-3)


def fit_picture(frame: Frames, height: int, width: int, mode: str = CROP) -> Frames:
    """A frame uint8 [H, W, 3] as uint8 [height, width, 3]: the largest part of that shape in its centre, resized.

    The same bytes on every machine. Raises CompileError for pictures and modes of other kinds.
    """
    if mode != CROP:
        raise CompileError(
            Code.INPUT_PICTURE,
            f"there is no mode {quote_given(mode)} to fit pictures",
            hint=f"'{CROP}': centre crop and box filter; resize the pictures yourself for another",
        )
    if min(height, width) < 1:
        raise CompileError(Code.INPUT_PICTURE, f"a size of {height} x {width} pixels", hint="at least 1 x 1")
    checked = _check_frames(frame)
    fitted: Frames = resize(centre_crop(checked, height, width)[None], height, width)[0]
    return fitted


def _check_frames(frames: Frames) -> Frames:
    shape, problem = list(frames.shape), None
    if frames.dtype != np.uint8:
        problem = "no bytes", "values 0 to 255; scale 16 bits or floats to them"
    elif len(shape) == 2 or (shape and shape[-1] == 1):
        problem = "grey", "numpy.repeat(frame.reshape(H, W, 1), 3, axis=2)"
    elif len(shape) >= 3 and shape[-1] == 4:
        problem = (
            "with a fourth channel",
            "put what is transparent on a ground: Image.convert('RGB'), or frame[:, :, :3]",
        )
    elif len(shape) < 3 or shape[-1] != _COLOURS or 0 in shape:
        problem = "no picture", "rows, columns, and red, green, blue last: frame.transpose(1, 2, 0) if they are first"
    if problem is not None:
        what, hint = problem
        raise CompileError(
            Code.INPUT_PICTURE, f"a frame is {frames.dtype} of shape {shape}: {what}, not uint8 RGB", hint=hint
        )
    return frames


def by_colour(given: Sequence[Number] | Number, what: str) -> tuple[Fraction, ...]:
    """Three exact numbers, of red, green and blue, from one or three. Raises CompileError.

    what  "mean", for the message
    """
    try:
        numbers = [given] if isinstance(given, Number) else list(given)
        exact = tuple(n if isinstance(n, Fraction) else Fraction(str(n)) for n in numbers)
    except (ValueError, TypeError, ZeroDivisionError):
        exact = ()
    if len(exact) not in (1, _COLOURS):
        raise CompileError(
            Code.INPUT_PICTURE,
            f"{what} is {_shown(given)}",
            hint="one number, or three, of red, green and blue: 0.485, 0.456, 0.406",
        )
    return exact * (_COLOURS // len(exact))


def _shown(given: Sequence[Number] | Number) -> str:
    """As a command line writes it, too: '0.485, x, 0.406'."""
    if isinstance(given, list | tuple):
        return quote_given(", ".join(map(str, given)))
    return quote_given(str(given) if isinstance(given, Number) else given)
