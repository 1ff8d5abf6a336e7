"""Nearest class mean by its definition, in fractions, over lists of shots: shares nothing with pefslc but the spec."""

from __future__ import annotations

from fractions import Fraction

from pefslc.fewshot.head.spec import HeadKind, HeadSpec

Vector = tuple[int, ...]


class Oracle:
    """Every shot is kept; means, angles and distances are computed from the beginning."""

    def __init__(self, spec: HeadSpec) -> None:
        self.spec = spec
        self.shots: dict[int, list[Vector]] = {}

    def scores(self, query: Vector) -> dict[int, Fraction]:
        """The squared cosine with the cosine's sign, or minus the squared distance, of each class that has shots."""
        found = {}
        for class_id, shots in self.shots.items():
            if not shots:
                continue
            mean = [Fraction(sum(column), len(shots)) for column in zip(*shots, strict=True)]
            if self.spec.kind is HeadKind.EUCLID:
                found[class_id] = -sum(((x - y) ** 2 for x, y in zip(mean, query, strict=True)), Fraction(0))
                continue
            centre = [Fraction(m, 2**self.spec.fraction_bits) for m in self.spec.centre]
            u = [x - m for x, m in zip(mean, centre, strict=True)]
            v = [x - m for x, m in zip(query, centre, strict=True)]
            dot = sum((x * y for x, y in zip(u, v, strict=True)), Fraction(0))
            lengths = sum((x * x for x in u), Fraction(0)) * sum((x * x for x in v), Fraction(0))
            found[class_id] = dot * abs(dot) / lengths if lengths else Fraction(0)
        return found

    def classify(self, query: Vector, threshold: Fraction | None) -> int | None:
        scores = self.scores(query)
        if not scores:
            return None
        best = max(scores.values())
        winner = min(c for c, score in scores.items() if score == best)
        if threshold is None:
            return winner
        # A threshold on the cosine is one on a cosine that is not negative.
        least = threshold if self.spec.kind is HeadKind.COSINE else -threshold
        return winner if best >= least else None
