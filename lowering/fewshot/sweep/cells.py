"""The cells of a sweep, and the tasks that compute them: each a pure function of its text and of earlier results.

A float network is trained once for each seed, pruned and tuned once for each way of pruning; its cells share it, and
PTQ and QAT share the formats that were chosen for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.sweep.mixed_format import backbone_format
from pefslc.fewshot.sweep.setting import Setting

__all__ = ["Cell", "Kind", "Method", "Prune", "Task", "cell_task", "cells_of", "tasks_of"]


class Method(StrEnum):
    FLOAT = "float"  # the network as it was trained
    PTQ = "ptq"  # its quantizers put in, and no more
    QAT = "qat"  # trained on with them


class Kind(StrEnum):
    """What a task computes: a float backbone as `trained_to_bytes` (TRAINING, PRUNING), formats of its tensors as JSON
    (FORMATS), a quantized one as `Quantized` (QUANTIZING), a result as JSON (CELL).
    """

    TRAINING = "training"
    PRUNING = "pruning"
    FORMATS = "formats"
    QUANTIZING = "quantizing"
    CELL = "cell"


@dataclass(frozen=True, slots=True, order=True)
class Prune:
    """Channels inside of blocks cut to about `share` of them, in multiples of `array`, and tuned."""

    share: float
    array: int

    def __str__(self) -> str:
        return f"{self.share:g}:{self.array}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One network to be measured.

    fmt      "Q2.3": Qm.n everywhere, UQm.n after a ReLU; "auto:3": a format a tensor, from data; "mixed:3": of 3 bits
             in the mean; "" for FLOAT
    distill  what follows the float training (pruning, QAT) follows the float network, too
    seed     of all trainings

    Raises CompileError for what makes no sense together.
    """

    method: Method
    fmt: str = ""
    distill: bool = False
    prune: Prune | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.method is Method.FLOAT) is not (self.fmt == ""):
            raise CompileError(
                Code.SWEEP,
                f"{self.method} {'with the format ' + self.fmt if self.fmt else 'without a format'}",
                hint="Q2.3, auto:3 or mixed:3 for ptq and qat, none for float",
            )
        if self.distill and self.method is not Method.QAT and self.prune is None:
            raise CompileError(
                Code.SWEEP, f"{self.method} is distilled without a training", hint="distil qat, or what is pruned"
            )
        if self.fmt:
            object.__setattr__(self, "fmt", str(backbone_format(self.fmt)))  # one spelling, one cell

    @property
    def bits(self) -> int | None:
        """Of a tensor, with "mixed:" in the mean; None in float."""
        return backbone_format(self.fmt).bits if self.fmt else None

    @property
    def label(self) -> str:
        """Without the seed."""
        words = [str(self.method) if self.method is Method.FLOAT else f"{self.method.upper()} {self.fmt}"]
        words += [f"pruned {self.prune}"] * (self.prune is not None)
        return " ".join(words + ["distilled"] * self.distill)

    def to_json(self) -> dict[str, object]:
        prune = None if self.prune is None else [self.prune.share, self.prune.array]
        return {
            "method": str(self.method), "fmt": self.fmt, "distill": self.distill, "prune": prune, "seed": self.seed,
        }  # fmt: skip

    @classmethod
    def from_json(cls, content: dict[str, object]) -> Cell:
        """What `to_json` made."""
        fields = dict(content)
        prune = fields["prune"]
        fields["prune"] = Prune(float(prune[0]), int(prune[1])) if isinstance(prune, list) else None
        return cls(**{**fields, "method": Method(str(fields["method"]))})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Task:
    """A pure function's arguments: a text, and the results of `needs`.

    text    JSON that, with the keys of `needs`, decides the result
    weight  relative work, for the time that is left
    """

    kind: Kind
    text: str
    needs: tuple[Task, ...] = ()
    weight: float = 1.0
    label: str = ""

    @property
    def key(self) -> str:
        """SHA-256, in hex, of everything that decides the result."""
        return sha256("\n".join([self.kind, self.text, *(task.key for task in self.needs)]).encode()).hexdigest()


def cells_of(
    methods: Sequence[Method],
    formats: Sequence[str],
    seeds: Sequence[int],
    distill: Sequence[bool] = (False,),
    prunes: Sequence[Prune | None] = (None,),
) -> tuple[Cell, ...]:
    """All combinations that make sense, each once: PTQ of what is not pruned is not distilled, float has no format."""
    found: dict[Cell, None] = {}
    for seed in seeds:
        for prune in prunes:
            for method in methods:
                for fmt in [""] if method is Method.FLOAT else formats:
                    for distilled in distill:
                        trained_on = method is Method.QAT or prune is not None
                        cell = Cell(method=method, fmt=fmt, distill=distilled and trained_on, prune=prune, seed=seed)
                        found[cell] = None
    return tuple(found)


def cell_task(setting: Setting, cell: Cell) -> Task:
    """The task of a cell: to measure a network, on top of the tasks that make it. Other episodes or boards measure the
    same networks again.
    """
    whole = setting.to_json()
    shared = {name: whole[name] for name in ("data", "data_digest", "description", "versions", "form")}
    network = _network_task(setting, cell, shared)
    text = _text({**shared, **{name: whole[name] for name in ("measurement", "boards")}, "cell": cell.to_json()})
    return Task(Kind.CELL, text, (network,), 1, f"{cell.label}, seed {cell.seed}: measured")


def _network_task(setting: Setting, cell: Cell, shared: dict[str, object]) -> Task:
    """What makes the network of a cell, with the float networks that it needs: its start, and whom it follows."""
    recipe, tuning = json.loads(setting.recipe), json.loads(setting.tuning)
    named = f"seed {cell.seed}: trained"
    training = Task(
        Kind.TRAINING,
        _text({**shared, "recipe": recipe, "seed": cell.seed}),
        (),
        float(recipe["epochs"]) + 0.5,
        f"{Method.FLOAT}, {named}",
    )
    floating = training
    if cell.prune is not None:
        how = {"prune": [cell.prune.share, cell.prune.array], "distill": cell.distill, "seed": cell.seed}
        floating = Task(
            Kind.PRUNING,
            _text({**shared, "tuning": tuning, **how}),
            (training,),
            float(tuning["epochs"]) + 0.5,
            f"{Method.FLOAT} pruned {cell.prune}{' distilled' * cell.distill}, {named}",
        )
    if cell.method is Method.FLOAT:
        return floating
    formats = Task(
        Kind.FORMATS,
        _text({**shared, "fmt": cell.fmt}),
        (floating,),
        0.5,
        f"{cell.fmt}, seed {cell.seed}: formats chosen",
    )
    trains = cell.method is Method.QAT
    text = _text({**shared, "cell": cell.to_json(), **({"tuning": tuning} if trains else {})})
    teacher = (training,) if trains and cell.distill and floating is not training else ()
    weight = 0.1 + float(tuning["epochs"]) * trains
    return Task(
        Kind.QUANTIZING, text, (floating, formats, *teacher), weight, f"{cell.label}, seed {cell.seed}: quantized"
    )


def tasks_of(setting: Setting, cells: Sequence[Cell]) -> tuple[Task, ...]:
    """The tasks of all cells, in their order, each with those that it needs."""
    return tuple(cell_task(setting, cell) for cell in cells)


def _text(content: object) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))
