"""How good the emitted C is: time, instructions, sizes, on every processor that is there or emulated. Prints Markdown.

usage: python benchmarks/c_speed.py [--only TEXT ...] [--rounds N] [--json FILE]

Networks are those of c_models.py, rows those of c_processors.py. On this machine the C of each row, ONNX Runtime on
codes (QDQ, uint8 activations) and ONNX Runtime in float32 take turns in one process, with one thread unless the row
says more. Times are processor time of that thread, with more of them time by the wall clock; ours is of the network's
function alone, ONNX Runtime's of a call with bound arrays. "of ORT" is the median over the rounds of the ratio to ONNX
Runtime on codes in the same round, for the networks of 5 bits to the same network with 8; "least of ORT" is the ratio
of the shortest times. "of limit" is the multiply-accumulates a second beside the most that c_limits.c gets out of the
row's instructions, on as many cores as the row has threads. "wrong" counts output codes that are not the exact ones.
Under QEMU the instructions of a run are counted. What is not installed is left out, and named.

--only takes results whose "NETWORK PRECISION ROW" contains the text, such as resnet9, w5a5, AVX2 or Cortex-M4; given
twice, both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import c_runtime
import numpy as np
from c_build import HERE, Emitted, Failed, Library, Size, build_library, build_program, emit, layout_of, run
from c_emulator import build_plugin, count_instructions
from c_models import ARCHITECTURES, Network, Precision, Spelling, make_network
from c_processors import EMULATED, HOSTS, Emulated, Host
from c_rounds import Samples, call_in_turns
from c_tables import Built, Count, Report, Timed, print_tables

import pefslc

EIGHT, FIVE = Precision(8, 8), Precision(5, 5)
ORT, ORT_FLOAT = "ONNX Runtime", "ONNX Runtime, float32"
TURN_SECONDS = 0.003

Row = Host | Emulated


@dataclass(frozen=True, slots=True)
class Found:
    """A library or program, and its instructions if it is emulated; or why there is none of them."""

    path: Path | None = None
    size: Size | None = None
    instructions: int | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """A network for a row: what a process of its own builds, and counts."""

    emitted: Emitted
    row: Row
    out: Path
    plugins: tuple[Path, ...]

    def build(self) -> Found:
        """Sizes are found without an emulator, too."""
        path = size = None
        try:
            if isinstance(self.row, Host):
                return Found(*build_library(self.emitted, self.row, self.out))
            path, size = build_program(self.emitted, self.row, self.out)
            return Found(path, size, count_instructions(path, self.row, self.plugins))
        except Failed as e:
            return Found(path, size, failure=str(e))


class Measurement:
    """One run of the benchmark in a folder of its own."""

    def __init__(self, folder: Path, rounds: int) -> None:
        self.folder, self.rounds = folder, rounds
        self.report = Report()
        self.limits = self.measured_limits()

    def measured_limits(self) -> dict[str, float]:
        """GMAC/s by the name of the instruction, the better of this time and those before."""
        program = self.folder / "limits"
        try:
            run(["gcc", "-O2", HERE / "c_limits.c", "-o", program])
            lines = run([program]).stdout.splitlines()
        except Failed as e:
            self.report.left_out["the machine's limits"] = str(e)
            return {}
        for name, speed in (line.split("\t") for line in lines):
            self.report.limits[name] = max(float(speed), self.report.limits.get(name, 0.0))
        return self.report.limits

    def architecture(self, name: str, rows: Sequence[tuple[Precision, Row]], pool: ProcessPoolExecutor) -> None:
        """Build, count and time one architecture. Progress goes to the standard error."""
        start = time.monotonic()
        jobs = list(self.jobs(name, rows))
        _say(f"{name}: {len(jobs)} programs are built ...")
        libraries = []
        for job, found in zip(jobs, pool.map(Job.build, jobs), strict=True):
            if found.failure:
                network = job.emitted.network
                self.report.left_out[f"{network.name} {network.precision} {job.row.name}"] = found.failure
            if found.size is not None:
                self.keep(job, found.size, found.instructions)
            if isinstance(job.row, Host) and found.path is not None:
                libraries.append((job.row, job.emitted, found.path))
        _say(f"{name}: built and counted in {time.monotonic() - start:.0f} s")
        if libraries:
            self.time(name, libraries)
            _say(f"{name}: timed")

    def jobs(self, name: str, rows: Sequence[tuple[Precision, Row]]) -> Iterator[Job]:
        """One for each row that can run here; rows that are laid out alike share the C."""
        plugins = self.plugins() if any(isinstance(row, Emulated) for _, row in rows) else ()
        emitted: dict[tuple[Precision, str, int], Emitted] = {}
        for precision, row in rows:
            if isinstance(row, Host) and row.lacks:
                self.report.left_out[row.name] = f"this machine has no {row.lacks}"
                continue
            try:
                key = precision, layout_of(row.cpu), row.threads if isinstance(row, Host) else 1
                if key not in emitted:
                    network = _network(name, precision)
                    folder = self.folder / "_".join(map(str, (name, *key)))
                    emitted[key] = emit(network, network.save(self.folder), key[1], folder, key[2])
            except Failed as e:
                self.report.left_out[f"{name} {precision} {row.name}"] = str(e)
                continue
            out = self.folder / f"{name}_{precision}_{row.name}".replace(" ", "_").replace(",", "")
            yield Job(emitted[key], row, out, plugins)

    def plugins(self) -> tuple[Path, ...]:
        try:
            return build_plugin(self.folder)
        except Failed as e:
            self.report.left_out["instruction counts"] = str(e)
            return ()

    def keep(self, job: Job, size: Size, instructions: int | None) -> None:
        emitted, network = job.emitted, job.emitted.network
        self.report.built.append(
            Built(
                network=network.name, precision=str(network.precision), row=job.row.name,
                code_bytes=size.code_bytes, constant_bytes=size.constant_bytes, stack_bytes=size.stack_bytes,
                ram_bytes=emitted.ram_bytes, emit_seconds=emitted.seconds, compile_seconds=size.seconds,
            )
        )  # fmt: skip
        if instructions is not None:
            count = Count(network.name, str(network.precision), job.row.name, instructions, network.macs)
            self.report.counts.append(count)

    def time(self, name: str, libraries: Sequence[tuple[Host, Emitted, Path]]) -> None:
        """All ways to run one architecture here, in turns."""
        contenders = self.contenders_of_runtime(name)
        for host, emitted, path in libraries:
            library, precision = Library(emitted, path), emitted.network.precision
            contenders[str(precision), host.name] = library, library.differing(), self.limit(host, precision)
        samples = call_in_turns(
            {key: way.seconds for key, (way, _, _) in contenders.items()}, self.rounds, TURN_SECONDS
        )  # fmt: skip
        ort = samples.get((str(EIGHT), ORT))
        network = _network(name, EIGHT)
        for key, (_, wrong, limit) in contenders.items():
            self.report.timed.append(_timed(network, *key, samples[key], ort, wrong, limit))

    def contenders_of_runtime(self, name: str) -> dict[tuple[str, str], tuple[Timeable, int | None, float | None]]:
        """By precision and row: ONNX Runtime, how many of its codes are wrong, no limit."""
        if not c_runtime.is_installed():
            self.report.left_out[ORT] = 'not installed: pip install ".[bench]"'
            return {}
        if self.report.call_overhead_us is None:
            empty = call_in_turns({"": c_runtime.call_overhead(self.folder).seconds}, self.rounds, TURN_SECONDS)[""]
            self.report.call_overhead_us = float(np.median(empty)) * 1e6
        session, wrong = c_runtime.quantized(_network(name, EIGHT), self.folder)
        if session.in_float:
            self.report.left_out[f"{name} by {ORT} on codes alone"] = f"{', '.join(session.in_float)} stay in float32"
        floats = c_runtime.in_float(make_network(name, EIGHT, Spelling.FLOAT), self.folder)
        return {(str(EIGHT), ORT): (session, wrong, None), ("float32", ORT_FLOAT): (floats, None, None)}

    def limit(self, host: Host, precision: Precision) -> float | None:
        """GMAC/s of the row's best instruction on all its cores; None where it was not measured."""
        kernels = host.narrow if max(precision.weight_bits, precision.activation_bits) <= 6 else host.limits
        return max((self.limits[kernel] * host.threads for kernel in kernels if kernel in self.limits), default=None)


Timeable = Library | c_runtime.RuntimeNetwork


@cache
def _network(name: str, precision: Precision) -> Network:
    return make_network(name, precision, Spelling.QDQ if precision == EIGHT else Spelling.QONNX)


def _timed(
    network: Network,
    precision: str,
    row: str,
    own: Samples,
    ort: Samples | None,
    wrong: int | None,
    limit: float | None,
) -> Timed:
    gmacs = network.macs / float(np.median(own)) * 1e-9
    return Timed(
        network=network.name, precision=precision, row=row, median_us=float(np.median(own)) * 1e6,
        least_us=float(own.min()) * 1e6, gmacs=gmacs, of_limit=None if limit is None else gmacs / limit,
        of_ort=None if ort is None else float(np.median(own / ort)),
        least_of_ort=None if ort is None else float(own.min() / ort.min()), wrong=wrong, outputs=network.y.size,
    )  # fmt: skip


def chosen_rows(only: Sequence[str]) -> dict[str, list[tuple[Precision, Row]]]:
    """The rows of each architecture whose "NETWORK PRECISION ROW" contains all of these texts."""
    found = {
        name: [
            (precision, row)
            for precision in (EIGHT, FIVE)
            for row in (*HOSTS, *EMULATED)
            if all(text.lower() in f"{name} {precision} {row.name}".lower() for text in only)
        ]
        for name in ARCHITECTURES
    }
    return {name: rows for name, rows in found.items() if rows}


def measure(only: Sequence[str], rounds: int, folder: Path) -> Report:
    """Everything that is wanted and possible here. Raises Failed where nothing is called so."""
    chosen = chosen_rows(only)
    if not chosen:
        raise Failed(f"no result is called {' and '.join(only)}")
    warm = _network("mlp", EIGHT)  # what pefslc loads at its first compile is no part of the times
    emit(warm, warm.save(folder), "generic", folder / "warm")
    measurement = Measurement(folder, rounds)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for name, rows in chosen.items():
            measurement.architecture(name, rows, pool)
    measurement.measured_limits()
    return measurement.report


def machine() -> dict[str, str]:
    """What the figures are of."""
    found = {"pefslc": pefslc.__version__, "system": platform.platform(), "processor": _processor()}
    for name in ("gcc", "clang", "arm-none-eabi-gcc", "riscv64-unknown-elf-gcc", "qemu-arm"):
        try:
            found[name] = run([name, "--version"]).stdout.splitlines()[0]
        except Failed:
            found[name] = "not installed"
    found["onnxruntime"] = c_runtime.version()
    found["load at the end"] = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    return found


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure what was asked for, print it, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="TEXT")
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    try:
        with TemporaryDirectory(prefix="pefslc-bench-") as name:
            report = measure(arguments.only, arguments.rounds, Path(name))
    except Failed as e:
        sys.exit(f"error: {e}")
    about = machine()
    print_tables(report, about)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": about, **asdict(report)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
