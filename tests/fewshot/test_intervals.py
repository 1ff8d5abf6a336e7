"""Means, intervals, paired differences, worst classes, training seeds: against the standard library and counting."""

from __future__ import annotations

import statistics
from math import inf

import numpy as np
import pytest
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.episodes.accuracy import EpisodeAccuracies, evaluate_episodes
from pefslc.fewshot.episodes.accuracy_table import accuracy_table
from pefslc.fewshot.episodes.centre import FloatCentre
from pefslc.fewshot.episodes.draw import Episodes
from pefslc.fewshot.episodes.float_ncm import FloatNcm, NcmOrder
from pefslc.fewshot.episodes.intervals import (
    Estimate,
    SeedSpread,
    mean_accuracy,
    paired_difference,
    worst_class,
)

SETTINGS = Episodes(ways=2, shots=1, queries=4, seed=3)


def result_of(
    classes: list[list[int]], correct: list[list[int]], drawn: str = "a", **others: object
) -> EpisodeAccuracies:
    return EpisodeAccuracies(
        "a head",
        SETTINGS,
        drawn,
        np.array(classes),
        np.array(correct),
        1,
        0,
        8,
        **others,  # type: ignore[arg-type]
    )


ONE = result_of([[0, 2], [2, 5], [0, 5]], [[4, 2], [3, 4], [1, 3]], names=("cup", "mug", "pen"))
OTHER = result_of([[0, 2], [2, 5], [0, 5]], [[4, 1], [1, 4], [2, 3]])


def test_an_interval_is_that_of_the_normal_distribution() -> None:
    values = [6 / 8, 7 / 8, 4 / 8]
    assert ONE.accuracies.tolist() == values
    found = mean_accuracy(ONE)
    quantile = statistics.NormalDist().inv_cdf(0.975)
    assert found.mean == pytest.approx(statistics.fmean(values), rel=1e-14)
    assert found.half_width == pytest.approx(quantile * statistics.stdev(values) / 3**0.5, rel=1e-14)
    assert (found.episodes, str(found)) == (3, "70.83 +- 21.61 %")


def test_one_episode_says_nothing_of_others() -> None:
    assert Estimate.of(np.array([0.5])) == Estimate(0.5, inf, 1)
    assert Estimate.of(np.array([0.5, 0.75])).half_width == pytest.approx(1.959963984540054 / 8, rel=1e-14)


def test_a_paired_difference_is_taken_episode_by_episode() -> None:
    found, differences = paired_difference(ONE, OTHER), [1 / 8, 2 / 8, -1 / 8]
    assert found.mean == pytest.approx(statistics.fmean(differences), rel=1e-14)
    assert found.half_width == pytest.approx(1.959963984540054 * statistics.stdev(differences) / 3**0.5, rel=1e-14)


def test_results_of_other_episodes_are_not_paired() -> None:
    with pytest.raises(CompileError, match="no pairs: 3 episodes") as caught:
        paired_difference(ONE, result_of([[0, 2]], [[4, 2]], drawn="b"))
    assert caught.value.problems[0].code is Code.NOT_PAIRED


def test_the_worst_class_is_counted_over_the_episodes_that_have_it() -> None:
    found = worst_class(ONE)  # cup 5 of 8, pen 5 of 8, class 5 7 of 8
    assert (found.label, found.name, found.accuracy, found.episodes) == (0, "cup", 5 / 8, 2)
    found = worst_class(OTHER)  # 6, 2 and 7 of 8
    assert (found.label, found.name, found.accuracy, found.episodes) == (2, "2", 2 / 8, 2)


def test_training_seeds_are_no_episodes() -> None:
    spread = SeedSpread.of({7: Estimate(0.8, 0.01, 100), 1: Estimate(0.9, 0.01, 100), 4: Estimate(0.82, 0.01, 100)})
    assert spread.means == ((7, 0.8), (1, 0.9), (4, 0.82))
    assert (spread.lowest, spread.highest, spread.mean) == (0.8, 0.9, pytest.approx(0.84, rel=1e-14))
    assert spread.sd == pytest.approx(statistics.stdev([0.8, 0.9, 0.82]), rel=1e-12)
    assert str(spread) == "84.00 % (3 seeds, 80.00 to 90.00, sd 5.29)"
    one = SeedSpread.of({0: Estimate(0.8, 0.01, 100)})
    assert (one.sd, str(one)) == (None, "80.00 % (1 seed)")
    for wrong in ({}, {0: Estimate(0.8, 0.01, 100), 1: Estimate(0.8, 0.01, 99)}):
        with pytest.raises(CompileError, match="training seeds"):
            SeedSpread.of(wrong)


def test_shared_episodes_make_differences_sharper() -> None:
    """Two heads on the same features: the paired interval is narrower than that of two independent means."""
    labels = np.repeat(np.arange(6), 20)
    noise = np.random.Philox(key=1).random_raw(120 * 5).reshape(120, 5).astype(np.float64) * 2.0**-64
    features: NDArray[np.float64] = noise + 0.4 * noise[:6][labels]
    drawn = Episodes(shots=3).draw(labels, 0, 400)
    centre = FloatCentre.mean(features)
    easy, pefsl = (evaluate_episodes(features, drawn, FloatNcm(o, centre)) for o in (NcmOrder.EASY, NcmOrder.PEFSL))
    unpaired = (mean_accuracy(easy).half_width ** 2 + mean_accuracy(pefsl).half_width ** 2) ** 0.5
    found = paired_difference(easy, pefsl)
    assert 0 < found.half_width < unpaired / 2
    assert found.mean == pytest.approx(mean_accuracy(easy).mean - mean_accuracy(pefsl).mean, abs=1e-12)


TABLE = """\
                accuracy      paired with float  worst class    ties  head
------  ----------------  ---------------------  -----------  ------  ------
float   70.83 +- 21.61 %                      -  62.5 % cup   4.17 %  a head
5 bits   62.50 +- 0.00 %  -8.33 +- 21.61 points  25.0 % 2     4.17 %  a head
2-way 1-shot, 4 queries, seed 3; 3 episodes, 95 % intervals of episodes, not of trainings"""


def test_the_table_tells_what_each_figure_is() -> None:
    assert accuracy_table({"float": ONE, "5 bits": OTHER}, "float") == TABLE


def test_a_table_of_results_that_do_not_belong_together_is_refused() -> None:
    with pytest.raises(CompileError, match="no pairs: 1 episodes"):
        accuracy_table({"float": ONE, "5 bits": result_of([[0, 2]], [[4, 2]], drawn="b")}, "float")
