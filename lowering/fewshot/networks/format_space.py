"""Formats of the tensors of a float backbone, and what they do to its features.

A tensor's own error says little of the network's: at few bits, the formats with the least square errors of weights and
activations can leave features that point nowhere. So the points of formats are settled by the features themselves.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.progress import Progress
from pefslc.driver.compiler import load
from pefslc.driver.model_source import as_file
from pefslc.fewshot.data.image_set import evenly
from pefslc.fewshot.networks.fake_quantization import FakeQuantized
from pefslc.fewshot.networks.features import features_of
from pefslc.fewshot.networks.images import require_images
from pefslc.fewshot.networks.training import Trained
from pefslc.fewshot.precision.points import settle
from pefslc.numeric.choose_format import AutoFormat
from pefslc.numeric.format import FixedPoint, Quantization
from pefslc.passes.calibrate import CalibratedFormats, Calibrator
from pefslc.passes.quantize_after_training import FormatPlan, quantized_by
from pefslc.train.folding import fold_batchnorm
from pefslc.train.tensor_formats import TensorFormats, formats_of

__all__ = ["CALIBRATION_IMAGES", "FeatureAngle", "FormatSpace", "folded"]

Floats = NDArray[np.float64]

CALIBRATION_IMAGES = 512  # of the pictures that are given, evenly spread over them: sets are sorted by class
_WATCHED = 256  # pictures on which features are compared
_EXAMPLES = 8  # of an exported file


def folded(trained: Trained) -> Trained:
    """`trained` with its BatchNorms in the convolutions before them."""
    return replace(trained, network=fold_batchnorm(trained.network).eval())


class FormatSpace:
    """A float backbone with its graph, and for each number of bits a plan of formats: those with the least square error
    of each tensor, on pictures uint8 [N, size, size, 3] of the base classes.

    most_bits  the formats are those of `auto:most_bits` and fewer
    """

    def __init__(
        self, trained: Trained, most_bits: int, images: NDArray[np.uint8], progress: Progress | None = None
    ) -> None:
        require_images(images, trained.description)
        self.trained = folded(trained)
        self.network = self.trained.network
        x = trained.description.normalized(evenly(images, CALIBRATION_IMAGES))
        with as_file(self.network, x[:_EXAMPLES]) as path:
            self.graph = load(path)
        (first,) = self.graph.inputs
        formats = CalibratedFormats(AutoFormat(most_bits), {first.name: x.numpy()}, progress=progress)
        self.calibrator = Calibrator(formats, self.graph)

    def plan(self, bits: int) -> FormatPlan:
        return self.calibrator.plan(bits)

    def formats(self, plan: FormatPlan) -> TensorFormats:
        return formats_of(self.network, quantized_by(plan, self.graph))

    def settled(self, plan: FormatPlan, images: NDArray[np.uint8]) -> FormatPlan:
        """`plan` with points moved by single bits, where that turns the features on `images` towards the float ones.

        Tensors that share a format move together.
        """
        leaders = list(dict.fromkeys(self.calibrator.groups.values()))
        names = [*(("activations", name) for name in leaders), *(("weights", name) for name in plan.weights)]
        return settle(plan, names, self._moved, FeatureAngle(self, plan, images))

    def _moved(self, plan: FormatPlan, name: tuple[str, str], by: int) -> FormatPlan:
        kind, tensor = name
        if kind == "weights":
            return replace(plan, weights={**plan.weights, tensor: _finer(plan.weights[tensor], by)})
        members = [n for n, leader in self.calibrator.groups.items() if leader == tensor]
        return replace(plan, activations={**plan.activations, **{n: _finer(plan.activations[n], by) for n in members}})


class FeatureAngle:
    """Of a plan: the mean of 1 - cos between centred features, quantized and float; 0 to 2, and 1 for a dead network.

    Accuracy would not do: one bit of one tensor changes it by less than its noise on as many pictures. The angle needs
    no labels either.

    any_plan  of the same tensors
    images    of which 256 are looked at, evenly spread
    """

    def __init__(self, space: FormatSpace, any_plan: FormatPlan, images: NDArray[np.uint8]) -> None:
        self.space, self.images = space, evenly(images, _WATCHED)
        network = deepcopy(space.network)  # it gets hooks
        self.network = FakeQuantized(network, space.formats(any_plan)).eval()
        self.wanted = _directions(features_of(space.network, space.trained.description, self.images))

    def __call__(self, plan: FormatPlan) -> float:
        self.network.formats = self.space.formats(plan)
        found = _directions(features_of(self.network, self.space.trained.description, self.images))
        return float(1 - (found * self.wanted).sum(axis=1).mean())


def _finer(quantization: Quantization, by: int) -> Quantization:
    """The same bits with `by` more of them behind the point."""
    fmt = quantization.fixed_point
    assert fmt is not None, "the formats of auto: are Qm.n"
    return FixedPoint(fmt.integer_bits - by, fmt.fraction_bits + by, signed=fmt.signed).quantization


def _directions(features: Floats) -> Floats:
    centred = features - features.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    directions: Floats = centred / np.where(lengths > 0, lengths, 1)
    return directions
