"""Which guards no test fires: small changes of the source, one at a time, and whether a test fails.

    python tests/mutate.py --packages numeric,passes --count 300 --seed 1 --jobs 2

It works on copies of the tree in a temporary folder. First each test file runs once, to learn which lines it reaches
and how long its tests take. Then, for each mutant, the files that reach its line run, quick ones first, until a test
fails. Results are appended to a file; what is there is not run again. The same seed draws the same mutants.

A package is named as it is imported, below pefslc: `passes`, `targets.tensil`, `numeric.accumulate`. Mutants that
change no behaviour stand in tests/mutants_equivalent.txt, each with its reason; they are not run.
"""

from __future__ import annotations

import argparse
import compileall
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Tests of the text, of the installed package, and those that need hours or another environment.
NOT_RUN = ("tests/packaging", "tests/train", "tests/docs", "tests/test_architecture.py", "tests/test_benchmarks.py")
NOT_COPIED = (".*", "build", "dist", "__pycache__", "*.egg-info")
MEMORY_BYTES = 4 << 30  # of one run: a mutant may allocate without end
SECONDS = 20  # that a run may take beyond five times what its tests took

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[threads] = "1"
sys.path.insert(0, str(ROOT / "tests"))

import hypothesis  # noqa: E402, F401  loaded once: each run is a fork of this process
import numpy  # noqa: E402, F401
import onnx  # noqa: E402, F401
import onnx_graphsurgeon  # noqa: E402, F401
import pytest  # noqa: E402

from mutants import Drawn, all_mutants, compiles, equivalent, folders, modules  # noqa: E402


@dataclass(frozen=True, slots=True)
class Reached:
    """What one test file reaches: lines by source file, by test; its tests' seconds; and those that fail as it is."""

    lines: dict[str, dict[str, list[int]]]
    seconds: dict[str, float]
    failing: list[str]


# --- copies of the tree ----------------------------------------------------------------------------------------------


def copy_of_the_tree(place: Path) -> Path:
    """A copy in which `package/` holds the folders as they are installed."""
    tree = place / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NOT_COPIED))
    compileall.compile_dir(tree, quiet=2)
    mapping = folders()
    top = min(mapping, key=len)
    package = place / "package" / top
    package.mkdir(parents=True)
    links = {path.name: path for path in (tree / mapping[top]).iterdir()}
    links |= {name.removeprefix(f"{top}."): tree / folder for name, folder in mapping.items() if name != top}
    for name, path in links.items():
        (package / name).symlink_to(path)
    return tree


class Run:
    """Notes what each test took and which failed; runs the tests of `order` only; tells `each` where one starts."""

    def __init__(self, order: dict[str, int] | None = None, each: Callable[[str], None] | None = None) -> None:
        self.order, self.each = order, each
        self.seconds: Counter[str] = Counter()
        self.failing: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.order is not None:
            order = self.order
            items[:] = sorted((i for i in items if i.nodeid in order), key=lambda item: order[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if self.each is not None:
            self.each(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failing.append(report.nodeid)


def run_tests(tree: Path, files: list[str], run: Run, *options: str) -> int:
    os.chdir(tree)
    package, tests = str(tree.parent / "package"), str(tree / "tests")
    os.environ["PYTHONPATH"] = package
    sys.path[:] = [package, *(p for p in sys.path if p != str(ROOT / "tests")), tests]
    base = tempfile.mkdtemp(dir=tree.parent)
    quiet = ["-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-m", "not train", f"--basetemp={base}/t"]
    quiet += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis and the plugins are loaded already
    return int(pytest.main([*quiet, *options, *files], plugins=[run]))


def in_a_fork(work: Callable[[], object], result: Path) -> int:
    """Start `work` in a process of its own, which writes what it returns; the process's number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    os.setsid()
    code = 1
    try:
        printed = os.open(result.with_name("printed.txt"), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        for stream in (0, 1, 2):
            os.dup2(printed, stream)
        result.write_text(json.dumps(work()))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def memory_bytes(process: int) -> int:
    """What a process holds; 0 where the system does not tell. No limit of its own: sanitizers reserve terabytes."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def in_parallel(
    tasks: Iterable[tuple[object, float, Callable[[Path], object]]], trees: list[Path]
) -> Iterator[tuple[object, object]]:
    """(task's name, what it returned) as they end: "timeout" after its seconds, or with too much memory; "crash" where
    it returned nothing.
    """
    waiting, free, running = iter(tasks), list(trees), {}
    while True:
        while free and (task := next(waiting, None)) is not None:
            name, seconds, work = task
            tree = free.pop()
            result = tree.parent / "result.json"
            result.unlink(missing_ok=True)
            child = in_a_fork(lambda work=work, tree=tree: work(tree), result)
            running[child] = name, time.monotonic() + seconds, tree
        if not running:
            return
        time.sleep(0.01)
        for child, (name, end, tree) in list(running.items()):
            late = time.monotonic() > end or memory_bytes(child) > MEMORY_BYTES
            if late:
                os.killpg(child, signal.SIGKILL)
            if os.waitpid(child, 0 if late else os.WNOHANG)[0]:
                del running[child]
                free.append(tree)
                result = tree.parent / "result.json"
                done = result.is_file() and not late
                yield name, json.loads(result.read_text()) if done else "timeout" if late else "crash"


# --- which tests reach which lines -----------------------------------------------------------------------------------


def record(tree: Path, file: str) -> dict[str, object]:
    """Run one test file as it is; the lines that each test reaches."""
    import coverage

    measured = coverage.Coverage(data_file=None, source=[str(tree / f) for f in folders().values()], config_file=False)
    run = Run(each=measured.switch_context)
    measured.start()
    run_tests(tree, [file], run)
    measured.stop()
    data, lines = measured.get_data(), {}
    for path in data.measured_files():
        by_test: dict[str, list[int]] = {}
        for line, tests in data.contexts_by_lineno(path).items():
            for test in tests:
                by_test.setdefault(test, []).append(line)
        lines[Path(path).relative_to(tree.resolve()).as_posix()] = by_test
    return {"lines": lines, "seconds": run.seconds, "failing": sorted(set(run.failing))}


def reached_lines(test_folders: list[str], trees: list[Path], store: Path) -> dict[str, Reached]:
    """By test file; recorded again where the sources, the file, or what all tests share changed."""
    files = sorted(path.relative_to(ROOT).as_posix() for folder in test_folders for path in _test_files(ROOT / folder))
    files = [file for file in files if not file.startswith(NOT_RUN)]
    support = [
        p for p in sorted((ROOT / "tests").rglob("*.py")) if not p.name.startswith(("test_", "mutate", "mutants"))
    ]
    shared = _hash([*(ROOT / path for path in modules().values()), *support])
    store.mkdir(parents=True, exist_ok=True)
    stored = {file: store / f"{_hash([ROOT / file])}{shared}.json" for file in files}
    missing = [file for file in files if not stored[file].is_file()]
    tasks = ((file, 3600.0, lambda tree, file=file: record(tree, file)) for file in missing)
    for file, result in in_parallel(tasks, trees):
        assert isinstance(file, str)
        if not isinstance(result, dict):
            print(f"{file}: {result}; left out. {(trees[0].parent / 'printed.txt').read_text()[-2000:]}")
            continue
        stored[file].write_text(json.dumps(result))
        if result["failing"]:
            print(f"{file}: {len(result['failing'])} tests fail without any mutant; left out")
    return {file: Reached(**json.loads(path.read_text())) for file, path in stored.items() if path.is_file()}


def _test_files(place: Path) -> list[Path]:
    return [place] if place.is_file() else sorted(place.rglob("test_*.py"))


def _hash(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def tests_for(drawn: Drawn, reached: dict[str, Reached]) -> dict[str, int]:
    """Test files that reach the mutant, and how near their tests are: 0 reaches it, 1 is in a file with one that does.

    What runs when the module is loaded is reached by all that reach a function of it.
    """
    wanted = set(range(drawn.mutant.line, drawn.mutant.end_line + 1))
    near: dict[str, int] = {}
    for entry in reached.values():
        by_test = entry.lines.get(drawn.path, {})
        at_load = bool(wanted & set(by_test.get("", ())))
        reach = {test for test, lines in by_test.items() if test and (at_load or wanted & set(lines))}
        if reach or at_load:
            near |= {test: int(test not in reach) for test in entry.seconds if test not in entry.failing}
    return near


# --- the campaign ----------------------------------------------------------------------------------------------------


def tried(tree: Path, drawn: Drawn, number: int, order: list[tuple[str, dict[str, int]]]) -> list[str]:
    """Run the tests on the mutant until one fails: the names of those that did."""
    undo(tree)
    (tree.parent / "mutated").write_text(drawn.path)
    path = tree / drawn.path
    path.write_text(drawn.mutant.applied((ROOT / drawn.path).read_text()))
    os.utime(path, (number + 1, number + 1))  # no compiled mutant of the same length is taken for this one
    for file, tests in order:
        run = Run(tests)
        if run_tests(tree, [file], run, "-x") not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            return run.failing or [file]
    return []


def undo(tree: Path) -> None:
    """Restore what the last mutant changed, which may have been stopped."""
    last = tree.parent / "mutated"
    if last.is_file():
        shutil.copy2(ROOT / last.read_text(), tree / last.read_text())


def in_order(drawn: Drawn, near: dict[str, int], seconds: dict[str, float]) -> list[tuple[str, dict[str, int]]]:
    """Test files with the order of their tests. First the module's own, then those whose nearest test is quick."""
    by_file: dict[str, list[str]] = {}
    for test in sorted(near, key=lambda test: (near[test], seconds[test], test)):
        by_file.setdefault(test.split("::")[0], []).append(test)

    def cost(file: str) -> tuple[bool, float, str]:
        reach = [seconds[test] for test in by_file[file] if near[test] == 0]
        own = Path(file).stem.startswith(f"test_{drawn.module.rsplit('.', 1)[-1]}")
        return not own, min(reach, default=1e9), file

    return [(file, {test: i for i, test in enumerate(by_file[file])}) for file in sorted(by_file, key=cost)]


def within(order: list[tuple[str, dict[str, int]]], seconds: dict[str, float], limit: float) -> float:
    """Leave out the tests beyond the limit, slow ones and then the last; the seconds of the others."""
    total, kept = 0.0, []
    for file, tests in order:
        chosen = {}
        for test, position in tests.items():
            if total + seconds[test] <= limit or (not kept and not chosen):
                chosen[test] = position
                total += seconds[test]
        if chosen:
            kept.append((file, chosen))
    order[:] = kept
    return total


def table(results: list[dict[str, str]]) -> str:
    """Package, mutants, killed, survived and the rest, score: of those that are not equivalent."""
    rows: dict[str, Counter[str]] = {}
    for result in results:
        package = result["module"].rpartition(".")[0]
        for name in (package, "together"):
            rows.setdefault(name, Counter())[result["status"]] += 1
    lines = [f"{'package':32}{'mutants':>9}{'killed':>8}{'timeout':>9}{'survived':>10}{'equivalent':>12}{'score':>8}"]
    for name in sorted(rows, key=lambda name: (name == "together", name)):
        row = rows[name]
        killed, judged = row["killed"] + row["timeout"], row.total() - row["equivalent"]
        score = f"{100 * killed / judged:.1f} %" if judged else "-"
        counts = (row.total(), row["killed"], row["timeout"], row["survived"], row["equivalent"])
        lines.append(
            f"{name:32}" + "".join(f"{n:>{w}}" for n, w in zip(counts, (9, 8, 9, 10, 12), strict=True)) + f"{score:>8}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", default="numeric,ir,passes,frontend,targets", help="below pefslc, by commas")
    parser.add_argument("--count", type=int, default=300, help="mutants to draw; 0 for all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--tests", default="tests", help="folders and files of tests, by commas")
    parser.add_argument("--limit", type=float, default=120, help="seconds of tests that one mutant may take")
    parser.add_argument("--again", type=Path, help="try those once more whose lines, as printed, are in this file")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "mutants")
    args = parser.parse_args()

    everything = all_mutants(args.packages.split(","))
    drawn = (
        everything if not args.count else random.Random(args.seed).sample(everything, min(args.count, len(everything)))
    )
    log = args.results / f"{args.packages.replace(',', '+')}-{args.count}-{args.seed}.jsonl"
    if args.again:
        wanted = {line.partition(": ")[2] for line in args.again.read_text().splitlines()}
        drawn, log = [d for d in everything if d.key in wanted], args.results / f"{args.again.stem}.jsonl"
        log.unlink(missing_ok=True)
        for key in sorted(wanted - {d.key for d in drawn}):
            print(f"no such mutant: {key}")
    drawn = [d for d in drawn if compiles(d)]
    reasons = equivalent()
    done = {}
    if log.is_file():
        done = {result["key"]: result for result in map(json.loads, log.read_text().splitlines())}
    with tempfile.TemporaryDirectory(prefix="mutants-") as place:
        trees = [copy_of_the_tree(Path(place) / str(job)) for job in range(args.jobs)]
        reached = reached_lines(args.tests.split(","), trees, args.results / "reached")
        seconds = {test: time for entry in reached.values() for test, time in entry.seconds.items()}
        start, tasks = time.monotonic(), []
        for number, d in enumerate(drawn):
            if d.key in done or d.key in reasons:
                continue
            order = in_order(d, tests_for(d, reached), seconds)
            needed = within(order, seconds, args.limit)
            work = lambda tree, d=d, number=number, order=order: tried(tree, d, number, order)  # noqa: E731
            tasks.append((d, SECONDS + 5 * needed, work))
        with log.open("a") as file:
            for d, result in in_parallel(tasks, trees):
                assert isinstance(d, Drawn)
                status = "timeout" if result == "timeout" else "killed" if result else "survived"
                by = result[0] if isinstance(result, list) and result else ""
                done[d.key] = {"key": d.key, "module": d.module, "status": status, "by": by}
                file.write(json.dumps(done[d.key] | {"line": d.mutant.line}) + "\n")
                file.flush()
        minutes = (time.monotonic() - start) / 60
    for d in drawn:
        if d.key in reasons:
            done[d.key] = {"key": d.key, "module": d.module, "status": "equivalent", "by": reasons[d.key]}
    results = [done[d.key] for d in drawn]
    for result in sorted(results, key=lambda r: r["key"]):
        if result["status"] in ("survived", "timeout"):
            print(f"{result['status']}: {result['key']}")
    print(table(results))
    print(f"{len(tasks)} mutants in {minutes:.1f} minutes, {args.jobs} at a time; {log}")


if __name__ == "__main__":
    main()
