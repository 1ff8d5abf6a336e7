"""Tasks in the order of their needs, those that are in the store left out; each result is stored as it comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from pefslc.diagnostics.progress import Progress
from pefslc.fewshot.sweep.cells import Task
from pefslc.fewshot.sweep.engines import Engine
from pefslc.fewshot.sweep.store import Store

__all__ = ["Item", "run_tasks"]


@dataclass(frozen=True, slots=True)
class Item:
    """What a worker gets: a task, and the results of its needs. The folders are a help and decide nothing.

    cache        for drawn glyphs
    checkpoints  for trainings that are stopped; "" where workers share no disk
    """

    task: Task
    inputs: tuple[bytes, ...]
    cache: str = ""
    checkpoints: str = ""


def run_tasks(
    tasks: Sequence[Task],
    work: Callable[[Item], bytes],
    store: Store,
    engine: Engine,
    *,
    cache: str = "",
    checkpoints: str = "",
    progress: Progress | None = None,
) -> dict[str, bytes]:
    """The results of `tasks` by key; those of their needs are computed where they are needed, and stored as well.

    progress  called when a task has finished: (per mille of the work done, 1000, what, with the time left)

    Whatever ends this (Ctrl-C, a killed process, a lost scheduler), what was stored before is found again.
    """
    found = {task.key: store.get(task.key) for task in tasks}
    missing = _closure([task for task in tasks if found[task.key] is None], store)
    clock = _Clock(sum(task.weight for task in missing.values()), len(missing))
    results: dict[str, bytes] = {key: content for key, content in found.items() if content is not None}
    while missing:
        ready = [task for task in missing.values() if not any(need.key in missing for need in task.needs)]
        assert ready, "needs in a circle"
        items = [Item(task, tuple(_need(n, store) for n in task.needs), cache, checkpoints) for task in ready]
        with closing(engine.results(work, items)) as finished:  # type: ignore[type-var]  # they are generators
            for position, content in finished:
                task = ready[position]
                store.put(task.key, content)
                if task.key in found:
                    results[task.key] = content
                clock.count(task)
                if progress is not None:
                    progress(clock.per_mille, 1000, f"{clock.done} of {clock.tasks}: {task.label}; {clock.left} left")
        for task in ready:
            del missing[task.key]
    return results


def _closure(tasks: Sequence[Task], store: Store) -> dict[str, Task]:
    """The tasks and all that they need and the store has not, by key, needs first."""
    found: dict[str, Task] = {}
    for task in tasks:
        needs = [need for need in task.needs if store.get(need.key) is None]
        found.update(_closure(needs, store))
        found[task.key] = task
    return found


def _need(task: Task, store: Store) -> bytes:
    content = store.get(task.key)
    assert content is not None, "a result that was stored is gone"
    return content


class _Clock:
    def __init__(self, weight: float, tasks: int) -> None:
        self.start, self.weight, self.tasks = time.monotonic(), weight, tasks
        self.done, self.weight_done = 0, 0.0

    def count(self, task: Task) -> None:
        self.done += 1
        self.weight_done += task.weight

    @property
    def per_mille(self) -> int:
        return round(1000 * self.weight_done / self.weight)

    @property
    def left(self) -> str:
        """By the weights: h:mm:ss."""
        spent = time.monotonic() - self.start
        seconds = round(spent * max(self.weight - self.weight_done, 0) / self.weight_done)
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
