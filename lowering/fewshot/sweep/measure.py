"""Accuracy of a network's features on the episodes of a measurement, by the integer head and by the float one."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from pefslc.artifacts.sidecar import JsonObject
from pefslc.fewshot.data.image_set import ImageSet, evenly
from pefslc.fewshot.episodes.accuracy import EpisodeAccuracies, evaluate_episodes
from pefslc.fewshot.episodes.centre import BASE_MEAN, FloatCentre, IntegerCentre
from pefslc.fewshot.episodes.decisions import NearestClassMean
from pefslc.fewshot.episodes.float_ncm import FloatNcm, NcmOrder
from pefslc.fewshot.episodes.integer_ncm import IntegerNcm
from pefslc.fewshot.episodes.intervals import mean_accuracy, worst_class
from pefslc.fewshot.head.spec import HeadKind
from pefslc.fewshot.sweep.artifact import FeatureCodes
from pefslc.fewshot.sweep.setting import Measurement

__all__ = ["Head", "Measured", "centre_images", "episode_accuracies", "measure", "measured_json"]

Floats = NDArray[np.float64]


class Head(StrEnum):
    INTEGER = "integer"  # what the device computes
    FLOAT = "float"  # in PEFSL's order, for comparison


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What the heads decided, by shots. A float network has no integer head."""

    by_head: Mapping[Head, Mapping[int, EpisodeAccuracies]]

    @property
    def best_known(self) -> Mapping[int, EpisodeAccuracies]:
        """Of the integer head, where there is one."""
        return self.by_head.get(Head.INTEGER, self.by_head[Head.FLOAT])


def centre_images(base: ImageSet, count: int) -> tuple[NDArray[np.uint8], str]:
    """(the pictures whose mean feature is the centre, its name): `count` of the base classes, evenly spread, or all."""
    if count == 0 or count >= len(base.images):
        return base.images, BASE_MEAN
    return evenly(base.images, count), f"{BASE_MEAN} of {count} pictures"


def measure(
    features: FeatureCodes | Floats,
    base: FeatureCodes | Floats,
    centre: str,
    images: ImageSet,
    measurement: Measurement,
) -> Measured:
    """The decisions on the episodes of `measurement`.

    features  [N, D] of the pictures in `images`: codes of an artifact, or values of a float network
    base      [M, D] of the pictures whose mean is the centre
    centre    its name

    Raises CompileError: DEAD_NETWORK, and where the classes do not suffice.
    """
    heads: dict[Head, tuple[NDArray[np.generic], NearestClassMean]] = {}
    if isinstance(features, FeatureCodes):
        assert isinstance(base, FeatureCodes)
        integer = IntegerNcm(HeadKind.COSINE, IntegerCentre.mean(base.codes, centre))
        heads[Head.INTEGER] = features.codes, integer
        features, base = features.values, base.values
    assert not isinstance(base, FeatureCodes)
    heads[Head.FLOAT] = features, FloatNcm(NcmOrder.PEFSL, FloatCentre.mean(base, centre))
    found: dict[Head, dict[int, EpisodeAccuracies]] = {head: {} for head in heads}
    for shots in measurement.shots:
        drawn = measurement.of(shots).draw(images.labels, 0, measurement.episodes, images.names)
        for head, (vectors, ncm) in heads.items():
            found[head][shots] = evaluate_episodes(vectors, drawn, ncm, images.names)
    return Measured(found)


def measured_json(measured: Measured) -> JsonObject:
    """By shots and head. `right` holds the right answers of each episode, for paired differences."""
    shots = next(iter(measured.by_head.values()))
    return {str(n): {str(head): _result_json(found[n]) for head, found in measured.by_head.items()} for n in shots}


def _result_json(result: EpisodeAccuracies) -> JsonObject:
    estimate, worst = mean_accuracy(result), worst_class(result)
    right = np.ascontiguousarray(result.correct.sum(axis=1), dtype="<u4")
    return {
        "head": result.head,
        "episodes": len(right),
        "episodes_sha256": result.drawn,
        "answers": result.settings.ways * result.settings.queries,
        "accuracy": estimate.mean,
        "half_width": estimate.half_width,
        "ties": result.ties,
        "decisions": result.decisions,
        "constant_features": result.constant_features,
        "worst_class": worst.name,
        "worst_accuracy": worst.accuracy,
        "right": base64.b64encode(zlib.compress(right.tobytes(), 9)).decode(),
    }


def episode_accuracies(result: Mapping[str, object]) -> Floats:
    """[E] in 0 .. 1, of what `measured_json` made of one head and number of shots."""
    right = np.frombuffer(zlib.decompress(base64.b64decode(str(result["right"]))), dtype="<u4")
    accuracies: Floats = right.astype(np.float64)
    accuracies /= int(str(result["answers"]))
    return accuracies
