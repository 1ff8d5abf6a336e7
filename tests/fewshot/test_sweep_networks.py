"""Cells of tiny networks: what is measured are the integers of the artifact, wherever a cell is computed."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch, of the extra train, is not installed")
pytest.importorskip("brevitas", reason="brevitas, of the extra train, is not installed")
pytest.importorskip("PIL", reason="pillow, of the extra fewshot, is not installed")

from fewshot.network_support import tiny
from fewshot.picture_folder import write_pictures
from fewshot.sweep_support import KilledWorker, dask_scheduler

import pefslc
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.data.image_set import FewShotData
from pefslc.fewshot.episodes.accuracy import evaluate_episodes
from pefslc.fewshot.episodes.centre import IntegerCentre
from pefslc.fewshot.episodes.draw import Episodes
from pefslc.fewshot.episodes.integer_ncm import IntegerNcm
from pefslc.fewshot.head.spec import HeadKind
from pefslc.fewshot.networks import Recipe, compiled, features_of, fit, pruned, quantized, train
from pefslc.fewshot.sweep import run
from pefslc.fewshot.sweep.artifact import feature_codes
from pefslc.fewshot.sweep.c_time import c_milliseconds
from pefslc.fewshot.sweep.cells import Cell, Method, Prune, cell_task, cells_of
from pefslc.fewshot.sweep.compute import Quantized, Worker
from pefslc.fewshot.sweep.engines import DaskScheduler, LocalProcesses
from pefslc.fewshot.sweep.run import run_sweep
from pefslc.fewshot.sweep.setting import DataSource, Measurement, Setting, versions
from pefslc.fewshot.sweep.store import Store
from pefslc.fewshot.sweep.tasks import Item, run_tasks

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore")]

RECIPE, TUNING = Recipe(epochs=2, batch=8, rate=1e-2), Recipe(epochs=1, batch=8)
MEASUREMENT = Measurement(ways=3, shots=(1, 2), queries=3, episodes=50, centre_pictures=0)
PRUNE = Prune(0.5, 2)
DEAD = Cell(method=Method.PTQ, fmt="Q12.-4")
CELLS = (
    *cells_of([Method.FLOAT, Method.PTQ], ["auto:4"], [0]),
    Cell(method=Method.QAT, fmt="auto:4", distill=True, prune=PRUNE),
    DEAD,
)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    source = DataSource(source=str(write_pictures(tmp_path_factory.mktemp("pictures"))))
    return Setting(
        data=source,
        data_digest=source.load().digest(),
        description=tiny().to_json(),
        recipe=json.dumps(asdict(RECIPE)),
        tuning=json.dumps(asdict(TUNING)),
        measurement=MEASUREMENT,
        boards=("custom_perf",),
        versions=versions(),
    )


@pytest.fixture(scope="module")
def data(setting: Setting) -> FewShotData:
    return setting.data.load()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="module")
def results(setting: Setting, folder: Path) -> dict[Cell, Any]:
    swept = run_sweep(setting, CELLS, folder)
    assert not list((folder / "checkpoints").iterdir()), "checkpoints of what is finished"
    return {cell: result for cell, _, result in swept.results}


def test_a_cell_is_what_its_steps_make_by_hand(results: dict[Cell, Any], data: FewShotData) -> None:
    import torch

    torch.set_num_threads(1)
    floating = train(tiny(), data.base, RECIPE)
    small = fit(pruned(floating, PRUNE.share, PRUNE.array), data.base, TUNING.after_pruning(), teacher=floating.teacher)
    start = quantized(small, "auto:4", data.base.images)
    network = fit(start, data.base, TUNING, teacher=floating.teacher)
    program = compiled(network, data.base.images)
    novel, base = (
        program.run(network.description.normalized(part.images).numpy(), codes=True)["output"]
        for part in (data.novel, data.base)
    )
    head = IntegerNcm(HeadKind.COSINE, IntegerCentre.mean(base))
    result = results[CELLS[2]]
    assert result["status"] == "measured"
    for shots in (1, 2):
        drawn = Episodes(3, shots, 3, 0).draw(data.novel.labels, 0, 50)
        wanted = evaluate_episodes(novel, drawn, head)
        found = result["shots"][str(shots)]["integer"]
        assert found["accuracy"] == wanted.accuracies.mean()
        assert (found["ties"], found["head"]) == (wanted.ties, head.name)
    costs = program.costs
    assert costs is not None
    assert result["c"]["constant_bytes"] == sum(costs.total.bytes.values())
    on_board = compiled(network, data.base.images, "tensil", arch="custom_perf").costs
    assert on_board is not None
    assert result["boards"]["custom_perf"]["modelled_cycles"] == on_board.total.total_cycles


def test_codes_by_table_are_the_features_of_torch(data: FewShotData) -> None:
    trained = train(tiny(mean=(0.1, 0.5, 0.6), std=(0.2, 0.25, 0.3)), data.base, RECIPE)
    network = quantized(trained, "auto:5", data.base.images)
    description = network.description
    (found,) = feature_codes(
        compiled(network, data.base.images), description.mean, description.std, [data.novel.images]
    )
    assert np.array_equal(found.values, features_of(network.network, description, data.novel.images))


def test_a_dead_network_has_a_reason_and_no_accuracy(results: dict[Cell, Any]) -> None:
    assert results[DEAD]["status"] == "dead"
    assert "the same features for all of 40 pictures" in results[DEAD]["reason"]
    assert "shots" not in results[DEAD]


def test_a_sweep_writes_its_table(setting: Setting, results: dict[Cell, Any], folder: Path) -> None:
    told = list[str]()
    swept = run_sweep(setting, CELLS, folder, progress=lambda *a: told.append(a[2]))
    assert told == [], "something was computed again"
    assert {cell: result for cell, _, result in swept.results} == results
    written = swept.write(folder, plot=False)
    assert [path.suffix for path in written] == [".txt", ".md", ".csv", ".json"]
    first = [path.read_bytes() for path in written]
    assert [path.read_bytes() for path in swept.write(folder, plot=False)] == first
    assert swept.refused == ()
    assert swept.milliseconds == {}


def test_times_are_those_of_rows_with_a_c_program(
    setting: Setting, results: dict[Cell, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = list[bytes]()

    def clocked(onnx: bytes) -> float:
        timed.append(onnx)
        return c_milliseconds(onnx)

    monkeypatch.setattr(run, "c_milliseconds", clocked)
    swept = run_sweep(setting, CELLS, folder, times=True)
    assert swept.milliseconds.keys() == {row.label for row in swept.rows if row.c is not None}
    firsts = [results[row.cell]["network_sha256"] for row in swept.rows if row.c is not None]
    assert [sha256(onnx).hexdigest() for onnx in timed] == firsts
    assert all(0 < found < 1000 for found in swept.milliseconds.values())


def test_other_episodes_train_nothing_again(setting: Setting, results: dict[Cell, Any], folder: Path) -> None:
    del results
    told = list[str]()
    other = replace(setting, measurement=replace(MEASUREMENT, seed=1), boards=())
    run_sweep(other, CELLS[:3], folder, progress=lambda *a: told.append(a[2]))
    assert len(told) == 3
    assert all("measured" in text for text in told)


def test_other_pictures_than_the_sweeps_are_refused(setting: Setting) -> None:
    worker = Worker(setting.data, "0" * 64)
    with pytest.raises(CompileError, match="a worker finds other pictures"):
        worker(Item(cell_task(setting, CELLS[0]), ()))


def test_what_the_machine_lacks_is_no_result(
    setting: Setting, results: dict[Cell, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del results
    monkeypatch.setenv("CC", "no-such-compiler")
    other = replace(setting, measurement=replace(MEASUREMENT, seed=2))
    with pytest.raises(CompileError, match="there is no C compiler"):
        run_sweep(other, [CELLS[1]], folder)
    assert Store(folder).get(cell_task(other, CELLS[1]).key) is None


def test_dask_finds_the_same_though_a_worker_is_killed(
    setting: Setting, results: dict[Cell, Any], tmp_path: Path
) -> None:
    pytest.importorskip("distributed", reason="distributed, of the extra sweep, is not installed")
    tasks = [cell_task(setting, cell) for cell in CELLS[:2]]
    work = KilledWorker(Worker(setting.data, setting.data_digest), str(tmp_path / "mark"))
    with dask_scheduler(tmp_path) as address:
        found = run_tasks(tasks, work, Store(tmp_path / "store"), DaskScheduler(address))
    assert (tmp_path / "mark").exists(), "no worker was killed"
    assert [json.loads(found[task.key]) for task in tasks] == [results[cell] for cell in CELLS[:2]]


def test_a_sweep_of_nothing_is_refused(setting: Setting, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="a sweep of no cells"):
        run_sweep(setting, [], tmp_path, LocalProcesses())


def test_the_stored_network_compiles(setting: Setting, results: dict[Cell, Any], folder: Path, tmp_path: Path) -> None:
    (need,) = cell_task(setting, CELLS[1]).needs
    content = Store(folder).get(need.key)
    assert content is not None
    path = tmp_path / "net.onnx"
    path.write_bytes(Quantized.from_bytes(content).onnx)
    assert pefslc.compile(path, target="c").exact
    assert results[CELLS[1]]["c"]["exact"]
