"""All artifacts or none, wherever their process ends, and one process at a time."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from publish_worker import artifacts

from pefslc.artifacts.sidecar import load_sidecar
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.driver.compiled_artifact import open_artifact
from pefslc.files import folder_lock
from pefslc.files.folder_lock import LOCK_NAME, locked
from pefslc.files.replacement import half_replaced
from pefslc.files.staging import publish

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the worker forks")

WORKER = Path(__file__).parents[1] / "publish_worker.py"
MOST_CALLS = 48  # that change a file, in one compile


def run(*jobs: tuple[Path, str, str, str]) -> list[str]:
    """How each job (folder, model, content, way) ended."""
    content = [{"folder": str(f), "model": m, "content": c, "way": w} for f, m, c, w in jobs]
    done = subprocess.run(
        [sys.executable, str(WORKER), json.dumps(content)], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stderr == ""
    return done.stdout.split()


def state(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.glob("*")) if p.is_file() and p.name != LOCK_NAME}


def files_of(model: str, content: str) -> dict[str, bytes]:
    files, (name, sidecar) = artifacts(model, content)
    return {**files, name: sidecar}


def loads(folder: Path, name: str) -> bool:
    try:
        load_sidecar(folder / name)
    except CompileError:
        return False
    return True


BEFORE = {
    "a fresh folder": {},
    "the same model": {"net": "old"},
    "the same model, unchanged": {"net": "new"},
    "the same model, and another one": {"net": "old", "other": "1"},
    "another model": {"other": "1"},
}


@pytest.fixture(params=BEFORE)
def folders(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[list[Path], dict[str, bytes]]:
    """One folder for each call that a compile may be ended at, and what lies in each."""
    found = [tmp_path / str(i) for i in range(1, MOST_CALLS)]
    before: dict[str, bytes] = {}
    for model, content in BEFORE[request.param].items():
        before |= files_of(model, content)
        for folder in found:
            publish(folder, *artifacts(model, content))
    return found, before


def test_a_killed_compile_is_never_run_and_undone_by_the_next(folders: tuple[list[Path], dict[str, bytes]]) -> None:
    places, before = folders
    after = {**before, **files_of("net", "new")}
    ends = run(*((place, "net", "new", f"kill {i}") for i, place in enumerate(places, 1)))
    assert set(ends) == {"killed", "done"}
    assert ends == sorted(ends, reverse=True)
    half = 0
    for place in places:
        lying = state(place) if place.exists() else {}
        if lying not in (before, after):
            half += 1
            assert "net.fake.json" in half_replaced(place)
            assert not loads(place, "net.fake.json")
            for target in (place / "net.tmodel", *([] if "other.fake.json" in before else [place])):
                with pytest.raises(CompileError, match="half replaced"):
                    open_artifact(target)
        if "other.fake.json" in before:
            assert loads(place, "other.fake.json")
        # Whoever compiles next, another model even, finds the folder as it was before, or with all of the new files.
        publish(place, *artifacts("third", "3"))
        third = files_of("third", "3")
        assert state(place) in ({**before, **third}, {**after, **third})
        assert not list(place.glob(".pefslc*"))
        publish(place, *artifacts("net", "newer"))
        assert loads(place, "net.fake.json")
    assert half or before == after


@pytest.mark.parametrize("way", ["SIGINT", "SIGTERM", "OSError"])
@pytest.mark.parametrize("folders", ["a fresh folder", "the same model, and another one"], indirect=True)
def test_an_interrupted_or_failed_compile_leaves_all_or_nothing(
    folders: tuple[list[Path], dict[str, bytes]], way: str
) -> None:
    places, before = folders
    after = {**before, **files_of("net", "new")}
    ends = run(*((place, "net", "new", f"{way} {i}") for i, place in enumerate(places, 1)))
    assert "done" in ends
    assert set(ends) - {"done"} == {"error" if way == "OSError" else "interrupted"}
    for place, end in zip(places, ends, strict=True):
        lying = state(place) if place.exists() else {}
        assert lying == after if end in ("done",) else lying in (before, after)
        if way != "OSError":  # a lock that cannot be removed stays, and is taken over
            assert not list(place.glob(".pefslc*"))
        publish(place, *artifacts("net", "newer"))
        assert loads(place, "net.fake.json")
        assert not list(place.glob(".pefslc*"))


def killed_at_each_call(folder: Path) -> list[Path]:
    """A compile into folder/1 that is killed before its 1st call, and so on: those that are half replaced."""
    places = [folder / str(i) for i in range(1, MOST_CALLS)]
    run(*((place, "net", "new", f"kill {i}") for i, place in enumerate(places, 1)))
    return [place for place in places if half_replaced(place)]


def test_what_is_half_replaced_is_said(tmp_path: Path) -> None:
    for place in killed_at_each_call(tmp_path):
        for target in (place, place / "net.tmodel"):
            with pytest.raises(CompileError) as raised:
                open_artifact(target)
            assert str(raised.value) == (
                f"error[PEF0803]: the files of 'net.fake.json' in '{place}' are half replaced: a compile is writing "
                "them, or was ended while it did\n  help: wait until it has ended, or compile the model again"
            )


def test_a_compile_that_is_killed_while_it_undoes_another_is_no_harm(tmp_path: Path) -> None:
    for i in range(1, MOST_CALLS):
        publish(tmp_path / str(i), *artifacts("net", "old"))
    half = killed_at_each_call(tmp_path)
    at = half[-1].name  # all but the sidecar are new
    places = [tmp_path / f"again {i}" for i in range(1, MOST_CALLS)]
    for place in places:
        publish(place, *artifacts("net", "old"))
    kills = [((p, "net", "new", f"kill {at}"), (p, "third", "3", f"kill {i}")) for i, p in enumerate(places, 1)]
    run(*(job for pair in kills for job in pair))
    for place in places:
        publish(place, *artifacts("third", "3"))
        assert state(place) == {**files_of("net", "old"), **files_of("third", "3")}
        assert not list(place.glob(".pefslc*"))


def test_two_models_of_one_name_saved_at_once_are_never_mixed(tmp_path: Path) -> None:
    folder, rounds = tmp_path / "a", 40
    ends = run(*((folder, "net", f"{i} {way}", way) for i in range(rounds) for way in ("race", "end")))
    assert ends == ["done"] * 2 * rounds
    assert state(folder) in [files_of("net", f"{rounds - 1} {way}") for way in ("race", "end")]
    assert os.listdir(folder).count(LOCK_NAME) == 0


def test_many_writers_of_fresh_folders_are_never_mixed(tmp_path: Path) -> None:
    rounds = 10
    jobs = [(tmp_path / str(i), "net", str(j), "end" if j == 3 else "race") for i in range(rounds) for j in range(4)]
    assert run(*jobs) == ["done"] * len(jobs)
    for i in range(rounds):
        assert state(tmp_path / str(i)) in [files_of("net", str(j)) for j in range(4)]


def test_a_writer_waits_a_short_time_and_then_says_who_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_lock, "_PATIENCE_S", 0.1)
    with locked(tmp_path), pytest.raises(CompileError) as raised:
        publish(tmp_path, *artifacts("net", "new"))
    (problem,) = raised.value.problems
    assert problem.code is Code.FOLDER_IN_USE
    assert f"is being written by process {os.getpid()} on '{socket.gethostname()}' since '" in problem.message
    assert not list(tmp_path.iterdir())
    publish(tmp_path, *artifacts("net", "new"))


@pytest.mark.skipif(os.name != "posix", reason="named pipes are of POSIX, and links need rights elsewhere")
@pytest.mark.parametrize(
    "make",
    [lambda path: os.mkfifo(path), os.mkdir, lambda path: os.symlink("elsewhere", path)],
    ids=["pipe", "dir", "link"],
)
def test_what_is_no_file_in_the_place_of_the_lock_is_named(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / LOCK_NAME)
    with pytest.raises(CompileError, match=rf"cannot write into .*{LOCK_NAME} in it is no file: remove it") as raised:
        publish(tmp_path, *artifacts("net", "new"))
    assert raised.value.problems[0].code is Code.CANNOT_WRITE
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]


def test_the_lock_of_another_computer_is_reported_with_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_lock, "_PATIENCE_S", 0.1)
    lock = tmp_path / LOCK_NAME
    lock.write_text('{"pid": 7, "host": "elsewhere", "since": "2024-01-01 00:00:00 UTC"}')
    with pytest.raises(CompileError, match="by process 7 on 'elsewhere' since '2024-01-01 00:00:00 UTC'") as raised:
        publish(tmp_path, *artifacts("net", "new"))
    assert f"if it runs no more, remove '{lock}'" in str(raised.value)
    assert list(tmp_path.iterdir()) == [lock]
    lock.unlink()
    publish(tmp_path, *artifacts("net", "new"))


@pytest.mark.parametrize("content", ["", "{", '{"pid": 1}', "[" * 2000, "[]"])
def test_a_lock_that_says_nothing_is_taken_over(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK_NAME).write_text(content)
    publish(tmp_path, *artifacts("net", "new"))
    assert state(tmp_path) == files_of("net", "new")
    assert not (tmp_path / LOCK_NAME).exists()


def test_without_locks_of_the_system_the_record_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: int) -> None:
        raise OSError(38, os.strerror(38))

    monkeypatch.setattr(folder_lock, "_lock", none)
    monkeypatch.setattr(folder_lock, "_PATIENCE_S", 0.1)
    record = {"pid": os.getppid(), "host": socket.gethostname(), "since": "now"}
    (tmp_path / LOCK_NAME).write_text(json.dumps(record))
    with pytest.raises(CompileError, match=f"by process {os.getppid()} on"):
        publish(tmp_path, *artifacts("net", "new"))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / LOCK_NAME).write_text(json.dumps({**record, "pid": dead.pid}))
    publish(tmp_path, *artifacts("net", "new"))
    assert state(tmp_path) == files_of("net", "new")


def test_what_somebody_put_in_a_new_files_place_stays(tmp_path: Path) -> None:
    before = artifacts("net", "old")
    for i in range(1, MOST_CALLS):
        publish(tmp_path / str(i), *before)
    half = [
        p for p in killed_at_each_call(tmp_path) if state(p).get("net.tprog") == files_of("net", "new")["net.tprog"]
    ]
    assert half
    for place in half:
        (place / "net.tprog").write_bytes(b"mine")
        with pytest.raises(CompileError, match="exists and is not what a compile wrote"):
            publish(place, *artifacts("net", "new"))
        assert state(place) == {**files_of("net", "old"), "net.tprog": b"mine"}
