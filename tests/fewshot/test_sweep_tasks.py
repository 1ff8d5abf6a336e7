"""Tasks of a sweep: each is computed once, whatever stops the sweep in between; on one machine and on many."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fewshot.sweep_support import Joined, KillsOnce, Refuses, dask_scheduler, environment, expected, toy

from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.sweep.engines import DaskScheduler, LocalProcesses
from pefslc.fewshot.sweep.store import Store
from pefslc.fewshot.sweep.tasks import Item, run_tasks

ROOTS = [toy("a"), toy("b")]
TASKS = [toy(f"cell{i}", ROOTS[i % 2]) for i in range(6)]
RESULTS = {task.key: expected(task) for task in TASKS}


def test_needs_come_first_and_each_task_once(tmp_path: Path) -> None:
    work, told = Joined(tmp_path / "log"), list[tuple[int, int, str]]()
    found = run_tasks(TASKS, work, Store(tmp_path), LocalProcesses(), progress=lambda *a: told.append(a))
    assert found == RESULTS
    assert work.calls == ["a", "b", *(task.text for task in TASKS)]
    assert [done for done, _, _ in told] == [125 * (i + 1) for i in range(8)]
    assert told[-1][2] == "8 of 8: cell5; 0:00:00 left"


def test_what_is_stored_is_not_computed_again(tmp_path: Path) -> None:
    work, store = Joined(tmp_path / "log"), Store(tmp_path)
    run_tasks(TASKS[:3], work, store, LocalProcesses())
    assert run_tasks(TASKS, work, store, LocalProcesses()) == RESULTS
    assert sorted(work.calls) == sorted(["a", "b", *(task.text for task in TASKS)])


def test_needs_of_what_is_stored_are_not_asked_for(tmp_path: Path) -> None:
    work, store = Joined(tmp_path / "log"), Store(tmp_path)
    for task in TASKS:
        store.put(task.key, expected(task))
    assert run_tasks(TASKS, work, store, LocalProcesses()) == RESULTS
    assert work.calls == []


@pytest.mark.parametrize("damage", [b"", b"0" * 70, None])
def test_a_damaged_result_is_computed_again(tmp_path: Path, damage: bytes | None) -> None:
    work, store = Joined(tmp_path / "log"), Store(tmp_path)
    run_tasks(TASKS, work, store, LocalProcesses())
    key = TASKS[2].key
    path = next((tmp_path / "results").rglob(key))
    path.write_bytes(path.read_bytes()[:-1] if damage is None else damage)
    assert store.get(key) is None
    assert run_tasks(TASKS, work, store, LocalProcesses()) == RESULTS
    assert work.calls[-1] == "cell2"
    assert len(work.calls) == 9


@dataclass(frozen=True)
class Interrupted(Joined):
    def __call__(self, item: Item) -> bytes:
        if item.task.text == "cell3":
            raise KeyboardInterrupt
        return super().__call__(item)


def test_an_interrupt_leaves_what_was_finished(tmp_path: Path) -> None:
    store, log = Store(tmp_path), tmp_path / "log"
    with pytest.raises(KeyboardInterrupt):
        run_tasks(TASKS, Interrupted(log), store, LocalProcesses())
    work = Joined(log)
    assert run_tasks(TASKS, work, store, LocalProcesses()) == RESULTS
    assert sorted(work.calls) == sorted(["a", "b", *(task.text for task in TASKS)])


_KILLED = """
from pathlib import Path
from fewshot.sweep_support import KillsOnce
from fewshot.test_sweep_tasks import TASKS
from pefslc.fewshot.sweep.engines import LocalProcesses
from pefslc.fewshot.sweep.store import Store
from pefslc.fewshot.sweep.tasks import run_tasks
run_tasks(TASKS, KillsOnce(Path("log"), "cell3", Path("mark")), Store(Path(".")), LocalProcesses())
"""


def test_a_killed_sweep_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _KILLED]
    first = subprocess.run(command, cwd=tmp_path, env=environment(), check=False)
    assert first.returncode == -signal.SIGKILL
    second = subprocess.run(command, cwd=tmp_path, env=environment(), check=False)
    assert second.returncode == 0
    assert sorted(Joined(tmp_path / "log").calls) == sorted(["a", "b", *(task.text for task in TASKS)])
    assert {task.key: Store(tmp_path).get(task.key) for task in TASKS} == RESULTS


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.filterwarnings("ignore")  # joblib's pool is ended early, and says so
def test_a_refusal_of_a_worker_is_one_of_the_sweep(tmp_path: Path, jobs: int) -> None:
    if jobs > 1:
        pytest.importorskip("joblib", reason="joblib, of the extra sweep, is not installed")
    with pytest.raises(CompileError, match=r"no [ab]") as caught:
        run_tasks(TASKS, Refuses(), Store(tmp_path), LocalProcesses(jobs))
    assert caught.value.problems[0].hint == "another"


def test_processes_find_the_same(tmp_path: Path) -> None:
    pytest.importorskip("joblib", reason="joblib, of the extra sweep, is not installed")
    work = Joined(tmp_path / "log")
    assert run_tasks(TASKS, work, Store(tmp_path), LocalProcesses(2)) == RESULTS
    assert sorted(work.calls) == sorted(["a", "b", *(task.text for task in TASKS)])


@pytest.mark.filterwarnings("ignore")  # joblib's pool is ended early, and says so
def test_a_killed_process_is_said_and_the_next_run_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("joblib", reason="joblib, of the extra sweep, is not installed")
    work, store = KillsOnce(tmp_path / "log", "cell3", tmp_path / "mark"), Store(tmp_path)
    with pytest.raises(CompileError, match="a process of the sweep was ended by the system"):
        run_tasks(TASKS, work, store, LocalProcesses(2))
    assert run_tasks(TASKS, work, store, LocalProcesses(2)) == RESULTS


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """The address of a Dask scheduler with two workers, each a process that nobody starts again."""
    pytest.importorskip("distributed", reason="distributed, of the extra sweep, is not installed")
    with dask_scheduler(tmp_path) as address:
        yield address


@pytest.mark.filterwarnings("ignore")  # of distributed
def test_dask_survives_a_killed_worker(scheduler: str, tmp_path: Path) -> None:
    work, store = KillsOnce(tmp_path / "log", "cell3", tmp_path / "mark"), Store(tmp_path / "store")
    assert run_tasks(TASKS, work, store, DaskScheduler(scheduler)) == RESULTS
    assert (tmp_path / "mark").exists(), "no worker was killed"
    assert {task.key: store.get(task.key) for task in TASKS} == RESULTS


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "127.0.0.1:8786", "tcp://127.0.0.1", "tcp://127.0.0.1:x", ""])
def test_no_scheduler_is_said(address: str, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="distributed, of the extra sweep, is not installed")
    with pytest.raises(CompileError, match="cannot reach a scheduler at '") as caught:
        run_tasks(TASKS, Joined(tmp_path / "log"), Store(tmp_path), DaskScheduler(address))
    assert "dask scheduler" in (caught.value.problems[0].hint or "")


@pytest.mark.parametrize("engine", [LocalProcesses(2), DaskScheduler("tcp://127.0.0.1:1")])
def test_a_missing_package_is_said(
    engine: LocalProcesses | DaskScheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "joblib", None)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(CompileError, match=r"needs (joblib|distributed)") as caught:
        run_tasks(TASKS, Joined(tmp_path / "log"), Store(tmp_path), engine)
    assert "[sweep]" in (caught.value.problems[0].hint or "")
