"""What training minimizes: the loss of the classes and of pairs, and what EASY and distillation add to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pefslc.fewshot.networks.draws import uniform
from pefslc.fewshot.networks.recipe import Recipe

__all__ = ["Classifier", "Mix", "Teacher", "contrastive", "loss_of"]

_ANGLES = 4
_CONTRAST_TEMPERATURE = 0.1  # as in the paper
_DISTILLED_LOGITS, _SOFTNESS, _DISTILLED_FEATURES = 0.5, 2.0, 2.0


class Classifier(nn.Module):  # type: ignore[misc]  # mypy sees torch as Any
    """Features [N, D] to logits of classes and of angles: cosines with a vector each, times the temperature.

    Cosines are what the nearest class mean compares, too.
    """

    def __init__(self, features: int, classes: int, temperature: float, seed: int = 0) -> None:
        super().__init__()
        self.temperature = temperature
        drawn = uniform((classes + _ANGLES) * features, seed, "classifier") * 2 - 1
        vectors = torch.from_numpy(drawn).float().view(classes + _ANGLES, features)
        self.classes, self.angles = nn.Parameter(vectors[:classes].clone()), nn.Parameter(vectors[classes:].clone())

    def forward(self, features: Tensor, vectors: Tensor) -> Tensor:
        directions = functional.normalize(vectors, dim=1)
        return functional.linear(functional.normalize(features, dim=1), directions) * self.temperature


@dataclass(frozen=True, slots=True)
class Teacher:
    """A trained network and its classifier, which another one is to follow. They are not trained."""

    network: nn.Module
    classifier: Classifier


@dataclass(frozen=True, slots=True)
class Mix:
    """Manifold mixup: `share` of each picture and the rest of another one, before block `depth`, or in the features."""

    depth: int
    share: float
    partners: Tensor

    def of(self, x: Tensor) -> Tensor:
        return self.share * x + (1 - self.share) * x[self.partners]


def loss_of(
    network: nn.Module,
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    teacher: Teacher | None = None,
    mix: Mix | None = None,
) -> Tensor:
    """The loss of a batch: images [N, 3, H, W] as the network takes them, labels [N]."""
    smoothing = recipe.smoothing
    total = torch.zeros((), device=images.device)
    if mix is not None:
        with _mixed(network, mix):
            features = network(images)
        logits = classifier(mix.of(features) if mix.depth == len(_blocks(network)) else features, classifier.classes)
        for part, share in ((labels, mix.share), (labels[mix.partners], 1 - mix.share)):
            total = total + share * functional.cross_entropy(logits, part, label_smoothing=smoothing)
    angles = None
    if recipe.rotations:
        images, angles = _turned(images)
    features = network(images)
    logits = classifier(features, classifier.classes)
    loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    if angles is not None:
        turned = functional.cross_entropy(classifier(features, classifier.angles), angles, label_smoothing=smoothing)
        loss = 0.5 * loss + 0.5 * turned
    total = total + loss
    if recipe.contrast:
        total = total + recipe.contrast * contrastive(features, labels)
    return total if teacher is None else total + _distillation(features, logits, images, teacher)


def contrastive(features: Tensor, labels: Tensor) -> Tensor:
    """The supervised contrastive loss (Khosla et al. 2020, L_out) of a batch: features [N, D], labels [N].

    Features are centred first, by their mean, as the head does it. Pictures that are alone of their class count as
    others only; a batch of such pictures has loss 0.
    """
    directions = functional.normalize(features - features.mean(0), dim=1)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    similar = (directions @ directions.T / _CONTRAST_TEMPERATURE).masked_fill(itself, -torch.inf)
    partners = (labels[:, None] == labels) & ~itself
    logs = functional.log_softmax(similar, dim=1).masked_fill(~partners, 0.0).sum(1)
    counts = partners.sum(1)
    return -(logs / counts.clamp(min=1)).sum() / (counts > 0).sum().clamp(min=1)


def _distillation(features: Tensor, logits: Tensor, images: Tensor, teacher: Teacher) -> Tensor:
    """Hinton et al. 2015 on the logits, and the angle to the teacher's features, which is what the head looks at."""
    with torch.no_grad():
        wanted = teacher.network(images)
        wanted_logits = teacher.classifier(wanted, teacher.classifier.classes)
    divergence = functional.kl_div(
        functional.log_softmax(logits / _SOFTNESS, dim=1),
        functional.log_softmax(wanted_logits / _SOFTNESS, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    cosines = functional.cosine_similarity(features, wanted, dim=1)
    return _DISTILLED_LOGITS * _SOFTNESS**2 * divergence + _DISTILLED_FEATURES * (1 - cosines).mean()


def _turned(images: Tensor) -> tuple[Tensor, Tensor]:
    """Each quarter of the batch by one more quarter of a turn, and the number of quarters."""
    angles = torch.arange(len(images), device=images.device) * _ANGLES // len(images)
    parts = [torch.rot90(images[angles == k], k, (2, 3)) for k in range(_ANGLES)]
    return torch.cat(parts), angles


@contextmanager
def _mixed(network: nn.Module, mix: Mix) -> Iterator[None]:
    """The forward in which the input of block `depth` is mixed; a hook, so that networks know nothing of it."""
    blocks = _blocks(network)
    if mix.depth == len(blocks):
        yield
        return
    hook = blocks[mix.depth].register_forward_pre_hook(lambda _, inputs: (mix.of(inputs[0]),))
    try:
        yield
    finally:
        hook.remove()


def _blocks(network: nn.Module) -> nn.Sequential:
    """The blocks of a backbone, also of a quantized one."""
    inner = getattr(network, "network", network)
    blocks: nn.Sequential = inner.blocks
    return blocks
