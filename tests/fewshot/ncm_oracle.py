"""Nearest class mean from its definition, in rationals: means, a centre, cosines and distances; no common denominators.

The oracle of every integer head: of the evaluation of episodes, the Python classifier, and what is emitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

Vector = Sequence[Fraction | int]


def dot(x: Vector, y: Vector) -> Fraction:
    return sum((Fraction(a) * b for a, b in zip(x, y, strict=True)), Fraction(0))


def minus(x: Vector, y: Vector) -> list[Fraction]:
    return [Fraction(a) - b for a, b in zip(x, y, strict=True)]


def mean(vectors: Sequence[Vector]) -> list[Fraction]:
    return [Fraction(sum(column), len(vectors)) for column in zip(*vectors, strict=True)]


def cosine_score(shots: Sequence[Vector], query: Vector, centre: Vector) -> Fraction:
    """cos |cos| of (mean - centre, query - centre), times |query - centre|^2; 0 for a mean at the centre.

    Increasing in the cosine, and rational.
    """
    prototype, point = minus(mean(shots), centre), minus(query, centre)
    a, square = dot(prototype, point), dot(prototype, prototype)
    return a * abs(a) / square if square else Fraction(0)


def euclid_score(shots: Sequence[Vector], query: Vector) -> Fraction:
    """The squared distance to the mean, negated."""
    difference = minus(query, mean(shots))
    return -dot(difference, difference)


def scores(
    kind: str, shots: Mapping[int, Sequence[Vector]], query: Vector, centre: Sequence[int] = (), fraction_bits: int = 0
) -> dict[int, Fraction]:
    """By class id, of the classes that have shots.

    kind  "cosine" (its centre is centre / 2^fraction_bits) or "euclid"
    """
    point = [Fraction(m, 1 << fraction_bits) for m in centre]
    return {
        c: cosine_score(vectors, query, point) if kind == "cosine" else euclid_score(vectors, query)
        for c, vectors in shots.items()
        if vectors
    }


def decide(by_class: Mapping[int, Fraction]) -> tuple[int, bool]:
    """(the lowest id with the best score, whether others have it)."""
    best = max(by_class.values())
    ids = sorted(c for c, score in by_class.items() if score == best)
    return ids[0], len(ids) > 1
