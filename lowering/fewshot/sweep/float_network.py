"""A float network measured, by torch: when it is trained, and, with less work, while it is."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.data.image_set import FewShotData, ImageSet
from pefslc.fewshot.episodes.accuracy import evaluate_episodes
from pefslc.fewshot.episodes.centre import FloatCentre
from pefslc.fewshot.episodes.float_ncm import FloatNcm, NcmOrder
from pefslc.fewshot.episodes.intervals import mean_accuracy
from pefslc.fewshot.networks.features import features_of
from pefslc.fewshot.networks.training import Trained, Validation
from pefslc.fewshot.sweep.measure import Measured, centre_images, measure
from pefslc.fewshot.sweep.setting import Measurement

__all__ = ["measure_float", "validation_name", "validation_on_val"]

_EPISODES = 1000
_CENTRE = "mean of the val pictures"  # the base pictures would have to be computed, too


def measure_float(trained: Trained, data: FewShotData, measurement: Measurement) -> Measured:
    """What the float head decides on float features. Raises CompileError, DEAD_NETWORK among them."""
    images, (base, centre) = data.split(measurement.split), centre_images(data.base, measurement.centre_pictures)
    network, description = trained.network, trained.description
    features, of_base = (features_of(network, description, part) for part in (images.images, base))
    return measure(features, of_base, centre, images, measurement)


def validation_on_val(val: ImageSet, measurement: Measurement, every: int) -> Validation:
    """What `validation_name` says, 0 ... 1, after every `every` epochs; NaN while the network tells nothing apart."""
    few = _few(measurement)
    drawn = few.of(few.shots[0]).draw(val.labels, 0, few.episodes, val.names)

    def figure(features: NDArray[np.float64]) -> float:
        head = FloatNcm(NcmOrder.PEFSL, FloatCentre.mean(features, _CENTRE))
        try:
            return mean_accuracy(evaluate_episodes(features, drawn, head, val.names)).mean
        except CompileError as e:
            if e.problems[0].code is not Code.DEAD_NETWORK:
                raise
            return math.nan

    return Validation(val.images, figure, every)


def validation_name(measurement: Measurement) -> str:
    """The figure of `validation_on_val` in words."""
    few = _few(measurement)
    head = f"float NCM, PEFSL's order, centre: {_CENTRE}"
    return f"{few.ways}-way {few.shots[0]}-shot, {few.episodes} episodes of seed {few.seed}, {head}"


def _few(measurement: Measurement) -> Measurement:
    return replace(measurement, episodes=min(measurement.episodes, _EPISODES))
