"""What a worker does: a task and what it needs to its result. One thread of torch, as sums depend on their number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from pefslc.artifacts.sidecar import Json, JsonObject
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.driver.compiler import compile
from pefslc.fewshot.data.image_set import FewShotData
from pefslc.fewshot.networks.backbones import Description
from pefslc.fewshot.networks.quantizing import onnx_content
from pefslc.fewshot.networks.recipe import Recipe
from pefslc.fewshot.networks.saved_training import network_digest
from pefslc.fewshot.networks.trained_file import TrainedFile, trained_from_bytes, trained_to_bytes
from pefslc.fewshot.networks.training import Trained, train
from pefslc.fewshot.sweep.artifact import board_costs, c_costs
from pefslc.fewshot.sweep.cells import Cell, Kind, Method, Prune
from pefslc.fewshot.sweep.evaluation import measure_program
from pefslc.fewshot.sweep.float_network import measure_float
from pefslc.fewshot.sweep.measure import measured_json
from pefslc.fewshot.sweep.methods import cell_formats, pruned_network, quantized_network
from pefslc.fewshot.sweep.setting import DataSource, Measurement
from pefslc.fewshot.sweep.tasks import Item
from pefslc.train.tensor_formats import TensorFormats

__all__ = ["Quantized", "Worker"]

# What the machine lacks says nothing of the network: the sweep stops, and nothing is kept.
_OF_THE_MACHINE = frozenset({Code.NO_C_COMPILER, Code.NO_EXTRA, Code.CANNOT_WRITE, Code.UNREADABLE_FILE})


@dataclass(frozen=True, slots=True)
class Quantized:
    """The result of QUANTIZING: the .onnx of a backbone, or a status "dead" or "refused" with its reason."""

    onnx: bytes
    status: str = ""
    reason: str = ""

    def to_bytes(self) -> bytes:
        return json.dumps([self.status, self.reason]).encode() + b"\n" + self.onnx

    @classmethod
    def from_bytes(cls, content: bytes) -> Quantized:
        head, _, onnx = content.partition(b"\n")
        status, reason = json.loads(head)
        return cls(onnx, status, reason)


class Worker:
    """The function of a sweep: an item to the content of its result. Picklable; `data` is where this machine has it."""

    def __init__(self, data: DataSource, digest: str) -> None:
        self.data, self.digest = data, digest

    def __call__(self, item: Item) -> bytes:
        """Raises CompileError; a cell's network that is dead, or cannot be compiled, is a result."""
        content = json.loads(item.task.text)
        data = _loaded(self.data, self.digest, item.cache)
        with _one_thread():
            match item.task.kind:
                case Kind.TRAINING:
                    return _training(content, data, item)
                case Kind.PRUNING:
                    return _pruning(content, data, item)
                case Kind.FORMATS:
                    return _formats(content, data, item)
                case Kind.QUANTIZING:
                    return _quantizing(content, data, item)
                case Kind.CELL:
                    return _cell(content, data, item)


def _training(content: dict[str, Any], data: FewShotData, item: Item) -> bytes:
    description = Description.from_json(json.dumps(content["description"]))
    recipe = _recipe(content["recipe"], content["seed"])
    trained = train(description, data.base, recipe, checkpoint=_checkpoint(item))
    return _kept(trained, item)


def _pruning(content: dict[str, Any], data: FewShotData, item: Item) -> bytes:
    floating = trained_from_bytes(item.inputs[0]).trained
    recipe = _recipe(content["tuning"], content["seed"])
    prune, distill = Prune(*content["prune"]), bool(content["distill"])
    return _kept(
        pruned_network(floating, prune, data.base, recipe, distill=distill, checkpoint=_checkpoint(item)), item
    )


def _recipe(content: dict[str, Any], seed: int) -> Recipe:
    return replace(Recipe(**content), seed=seed)


def _kept(trained: Trained, item: Item) -> bytes:
    _drop_checkpoint(item)
    return trained_to_bytes(TrainedFile(trained))


def _formats(content: dict[str, Any], data: FewShotData, item: Item) -> bytes:
    """{"formats": ...}, or {"status", "reason"} of a network that has none."""
    network = trained_from_bytes(item.inputs[0]).trained
    found: dict[str, Any]
    try:
        found = {"formats": cell_formats(network, content["fmt"], data.base, data.val.images).to_json()}
    except CompileError as e:
        status, reason = _verdict(e)
        found = {"status": status, "reason": reason}
    return json.dumps(found, sort_keys=True).encode()


def _quantizing(content: dict[str, Any], data: FewShotData, item: Item) -> bytes:
    cell = Cell.from_json(content["cell"])
    floating, found, *teachers = item.inputs
    chosen = json.loads(found)
    if "formats" not in chosen:
        return Quantized(b"", chosen["status"], chosen["reason"]).to_bytes()
    network, *followed = (trained_from_bytes(part).trained for part in (floating, *teachers))
    try:
        recipe, formats = _recipe(content.get("tuning", {}), cell.seed), TensorFormats.from_json(chosen["formats"])
        small = quantized_network(
            network, (followed or [network])[0], cell, formats, data.base, recipe, checkpoint=_checkpoint(item)
        )
        result = Quantized(onnx_content(small, data.base.images))
    except CompileError as e:
        result = Quantized(b"", *_verdict(e))
    _drop_checkpoint(item)
    return result.to_bytes()


def _cell(content: dict[str, Any], data: FewShotData, item: Item) -> bytes:
    given = content["measurement"]
    measurement = Measurement(**{**given, "shots": tuple(given["shots"])})
    cell, description = Cell.from_json(content["cell"]), Description.from_json(json.dumps(content["description"]))
    result: dict[str, Json] = {
        "cell": content["cell"],
        "data_sha256": data.digest(),
        "status": "measured",
        "reason": "",
    }
    try:
        if cell.method is Method.FLOAT:
            result.update(_measured_float(trained_from_bytes(item.inputs[0]).trained, data, measurement))
        else:
            network = Quantized.from_bytes(item.inputs[0])
            if network.status:
                result.update(status=network.status, reason=network.reason)
            else:
                result.update(_measured_artifact(network.onnx, description, data, measurement, content["boards"]))
    except CompileError as e:
        status, reason = _verdict(e)
        result.update(status=status, reason=reason)
    return json.dumps(result, sort_keys=True).encode()


def _verdict(error: CompileError) -> tuple[str, str]:
    """(status, reason) of a network; raises the error again where it says nothing of the network."""
    problem = error.problems[0]
    if problem.code in _OF_THE_MACHINE:
        raise error
    return "dead" if problem.code is Code.DEAD_NETWORK else "refused", problem.message


def _measured_float(trained: Trained, data: FewShotData, measurement: Measurement) -> JsonObject:
    shots = measured_json(measure_float(trained, data, measurement))
    return {"network_sha256": network_digest(trained.network), "shots": shots}


def _measured_artifact(
    onnx: bytes, description: Description, data: FewShotData, measurement: Measurement, boards: list[str]
) -> JsonObject:
    with TemporaryDirectory(prefix="pefslc-") as folder:
        path = Path(folder) / "backbone.onnx"
        path.write_bytes(onnx)
        program = compile(path, target="c", batch=1)
        measured, features = measure_program(program, description.mean, description.std, data, measurement)
        return {
            "network_sha256": sha256(onnx).hexdigest(),
            "features_sha256": sha256(features.codes.astype("<i8").tobytes()).hexdigest(),
            "shots": measured_json(measured),
            "c": c_costs(program),
            "boards": board_costs(path, boards),
        }


def _checkpoint(item: Item) -> Path | None:
    return Path(item.checkpoints) / f"{item.task.key}.pt" if item.checkpoints else None


def _drop_checkpoint(item: Item) -> None:
    """The result is stored in its place."""
    checkpoint = _checkpoint(item)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def _loaded(source: DataSource, digest: str, cache: str) -> FewShotData:
    data = source.load(cache or None)
    if data.digest() != digest:
        raise CompileError(
            Code.SWEEP_WORKER,
            f"a worker finds other pictures in {quote(source.source)} than the sweep began with",
            hint="the same files on every machine, and none that change meanwhile",
        )
    return data


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
