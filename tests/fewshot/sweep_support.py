"""Tasks of a sweep that train nothing, results that nobody measured, and processes of Dask. No torch."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.sweep.cells import Cell, Kind, Method, Task
from pefslc.fewshot.sweep.setting import DataSource, Measurement, Setting
from pefslc.fewshot.sweep.tasks import Item

SETTING = Setting(
    data=DataSource(size=16),
    data_digest="5" * 64,
    description=json.dumps({"maps": [4, 6, 8]}),
    recipe=json.dumps({"epochs": 14, "seed": 0}),
    tuning=json.dumps({"epochs": 4, "seed": 0}),
    measurement=Measurement(ways=2, shots=(1, 5), queries=2, episodes=8),
    boards=("custom_perf",),
    versions=(("pefslc", "0"),),
)


def toy(text: str, *needs: Task) -> Task:
    return Task(Kind.CELL, text, needs, 1.0, text)


def expected(task: Task) -> bytes:
    """What `Joined` makes of a task."""
    return b"+".join([task.text.encode(), *map(expected, task.needs)])


@dataclass(frozen=True)
class Joined:
    """The text of a task joined with the results of its needs, and a line for each call in a file."""

    log: Path

    def __call__(self, item: Item) -> bytes:
        with self.log.open("a") as file:
            file.write(f"{item.task.text}\n")
        return b"+".join([item.task.text.encode(), *item.inputs])

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []


@dataclass(frozen=True)
class KillsOnce(Joined):
    """The process that first gets the task `victim` is killed in the middle of it, as by `kill -9`."""

    victim: str
    mark: Path

    def __call__(self, item: Item) -> bytes:
        if item.task.text == self.victim:
            try:
                os.close(os.open(self.mark, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(item)


@dataclass(frozen=True)
class Refuses:
    def __call__(self, item: Item) -> bytes:
        raise CompileError(Code.SWEEP, f"no {item.task.text}", hint="another")


@dataclass(frozen=True)
class KilledWorker:
    """The first process that is to quantize is killed in the middle of it."""

    worker: Callable[[Item], bytes]
    mark: str

    def __call__(self, item: Item) -> bytes:
        if item.task.kind is Kind.QUANTIZING:
            try:
                os.close(os.open(self.mark, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.worker(item)


def environment() -> dict[str, str]:
    """In which processes find the tests' modules."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}


@contextmanager
def dask_scheduler(folder: Path) -> Iterator[str]:
    """The address of a Dask scheduler with two workers, each a process that nobody starts again."""
    file = folder / "scheduler.json"
    quiet = {**environment(), "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "False"}
    worker = ["distributed.cli.dask_worker", "--no-nanny", "--nthreads", "1", "--no-dashboard"]
    scheduler = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    processes = []
    try:
        for command in (scheduler, worker, worker):
            whole = [sys.executable, "-m", *command, "--scheduler-file", str(file)]
            nowhere = subprocess.DEVNULL
            processes.append(subprocess.Popen(whole, cwd=folder, env=quiet, stdout=nowhere, stderr=nowhere))
        from distributed import Client

        end = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < end, "the scheduler does not start"
            time.sleep(0.05)
        with Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
            address = str(client.scheduler.address)
        yield address
    finally:
        for process in processes:
            process.kill()
            process.wait()


def result(cell: Cell, right: dict[int, list[int]], **changes: Any) -> dict[str, Any]:
    """What a cell would have: the right answers, of 4, in each of 8 episodes, by shots."""
    shots = {}
    for n, counts in right.items():
        content = base64.b64encode(zlib.compress(np.array(counts, dtype="<u4").tobytes())).decode()
        of_head = {
            "head": "float NCM",
            "episodes": len(counts),
            "episodes_sha256": f"episodes of {n} shots",
            "answers": 4,
            "ties": 1,
            "decisions": 4 * len(counts),
            "right": content,
        }
        shots[str(n)] = {"float": of_head}
        if cell.method is not Method.FLOAT:
            shots[str(n)]["integer"] = {**of_head, "head": "integer NCM"}
    found: dict[str, Any] = {"cell": cell.to_json(), "status": "measured", "reason": "", "shots": shots}
    if cell.method is not Method.FLOAT:
        costs = {"constant_bytes": 1000, "arena_bytes": 100, "macs": 7, "accumulator_bits": 13, "exact": True}
        found["c"] = costs
        found["boards"] = {"custom_perf": {"modelled_cycles": 500, "exact": True, "reason": ""}}
    return {**found, **changes}


def dead(cell: Cell) -> dict[str, Any]:
    return {"cell": cell.to_json(), "status": "dead", "reason": "all rows are equal"}


def seeded(cell: Cell, seed: int) -> Cell:
    return replace(cell, seed=seed)
