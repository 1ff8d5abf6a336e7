"""A float network measured, by torch."""

from __future__ import annotations

from pefslc.fewshot.data.image_set import FewShotData
from pefslc.fewshot.networks.features import features_of
from pefslc.fewshot.networks.training import Trained
from pefslc.fewshot.sweep.measure import Measured, centre_images, measure
from pefslc.fewshot.sweep.setting import Measurement

__all__ = ["measure_float"]


def measure_float(trained: Trained, data: FewShotData, measurement: Measurement) -> Measured:
    """What the float head decides on float features. Raises CompileError, DEAD_NETWORK among them."""
    images, (base, centre) = data.split(measurement.split), centre_images(data.base, measurement.centre_pictures)
    network, description = trained.network, trained.description
    features, of_base = (features_of(network, description, part) for part in (images.images, base))
    return measure(features, of_base, centre, images, measurement)
