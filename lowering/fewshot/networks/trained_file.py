"""A trained float backbone in a file: description, weights, classifier, history, and what it was trained on."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.fewshot.data.torch_files import plain_torch
from pefslc.fewshot.networks.backbones import Backbone, Description
from pefslc.fewshot.networks.objective import Classifier
from pefslc.fewshot.networks.training import Epoch, Trained
from pefslc.files.reading import read_file
from pefslc.files.staging import require_replaceable, write_file

__all__ = [
    "TrainedFile",
    "read_trained",
    "require_trained_path",
    "trained_from_bytes",
    "trained_to_bytes",
    "write_trained",
]

_KIND = "pefslc few-shot backbone 1"
_HINT = "a file that `pefslc fewshot train` wrote; foreign weights come in by its --weights"


@dataclass(frozen=True, slots=True)
class TrainedFile:
    """A float backbone, and texts that say where it comes from: "data", "data_sha256", "recipe"..."""

    trained: Trained
    origin: Mapping[str, str] = field(default_factory=dict)


def trained_to_bytes(content: TrainedFile) -> bytes:
    """Equal networks give equal tensors back; the bytes are those of torch's archive. Raises CompileError for others
    than float backbones.
    """
    trained = content.trained
    if not isinstance(trained.network, Backbone):
        raise CompileError(
            Code.TRAINED_FILE, "a quantized network is no float backbone", hint="export it to an .onnx instead"
        )
    archive = io.BytesIO()
    torch.save(
        {
            "kind": _KIND,
            "description": trained.description.to_json(),
            "network": dict(trained.network.state_dict()),
            "classifier": dict(trained.classifier.state_dict()),
            "temperature": float(trained.classifier.temperature),
            "history": [[epoch.loss, epoch.figure] for epoch in trained.history],
            "origin": {str(key): str(value) for key, value in content.origin.items()},
        },
        archive,
    )
    return archive.getvalue()


def trained_from_bytes(content: bytes, name: str = "the content") -> TrainedFile:
    """What `trained_to_bytes` wrote; nothing in it is executed. Raises CompileError.

    name  of the file, for messages
    """
    found = plain_torch(content)
    if not isinstance(found, dict) or found.get("kind") != _KIND:
        raise CompileError(Code.TRAINED_FILE, f"{quote(name)} is no trained backbone", hint=_HINT)
    try:
        description = Description.from_json(found["description"])
        network = Backbone(description)
        network.load_state_dict(found["network"])
        classes = len(found["classifier"]["classes"])
        classifier = Classifier(description.features, classes, float(found["temperature"]))
        classifier.load_state_dict(found["classifier"])
        history = tuple(Epoch(float(loss), float(figure)) for loss, figure in found["history"])
        origin = {str(key): str(value) for key, value in found["origin"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError):
        raise CompileError(Code.TRAINED_FILE, f"{quote(name)} contradicts itself", hint=_HINT) from None
    return TrainedFile(Trained(network.eval(), classifier, description, history), origin)


def require_trained_path(path: Path) -> None:
    """Demand that at `path` is nothing, or an earlier backbone. Raises CompileError."""
    require_replaceable(path, "trained backbone", _is_trained, "give another path with -o")


def write_trained(path: Path, content: TrainedFile) -> None:
    """Write the file, whole or not at all; an earlier backbone is replaced, and nothing else. Raises CompileError."""
    require_trained_path(path)
    write_file(path, trained_to_bytes(content))


def read_trained(path: Path) -> TrainedFile:
    """What `write_trained` wrote. Raises CompileError."""
    return trained_from_bytes(read_file(path), str(path))


def _is_trained(path: Path) -> bool:
    try:
        trained_from_bytes(path.read_bytes())
    except CompileError:
        return False
    return True
