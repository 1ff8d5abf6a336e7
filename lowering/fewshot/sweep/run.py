"""A sweep from its cells to rows: `run_sweep(setting, cells, folder)`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem
from pefslc.diagnostics.progress import Progress
from pefslc.fewshot.sweep.c_time import c_milliseconds
from pefslc.fewshot.sweep.cells import Cell, Task, tasks_of
from pefslc.fewshot.sweep.compute import Quantized, Worker
from pefslc.fewshot.sweep.engines import Engine, LocalProcesses
from pefslc.fewshot.sweep.plot import figure_files
from pefslc.fewshot.sweep.rows import Row, rows_of
from pefslc.fewshot.sweep.setting import Setting
from pefslc.fewshot.sweep.store import Store
from pefslc.fewshot.sweep.table import to_csv, to_json, to_markdown, to_text
from pefslc.fewshot.sweep.tasks import run_tasks
from pefslc.files.reading import make_folder
from pefslc.files.staging import write_file

__all__ = ["Swept", "run_sweep"]


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found: (cell, key of its task, result) in the order of the cells, and the rows of them.

    milliseconds  of the C on this machine, one picture, by the label of a row, where they were measured
    """

    setting: Setting
    results: tuple[tuple[Cell, str, Mapping[str, Any]], ...]
    rows: tuple[Row, ...]
    milliseconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def refused(self) -> tuple[Problem, ...]:
        """Of the rows that could not be measured for another reason than a dead network."""
        return tuple(
            Problem(Code.SWEEP_CELL, f"{row.label}: {row.reason}", hint="leave it out, or change what it says")
            for row in self.rows
            if row.status == "refused"
        )

    def text(self) -> str:
        return to_text(self.rows, self.setting, self.milliseconds)

    def write(self, folder: Path, *, plot: bool = True) -> tuple[Path, ...]:
        """sweep.txt, .md, .csv, .json, with `plot` .png and .svg, each whole or not at all. Raises CompileError."""
        contents = {
            "txt": self.text().encode(),
            "md": to_markdown(self.rows, self.setting, self.milliseconds).encode(),
            "csv": to_csv(self.rows, self.milliseconds).encode(),
            "json": to_json(self.rows, self.setting, self.results, self.milliseconds).encode(),
        }
        if plot:
            contents.update(figure_files(self.rows, self.setting))
        make_folder(folder)
        for suffix, content in contents.items():
            write_file(folder / f"sweep.{suffix}", content)
        return tuple(folder / f"sweep.{suffix}" for suffix in contents)


def run_sweep(
    setting: Setting,
    cells: Sequence[Cell],
    folder: Path,
    engine: Engine | None = None,
    *,
    shares_disk: bool = True,
    times: bool = False,
    progress: Progress | None = None,
) -> Swept:
    """The results of all cells; those that `folder` has are not computed again.

    engine       where they run; by default in this process
    shares_disk  whether the workers see `folder`: they keep checkpoints and drawn glyphs there
    times        measure the time of the C of each row, in this process, when all else is done
    progress     called after each task: (per mille, 1000, text with the time left)

    Raises CompileError. Interrupted, it leaves what was finished, and the next call goes on.
    """
    if not cells:
        raise CompileError(Code.SWEEP, "a sweep of no cells", hint="at least one method, with a format if it needs one")
    store, tasks = Store(folder), tasks_of(setting, cells)
    found = run_tasks(
        tasks,
        Worker(setting.data, setting.data_digest),
        store,
        engine or LocalProcesses(),
        cache=str(store.place("data").resolve()) if shares_disk else "",
        checkpoints=str(store.place("checkpoints").resolve()) if shares_disk else "",
        progress=progress,
    )
    results = tuple((cell, t.key, json.loads(found[t.key])) for cell, t in zip(cells, tasks, strict=True))
    rows = rows_of([(cell, result) for cell, _, result in results])
    return Swept(setting, results, rows, _milliseconds(rows, cells, tasks, store) if times else {})


def _milliseconds(rows: Sequence[Row], cells: Sequence[Cell], tasks: Sequence[Task], store: Store) -> dict[str, float]:
    """Of the network of the first seed of each row that has a C program."""
    of_cell = dict(zip(cells, tasks, strict=True))
    found = {}
    for row in rows:
        if row.c is not None:
            (network,) = of_cell[row.cell].needs
            content = store.get(network.key)
            if content is not None:
                found[row.label] = c_milliseconds(Quantized.from_bytes(content).onnx)
    return found
