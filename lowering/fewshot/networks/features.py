"""The features that a network computes of pictures, and whether they tell anything apart."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.fewshot.networks.backbones import Description

__all__ = ["features_of", "require_alive"]

_ROWS = 256  # at once: bounds the memory


def features_of(network: nn.Module, description: Description, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Features [N, D] of pictures uint8 [N, H, W, 3], by torch in float32, in eval mode."""
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    parts = []
    with torch.no_grad():
        for first in range(0, len(images), _ROWS):
            x = description.normalized(images[first : first + _ROWS])
            x = x.to(device, memory_format=torch.channels_last)
            parts.append(network(x).cpu().double().numpy())
    network.train(was_training)
    return np.concatenate(parts)


def require_alive(features: NDArray[np.generic], what: str) -> None:
    """Demand that features [N, D], or codes, differ between pictures. Raises CompileError.

    what  the network, for the message
    """
    if len(features) > 1 and (features == features[0]).all():
        raise CompileError(
            Code.DEAD_NETWORK,
            f"{quote(what)} computes the same features for all of {len(features)} pictures",
            hint="its format has too few bits where they are needed: take more, or auto:N, which chooses from data",
        )
