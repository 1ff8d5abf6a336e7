"""Stages that the host applies, as JSON: exact, each rational a string "numerator/denominator"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from pefslc.artifacts.signed_json import Json
from pefslc.numeric.stages import Affine, ClipStage, LeakyReluStage, Stage

__all__ = ["stages_from", "stages_json"]

_AFFINE = ("factor", "addend", "radicand", "offset")


def stages_json(stages: Sequence[Stage]) -> list[Json]:
    """A record for each stage: {"affine": ...}, {"clip": [low or null, high or null]} or {"leaky_relu": slopes}."""
    return [_to_json(stage) for stage in stages]


def _to_json(stage: Stage) -> Json:
    match stage:
        case Affine():
            return {"affine": {name: [str(v) for v in getattr(stage, name)] for name in _AFFINE}}
        case ClipStage():
            return {"clip": [None if limit is None else str(limit) for limit in (stage.low, stage.high)]}
        case LeakyReluStage():
            return {"leaky_relu": [str(alpha) for alpha in stage.alphas]}
    raise AssertionError("no host applies it")


def stages_from(content: object) -> tuple[Stage, ...]:
    """The stages of such records. Raises KeyError, TypeError or ValueError for anything else."""
    if not isinstance(content, list):
        raise TypeError("not a list")
    return tuple(_from_json(record) for record in content)


def _from_json(record: Mapping[str, object]) -> Stage:
    ((kind, content),) = record.items()
    match kind, content:
        case "affine", dict():
            factor, *others = (_rationals(content[name]) for name in _AFFINE)
            if any(len(part) != len(factor) for part in others):
                raise ValueError("four lists of different lengths")
            return Affine(factor, *others)
        case "clip", [low, high]:
            return ClipStage(*(None if limit is None else Fraction(str(limit)) for limit in (low, high)))
        case "leaky_relu", _:
            return LeakyReluStage(_rationals(content))
    raise ValueError("no stage")


def _rationals(content: object) -> tuple[Fraction, ...]:
    if not isinstance(content, list) or not content:
        raise TypeError("not a list of rationals")
    return tuple(Fraction(str(v)) for v in content)
