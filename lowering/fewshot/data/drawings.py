"""The drawings of the default set: strokes of Hershey's fonts, split by script, no two of them alike.

A base class and a novel class that look the same would be no novel class: Latin A and Greek A are one drawing. So the
drawings are taken in order, base first, and one that looks like an earlier one is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.data.extra import require_package

__all__ = ["Drawing", "drawings"]

Integers = NDArray[np.int64]
Strokes = tuple[tuple[tuple[int, int], ...], ...]

_ALPHABET = (*range(48, 58), *range(65, 91), *range(97, 123))  # digits, upper and lower case, as ASCII has them
_REST = tuple(code for code in range(33, 128) if code not in _ALPHABET)
# A font of another script holds its letters at these codes, and Latin signs at the others.
_CYRILLIC = (36, 37, 38, *range(65, 92), *range(93, 127))
_MATHEMATICS = (*_REST, *range(97, 123))

# (split, script, font, codes): from the first to the last; of drawings that look alike the first stays.
_SOURCES: tuple[tuple[str, str, str, tuple[int, ...]], ...] = (
    ("base", "latin", "rowmans", _ALPHABET),
    ("base", "latin", "rowmant", _ALPHABET),
    ("base", "latin", "timesi", _ALPHABET),
    ("base", "latin", "cursive", _ALPHABET),
    ("base", "latin", "scriptc", _ALPHABET),
    ("base", "greek", "greek", _ALPHABET),
    ("base", "greek", "greekc", _ALPHABET),
    ("base", "cyrillic", "cyrillic", _CYRILLIC),
    ("base", "gothic", "gothgbt", _ALPHABET),
    ("base", "gothic", "gothgrt", _ALPHABET),
    ("base", "gothic", "gothicita", _ALPHABET),
    ("val", "symbols", "symbolic", tuple(range(33, 128))),
    ("val", "symbols", "markers", tuple(range(33, 128))),
    ("val", "symbols", "astrology", _REST),
    ("val", "symbols", "meteorology", _REST),
    ("val", "symbols", "music", _REST),
    ("val", "symbols", "mathupp", _MATHEMATICS),
    ("novel", "japanese", "japanese", tuple(range(33, 225))),
)
# Of all strokes above: another version of their package would be another data set.
_STROKES_SHA256 = "8bcdf445c703a122868441f0822025a1857caf7e7007ce06cd64d52bc465659f"

_GRID, _MARGIN, _ALIKE = 32, 3, 2  # pixels: of the drawing, around it, and how far from each other those alike are
_STEPS = 64  # points on a segment, when it is drawn for comparison


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """One class.

    name      script-font-code, such as "latin-rowmans-065"
    points    int64 [P, 2], (x, y), y down, in the font's units; each once
    segments  int64 [S, 2], the indices of two different points; each once, in one direction
    """

    split: str
    name: str
    points: Integers
    segments: Integers


@cache
def drawings() -> tuple[Drawing, ...]:
    """All drawings of the default set: base, val, novel. Needs the package hershey-fonts. Raises CompileError."""
    strokes = _all_strokes()
    found = sha256(repr(strokes).encode()).hexdigest()
    if found != _STROKES_SHA256:
        raise CompileError(
            Code.NO_FEWSHOT_EXTRA,
            "the installed hershey-fonts draws other glyphs than those of the default set",
            hint="pip install hershey-fonts==2.1.0",
        )
    kept: list[Drawing] = []
    looks: list[tuple[int, int]] = []
    for split, name, lines in strokes:
        drawing = _drawing(split, name, lines)
        if drawing is None:
            continue
        ink, near = _look(drawing)
        # Alike: all ink of each lies near the other's.
        if not any(ink & ~other_near == 0 and other_ink & ~near == 0 for other_ink, other_near in looks):
            kept.append(drawing)
            looks.append((ink, near))
    return tuple(kept)


def _all_strokes() -> list[tuple[str, str, Strokes]]:
    """(split, name, strokes) of every drawing of the sources, in order."""
    fonts = require_package("HersheyFonts", "hershey-fonts", "the default set of glyphs").HersheyFonts()
    found = []
    for split, script, font, codes in _SOURCES:
        fonts.load_default_font(font)
        glyphs = fonts.all_glyphs
        for code in codes:
            glyph = glyphs.get(chr(code))
            if glyph is not None:
                lines = tuple(tuple((int(x), int(y)) for x, y in stroke) for stroke in glyph.strokes)
                found.append((split, f"{script}-{font}-{code:03d}", lines))
    return found


def _drawing(split: str, name: str, strokes: Strokes) -> Drawing | None:
    """None for nothing, and for what lies on one straight line: turned, a dash is a bar."""
    points = sorted({point for stroke in strokes for point in stroke})
    index = {point: i for i, point in enumerate(points)}
    pairs = {(index[a], index[b]) for stroke in strokes for a, b in pairwise(stroke) if a != b}
    segments = sorted({(min(pair), max(pair)) for pair in pairs})
    if not segments:
        return None
    (x0, y0), (x1, y1) = points[0], points[-1]
    if all((x - x0) * (y1 - y0) == (y - y0) * (x1 - x0) for x, y in points):
        return None
    return Drawing(split, name, np.array(points, np.int64), np.array(segments, np.int64))


def _look(drawing: Drawing) -> tuple[int, int]:
    """(ink, what is near to ink) as bits of one integer: drawn thin, as large as the grid, in its middle."""
    low, high = drawing.points.min(0), drawing.points.max(0)
    extent = int((high - low).max())
    start, end = drawing.points[drawing.segments[:, 0]], drawing.points[drawing.segments[:, 1]]
    step = np.arange(_STEPS + 1)[:, None, None]
    on_line = start * (_STEPS - step) + end * step  # in 1/_STEPS
    pixels = (2 * on_line - _STEPS * (low + high)) * (_GRID - 1) // (2 * _STEPS * extent) + _GRID // 2
    side = _GRID + 2 * _MARGIN
    ink = np.zeros((side, side), bool)
    x, y = (pixels + _MARGIN).reshape(-1, 2).T
    ink[y, x] = True
    near = np.zeros_like(ink)
    for dx in range(-_ALIKE, _ALIKE + 1):
        for dy in range(-_ALIKE, _ALIKE + 1):
            if dx * dx + dy * dy <= _ALIKE * _ALIKE + 1:
                near |= np.roll(ink, (dy, dx), (0, 1))  # nothing goes round: the margin is wider
    return _bits(ink), _bits(near)


def _bits(mask: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(mask).tobytes(), "big")
