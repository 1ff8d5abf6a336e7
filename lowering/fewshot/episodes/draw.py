"""Episodes: N-way K-shot tasks, each a function of the seed, its index and the number of images of each class alone.

Random numbers are the raw words of Philox-4x64-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011)
with the seed as key and the episode's place as counter, so that any range of episodes is drawn without those before
it. A random order is the order of such words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from operator import index

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote, quote_given

__all__ = ["EpisodeIndices", "Episodes", "class_name"]

Indices = NDArray[np.int64]
Words = NDArray[np.uint64]

_WORDS_A_BLOCK = 4  # of one count of Philox
_WORDS_AT_ONCE = 1 << 17  # 1 MB: they stay in the cache
_LAST = np.uint64(2**64 - 1)


def class_name(label: int, names: Sequence[str]) -> str:
    """The name of a class, or its label where it has none."""
    return names[label] if 0 <= label < len(names) else str(label)


@dataclass(frozen=True, slots=True, eq=False)
class EpisodeIndices:
    """The drawn episodes first .. first + E - 1, as indices into the labels (or features) that they were drawn from.

    classes   [E, ways] labels, ascending, so that the first of equal scores is that of the lowest class id
    supports  [E, ways, shots]
    queries   [E, ways, queries]
    """

    settings: Episodes
    first: int
    classes: Indices
    supports: Indices
    queries: Indices

    def __len__(self) -> int:
        return len(self.classes)

    def digest(self) -> str:
        """sha256 (hex) of which images stand where: results with the same digest may be compared episode by episode."""
        hashed = sha256(repr((self.supports.shape, self.queries.shape)).encode())
        for part in (self.classes, self.supports, self.queries):
            hashed.update(np.ascontiguousarray(part, dtype="<i8").tobytes())
        return hashed.hexdigest()


@dataclass(frozen=True, slots=True)
class Episodes:
    """What an episode is: `ways` classes with `shots` supports and `queries` queries each; seed in 0 .. 2^128 - 1.

    The queries of an episode are the same for any number of shots, and the supports of fewer shots are the first of
    those of more. Raises CompileError.
    """

    ways: int = 5
    shots: int = 1
    queries: int = 15
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"ways": 2, "shots": 1, "queries": 1, "seed": 0}
        for name, lowest in least.items():
            value = _integer(getattr(self, name), name)
            object.__setattr__(self, name, value)
            if value < lowest:
                raise CompileError(
                    Code.EPISODES, f"{name} is {value}", hint=f"at least {lowest}; usual are 5 ways, 1 or 5 shots"
                )
        if self.seed >= 1 << 128:
            raise CompileError(Code.EPISODES, f"the seed has {self.seed.bit_length()} bits", hint="at most 128 bits")

    def __str__(self) -> str:
        return f"{self.ways}-way {self.shots}-shot, {self.queries} queries, seed {self.seed}"

    def draw(self, labels: NDArray[np.integer], first: int, last: int, names: Sequence[str] = ()) -> EpisodeIndices:
        """Episodes first .. last - 1.

        labels  [N] integers, in any order; image j of a class is the j-th with its label
        names   of the classes by label, for messages
        Raises CompileError for fewer classes than ways, and for a class with fewer images than shots + queries.
        """
        first, last = _integer(first, "the first episode"), _integer(last, "the episode after the last")
        if not 0 <= first < last:
            raise CompileError(
                Code.EPISODES, f"episodes {first} to {last} are none", hint="first from 0, last above first"
            )
        given = np.asarray(labels)
        if given.ndim != 1 or not np.issubdtype(given.dtype, np.integer):
            raise CompileError(
                Code.EPISODES,
                f"labels are {given.dtype} of shape {list(given.shape)}",
                hint="one integer for each image",
            )
        classes, counts = np.unique(given.astype(np.int64), return_counts=True)
        self._check(classes, counts, names)
        members = np.argsort(given, kind="stable")  # the images of each class, class after class
        starts = np.cumsum(counts) - counts
        most = int(counts.max())
        step = max(1, _WORDS_AT_ONCE // (len(classes) + self.ways * most))
        parts = [
            self._draw_chunk(counts, most, begin, min(begin + step, last) - begin) for begin in range(first, last, step)
        ]
        drawn, images = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        found = members[starts[drawn][..., None] + images].astype(np.int64)
        return EpisodeIndices(self, first, classes[drawn], found[..., self.queries :], found[..., : self.queries])

    def _draw_chunk(self, counts: Indices, most: int, first: int, episodes: int) -> tuple[Indices, Indices]:
        """(positions of the classes [E, ways], images within them [E, ways, queries + shots])."""
        blocks = -(-(len(counts) + self.ways * most) // _WORDS_A_BLOCK)
        generator = np.random.Philox(key=self.seed, counter=first * blocks)
        words = generator.random_raw(episodes * blocks * _WORDS_A_BLOCK).reshape(episodes, -1)
        chosen = np.sort(_order(words[:, : len(counts)], self.ways), axis=1)
        keys = words[:, len(counts) : len(counts) + self.ways * most].reshape(episodes, self.ways, most)
        if counts.min() < most:  # the words of images that a class has not come last
            keys[np.arange(most) >= counts[chosen][..., None]] = _LAST
        return chosen, _order(keys, self.queries + self.shots)

    def _check(self, classes: Indices, counts: Indices, names: Sequence[str]) -> None:
        if len(classes) < self.ways:
            raise CompileError(
                Code.EPISODES,
                f"{self.ways} ways need {self.ways} classes, and the labels have {len(classes)}",
                hint="fewer ways, or more classes",
            )
        fewest = int(np.argmin(counts))
        needed = self.shots + self.queries
        if counts[fewest] < needed:
            more = int((counts < needed).sum()) - 1
            others = f"; other classes with too few: {more}" if more else ""
            raise CompileError(
                Code.EPISODES,
                f"class {quote(class_name(int(classes[fewest]), names))} has {counts[fewest]} images; "
                f"an episode needs {needed} (shots {self.shots}, queries {self.queries}){others}",
                hint="fewer shots or queries, or leave the class out",
            )


def _order(words: Words, count: int) -> Indices:
    """The positions of the `count` lowest words along the last axis, in the order of the words; overwrites them.

    The lowest bits of a word are replaced by its position: no two are equal, so every way of sorting gives one order.
    """
    positions = words.shape[-1]
    mask = np.uint64((1 << (positions - 1).bit_length()) - 1)
    words &= ~mask
    words |= np.arange(positions, dtype=np.uint64)
    if 2 * count < positions:
        words.partition(count, axis=-1)
        words = words[..., :count]
    return np.asarray(np.sort(words, axis=-1)[..., :count] & mask, dtype=np.int64)


def _integer(value: object, what: str) -> int:
    try:
        if not isinstance(value, bool | np.bool_):
            return index(value)  # type: ignore[arg-type]  # what it refuses is what is asked here
    except TypeError:
        pass
    raise CompileError(Code.EPISODES, f"{what} is {quote_given(value)}, no integer", hint="a whole number")
