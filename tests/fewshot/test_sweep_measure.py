"""What a measurement keeps of the decisions: the right answers of every episode, to the last."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.data.image_set import ImageSet
from pefslc.fewshot.episodes.intervals import mean_accuracy, paired_difference, worst_class
from pefslc.fewshot.sweep.artifact import FeatureCodes
from pefslc.fewshot.sweep.measure import Head, centre_images, episode_accuracies, measure, measured_json
from pefslc.fewshot.sweep.setting import Measurement

MEASUREMENT = Measurement(ways=3, shots=(1, 3), queries=4, episodes=60)


def pictures(count: int = 40) -> ImageSet:
    images = np.arange(count * 16 * 16 * 3, dtype=np.int64).reshape(count, 16, 16, 3).astype(np.uint8)
    return ImageSet(images, np.arange(count, dtype=np.int64) % 5, tuple("abcde"))


def codes(seed: int) -> FeatureCodes:
    rng = np.random.default_rng(seed)
    return FeatureCodes(rng.integers(0, 8, (40, 6)) + 3 * np.eye(5, 6, dtype=np.int64)[pictures().labels], 0.125)


def test_both_heads_are_measured_on_the_same_episodes() -> None:
    measured = measure(codes(0), codes(1), "base mean", pictures(), MEASUREMENT)
    content = json.loads(json.dumps(measured_json(measured)))
    assert set(content) == {"1", "3"}
    for shots in (1, 3):
        both = {head: measured.by_head[head][shots] for head in Head}
        paired_difference(both[Head.INTEGER], both[Head.FLOAT])  # raises where episodes differ
        for head, result in both.items():
            kept = content[str(shots)][head]
            assert np.array_equal(episode_accuracies(kept), result.accuracies)
            assert (kept["accuracy"], kept["half_width"]) == (
                mean_accuracy(result).mean, mean_accuracy(result).half_width,
            )  # fmt: skip
            assert kept["worst_class"] == worst_class(result).name
            assert kept["episodes_sha256"] == result.drawn
            assert "base mean" in kept["head"]
        assert measured.best_known[shots] is both[Head.INTEGER]


def test_values_of_a_float_network_have_the_float_head_alone() -> None:
    measured = measure(codes(0).values, codes(1).values, "base mean", pictures(), MEASUREMENT)
    beside = measure(codes(0), codes(1), "base mean", pictures(), MEASUREMENT).by_head[Head.FLOAT]
    assert list(measured.by_head) == [Head.FLOAT]
    assert np.array_equal(measured.best_known[3].accuracies, beside[3].accuracies)


def test_a_dead_network_is_refused() -> None:
    constant = FeatureCodes(np.ones((40, 6), dtype=np.int64), 1.0)
    with pytest.raises(CompileError, match="dead network"):
        measure(constant, codes(1), "base mean", pictures(), MEASUREMENT)


@pytest.mark.parametrize("count", [0, 40, 41])
def test_all_pictures_make_the_base_mean(count: int) -> None:
    images, name = centre_images(pictures(), count)
    assert (len(images), name) == (40, "base mean")


def test_some_pictures_are_spread_over_the_base_classes_and_named() -> None:
    images, name = centre_images(pictures(), 10)
    assert np.array_equal(images, pictures().images[::4])
    assert name == "base mean of 10 pictures"
