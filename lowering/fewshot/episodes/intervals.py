"""How sure an accuracy is: means of episodes with intervals, paired differences, and the spread of training seeds.

An interval of episodes says how far the mean of all possible episodes may be from that of the drawn ones. It says
nothing about another training of the same network: seeds are told apart, and never pooled as if they were episodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.episodes.accuracy import EpisodeAccuracies
from pefslc.fewshot.episodes.draw import class_name

__all__ = ["ClassAccuracy", "Estimate", "SeedSpread", "mean_accuracy", "paired_difference", "worst_class"]

_NORMAL_95 = 1.959963984540054  # the normal distribution has 95 % of its mass within so many standard deviations


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over `episodes` episodes, and half the width of its 95 % interval; in 0 .. 1, differences in -1 .. 1."""

    mean: float
    half_width: float
    episodes: int

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Estimate:
        """Of one value an episode: mean +- 1.96 s / sqrt(E), s with E - 1; infinite for one episode."""
        count = len(values)
        half_width = _NORMAL_95 * float(values.std(ddof=1)) / sqrt(count) if count > 1 else inf
        return cls(float(values.mean()), half_width, count)

    def __str__(self) -> str:
        return f"{100 * self.mean:.2f} +- {100 * self.half_width:.2f} %"

    def as_difference(self) -> str:
        """A difference of accuracies in words: in points, with its sign."""
        return f"{100 * self.mean:+.2f} +- {100 * self.half_width:.2f} points"


def mean_accuracy(result: EpisodeAccuracies) -> Estimate:
    """The mean of the accuracies of the episodes."""
    return Estimate.of(result.accuracies)


def paired_difference(result: EpisodeAccuracies, reference: EpisodeAccuracies) -> Estimate:
    """result - reference, episode by episode: what is hard in an episode is hard for both, and drops out.

    Raises CompileError where the two were not measured on the same episodes.
    """
    if result.drawn != reference.drawn:
        raise CompileError(
            Code.NOT_PAIRED,
            f"no pairs: {len(result.classes)} episodes ({result.settings}) are not the {len(reference.classes)} of the "
            f"reference ({reference.settings}), or are of other labels",
            hint="evaluate both on what one Episodes(...).draw of the same labels gave",
        )
    return Estimate.of(result.accuracies - reference.accuracies)


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """The accuracy of one class over the episodes that have it, in 0 .. 1."""

    label: int
    name: str
    accuracy: float
    episodes: int


def worst_class(result: EpisodeAccuracies) -> ClassAccuracy:
    """The class whose queries are named right least often; among equals the lowest label."""
    labels, where = np.unique(result.classes, return_inverse=True)
    episodes = np.bincount(where.reshape(-1))
    right = np.bincount(where.reshape(-1), weights=result.correct.reshape(-1))  # exact: far below 2^53
    accuracies = right / (episodes * float(result.settings.queries))
    worst = int(accuracies.argmin())
    label = int(labels[worst])
    return ClassAccuracy(label, class_name(label, result.names), float(accuracies[worst]), int(episodes[worst]))


@dataclass(frozen=True, slots=True)
class SeedSpread:
    """One figure (an accuracy, or a paired difference) of several trainings: one mean over episodes for each seed.

    sd  of the means, with count - 1; None for one seed
    """

    means: tuple[tuple[int, float], ...]
    mean: float
    lowest: float
    highest: float
    sd: float | None

    @classmethod
    def of(cls, by_seed: Mapping[int, Estimate]) -> SeedSpread:
        """Of at least one training seed. Raises CompileError for none, and for different numbers of episodes."""
        if len({e.episodes for e in by_seed.values()}) != 1:
            raise CompileError(
                Code.NOT_PAIRED,
                f"training seeds {list(by_seed)} have {[e.episodes for e in by_seed.values()]} episodes",
                hint="at least one seed, and the same episodes for each",
            )
        means = np.array([e.mean for e in by_seed.values()])
        sd = float(means.std(ddof=1)) if len(means) > 1 else None
        pairs = tuple((seed, e.mean) for seed, e in by_seed.items())
        return cls(pairs, float(means.mean()), float(means.min()), float(means.max()), sd)

    def __str__(self) -> str:
        spread = "" if self.sd is None else f", {100 * self.lowest:.2f} to {100 * self.highest:.2f}"
        sd = "" if self.sd is None else f", sd {100 * self.sd:.2f}"
        return f"{100 * self.mean:.2f} % ({len(self.means)} seed{'s' * (len(self.means) > 1)}{spread}{sd})"
