"""Random words against Philox4x64-10 in Python's integers."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pefslc.fewshot.data.random_words import between, random_bytes, random_words

_MASK = (1 << 64) - 1


def philox(counter: list[int], key: list[int]) -> list[int]:
    """One block: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011."""
    x, k = list(counter), list(key)
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * x[0], 0xCA5A826395121157 * x[2]
        x = [(second >> 64) ^ x[1] ^ k[0], second & _MASK, (first >> 64) ^ x[3] ^ k[1], first & _MASK]
        k = [(k[0] + 0x9E3779B97F4A7C15) & _MASK, (k[1] + 0xBB67AE8584CAA73B) & _MASK]
    return x


def test_the_words_are_those_of_philox_under_a_hash_of_seed_and_names() -> None:
    key = sha256(b"1:7;5:glyph;1:a;").digest()
    keys = [int.from_bytes(key[:8], "little"), int.from_bytes(key[8:16], "little")]
    expected = [word for block in range(1, 4) for word in philox([block, 0, 0, 0], keys)]
    assert random_words(12, 7, "glyph", "a").tolist() == expected


def test_a_longer_stream_begins_with_the_shorter() -> None:
    assert random_words(50, 3, "x")[:21].tolist() == random_words(21, 3, "x").tolist()


def test_names_are_told_apart_wherever_they_end() -> None:
    streams = [(1, "ab"), (1, "a", "b"), (1, "a", ":b"), (11, "b"), (1, "", "ab"), (1, "1:a;b")]
    assert len({random_words(1, *stream)[0] for stream in streams}) == len(streams)


def test_bytes_are_the_words_with_the_lowest_first() -> None:
    words = random_words(2, 5, "n").tolist()
    assert random_bytes(13, 5, "n").tolist() == [word >> 8 * i & 255 for word in words for i in range(8)][:13]


@given(st.lists(st.integers(0, _MASK), min_size=1), st.integers(-500, 500), st.integers(0, 1000))
def test_integers_are_equal_parts_of_the_words(words: list[int], low: int, extent: int) -> None:
    found = between(np.array(words, np.uint64), low, low + extent).tolist()
    assert found == [low + (word >> 32) * (extent + 1) // 2**32 for word in words]
    ends = between(np.array([0, _MASK], np.uint64), low, low + extent).tolist()
    assert ends == [low, low + extent]
