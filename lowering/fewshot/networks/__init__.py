"""Backbones of a few-shot system: described, trained, quantized, pruned, compiled. Needs the extra `train`.

floating = train(Description(), base, Recipe(), checkpoint=Path("float.pt"))
tuned = fit(quantized(floating, "auto:3", base.images), base, Recipe.fine_tuning(), teacher=floating.teacher)
compiled(tuned, base.images, target="tensil", arch="custom_perf").save("build/")
"""

from __future__ import annotations

from pefslc.train.extra import require_extra

require_extra()

from pefslc.fewshot.networks.backbones import Activation, Backbone, Description  # noqa: E402
from pefslc.fewshot.networks.features import features_of, require_alive  # noqa: E402
from pefslc.fewshot.networks.foreign_weights import load_weights  # noqa: E402
from pefslc.fewshot.networks.mixed_precision import MixedFormats, mixed_formats  # noqa: E402
from pefslc.fewshot.networks.pruning import prune, pruned, pruned_widths  # noqa: E402
from pefslc.fewshot.networks.quantizing import (  # noqa: E402
    after_training,
    chosen_formats,
    compiled,
    export_onnx,
    folded,
    in_formats,
    quantized,
)
from pefslc.fewshot.networks.recipe import Recipe  # noqa: E402
from pefslc.fewshot.networks.trained_file import TrainedFile, read_trained, write_trained  # noqa: E402
from pefslc.fewshot.networks.training import Trained, Validation, fit, train, with_classifier  # noqa: E402

__all__ = [
    "Activation",
    "Backbone",
    "Description",
    "MixedFormats",
    "Recipe",
    "Trained",
    "TrainedFile",
    "Validation",
    "after_training",
    "chosen_formats",
    "compiled",
    "export_onnx",
    "features_of",
    "fit",
    "folded",
    "in_formats",
    "load_weights",
    "mixed_formats",
    "prune",
    "pruned",
    "pruned_widths",
    "quantized",
    "read_trained",
    "require_alive",
    "train",
    "with_classifier",
    "write_trained",
]
