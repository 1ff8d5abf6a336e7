"""The file that a training goes on from: everything that the next epoch depends on, written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.fewshot.data.torch_files import plain_torch
from pefslc.fewshot.networks.images import LabelledImages
from pefslc.files.reading import read_file
from pefslc.files.staging import write_file

__all__ = ["SavedTraining", "data_digest", "network_digest", "read_training", "write_training"]

_KIND = "pefslc few-shot training 1"

StateDict = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class SavedTraining:
    """A training after `epoch` epochs. `key` says of which one: a hash of pictures, first weights and recipe."""

    key: str
    epoch: int
    states: Mapping[str, StateDict]  # of the network, the classifier, the optimizer and the schedule
    history: tuple[tuple[float, float], ...]  # loss and validation figure of each epoch; NaN without one


def write_training(path: Path, saved: SavedTraining) -> None:
    """Replace the file at `path`. Raises CompileError where it cannot be written."""
    content = io.BytesIO()
    torch.save(
        {
            "kind": _KIND,
            "key": saved.key,
            "epoch": saved.epoch,
            "states": dict(saved.states),
            "history": [list(row) for row in saved.history],
        },
        content,
    )
    write_file(path, content.getvalue())


def read_training(path: Path, key: str) -> SavedTraining | None:
    """What is at `path`; None where nothing is. Raises CompileError for another file, and for another training."""
    if not path.exists():
        return None
    hint = "give another file for the checkpoint, or remove this one to begin anew"
    content = plain_torch(read_file(path))
    if not isinstance(content, dict) or content.get("kind") != _KIND:
        raise CompileError(Code.OTHER_TRAINING, f"{quote(path)} is no checkpoint of a training", hint=hint)
    if content["key"] != key:
        raise CompileError(
            Code.OTHER_TRAINING,
            f"{quote(path)} is the checkpoint of another training: other pictures, another network or other settings",
            hint=hint,
        )
    history = tuple((float(loss), float(figure)) for loss, figure in content["history"])
    return SavedTraining(key, int(content["epoch"]), content["states"], history)


def data_digest(data: LabelledImages) -> str:
    """SHA-256 of pictures, labels and names, in hex."""
    digest = sha256()
    for array in (data.images, data.labels.astype("<i8")):
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update("\n".join(data.names).encode())
    return digest.hexdigest()


def network_digest(*networks: nn.Module) -> str:
    """SHA-256 of structure and parameters, in hex."""
    digest = sha256()
    for network in networks:
        digest.update(repr(network).encode())
        for name, tensor in network.state_dict().items():
            digest.update(name.encode())
            digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return bytes(tensor.detach().cpu().contiguous().numpy().tobytes())
