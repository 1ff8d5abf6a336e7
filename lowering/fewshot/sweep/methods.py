"""The steps from a float network to a small one, as sweeps and `pefslc fewshot quantize` both take them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pefslc.fewshot.networks.images import LabelledImages
from pefslc.fewshot.networks.mixed_precision import mixed_formats
from pefslc.fewshot.networks.pruning import pruned
from pefslc.fewshot.networks.quantizing import in_formats, quantized
from pefslc.fewshot.networks.recipe import Recipe
from pefslc.fewshot.networks.training import Trained, fit
from pefslc.fewshot.sweep.cells import Cell, Method, Prune
from pefslc.fewshot.sweep.mixed_format import MixedFormat, backbone_format
from pefslc.train.tensor_formats import TensorFormats

__all__ = ["pruned_network", "quantized_network"]

Progress = Callable[[int, int, str], None]


def pruned_network(
    floating: Trained,
    prune: Prune,
    base: LabelledImages,
    recipe: Recipe,
    *,
    distill: bool = False,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Trained:
    """The float network without some channels, tuned by `recipe`. Raises CompileError."""
    start = pruned(floating, prune.share, prune.array)
    teacher = floating.teacher if distill else None
    return fit(start, base, recipe, teacher=teacher, checkpoint=checkpoint, progress=progress)


def quantized_network(
    network: Trained,
    floating: Trained,
    cell: Cell,
    base: LabelledImages,
    watched: NDArray[np.uint8],
    recipe: Recipe,
    *,
    formats: TensorFormats | None = None,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Trained:
    """A float network with the quantizers of `cell`; QAT: tuned with them by `recipe`. Raises CompileError.

    network   pruned already, where the cell asks for it
    floating  whom it follows where the cell asks for it
    watched   pictures of val, by which bits are shared out
    formats   of its tensors, where they are known: instead of those that `cell.fmt` gives
    """
    mixed = backbone_format(cell.fmt)
    if formats is None and isinstance(mixed, MixedFormat):
        formats = mixed_formats(network, mixed.MOST_BITS, mixed.budgets, base.images, watched).formats
    start = quantized(network, cell.fmt, base.images) if formats is None else in_formats(network, formats)
    if cell.method is not Method.QAT:
        return start
    teacher = floating.teacher if cell.distill else None
    return fit(start, base, recipe, teacher=teacher, checkpoint=checkpoint, progress=progress)
