"""What a search tried: each step as a table for people, everything as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from pefslc.artifacts.sidecar import Json, JsonObject
from pefslc.diagnostics.text_table import plain_table
from pefslc.fewshot.precision.descent import Descent

__all__ = ["search_json", "search_text"]


def search_text(descent: Descent, budgets: Sequence[str], tried: Sequence[Descent] = ()) -> str:
    """A line for each step, then how the other searches ended.

    budgets  their names, in the order of the costs
    tried    all searches, from different numbers of bits
    """
    header = ["step", "tensor", "bits", "to", *budgets, "1 - cos"]
    rows = [["0", "", "", "", *map(_cost, descent.start_costs), _loss(descent.start_loss)]]
    for number, step in enumerate(descent.steps, 1):
        costs = map(_cost, step.costs_after)
        rows.append([str(number), step.tensor, str(step.before), str(step.after), *costs, _loss(step.loss_after)])
    right = frozenset(range(len(header))) - {1}
    everything = tried or (descent,)
    ends = [f"from {_first(d)} bits everywhere: {_loss(d.loss)}{_remark(d, descent)}" for d in everything]
    measured = sum(len(d.trials) for d in everything)
    notes = [f"{measured} measurements; 1 - cos: of centred features, float against quantized"]
    return "\n".join([plain_table(header, rows, right), "", *(ends if len(ends) > 1 else ()), *notes])


def search_json(descent: Descent, budgets: Sequence[str], tried: Sequence[Descent] = ()) -> JsonObject:
    """Steps and measurements in their order, of the search that was taken and of the others.

    A trial is [steps before it, tensor, its bits, loss].
    """
    others: list[Json] = [_search(d) for d in tried if d != descent]
    return {
        "budgets": list(budgets),
        "loss": "mean of 1 - cos between centred features, quantized and float",
        **_search(descent),
        "others": others,
    }


def _search(descent: Descent) -> JsonObject:
    steps: list[Json] = [asdict(step) for step in descent.steps]
    trials: list[Json] = [[trial.step, trial.tensor, trial.bits, trial.loss] for trial in descent.trials]
    return {
        "start": {"bits": dict(descent.start), "costs": list(descent.start_costs), "loss": descent.start_loss},
        "found": {"bits": dict(descent.bits), "costs": list(descent.costs), "loss": descent.loss},
        "holds": descent.holds,
        "steps": steps,
        "trials": trials,
    }


def _first(descent: Descent) -> int:
    """The bits that it began with."""
    return max(descent.start.values())


def _remark(descent: Descent, taken: Descent) -> str:
    return ", taken" if descent == taken else "" if descent.holds else ", misses the budgets"


def _cost(cost: float) -> str:
    return f"{cost:.3f}".rstrip("0").rstrip(".")


def _loss(loss: float) -> str:
    return f"{loss:.5f}"
