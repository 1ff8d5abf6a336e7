"""The cache of compiled libraries: found by what they were made from, damaged ones ignored, old ones left out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pefslc.targets.c.library_cache import LibraryCache


class Compiler:
    """Makes a file of given content, and counts how often."""

    def __init__(self, folder: Path, content: bytes = b"library") -> None:
        self.path = folder / "made.so"
        self.content = content
        self.calls = 0

    def __call__(self) -> Path:
        self.calls += 1
        self.path.write_bytes(self.content)
        return self.path


@pytest.fixture
def cache(tmp_path: Path) -> LibraryCache:
    return LibraryCache(tmp_path / "kept")


def test_what_was_made_of_the_same_is_found(cache: LibraryCache, tmp_path: Path) -> None:
    compiler = Compiler(tmp_path)
    first = cache.library(["cc", "-O2"], [b"a", b"b"], compiler)
    assert first.read_bytes() == b"library"
    assert cache.library(["cc", "-O2"], [b"a", b"b"], compiler) == first
    assert compiler.calls == 1


@pytest.mark.parametrize(
    ("command", "sources"),
    [(["cc", "-O3"], [b"a", b"b"]), (["cc", "-O2"], [b"a", b"c"]), (["cc", "-O2"], [b"ab"]), (["cc"], [b"-O2", b"a"])],
)
def test_what_was_made_of_something_else_is_not(
    cache: LibraryCache, tmp_path: Path, command: list[str], sources: list[bytes]
) -> None:
    compiler = Compiler(tmp_path)
    first = cache.library(["cc", "-O2"], [b"a", b"b"], compiler)
    assert cache.library(command, sources, compiler) != first
    assert compiler.calls == 2


def test_another_compiler_of_the_same_name_compiles_again(
    cache: LibraryCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler, tool = Compiler(tmp_path), tmp_path / "bin" / "cc"
    tool.parent.mkdir()
    monkeypatch.setenv("PATH", str(tool.parent))
    for content in ("one", "another", "another"):
        tool.write_text(content)
        tool.chmod(0o755)
        os.utime(tool, (1, 1))
        cache.library(["cc"], [b"a"], compiler)
    assert compiler.calls == 2


@pytest.mark.parametrize("content", [b"", b"librar", b"Library", b"library+"])
def test_a_damaged_one_is_made_again(cache: LibraryCache, tmp_path: Path, content: bytes) -> None:
    compiler = Compiler(tmp_path)
    path = cache.library(["cc"], [b"a"], compiler)
    path.write_bytes(content)
    assert cache.library(["cc"], [b"a"], compiler) == path
    assert path.read_bytes() == b"library"
    assert compiler.calls == 2


def test_the_oldest_are_left_out(cache: LibraryCache, tmp_path: Path) -> None:
    made = []
    for i in range(6):
        made.append(cache.library(["cc"], [bytes([i])], Compiler(tmp_path, bytes([i]))))
        os.utime(made[-1], (i, i))
    assert sorted(cache.folder.iterdir()) == sorted(made[2:])


def test_nothing_half_written_stays_where_the_disk_is_full(
    cache: LibraryCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    compiler = Compiler(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        assert cache.library(["cc"], [b"a"], compiler) == compiler.path
    assert list(cache.folder.iterdir()) == []
