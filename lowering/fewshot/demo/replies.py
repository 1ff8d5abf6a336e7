"""What the server answers, as JSON: page/api.js reads it. Scores are told twice, rounded and as exact fractions."""

from __future__ import annotations

from base64 import b64encode
from fractions import Fraction

from pefslc.artifacts.sidecar import Json, JsonObject
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.demo.session import DemoSession, LearnedClass, Recognition

__all__ = ["classes_json", "problem_json", "recognition_json", "system_json"]


def system_json(session: DemoSession) -> JsonObject:
    """What does not change while the page is open."""
    description = session.system.description
    spec = description.spec
    return {
        "name": description.name,
        "ncm": description.ncm,
        "kind": spec.kind.value,
        "height": description.height,
        "width": description.width,
        "features": spec.dimension,
        "state": None if session.path is None else str(session.path),
        "board": None if session.board is None else session.board.to_json(),
    }


def classes_json(classes: tuple[LearnedClass, ...]) -> list[Json]:
    return [{"id": c.class_id, "name": c.name, "shots": c.shots, "undoable": c.undoable} for c in classes]


def recognition_json(found: Recognition) -> JsonObject:
    """`seen` is the fitted frame: base64 of its bytes, RGB, row by row."""
    height, width, _ = found.fitted.shape
    return {
        "class": found.class_id,
        "nearest": found.nearest,
        "voted": found.voted,
        "scores": [_score(class_id, score) for class_id, score in found.scores.items()],
        "milliseconds": found.milliseconds,
        "seen": {"height": height, "width": width, "rgb": b64encode(found.fitted.tobytes()).decode()},
    }


def _score(class_id: int, score: Fraction) -> JsonObject:
    return {"class": class_id, "score": float(score), "exact": str(score)}


def problem_json(error: CompileError) -> JsonObject:
    first = error.problems[0]
    return {"error": {"code": first.code.number, "message": first.message, "hint": first.hint}}
