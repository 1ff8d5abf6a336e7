"""The goal table: our programs beside those of Tensil's own compiler, network by network. Prints Markdown.

usage: python benchmarks/goals.py [--inputs N] [--runs N] [FOLDER ...]

Networks are looked for in examples/ and in the folders; ResNet-12 is made where it is missing (resnet12.py).
Each row is a `pefslc` command, from the shell: time and memory are the whole process's, the best of the runs. Our
cycles are modelled, with the board's AXI: where that is 128 bits, those with 64 stand beside them. The model may be
generous to a program unlike those that it was fitted to. Tensil's figures are those of data/tensil.json. "Outputs" are
values of N inputs, from the emitted files in the simulator: how many equal the network's exact evaluation, or, of a
float network, the largest error against it, beside that of Tensil's program. The inputs of float networks are those of
Tensil's figures; they are calibrated on others.

A second table has the eight-bit twins of two networks (eight_bits.py), whose sums are wider than a word: their cycles
beside those of the network itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from eight_bits import write_eight_bits
from resnet12 import name_of, write_resnet12

import pefslc
from pefslc.driver.compiled_artifact import open_artifact
from pefslc.targets.tensil.cost.cycles import model_cycles
from pefslc.targets.tensil.program.tmodel import load_tmodel

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples"


@dataclass(frozen=True, slots=True)
class Goal:
    """A row. `tensil` names Tensil's figures of the same network, before "/arch" in the data; cycles of one picture, in
    thousands.
    """

    network: str
    arch: str
    tensil: str
    goal: int | None = None
    stretch: int | None = None
    seconds: float | None = None
    megabytes: int | None = None
    fmt: str | None = None
    batch: int = 1


RESNET9 = "pefsl_resnet9_16_strided_bnfold_q2_3"
RESNET20 = "resnet20_cifar_bnfold_q2_4"
GOALS = (
    Goal(RESNET9, "custom_perf", "resnet9_strided_16", 283, 243, seconds=1.0, megabytes=400),
    Goal(RESNET9, "pynqz1", "resnet9_strided_16", 410, 380),
    Goal(RESNET9, "zcu104", "resnet9_strided_16", 80),
    Goal(RESNET20, "custom_perf", "resnet20_folded", 692, 560, seconds=2.0),
    Goal(RESNET20, "pynqz1", "resnet20_folded", 900, 800),
    Goal(RESNET20, "zcu104", "resnet20_folded"),
    Goal(name_of(16), "custom_perf", "resnet12_strided_16", 690, 491),
    Goal(name_of(16), "pynqz1", "resnet12_strided_16"),
    Goal(name_of(16), "zcu104", "resnet12_strided_16"),
    Goal(name_of(64), "custom_perf", "resnet12_strided_64", 6300, seconds=3.0, megabytes=500),
    # Eight pictures in a run.
    Goal(RESNET9, "custom_perf", "resnet9_strided_16", 170, batch=8),
    Goal(RESNET9, "pynqz1", "resnet9_strided_16", 300, batch=8),
    Goal(RESNET20, "custom_perf", "resnet20_folded", 480, batch=8),
    Goal(name_of(16), "custom_perf", "resnet12_strided_16", 260, batch=8),
    # Float networks in the accelerator's own arithmetic: Tensil's very files.
    Goal("resnet9_strided_16", "custom_perf", "resnet9_strided_16", 330, fmt="Q8.8"),
    Goal("resnet9_strided_16", "pynqz1", "resnet9_strided_16", fmt="Q8.8"),
    Goal("resnet9_strided_16", "zcu104", "resnet9_strided_16", fmt="Q8.8"),
    Goal("resnet20_folded", "custom_perf", "resnet20_folded", 690, fmt="Q8.8"),
    Goal("resnet20_folded", "pynqz1", "resnet20_folded", fmt="Q8.8"),
    Goal("resnet20_folded", "zcu104", "resnet20_folded", fmt="Q8.8"),
)
MOST_OF_TWIN = 2.2  # cycles of W8A8, as a multiple
TWINS = tuple(Goal(n, arch, "") for n in (RESNET9, RESNET20) for arch in ("pynqz1", "custom_perf", "zcu104"))
TWIN_HEADER = "network", "architecture", "its own cycles", "with eight bits", "ratio", "met", "outputs equal", "time"
HEADER = (
    "network", "architecture", "batch", "modelled cycles a picture", "Tensil's", "ratio", "goal / stretch", "met",
    "outputs equal", "time (of the processor)", "memory", "Tensil's time, memory",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measured:
    """What one command took, and what its program does; its cycles a picture with the board's bus, and with the
    narrowest.
    """

    cycles: int
    cycles_of_64_bits: int
    seconds: float
    processor_seconds: float
    megabytes: float
    outputs: str


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--inputs", type=int, default=2, metavar="N", help="inputs to compare  [default: 2]")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="compiles of each row  [default: 3]")
    arguments = parser.parse_args()
    data = json.loads((HERE / "data" / "tensil.json").read_text())
    print(f"Tensil's figures: {data['source']}\n")
    print(f"| {' | '.join(HEADER)} |")
    print("|---|---|---:|---:|---:|---:|---:|---|---:|---:|---:|---:|")
    missing = []
    with TemporaryDirectory() as made:
        for goal in GOALS:
            model = _find(goal.network, [EXAMPLES, *arguments.folders, Path(made)])
            if model is None:
                missing.append(goal.network)
                continue
            found = measure(model, goal, arguments.inputs, arguments.runs)
            cells = row(goal, data["rows"][f"{goal.tensil}/{goal.arch}"], found)
            print(f"| {' | '.join(cells)} |", flush=True)
        print(f"\n| {' | '.join(TWIN_HEADER)} |\n|---|---|---:|---:|---:|---|---:|---:|")
        for goal in TWINS:
            model = _find(goal.network, [EXAMPLES, *arguments.folders])
            if model is not None:
                twin = write_eight_bits(Path(made), model)
                pair = [measure(m, goal, arguments.inputs, arguments.runs) for m in (model, twin)]
                print(f"| {' | '.join(twin_row(goal, *pair))} |", flush=True)
    for network in dict.fromkeys(missing):
        print(f"\n{network}.onnx is in none of the folders")


def _find(network: str, folders: list[Path]) -> Path | None:
    """The network's file; ResNet-12 is made in the last folder."""
    for folder in folders:
        if (folder / f"{network}.onnx").is_file():
            return folder / f"{network}.onnx"
    for feature_maps in (16, 64):
        if network == name_of(feature_maps):
            return write_resnet12(folders[-1], feature_maps)
    return None


def row(goal: Goal, tensil: Mapping[str, float], found: Measured | str) -> list[str]:
    """The cells of one row; `found` may be the reason of a refusal."""
    theirs = tensil.get("rtl_simulated_cycles") or tensil.get("rtl_model_cycles")
    cost = f"{tensil['compile_wall_s']:.0f} s"
    if tensil.get("compile_peak_rss_mb"):
        cost += f", {tensil['compile_peak_rss_mb']:,} MB"
    source = " (RTL)" if tensil.get("rtl_simulated_cycles") else " (model)"
    their_cycles = f"{theirs:,}{source}" if theirs else "does not compile"
    wanted = " / ".join(f"{n} k" for n in (goal.goal, goal.stretch) if n is not None)
    network = f"{goal.network} --fmt {goal.fmt}" if goal.fmt else goal.network
    if isinstance(found, str):
        return [network, goal.arch, str(goal.batch), found, their_cycles, "", wanted, "no", "", "", "", cost]
    return [
        network,
        goal.arch,
        str(goal.batch),
        f"{found.cycles:,}" + _beside(found),
        their_cycles,
        f"{found.cycles / theirs:.2f}" if theirs else "",
        wanted,
        _met(goal, found),
        f"{found.outputs} ({tensil['max_abs_error_vs_float']:.4f})" if goal.fmt else found.outputs,
        _against(f"{found.seconds:.2f} s ({found.processor_seconds:.2f} s)", found.seconds, goal.seconds, "s"),
        _against(f"{found.megabytes:.0f} MB", found.megabytes, goal.megabytes, "MB"),
        cost,
    ]


def _beside(found: Measured) -> str:
    other = found.cycles_of_64_bits
    return "" if other == found.cycles else f" (64-bit AXI: {other:,})"


def twin_row(goal: Goal, own: Measured | str, twin: Measured | str) -> list[str]:
    """The cells of one row; either may be the reason of a refusal."""
    if isinstance(own, str) or isinstance(twin, str):
        texts = [found if isinstance(found, str) else f"{found.cycles:,}" for found in (own, twin)]
        return [goal.network, goal.arch, *texts, "", "no", "", ""]
    ratio = twin.cycles / own.cycles
    return [
        goal.network,
        goal.arch,
        f"{own.cycles:,}",
        f"{twin.cycles:,}",
        f"{ratio:.2f}",
        "yes" if ratio <= MOST_OF_TWIN else f"no, {MOST_OF_TWIN} wanted",
        twin.outputs,
        f"{twin.seconds:.2f} s ({twin.processor_seconds:.2f} s)",
    ]


def _met(goal: Goal, found: Measured) -> str:
    if goal.goal is None:
        return ""
    if goal.stretch is not None and found.cycles <= goal.stretch * 1000:
        return "stretch"
    return "yes" if found.cycles <= goal.goal * 1000 else f"{found.cycles / (goal.goal * 1000) - 1:.1%} above"


def _against(text: str, found: float, wanted: float | None, unit: str) -> str:
    return text if wanted is None or found <= wanted else f"{text} (goal {wanted:g} {unit})"


def measure(model: Path, goal: Goal, inputs: int, runs: int) -> Measured | str:
    """Compile in processes of their own and run the files; or the reason of a refusal."""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        options = ["--target", "tensil", "--arch", goal.arch, "-o", folder, "--report", str(report), "-q"]
        options += ["--batch", str(goal.batch)] if goal.batch > 1 else []
        options += ["--fmt", goal.fmt, "--calibrate", str(_calibration(Path(folder), model))] if goal.fmt else []
        found = []
        for _ in range(runs):
            taken = _command([str(model), *options])
            if isinstance(taken, str):
                return taken
            found.append(taken)
        cycles = json.loads(report.read_text())["total"]["modelled_cycles"] // goal.batch
        if goal.fmt:
            outputs = _largest_error(Path(folder), model, inputs)
        else:
            outputs = _outputs(Path(folder), model.with_suffix(".npz"), inputs)
        other = model_cycles(load_tmodel(next(Path(folder).glob("*.tmodel")))).total  # a file says nothing of the bus
        return Measured(cycles, other // goal.batch, *(min(column) for column in zip(*found, strict=True)), outputs)


def _calibration(folder: Path, model: Path) -> Path:
    """A file with 16 inputs like those that the error is measured on, none of them the same."""
    path = folder / "calibration.npz"
    shape = (16, *pefslc.load(model).inputs[0].value.type.shape[1:])
    np.savez(path, x=np.random.default_rng(1234).uniform(-1, 1, shape).astype(np.float32))
    return path


# Runs a command and says what it took. In a small process of its own: a child's peak memory counts what its parent had
# in memory when it was made.
_MEASURED = """
import json, os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stderr=subprocess.PIPE, text=True)
error = process.stderr.read()
_, status, usage = os.wait4(process.pid, 0)
seconds = time.perf_counter() - start
used = seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss
print(json.dumps([os.waitstatus_to_exitcode(status), error, *used]))
"""


def _command(arguments: list[str]) -> tuple[float, float, float] | str:
    """Seconds, those of the processor, megabytes of one run of `pefslc`; or the first line of its complaint."""
    command = [sys.executable, "-c", _MEASURED, sys.executable, "-m", "pefslc", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    status, error, seconds, processor, memory = json.loads(done.stdout.splitlines()[-1])
    if status:
        return f"refused: {error.splitlines()[0] if error else status}"
    # ru_maxrss is in kilobytes, on macOS in bytes.
    return seconds, processor, memory / (1e6 if sys.platform == "darwin" else 1e3)


def _outputs(folder: Path, arrays: Path, inputs: int) -> str:
    """How many outputs of the emitted files equal the exact evaluation."""
    if not arrays.is_file() or not inputs:
        return ""
    with np.load(arrays) as found:
        x, expected = found["x"][:inputs], found["y_ref64"][:inputs]
    sidecar = next(folder.glob("*.tensil.json"))
    (values,) = open_artifact(sidecar).run({"x": x}).values()
    equal = int((values.reshape(expected.shape) == expected).sum())
    return f"{equal} of {expected.size}"


def _largest_error(folder: Path, model: Path, inputs: int) -> str:
    """Of the emitted files' outputs against the float model's, both in float64."""
    graph = pefslc.load(model)
    shape = (inputs, *graph.inputs[0].value.type.shape[1:])
    x = np.random.default_rng(7).uniform(-1, 1, shape).astype(np.float32).astype(np.float64)
    (wanted,) = graph.run(x).values()
    (values,) = open_artifact(next(folder.glob("*.tensil.json"))).run({"x": x}).values()
    return f"error {np.abs(values - wanted).max():.4f}"


if __name__ == "__main__":
    main()
