"""The text table of an evaluation: accuracies with intervals, paired differences, the worst class, and the head."""

from __future__ import annotations

from collections.abc import Mapping

from pefslc.diagnostics.text_table import plain_table
from pefslc.fewshot.episodes.accuracy import EpisodeAccuracies
from pefslc.fewshot.episodes.intervals import mean_accuracy, paired_difference, worst_class

__all__ = ["accuracy_table"]

_RIGHT = frozenset({1, 2, 4})


def accuracy_table(results: Mapping[str, EpisodeAccuracies], reference: str) -> str:
    """One row for each result by its name; differences are to that of `reference`, a name among them.

    Intervals are 95 %, of episodes. Raises CompileError where the results are not of the same episodes.
    """
    rows = []
    for name, result in results.items():
        worst = worst_class(result)
        rows.append(
            (
                name,
                str(mean_accuracy(result)),
                "-" if name == reference else paired_difference(result, results[reference]).as_difference(),
                f"{100 * worst.accuracy:.1f} % {worst.name}",
                f"{100 * result.ties / result.decisions:.2f} %",
                result.head,
            )
        )
    settings = results[reference].settings
    header = ("", "accuracy", f"paired with {reference}", "worst class", "ties", "head")
    caption = f"{settings}; {len(results[reference].classes)} episodes, 95 % intervals of episodes, not of trainings"
    return f"{plain_table(header, rows, _RIGHT)}\n{caption}"
