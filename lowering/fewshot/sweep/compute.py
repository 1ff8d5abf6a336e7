"""What a worker does: a task and what it needs to its result. One thread of torch, as sums depend on their number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
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
from pefslc.fewshot.networks.quantizing import export_onnx
from pefslc.fewshot.networks.recipe import Recipe
from pefslc.fewshot.networks.saved_training import network_digest
from pefslc.fewshot.networks.trained_file import TrainedFile, trained_from_bytes, trained_to_bytes
from pefslc.fewshot.networks.training import Trained, train
from pefslc.fewshot.sweep.artifact import board_costs, c_costs
from pefslc.fewshot.sweep.cells import Cell, Kind, Method, Prune
from pefslc.fewshot.sweep.evaluation import measure_program
from pefslc.fewshot.sweep.float_network import measure_float
from pefslc.fewshot.sweep.measure import measured_json
from pefslc.fewshot.sweep.methods import pruned_network, quantized_network
from pefslc.fewshot.sweep.setting import DataSource, Measurement
from pefslc.fewshot.sweep.tasks import Item

__all__ = ["Worker"]

# What the machine lacks says nothing of the network: the sweep stops, and nothing is kept.
_OF_THE_MACHINE = frozenset({Code.NO_C_COMPILER, Code.NO_EXTRA, Code.CANNOT_WRITE, Code.UNREADABLE_FILE})


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
    checkpoint = _checkpoint(item)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)  # the result is stored in its place
    return trained_to_bytes(TrainedFile(trained))


def _cell(content: dict[str, Any], data: FewShotData, item: Item) -> bytes:
    cell, setting = Cell.from_json(content["cell"]), content["setting"]
    given = setting["measurement"]
    measurement = Measurement(**{**given, "shots": tuple(given["shots"])})
    trained = [trained_from_bytes(part).trained for part in item.inputs]
    result: dict[str, Json] = {"cell": content["cell"], "data_sha256": data.digest()}
    try:
        if cell.method is Method.FLOAT:
            result.update(_measured_float(trained[0], data, measurement))
        else:
            recipe = _recipe(setting.get("tuning", {}), cell.seed)
            network = quantized_network(trained[0], trained[-1], cell, data.base, recipe, checkpoint=_checkpoint(item))
            result.update(_measured_artifact(network, data, measurement, setting["boards"]))
        result.update(status="measured", reason="")
    except CompileError as e:
        problem = e.problems[0]
        if problem.code in _OF_THE_MACHINE:
            raise
        status = "dead" if problem.code is Code.DEAD_NETWORK else "refused"
        result.update(status=status, reason=problem.message)
    checkpoint = _checkpoint(item)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return json.dumps(result, sort_keys=True).encode()


def _measured_float(trained: Trained, data: FewShotData, measurement: Measurement) -> JsonObject:
    shots = measured_json(measure_float(trained, data, measurement))
    return {"network_sha256": network_digest(trained.network), "shots": shots}


def _measured_artifact(trained: Trained, data: FewShotData, measurement: Measurement, boards: list[str]) -> JsonObject:
    description = trained.description
    with TemporaryDirectory(prefix="pefslc-") as folder:
        path = Path(folder) / "backbone.onnx"
        export_onnx(trained, data.base.images, path)
        program = compile(path, target="c", batch=1)
        measured, features = measure_program(program, description.mean, description.std, data, measurement)
        return {
            "network_sha256": sha256(path.read_bytes()).hexdigest(),
            "features_sha256": sha256(features.codes.astype("<i8").tobytes()).hexdigest(),
            "shots": measured_json(measured),
            "c": c_costs(program),
            "boards": board_costs(path, boards),
        }


def _checkpoint(item: Item) -> Path | None:
    return Path(item.checkpoints) / f"{item.task.key}.pt" if item.checkpoints else None


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
