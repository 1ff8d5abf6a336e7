"""The figures of c_speed.py, and the tables of them in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Built", "Count", "Report", "Timed", "print_tables"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a compiler made of a network for a row; times are those of the processor."""

    network: str
    precision: str
    row: str
    code_bytes: int
    constant_bytes: int
    stack_bytes: int | None
    ram_bytes: int
    emit_seconds: float
    compile_seconds: float


@dataclass(frozen=True, slots=True)
class Count:
    """Instructions of one run under QEMU."""

    network: str
    precision: str
    row: str
    instructions: int
    macs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One way to run a network here. `of_...` and `least_of_ort` are ratios; `wrong` is None where nothing is exact."""

    network: str
    precision: str
    row: str
    median_us: float
    least_us: float
    gmacs: float
    of_limit: float | None
    of_ort: float | None
    least_of_ort: float | None
    wrong: int | None
    outputs: int


@dataclass
class Report:
    """Everything that was found, and why the rest was not: by what it is.

    limits            GMAC/s of one core, by the name of the instruction
    call_overhead_us  of a call of ONNX Runtime that computes nothing; None where it is not installed
    """

    limits: dict[str, float] = field(default_factory=dict)
    call_overhead_us: float | None = None
    timed: list[Timed] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    built: list[Built] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def print_tables(report: Report, machine: Mapping[str, str]) -> None:
    """All of them, each with a title; those that have no rows are left out."""
    print("; ".join(f"{name}: {version}" for name, version in machine.items()))
    limits = ((name, f"{speed:.0f}") for name, speed in report.limits.items())
    _print("The most that one core does from registers", ("instruction", "GMAC/s"), limits)
    _print("Time on this machine, one thread unless the row says more", _TIMED, map(_timed_row, report.timed))
    if report.call_overhead_us is not None:
        print(f"\nA call of ONNX Runtime that computes nothing takes {report.call_overhead_us:.1f} us.")
    networks = list(dict.fromkeys(f"{c.network} {c.precision}" for c in report.counts))
    _print("Instructions for each multiply-accumulate", ("processor", *networks), _count_rows(report.counts, networks))
    _print("Sizes in bytes, and processor seconds", _BUILT, map(_built_row, report.built))
    if report.left_out:
        print("\nLeft out:")
        for what, why in report.left_out.items():
            print(f"- {what}: {why}")


_TIMED = ("network", "row", "us", "least", "GMAC/s", "of limit", "of ORT", "least of ORT", "wrong")
_BUILT = ("network", "row", "code", "constants", "stack", "RAM", "generate", "compile")


def _timed_row(t: Timed) -> Sequence[str]:
    return (
        f"{t.network} {t.precision}",
        t.row,
        f"{t.median_us:.1f}",
        f"{t.least_us:.1f}",
        f"{t.gmacs:.1f}",
        "" if t.of_limit is None else f"{t.of_limit:.0%}",
        "" if t.of_ort is None else f"{t.of_ort:.2f}",
        "" if t.least_of_ort is None else f"{t.least_of_ort:.2f}",
        "" if t.wrong is None else f"{t.wrong} of {t.outputs}",
    )


def _count_rows(counts: Sequence[Count], networks: Sequence[str]) -> Iterable[Sequence[str]]:
    cells = {(c.row, f"{c.network} {c.precision}"): f"{c.instructions / c.macs:.3f}" for c in counts}
    for row in dict.fromkeys(c.row for c in counts):
        yield (row, *(cells.get((row, network), "") for network in networks))


def _built_row(b: Built) -> Sequence[str]:
    return (
        f"{b.network} {b.precision}",
        b.row,
        f"{b.code_bytes:,}",
        f"{b.constant_bytes:,}",
        "" if b.stack_bytes is None else f"{b.stack_bytes:,}",
        f"{b.ram_bytes:,}",
        f"{b.emit_seconds:.2f}",
        f"{b.compile_seconds:.2f}",
    )


def _print(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    lines = [" | ".join(row) for row in rows]
    if lines:
        print(f"\n{title}\n\n| {' | '.join(header)} |")
        print(f"|---|{'---|' if header[1] == 'row' else '---:|'}{'---:|' * (len(header) - 2)}")
        for line in lines:
            print(f"| {line} |")
