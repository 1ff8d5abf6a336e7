"""`pefslc fewshot classify`: the class of each picture, how near it is, and the next one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pefslc.console.fewshot_options import (
    build_and_state,
    debug_option,
    engine_option,
    open_system,
    picture_files,
    read_all,
    threshold_option,
)
from pefslc.console.loading import LoadingCommand

if TYPE_CHECKING:
    from pefslc.fewshot.head.classifier import Decision
    from pefslc.fewshot.head.state import HeadState

__all__ = ["classify"]


@click.command(
    "classify",
    cls=LoadingCommand,
    loads="pefslc.fewshot.system.system",
    short_help="which class pictures show",
)
@build_and_state
@click.argument("pictures", nargs=-1, type=click.Path())
@click.option(
    "--threshold",
    callback=threshold_option,
    metavar="T",
    help="reject what is not near enough: for cosine the least squared cosine, 0 to 1; for euclid the largest squared "
    "distance, in steps of the feature codes",
)
@click.option("--vote", is_flag=True, help="PICTURES show one thing: print the class that most of them get")
@click.option("--json", "as_json", is_flag=True, help="print JSON, for tools; scores are exact")
@engine_option
@click.option("-q", "--quiet", is_flag=True, help="no notes beside the result")
@debug_option
def classify(
    build: str,
    state: str,
    pictures: tuple[str, ...],
    threshold: Fraction | None,
    vote: bool,
    as_json: bool,
    engine: str,
    quiet: bool,
    debug: bool,
) -> None:
    """Say what PICTURES, files or folders of them, show: of the classes in the file STATE, the nearest one. BUILD is
    the folder of the system.
    """
    del debug  # read by cli.run
    from pefslc.diagnostics.error_codes import Code
    from pefslc.diagnostics.errors import CompileError
    from pefslc.fewshot.head.scores import check_threshold

    files = picture_files(pictures)
    if not files:
        raise CompileError(Code.NO_SHOTS, "there are no pictures to recognise", hint="name their files, or a folder")
    system = open_system(build, engine, quiet=quiet)
    check_threshold(system.spec, threshold)
    learned = system.load_state(Path(state))
    _require_classes(learned, state, quiet=quiet or threshold is not None)
    codes = system.codes(read_all(files))
    decisions = [learned.classifier.classify(q, threshold=threshold, with_scores=True) for q in codes]
    found = [_Recognised(learned, path, decision) for path, decision in zip(files, decisions, strict=True)]
    if as_json:
        _print_json(system.engine, system.description.ncm, threshold, learned, found, vote)
        return
    _print_table(learned, found)
    if vote:
        winner, votes = _vote(found)
        said = "none of them" if winner is None else found[0].called(winner)
        print(f"\nvote: {said}, {votes} of {len(found)} frames")


def _require_classes(learned: HeadState, state: str, *, quiet: bool) -> None:
    """A class that has shots; a word about one that has nothing to be told from."""
    from pefslc.diagnostics.error_codes import Code
    from pefslc.diagnostics.errors import CompileError, quote
    from pefslc.fewshot.system.classes import label

    with_shots = [c for c in learned.classifier.classes if learned.classifier.shots(c)]
    if not with_shots:
        raise CompileError(
            Code.HEAD_CLASS, f"{quote(Path(state))} has no class with shots", hint="pefslc fewshot enrol learns some"
        )
    if len(with_shots) == 1 and not quiet:
        name = quote(label(learned, with_shots[0]))
        click.echo(
            f"note: {name} is the only class: every picture is one; enrol another class, or give --threshold", err=True
        )


class _Recognised:
    """One picture and what was decided."""

    def __init__(self, learned: HeadState, path: Path, decision: Decision) -> None:
        scores = decision.scores
        assert scores is not None
        assert decision.nearest is not None
        self._learned = learned
        self.path = path
        self.class_id = decision.class_id
        self.nearest = decision.nearest
        self.score = scores[decision.nearest]
        others = sorted(((-score, c) for c, score in scores.items() if c != decision.nearest))
        self.runner_up = others[0][1] if others else None
        self.runner_up_score = -others[0][0] if others else None

    def called(self, class_id: int) -> str:
        from pefslc.fewshot.system.classes import label

        return label(self._learned, class_id)

    def to_json(self) -> dict[str, object]:
        """Scores are exact: "numerator/denominator"."""
        return {
            "picture": str(self.path),
            "class": None if self.class_id is None else self.called(self.class_id),
            "class_id": self.class_id,
            "nearest": self.called(self.nearest),
            "score": str(self.score),
            "runner_up": None if self.runner_up is None else self.called(self.runner_up),
            "runner_up_score": None if self.runner_up_score is None else str(self.runner_up_score),
        }


def _print_table(learned: HeadState, found: Sequence[_Recognised]) -> None:
    from pefslc.diagnostics.errors import quote
    from pefslc.diagnostics.text_table import plain_table
    from pefslc.fewshot.head.spec import HeadKind

    cosine = learned.spec.kind is HeadKind.COSINE

    def shown(score: Fraction) -> str:
        return f"{float(score):.4f}" if cosine else f"{float(-score):.6g}"

    rows = []
    for one in found:
        said = one.called(one.nearest) if one.class_id is not None else f"none (nearest: {one.called(one.nearest)})"
        second = ("", "")
        if one.runner_up is not None and one.runner_up_score is not None:
            second = one.called(one.runner_up), shown(one.runner_up_score)
        rows.append((quote(one.path)[1:-1], said, shown(one.score), *second))
    measure = "squared cosine" if cosine else "squared distance"
    print(plain_table(("picture", "class", measure, "runner-up", measure), rows, frozenset((2, 4))))


def _vote(found: Sequence[_Recognised]) -> tuple[int | None, int]:
    """The class that most frames are given to, and how many they are."""
    from pefslc.fewshot.head.classifier import vote

    decisions = [one.class_id for one in found]
    winner = vote(decisions)
    return winner, decisions.count(winner)


def _print_json(
    engine: str,
    ncm: str,
    threshold: Fraction | None,
    learned: HeadState,
    found: Sequence[_Recognised],
    vote: bool,
) -> None:
    content: dict[str, object] = {
        "engine": engine,
        "ncm": ncm,
        "measure": "squared cosine" if learned.spec.kind == "cosine" else "minus squared distance in steps of the code",
        "threshold": None if threshold is None else str(threshold),
        "pictures": [one.to_json() for one in found],
    }
    if vote:
        winner, votes = _vote(found)
        content["vote"] = {"class": None if winner is None else found[0].called(winner), "frames": votes}
    print(json.dumps(content, indent=1))
