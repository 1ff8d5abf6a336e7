"""What a search tried: each step as a table for people, everything as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from pefslc.artifacts.sidecar import Json, JsonObject
from pefslc.diagnostics.text_table import plain_table
from pefslc.fewshot.precision.descent import Descent

__all__ = ["search_json", "search_text"]


def search_text(descent: Descent, budgets: Sequence[str]) -> str:
    """A line for each step, then what was found. budgets: their names, in the order of the costs."""
    header = ["step", "tensor", "bits", "to", *budgets, "1 - cos"]
    rows = [["0", "", "", "", *map(_cost, descent.start_costs), _loss(descent.start_loss)]]
    for number, step in enumerate(descent.steps, 1):
        costs = map(_cost, step.costs_after)
        rows.append([str(number), step.tensor, str(step.before), str(step.after), *costs, _loss(step.loss_after)])
    right = frozenset(range(len(header))) - {1}
    return "\n".join(
        [
            plain_table(header, rows, right),
            "",
            f"{len(descent.trials)} measurements; 1 - cos: of centred features, float against quantized",
        ]
    )


def search_json(descent: Descent, budgets: Sequence[str]) -> JsonObject:
    """Steps and measurements in their order. A trial is [steps before it, tensor, its bits, loss]."""
    steps: list[Json] = [asdict(step) for step in descent.steps]
    trials: list[Json] = [[trial.step, trial.tensor, trial.bits, trial.loss] for trial in descent.trials]
    return {
        "budgets": list(budgets),
        "start": {"bits": dict(descent.start), "costs": list(descent.start_costs), "loss": descent.start_loss},
        "found": {"bits": dict(descent.bits), "costs": list(descent.costs), "loss": descent.loss},
        "loss": "mean of 1 - cos between centred features, quantized and float",
        "steps": steps,
        "trials": trials,
    }


def _cost(cost: float) -> str:
    return f"{cost:.3f}".rstrip("0").rstrip(".")


def _loss(loss: float) -> str:
    return f"{loss:.5f}"
