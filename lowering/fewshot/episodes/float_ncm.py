"""Nearest class mean in float64, as the literature has it: for the table beside the head in integers.

PEFSL     the supports are averaged, the centre subtracted, the *mean* is put on the sphere, and so is the centred query
EASY      the centre is subtracted from each support, *each* is put on the sphere, and then they are averaged; the mean
          is compared as it is, inside of the sphere (Bendou et al., EASY, 2022)
EUCLID    the supports are averaged; no centre

EASY and EUCLID take the lowest distance, PEFSL the highest cosine, which is the lowest distance of two points of the
sphere; a mean at the centre has the cosine 0 to all, as in the integer head, not NaN. With one shot PEFSL and EASY
agree. Sums of floats depend on their order: scores that are equal but for rounding count as ties, and the lowest class
id wins them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.episodes.centre import FloatCentre
from pefslc.fewshot.episodes.decisions import Decide, Decisions
from pefslc.fewshot.episodes.features import float_features

__all__ = ["FloatNcm", "NcmOrder"]

Floats = NDArray[np.float64]

# Rounding of sums of some thousand products, relative to the largest square of a vector: far above 1000 * 2^-53, far
# below what the float32 of a network can tell.
_EQUAL = 2.0**-40


class NcmOrder(Enum):
    """In which order supports are averaged, centred and put on the sphere."""

    PEFSL = "PEFSL's order"
    EASY = "EASY's order"
    EUCLID = "Euclidean"


@dataclass(frozen=True, slots=True)
class FloatNcm:
    """The head in float64. `centre` is for PEFSL and EASY, and needed there."""

    order: NcmOrder
    centre: FloatCentre | None = None

    def __post_init__(self) -> None:
        if (self.order is NcmOrder.EUCLID) is not (self.centre is None):
            raise CompileError(
                Code.FEATURES,
                f"{self.order.value} {'without' if self.centre is None else 'with'} a centre",
                hint="FloatCentre.mean(base features) or .none(D) for PEFSL and EASY; a centre changes no distance",
            )

    @property
    def name(self) -> str:
        return f"float NCM, {self.order.value}, centre: {'none' if self.centre is None else self.centre}"

    def prepare(self, features: NDArray[np.generic], shots: int) -> Decide:
        """What decides on episodes of finite features [N, D]. Raises CompileError."""
        vectors = float_features(features, "features")
        centre = np.array((0.0,) * vectors.shape[1] if self.centre is None else self.centre.values)
        if len(centre) != vectors.shape[1]:
            raise CompileError(
                Code.FEATURES,
                f"features have {vectors.shape[1]} entries, and the centre has {len(centre)}",
                hint="a centre of features of the same network",
            )
        compared = vectors if self.order is NcmOrder.EUCLID else _on_sphere(vectors - centre)
        equal = _EQUAL * float(np.einsum("nd,nd->n", compared, compared).max())

        def decide(supports: NDArray[np.int64], queries: NDArray[np.int64]) -> Decisions:
            means = (compared if self.order is NcmOrder.EASY else vectors)[supports].sum(axis=2) / shots
            if self.order is NcmOrder.PEFSL:
                means = _on_sphere(means - centre)
            scores = compared[queries] @ means.transpose(0, 2, 1)
            if self.order is not NcmOrder.PEFSL:  # (|q|^2 - |q - m|^2) / 2
                scores -= np.einsum("ewd,ewd->ew", means, means)[:, None, :] / 2
            near = scores >= scores.max(axis=-1, keepdims=True) - equal
            return Decisions(near.argmax(axis=-1), np.count_nonzero(near, axis=-1) > 1)

        return decide


def _on_sphere(vectors: Floats) -> Floats:
    """Each vector along the last axis divided by its length; 0 stays 0."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    on_sphere = np.zeros_like(vectors)
    np.divide(vectors, lengths, out=on_sphere, where=lengths > 0)
    return on_sphere
