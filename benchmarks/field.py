"""Files as exporters write them: which compile, and whether they are exact. Prints the table of docs/field.md.

usage: python benchmarks/field.py [FOLDER] [--only TEXT] [--seconds N]

Nothing is fetched: each file is made here, by the exporter itself, where that is installed (docs/field.md says how).
With FOLDER, files are kept there, and used when they are there already. --only takes models with TEXT in their name or
their exporter's. A model gets N seconds for each target.

A model's own row goes to stderr as soon as it is known. The table joins models of an exporter that are alike.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

from field_model import FieldModel
from field_table import Row, joined, line

HERE = Path(__file__).resolve().parent

TARGETS = (("c", None), ("tensil", "pynqz1"))
HEADER = ("exporter", "model", *(arch or target for target, arch in TARGETS), "exporter's runtime", "refused because")
_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a model on a target.

    cell     "exact", "bounded", with how many outputs where that is counted, "-" where it was refused, or what is wrong
    runtime  how many outputs of the exporter's own runtime, in float32, are others; of a float network, how far it is
    reason   of a refusal: its first problem, and how many more there are
    """

    cell: str
    runtime: str = ""
    reason: str = ""


def main() -> None:
    """Print the table, an exporter as soon as all its models are known; then the exporters that are not installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER")
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--seconds", type=int, default=_SECONDS, metavar="N", help="[default: 120]")
    parser.add_argument("--judge", nargs=3, metavar=("FILE", "TARGET", "ARGUMENTS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.judge:
        file, target, more = arguments.judge
        print(json.dumps(judge(Path(file), target, json.loads(more))))
        return
    with TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        table(folder, arguments.only, arguments.seconds)


def table(folder: Path, only: str, seconds: int) -> None:
    """The rows of every exporter that is installed."""
    print(f"{line(HEADER)}\n|{'---|' * len(HEADER)}", flush=True)
    missing = []
    for name, family in families():
        lacking = [need for need in family.NEEDS if find_spec(need) is None]
        if lacking:
            missing.append(f"{name}: not installed: {', '.join(lacking)}; docs/field.md says how")
            continue
        models = [model for model in family.models() if only in model.name or only in model.exporter]
        for exporter in dict.fromkeys(model.exporter for model in models):
            rows = []
            for model in models:
                if model.exporter == exporter:
                    rows.append(row(model, folder, seconds))
                    print(rows[-1], file=sys.stderr, flush=True)
            print(*joined(rows), sep="\n", flush=True)
    print("".join(f"\n{line}" for line in missing), end="\n" if missing else "")


def families() -> Iterator[tuple[str, ModuleType]]:
    """The modules of exporters/ that have models, by name."""
    for path in sorted((HERE / "exporters").glob("*_models.py")):
        yield path.stem, importlib.import_module(f"exporters.{path.stem}")


def row(model: FieldModel, folder: Path, seconds: int) -> Row:
    """The model's row; its files are made where they are not in the folder."""
    file = folder / f"{model.name}.onnx"
    if not file.with_suffix(".npz").is_file():
        with redirect_stdout(sys.stderr):  # exporters talk
            model.write(folder)
    found = [_judged(file, target, arch, model.arguments, seconds) for target, arch in TARGETS]
    runtime = next((verdict.runtime for verdict in found if verdict.runtime), "")
    messages = {verdict.reason.split(" (and ")[0]: verdict.reason for verdict in found if verdict.reason}
    reasons = "; ".join(messages.values())
    return Row(model.exporter, (model.name,), (*(verdict.cell for verdict in found), runtime, reasons))


def _judged(file: Path, target: str, arch: str | None, arguments: Mapping[str, str | int], seconds: int) -> Verdict:
    """By a process of its own, which is stopped after so many seconds."""
    more = {**arguments, **({} if arch is None else {"arch": arch})}
    command = [sys.executable, __file__, "--judge", str(file), target, json.dumps(more)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=seconds, check=True)
    except subprocess.TimeoutExpired:
        return Verdict(f"not in {seconds} s")
    except subprocess.CalledProcessError as e:
        return Verdict("crashes", reason=f"status {e.returncode}")
    return Verdict(*json.loads(done.stdout.splitlines()[-1]))


def judge(file: Path, target: str, arguments: dict[str, str | int]) -> tuple[str, str, str]:
    """Compile the file and run its inputs: the fields of a verdict."""
    import pefslc

    try:
        program = pefslc.compile(file, target=target, **arguments)  # type: ignore[arg-type]
        found = program.verify(file.with_suffix(".npz"))
        exact = file.with_suffix(".exact.npz")
        definition = program.verify(exact).comparisons if exact.is_file() else ()
    except pefslc.CompileError as e:
        more = f" (and {len(e.problems) - 1} more)" if len(e.problems) > 1 else ""
        return "-", "", e.problems[0].message + more
    runtime = [c for c in found.comparisons if c.given and "y_ref64" not in c.compared]
    ours = [*(c for c in found.comparisons if c not in runtime), *(c for c in definition if c.given)]
    wrong, count = sum(c.differing for c in runtime), sum(c.count for c in runtime)
    reasons = "; ".join(dict.fromkeys(c.reason.split(";")[0] for c in runtime if c.reason))
    text = f"{wrong} of {count} differ{reasons and f', {reasons}'}" if wrong else f"{count} equal" if count else ""
    unexpected = [c for c in ours if c.differing and not c.bounded]
    bounded = [c for c in ours if c.bounded]
    if unexpected:
        return f"{sum(c.differing for c in unexpected)} of {sum(c.count for c in unexpected)} differ", text, ""
    if found.distance is not None:  # of a float network
        worst = found.distance.worst
        text = f"off the float network by at most {worst.largest:.3g} of {worst.reach:.3g}"
    if program.exact:
        return "exact", text, ""
    count = f": {sum(c.differing for c in bounded)} of {sum(c.count for c in bounded)}" if bounded else ""
    return f"bounded{count}", text, ""


if __name__ == "__main__":
    main()
