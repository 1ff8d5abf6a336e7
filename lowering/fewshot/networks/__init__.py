"""Backbones of a few-shot system: described, trained, quantized, pruned. Needs the extra `train`."""

from __future__ import annotations

from pefslc.train.extra import require_extra

require_extra()

from pefslc.fewshot.networks.backbones import Activation, Backbone, Description  # noqa: E402

__all__ = ["Activation", "Backbone", "Description"]
