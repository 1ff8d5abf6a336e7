"""Results of cells as rows of a table: cells that differ in the seed of their trainings alone are one row.

Accuracies are averaged over seeds episode by episode, so that the interval is that of episodes for these trainings; how
far trainings differ is said beside it. A row one of whose networks is dead has no accuracy: the mean of those that live
would be of a choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.episodes.intervals import Estimate, SeedSpread
from pefslc.fewshot.sweep.cells import Cell, Method
from pefslc.fewshot.sweep.measure import Head, episode_accuracies
from pefslc.fewshot.sweep.pareto import pareto_front

__all__ = ["OfShots", "Row", "costs_of", "fronts", "rows_of"]

Result = Mapping[str, Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OfShots:
    """Of one number of shots.

    accuracy    of the integer head; of a float network, of the float head
    difference  paired, to the float network of the same seeds that was neither pruned nor quantized; None without one
    spread      of the means of the seeds
    float_ncm   the float head on the same features
    ties        share of decisions
    head        the name of what decided: order and centre
    """

    accuracy: Estimate
    difference: Estimate | None
    spread: SeedSpread
    float_ncm: Estimate
    ties: float
    head: str


@dataclass(frozen=True, slots=True)
class Row:
    """cell       with the first of the seeds
    status     "measured", or "dead" or "refused" where one of the seeds is so; then `shots` is empty
    reason     of that
    shots      by number of shots
    c          `c_costs`, the largest of the seeds; exact where all are; None in float
    cycles     modelled, by board; None where the network does not run there
    """

    cell: Cell
    seeds: tuple[int, ...]
    status: str
    reason: str
    shots: Mapping[int, OfShots]
    c: Mapping[str, int | bool] | None
    cycles: Mapping[str, int | None]

    @property
    def label(self) -> str:
        return self.cell.label


def rows_of(results: Sequence[tuple[Cell, Result]]) -> tuple[Row, ...]:
    """The rows, in the order in which their first cells come. Raises CompileError where episodes are not the same."""
    floats = {
        cell.seed: result
        for cell, result in results
        if cell.method is Method.FLOAT and cell.prune is None and result["status"] == "measured"
    }
    groups: dict[Cell, list[tuple[Cell, Result]]] = {}
    for cell, result in results:
        groups.setdefault(replace(cell, seed=0), []).append((cell, result))
    return tuple(_row(group, floats) for group in groups.values())


def _row(group: Sequence[tuple[Cell, Result]], floats: Mapping[int, Result]) -> Row:
    first = group[0][0]
    seeds = tuple(cell.seed for cell, _ in group)
    bad = [(cell.seed, result) for cell, result in group if result["status"] != "measured"]
    measured = [(cell.seed, result) for cell, result in group if result["status"] == "measured"]
    status, reason, shots = "measured", "", dict[int, OfShots]()
    if bad:
        status = "dead" if all(result["status"] == "dead" for _, result in bad) else "refused"
        listed = ", ".join(str(seed) for seed, _ in bad)
        reason = f"{bad[0][1]['reason']} (seed{'s' * (len(bad) > 1)} {listed} of {len(group)})"
    else:
        shots = {int(n): _of_shots(n, measured, floats) for n in sorted(measured[0][1]["shots"], key=int)}
    costs = [result["c"] for _, result in measured if "c" in result]
    boards = [result["boards"] for _, result in measured if "boards" in result]
    return Row(first, seeds, status, reason, shots, _largest(costs) if costs else None, _cycles(boards))


def _of_shots(shots: str, measured: Sequence[tuple[int, Result]], floats: Mapping[int, Result]) -> OfShots:
    by_seed = {seed: result["shots"][shots] for seed, result in measured}
    deciding = {seed: found.get(Head.INTEGER, found[Head.FLOAT]) for seed, found in by_seed.items()}
    accuracies = {seed: episode_accuracies(found) for seed, found in deciding.items()}
    _require_same_episodes([*deciding.values()])
    difference = None
    references = {seed: floats[seed]["shots"][shots][Head.FLOAT] for seed in by_seed if seed in floats}
    if len(references) == len(by_seed) and any(references[s] is not deciding[s] for s in by_seed):
        _require_same_episodes([*deciding.values(), *references.values()])
        difference = Estimate.of(_mean([accuracies[seed] - episode_accuracies(references[seed]) for seed in by_seed]))
    decisions = sum(found["decisions"] for found in deciding.values())
    return OfShots(
        Estimate.of(_mean(list(accuracies.values()))),
        difference,
        SeedSpread.of({seed: Estimate.of(values) for seed, values in accuracies.items()}),
        Estimate.of(_mean([episode_accuracies(found[Head.FLOAT]) for found in by_seed.values()])),
        sum(found["ties"] for found in deciding.values()) / decisions,
        str(next(iter(deciding.values()))["head"]),
    )


def _require_same_episodes(found: Sequence[Result]) -> None:
    if len({result["episodes_sha256"] for result in found}) != 1:
        raise CompileError(
            Code.NOT_PAIRED, "results of a row are of different episodes", hint="measure them in one sweep"
        )


def _mean(values: Sequence[Floats]) -> Floats:
    mean: Floats = np.mean(np.stack(values), axis=0)
    return mean


def _largest(costs: Sequence[Result]) -> dict[str, int | bool]:
    return {
        name: all(c[name] for c in costs) if isinstance(costs[0][name], bool) else max(c[name] for c in costs)
        for name in costs[0]
    }


def _cycles(boards: Sequence[Result]) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for board in boards[0] if boards else ():
        cycles = [of_seed[board]["modelled_cycles"] for of_seed in boards]
        found[board] = None if None in cycles else max(cycles)
    return found


def costs_of(row: Row) -> dict[str, float]:
    """What accuracy is held against: bytes of the C (constants and working memory), modelled cycles by board."""
    found: dict[str, float] = {}
    if row.c is not None:
        found["C bytes"] = row.c["constant_bytes"] + row.c["arena_bytes"]
    found.update({f"cycles on {board}": cycles for board, cycles in row.cycles.items() if cycles is not None})
    return found


def fronts(rows: Sequence[Row], shots: int) -> dict[str, tuple[str, ...]]:
    """By cost: the labels of the rows on its Pareto front against accuracy, cheapest first."""
    measured = [row for row in rows if row.status == "measured"]
    names = dict.fromkeys(name for row in measured for name in costs_of(row))
    found = {}
    for name in names:
        points = [(costs_of(row)[name], row) for row in measured if name in costs_of(row)]
        front = pareto_front([(cost, row.shots[shots].accuracy.mean) for cost, row in points])
        found[name] = tuple(points[i][1].label for i in sorted(front, key=lambda i: (points[i][0], i)))
    return found
