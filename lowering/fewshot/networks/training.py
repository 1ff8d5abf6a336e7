"""Training: a network and its classifier on labelled pictures, by a recipe.

Everything that is drawn is a function of the seed and the epoch, so that a stopped training goes on to the same bits.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.diagnostics.progress import Progress
from pefslc.fewshot.networks.backbones import Backbone, Description
from pefslc.fewshot.networks.draws import in_twos, integers, permutation, uniform
from pefslc.fewshot.networks.features import features_of
from pefslc.fewshot.networks.images import LabelledImages, require_images, require_labels, shifted
from pefslc.fewshot.networks.objective import Classifier, Mix, Teacher, loss_of
from pefslc.fewshot.networks.recipe import Recipe
from pefslc.fewshot.networks.saved_training import (
    SavedTraining,
    data_digest,
    network_digest,
    read_training,
    write_training,
)

__all__ = ["Epoch", "Trained", "Validation", "fit", "train", "with_classifier"]

Floats = NDArray[np.float64]

_SECONDS_BETWEEN = 0.5  # calls of progress
# Of the steps. With torch's 0.3 a training of few epochs spends them on small rates; with 0.1 torch divides by zero in
# one of 10 steps.
_WARM_UP = 0.12


@dataclass(frozen=True, slots=True)
class Validation:
    """Pictures of the val split, and a figure of their features [N, D] that is to be large: accuracy in episodes.

    every  epochs from one look to the next; the last epoch is looked at, too
    """

    images: NDArray[np.uint8]
    figure: Callable[[Floats], float]
    every: int = 1

    def after(self, epochs: int, total: int) -> bool:
        """Whether to look after so many epochs."""
        return epochs % self.every == 0 or epochs == total


@dataclass(frozen=True, slots=True)
class Epoch:
    """The mean loss of an epoch, and the figure after it; NaN where there was no validation."""

    loss: float
    figure: float


@dataclass(frozen=True, slots=True)
class Trained:
    """A network in eval mode on the CPU, the classifier that was trained with it, and how it went."""

    network: nn.Module
    classifier: Classifier
    description: Description
    history: tuple[Epoch, ...]

    @property
    def teacher(self) -> Teacher:
        """For distillation."""
        return Teacher(self.network, self.classifier)


def train(
    description: Description,
    data: LabelledImages,
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
    validation: Validation | None = None,
    progress: Progress | None = None,
) -> Trained:
    """A backbone from nothing; `fit` says what the arguments are."""
    return fit(
        with_classifier(Backbone(description, recipe.seed), data, recipe),
        data,
        recipe,
        checkpoint=checkpoint,
        validation=validation,
        progress=progress,
    )


def with_classifier(backbone: Backbone, data: LabelledImages, recipe: Recipe) -> Trained:
    """A backbone, new or with weights from elsewhere, and a new classifier of the classes in `data`."""
    description = backbone.description
    return Trained(
        backbone, Classifier(description.features, len(data.names), recipe.temperature, recipe.seed), description, ()
    )


def fit(
    start: Trained,
    data: LabelledImages,
    recipe: Recipe,
    *,
    teacher: Teacher | None = None,
    checkpoint: Path | None = None,
    validation: Validation | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train a copy of `start`. On one machine, with one number of threads, equal arguments give equal bits.

    data        the base classes
    teacher     a network to follow, beside the labels
    checkpoint  a file that is written after each epoch, and from which a training that was stopped goes on
    validation  looked at after epochs, and told with the progress; the network of the last epoch is returned whatever
                it says
    progress    called with (steps done, steps in all, text with the time left), about twice a second

    CUDA is used where torch finds it. Raises CompileError for pictures that do not suit, a checkpoint of another
    training, and a loss that is no number.
    """
    require_images(data.images, start.description)
    require_labels(data)
    if validation is not None:
        require_images(validation.images, start.description)
    key = _key(start, data, recipe, teacher)
    saved = None if checkpoint is None else read_training(checkpoint, key)
    run = _Run(start, data, recipe, teacher, progress)
    if saved is not None:
        run.load(saved)
    while len(run.history) < recipe.epochs:
        loss = run.epoch(len(run.history))
        figure = math.nan
        if validation is not None and validation.after(len(run.history) + 1, recipe.epochs):
            figure = validation.figure(features_of(run.network, start.description, validation.images))
        run.history.append(Epoch(loss, figure))
        if checkpoint is not None:
            write_training(checkpoint, run.saved(key))
    return run.result()


class _Run:
    """The state of a training between two epochs, which `saved` writes and `load` restores."""

    def __init__(
        self, start: Trained, data: LabelledImages, recipe: Recipe, teacher: Teacher | None, progress: Progress | None
    ) -> None:
        self.start, self.data, self.recipe, self.progress = start, data, recipe, progress
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # Channels last: convolutions of few channels take half the time on the CPU.
        self.network = deepcopy(start.network).to(self.device, memory_format=torch.channels_last)
        self.classifier = deepcopy(start.classifier).to(self.device)
        self.teacher = None
        if teacher is not None:
            followed = deepcopy(teacher.network).to(self.device, memory_format=torch.channels_last).eval()
            self.teacher = Teacher(followed, deepcopy(teacher.classifier).to(self.device))
        self.batch = min(recipe.batch, len(data.images))
        self.steps = len(data.images) // self.batch
        parameters = [*self.network.parameters(), *self.classifier.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, recipe.rate, weight_decay=recipe.decay)
        total = max(self.steps * recipe.epochs, 1)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, recipe.rate, total_steps=total, pct_start=_WARM_UP
        )
        self.history: list[Epoch] = []
        self.clock = _Clock(self.steps * recipe.epochs)

    def epoch(self, index: int) -> float:
        """One pass over the pictures. Returns the mean loss."""
        self.network.train()
        recipe, count = self.recipe, len(self.data.images)
        order = (
            in_twos(self.data.labels, recipe.seed, index)
            if recipe.contrast
            else permutation(count, recipe.seed, "order", index)
        )
        offsets = integers(-recipe.shift, recipe.shift, 2 * count, recipe.seed, "shift", index).reshape(count, 2)
        total = 0.0
        for step in range(self.steps):
            rows = order[step * self.batch : (step + 1) * self.batch]
            images = shifted(self.data.images[rows], offsets[rows])
            x = self.start.description.normalized(images).to(self.device, memory_format=torch.channels_last)
            labels = torch.from_numpy(self.data.labels[rows].astype(np.int64)).to(self.device)
            mix = self.mix(index, step) if recipe.mixup else None
            self.optimizer.zero_grad()
            loss = loss_of(self.network, self.classifier, x, labels, recipe, self.teacher, mix)
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            total += self.number(loss, index)
            self.tell(index, step, total / (step + 1))
        return total / self.steps

    def mix(self, index: int, step: int) -> Mix:
        seed, blocks = self.recipe.seed, len(self.start.description.maps)
        depth = int(integers(0, blocks, 1, seed, "depth", index, step)[0])
        share = float(np.median(uniform(3, seed, "share", index, step)))  # of three: Beta(2, 2)
        partners = permutation(self.batch, seed, "partner", index, step)
        return Mix(depth, share, torch.from_numpy(partners).to(self.device))

    def number(self, loss: Tensor, index: int) -> float:
        value = float(loss.detach())
        if not math.isfinite(value):
            raise CompileError(
                Code.TRAINING,
                f"the loss is {value} in epoch {index + 1} of {self.recipe.epochs}",
                hint=f"take a smaller rate than {self.recipe.rate:g}",
            )
        return value

    def tell(self, index: int, step: int, loss: float) -> None:
        done = index * self.steps + step + 1
        if self.progress is not None and self.clock.is_time(done):
            figures = [e.figure for e in self.history if not math.isnan(e.figure)]
            seen = f", val {figures[-1]:.4g}" if figures else ""
            text = f"epoch {index + 1} of {self.recipe.epochs}, loss {loss:.3f}{seen}, {self.clock.left(done)} left"
            self.progress(done, self.clock.total, text)

    def saved(self, key: str) -> SavedTraining:
        states = {name: part.state_dict() for name, part in self.parts().items()}
        return SavedTraining(key, len(self.history), states, tuple((e.loss, e.figure) for e in self.history))

    def load(self, saved: SavedTraining) -> None:
        for name, part in self.parts().items():
            part.load_state_dict(saved.states[name])
        self.history = [Epoch(loss, figure) for loss, figure in saved.history]

    def parts(self) -> Mapping[str, nn.Module]:
        """What has a state."""
        return {
            "network": self.network,
            "classifier": self.classifier,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
        }

    def result(self) -> Trained:
        network = self.network.cpu().to(memory_format=torch.contiguous_format).eval()
        return Trained(network, self.classifier.cpu(), self.start.description, tuple(self.history))


class _Clock:
    """When to speak, and how long it will take, from the steps of this process."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.first: tuple[int, float] | None = None
        self.spoke = -math.inf

    def is_time(self, done: int) -> bool:
        now = time.monotonic()
        if self.first is None:
            self.first = (done, now)
        if now - self.spoke < _SECONDS_BETWEEN and done < self.total:
            return False
        self.spoke = now
        return True

    def left(self, done: int) -> str:
        assert self.first is not None
        step, start = self.first
        seconds = round((time.monotonic() - start) / max(done - step, 1) * (self.total - done))
        return f"{seconds // 60}:{seconds % 60:02}"


def _key(start: Trained, data: LabelledImages, recipe: Recipe, teacher: Teacher | None) -> str:
    """A hash of everything that the result depends on."""
    parts = [start.network, start.classifier]
    if teacher is not None:
        parts += [teacher.network, teacher.classifier]
    text = [json.dumps(asdict(recipe), sort_keys=True), start.description.to_json(), data_digest(data)]
    return sha256("\n".join([*text, network_digest(*parts)]).encode()).hexdigest()
