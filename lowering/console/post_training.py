"""The report on a model that was quantized after training: a table, then what became of the outputs."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from pefslc.console.columns import Column, print_columns
from pefslc.diagnostics.errors import quote
from pefslc.reports.post_training import Accuracy, PostTrainingReport

__all__ = ["print_post_training"]

_DROPPED_FIRST = ("range", "clipped", "weight")


def print_post_training(report: PostTrainingReport, console: Console | None = None, *, native: bool = False) -> None:
    """Formats, ranges, clipping and signal to noise of each stored tensor; outputs; accuracy.

    native  whether the target computes in its own arithmetic, which the report knows nothing of
    """
    tensors = report.tensors
    columns = [
        Column("tensor", [Text(t.name) for t in tensors]),
        Column("format", [Text(t.format or "sum") for t in tensors]),
        Column("weight", [Text(t.weight) for t in tensors]),
        Column("range", [Text(f"{t.low:.4g} to {t.high:.4g}") for t in tensors], right=True),
        Column("clipped", [Text(_share(t.clipped) if t.format else "") for t in tensors], right=True),
        Column("SNR dB", [Text(f"{t.noise.snr_db:.1f}") for t in tensors], right=True),
    ]
    print_columns(columns, _DROPPED_FIRST, console)
    rows = f"{report.rows} input{'' if report.rows == 1 else 's'}"
    for name, noise in report.outputs.items():
        print(f"output {name}: {noise.snr_db:.1f} dB signal to noise against the float model, on {rows}")
    if report.narrowed:
        print(f"fewer bits than asked, so that every sum fits the target's accumulator: {len(report.narrowed)} formats")
    if report.accuracy is not None:
        print(_accuracy(report.accuracy))
    for error in report.distance.errors:
        print(error)
    if report.unread:
        print(f"no accuracy: array {quote(report.unread)} is not read; true classes are called 'labels', or 'y'")
    if native:
        print("of the formats alone, with exact sums: --verify measures the target's own arithmetic")
    print()


def _share(share: float) -> str:
    """In percent; what is not zero does not look like it."""
    return "0 %" if not share else f"{100 * share:.2g} %"


def _accuracy(accuracy: Accuracy) -> str:
    def percent(right: int) -> str:
        return f"{100 * right / accuracy.count:.1f} % ({right} of {accuracy.count})"

    return (
        f"top-1 accuracy: float {percent(accuracy.float_right)}, quantized {percent(accuracy.quantized_right)}; "
        f"the same class for {percent(accuracy.same)}"
    )
