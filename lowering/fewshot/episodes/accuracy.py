"""Accuracy of a nearest-class-mean head on drawn episodes: what was right, episode by episode and class by class.

A dead network, one whose features are all equal or whose decisions are mostly ties, is refused: with ties to the lowest
class id it would have the accuracy of chance, which reads like a poor network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.episodes.decisions import NearestClassMean
from pefslc.fewshot.episodes.draw import EpisodeIndices, Episodes

__all__ = ["EpisodeAccuracies", "evaluate_episodes"]

_VALUES_AT_ONCE = 1 << 18  # of queries: 2 MB stay in the cache


@dataclass(frozen=True, slots=True, eq=False)
class EpisodeAccuracies:
    """What a head decided.

    head                name of the arithmetic, the order of averaging and the centre
    drawn               digest of the episodes: only results with the same one are compared in pairs
    classes, correct    [E, ways] labels, ascending in each episode; how many of a class' queries were named so
    ties                decisions with several best scores, of `decisions`
    constant_features   how many of the `dimension` features are the same for all images
    names               of the classes by label, or ()
    """

    head: str
    settings: Episodes
    drawn: str
    classes: NDArray[np.int64]
    correct: NDArray[np.int64]
    ties: int
    constant_features: int
    dimension: int
    names: tuple[str, ...] = ()

    @property
    def decisions(self) -> int:
        return self.correct.size * self.settings.queries

    @property
    def accuracies(self) -> NDArray[np.float64]:
        """[E], the share of each episode's queries that was right, in 0 .. 1."""
        right: NDArray[np.float64] = self.correct.sum(axis=1).astype(np.float64)
        right /= self.settings.ways * self.settings.queries
        return right


def evaluate_episodes(
    features: NDArray[np.generic], drawn: EpisodeIndices, head: NearestClassMean, names: Sequence[str] = ()
) -> EpisodeAccuracies:
    """The decisions of `head` on the drawn episodes.

    features  [N, D], one row for each label that the episodes were drawn from: codes or floats, as the head asks
    names     of the classes by label
    Raises CompileError for features that do not suit, and for those of a dead network.
    """
    given, settings = np.asarray(features), drawn.settings
    last = int(max(drawn.supports.max(), drawn.queries.max()))
    if given.ndim and len(given) <= last:
        raise CompileError(
            Code.FEATURES,
            f"there are {len(given)} rows of features, and the episodes were drawn from more than {last} labels",
            hint="one row of features for each label",
        )
    decide = head.prepare(given, settings.shots)
    constant = int((given == given[0]).all(axis=0).sum())
    dimension = given.shape[1]
    if constant == dimension:
        raise _dead(head, f"all {len(given)} rows are equal")
    step = max(1, _VALUES_AT_ONCE // (settings.ways * settings.queries * dimension))
    correct, ties = np.empty_like(drawn.classes), 0
    positions = np.arange(settings.ways)[:, None]
    for first in range(0, len(drawn), step):
        chunk = slice(first, first + step)
        queries = drawn.queries[chunk]
        found = decide(drawn.supports[chunk], queries.reshape(len(queries), -1))
        correct[chunk] = (found.positions.reshape(queries.shape) == positions).sum(axis=2)
        ties += int(found.tied.sum())
    result = EpisodeAccuracies(
        head.name, settings, drawn.digest(), drawn.classes, correct, ties, constant, dimension, tuple(names)
    )
    if 2 * ties > result.decisions:
        raise _dead(head, f"{ties} of {result.decisions} decisions are ties")
    return result


def _dead(head: NearestClassMean, why: str) -> CompileError:
    return CompileError(
        Code.DEAD_NETWORK,
        f"the features are those of a dead network: {why} ({head.name})",
        hint="more bits, formats chosen from data (auto:N), or training with the quantizers in place",
    )
