"""The steps from a float network to a small one, as sweeps and `pefslc fewshot quantize` both take them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.progress import Progress
from pefslc.fewshot.networks.images import LabelledImages
from pefslc.fewshot.networks.mixed_precision import mixed_formats
from pefslc.fewshot.networks.pruning import pruned
from pefslc.fewshot.networks.quantizing import chosen_formats, in_formats
from pefslc.fewshot.networks.recipe import Recipe
from pefslc.fewshot.networks.training import Trained, fit
from pefslc.fewshot.sweep.cells import Cell, Method, Prune
from pefslc.fewshot.sweep.mixed_format import MixedFormat, backbone_format
from pefslc.train.tensor_formats import TensorFormats

__all__ = ["cell_formats", "pruned_network", "quantized_network"]


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
    """The float network without some channels, tuned by `recipe.after_pruning()`. Raises CompileError."""
    start = pruned(floating, prune.share, prune.array)
    teacher = floating.teacher if distill else None
    return fit(start, base, recipe.after_pruning(), teacher=teacher, checkpoint=checkpoint, progress=progress)


def cell_formats(network: Trained, fmt: str, base: LabelledImages, watched: NDArray[np.uint8]) -> TensorFormats:
    """The formats of each tensor of a float network: "Q2.3", "auto:3" or "mixed:3". Raises CompileError.

    watched  pictures of val, by which the bits of "mixed:" are shared out
    """
    mixed = backbone_format(fmt)
    if isinstance(mixed, MixedFormat):
        return mixed_formats(network, mixed.MOST_BITS, mixed.budgets, base.images, watched).formats
    return chosen_formats(network, fmt, base.images)


def quantized_network(
    network: Trained,
    floating: Trained,
    cell: Cell,
    formats: TensorFormats,
    base: LabelledImages,
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Trained:
    """A float network with quantizers; QAT: tuned with them by `recipe`. Raises CompileError.

    network   pruned already, where the cell asks for it
    floating  whom it follows where the cell asks for it
    formats   of its tensors: `cell_formats`, or others
    """
    start = in_formats(network, formats)
    if cell.method is not Method.QAT:
        return start
    teacher = floating.teacher if cell.distill else None
    return fit(start, base, recipe, teacher=teacher, checkpoint=checkpoint, progress=progress)
