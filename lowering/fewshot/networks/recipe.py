"""How a network is trained: numbers, and nothing that knows a network."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote_given
from pefslc.fewshot.networks.draws import LARGEST_SEED

__all__ = ["Recipe"]


_AFTER_PRUNING = 6
_LARGEST_RATE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """AdamW with one cycle of the rate, a cosine classifier with smoothed labels, a contrastive loss, shifted pictures.

    epochs       passes over the pictures
    batch        pictures a step; what is left of an epoch waits for another one
    rate         the largest learning rate of the cycle
    decay        AdamW's decay of weights
    smoothing    share of a label that is spread over all classes, 0 to 1
    shift        pictures move by up to so many pixels, both ways
    temperature  logits are cosines times this
    contrast     weight of the contrastive loss: pictures come in twos of a class, and each is to be nearer to the
                 other one than to all other pictures of the batch, which is what the head asks of one shot
    rotations    EASY's self-supervision: quarters of the batch are turned by 0, 90, 180 and 270 degrees, and a second
                 classifier tells by how much; its loss has the weight of the first
    mixup        EASY's manifold mixup, a second forward of each batch: the input of a block, or the features, are mixed
                 with those of other pictures by a share of Beta(2, 2)
    seed         of everything that is drawn

    Raises CompileError for numbers out of range.
    """

    epochs: int = 20
    batch: int = 64
    rate: float = 5e-3
    decay: float = 1e-3
    smoothing: float = 0.05
    shift: int = 2
    temperature: float = 20.0
    contrast: float = 1.0
    rotations: bool = False
    mixup: bool = False
    seed: int = 0

    @classmethod
    def fine_tuning(cls, *, epochs: int = 4, rate: float = 5e-4, seed: int = 0) -> Recipe:
        """For a trained network whose formats have changed."""
        return cls(epochs=epochs, rate=rate, seed=seed)

    def after_pruning(self) -> Recipe:
        """This recipe for a network that has lost channels: what they did is to be learned again, by the others.

        At six times the rate, as it was measured: 0.0005, which is best for new formats, leaves three points behind.
        """
        return replace(self, rate=min(_AFTER_PRUNING * self.rate, _LARGEST_RATE))

    def __post_init__(self) -> None:
        for name, low, high in (
            ("epochs", 0, 100_000),
            ("batch", 2, 65_536),
            ("shift", 0, 64),
            ("seed", 0, LARGEST_SEED),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise _wrong(name, value, f"a whole number of {low} to {high}")
        for name, largest in (("rate", _LARGEST_RATE), ("temperature", 1000)):
            if not 0 < _number(name, getattr(self, name)) <= largest:
                raise _wrong(name, getattr(self, name), f"a number above 0, at most {largest:g}")
        for name, below in (("decay", 10), ("smoothing", 1), ("contrast", 1000)):
            if not 0 <= _number(name, getattr(self, name)) < below:
                raise _wrong(name, getattr(self, name), f"a number from 0 to below {below}")


def _number(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise _wrong(name, value, "a number")
    return value


def _wrong(name: str, given: object, wanted: str) -> CompileError:
    return CompileError(
        Code.TRAINING, f"{name} is {quote_given(given)}, not {wanted}", hint="see `pefslc explain few-shot`"
    )
