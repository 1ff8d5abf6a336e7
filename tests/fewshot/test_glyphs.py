"""The default data set: the same bytes everywhere, and no novel class that looks like one of base."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.data import drawings as drawings_module
from pefslc.fewshot.data import glyph_cache, glyphs
from pefslc.fewshot.data.drawings import Drawing, drawings
from pefslc.fewshot.data.glyph_cache import cache_path, cached_glyphs
from pefslc.fewshot.data.glyphs import glyph_images, make_glyphs
from pefslc.fewshot.data.load import load_data

Segment = frozenset[tuple[Fraction, Fraction]]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> tuple[Drawing, ...]:
    """The default set with three classes a split."""
    every = drawings()
    chosen = tuple(d for split in ("base", "val", "novel") for d in [d for d in every if d.split == split][:3])
    monkeypatch.setattr(glyphs, "drawings", lambda: chosen)
    monkeypatch.setattr(glyph_cache, "drawings", lambda: chosen)
    return chosen


def normalised(drawing: Drawing) -> frozenset[Segment]:
    """The segments, moved and scaled into a square."""
    low, high = drawing.points.min(0), drawing.points.max(0)
    extent = int((high - low).max())
    places = [tuple(Fraction(int(v), extent) for v in point - low) for point in drawing.points]
    return frozenset(frozenset((places[a], places[b])) for a, b in drawing.segments.tolist())  # type: ignore[misc]


def test_the_default_set_is_the_same_bytes_on_every_machine() -> None:
    """Who changes the drawing changes the data: results before and after cannot be compared. Say so, then pin."""
    assert Counter(d.split for d in drawings()) == {"base": 524, "val": 171, "novel": 163}
    classes = sha256()
    for drawing in drawings():
        classes.update(f"{drawing.split} {drawing.name} {drawing.points.tolist()} {drawing.segments.tolist()}".encode())
    assert classes.hexdigest() == "65bdbd145309e75c3efcdf3543f4cc811554a7ee6a96c2f2d67f19763c0d0355"
    images = [glyph_images(drawing, size, 2, 0).tobytes() for drawing in drawings()[::30] for size in (16, 32, 84)]
    assert sha256(b"".join(images)).hexdigest() == "0d574ea355f7f708b6c6f398bdc88bd87da0f9c5a9bed3fbe120280d81a9539a"


def test_look_alikes_of_other_scripts_are_left_out() -> None:
    names = {drawing.name for drawing in drawings()}
    assert "latin-rowmans-065" in names  # A
    assert "greek-greek-065" not in names  # Alpha
    assert "latin-rowmans-079" in names or "latin-rowmans-048" in names  # O
    assert "symbols-markers-065" not in names  # a circle that symbolic has, too
    assert "japanese-japanese-064" not in names  # a diamond, which stands for a missing sign
    assert "japanese-japanese-101" not in names  # the second of two equal i


def test_no_drawing_is_another_one_moved_or_scaled() -> None:
    assert len({normalised(drawing) for drawing in drawings()}) == len(drawings())


def test_no_drawing_lies_near_another_one() -> None:
    """By brute force over some drawings: a point of one is further than 1/32 from every point of the other."""
    clouds = []
    for drawing in drawings()[::20]:
        low, high = drawing.points.min(0), drawing.points.max(0)
        step = np.linspace(0, 1, 17)[:, None, None]
        start, end = drawing.points[drawing.segments[:, 0]], drawing.points[drawing.segments[:, 1]]
        points = (((1 - step) * start + step * end - (low + high) / 2) / (high - low).max()).reshape(-1, 2)
        clouds.append(np.unique(points.round(2), axis=0).astype(np.float32)[::2])
    for i, cloud in enumerate(clouds):
        for other in clouds[:i]:
            away = np.abs(cloud[:, None] - other[None]).max(2)
            assert max(away.min(1).max(), away.min(0).max()) > 1 / 32


def test_an_image_depends_on_its_class_and_number_alone() -> None:
    first, other = drawings()[5], drawings()[6]
    five = glyph_images(first, 20, 5, seed=4)
    assert np.array_equal(glyph_images(first, 20, 2, seed=4), five[:2])
    assert not np.array_equal(glyph_images(first, 20, 5, seed=5), five)
    assert not np.array_equal(glyph_images(other, 20, 5, seed=4), five)


def test_ink_is_darker_than_paper_and_there_is_some_in_every_image() -> None:
    for drawing in drawings()[::97]:
        grey = glyph_images(drawing, 32, 20, 0).astype(int).sum(3)
        ink = grey < (grey.max((1, 2)) + grey.min((1, 2)))[:, None, None] // 2
        assert (grey.max((1, 2)) - grey.min((1, 2)) > 100).all()
        assert (ink.mean((1, 2)) > 0.005).all()
        assert ink.mean() < 0.5


def test_progress_ends_at_the_number_of_classes(few: tuple[Drawing, ...]) -> None:
    seen: list[tuple[int, int, str]] = []
    data = make_glyphs(16, 2, progress=lambda *step: seen.append(step))
    assert [step[:2] for step in seen] == [(i + 1, 9) for i in range(9)]
    assert data.base.names == tuple(d.name for d in few[:3])
    assert data.base.counts.tolist() == [2, 2, 2]


@pytest.mark.parametrize("size", [15, 85, 0, -1, True, 32.0])
def test_a_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(CompileError, match="is not a size of images") as e:
        load_data("glyphs", size)
    assert e.value.problems[0].code is Code.DATA_OPTION


def test_no_images_a_class_are_refused() -> None:
    with pytest.raises(CompileError, match="0 images a class"):
        make_glyphs(32, 0)


def test_without_the_package_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "HersheyFonts", None)
    with pytest.raises(CompileError, match="HersheyFonts is missing") as e:
        drawings.__wrapped__()  # what is cached needs no package
    assert e.value.problems[0].code is Code.NO_FEWSHOT_EXTRA
    assert "pip install hershey-fonts" in str(e.value)


def test_a_package_of_other_strokes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    strokes = drawings_module._all_strokes()
    split, name, lines = strokes[0]
    monkeypatch.setattr(drawings_module, "_all_strokes", lambda: [(split, name, lines[:-1]), *strokes[1:]])
    with pytest.raises(CompileError, match="draws other glyphs"):
        drawings.__wrapped__()


@pytest.mark.usefixtures("few")
def test_cached_glyphs_are_the_drawn_ones(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    drawn = cached_glyphs(folder, 16, 3, 1)
    assert [path.name for path in folder.iterdir()] == [cache_path(folder, 16, 3, 1).name]
    read = load_data("glyphs", 16, images_per_class=3, seed=1, cache=folder)
    assert read.digest() == drawn.digest() == make_glyphs(16, 3, 1).digest()
    assert read.name == "glyphs"


@pytest.mark.usefixtures("few")
def test_a_cache_is_read_and_not_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached_glyphs(tmp_path, 16, 3, 1)

    def drawn_again(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(glyph_cache, "make_glyphs", drawn_again)
    cached_glyphs(tmp_path, 16, 3, 1)
    with pytest.raises(AssertionError):
        cached_glyphs(tmp_path, 16, 3, 2)


@pytest.mark.usefixtures("few")
def test_a_damaged_cache_is_drawn_again(tmp_path: Path) -> None:
    digest = cached_glyphs(tmp_path, 16, 2, 0).digest()
    path = cache_path(tmp_path, 16, 2, 0)
    whole = path.read_bytes()
    middle = len(whole) // 2
    for damaged in (b"", whole[:middle], whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]):
        path.write_bytes(damaged)
        assert cached_glyphs(tmp_path, 16, 2, 0).digest() == digest
        assert path.read_bytes() == whole


@pytest.mark.usefixtures("few")
def test_a_cache_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CompileError, match="cannot make") as e:
        cached_glyphs(tmp_path / "file", 16, 2, 0)
    assert e.value.problems[0].code is Code.CANNOT_WRITE
