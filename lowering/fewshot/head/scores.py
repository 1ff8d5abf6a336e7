"""The arithmetic of spec.py on arrays, and the comparisons that decide: exact, without division and without roots.

int64 holds every number of `Similarities` (`bounds_of` proved it). Products of a comparison are wider: Python integers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote_given
from pefslc.fewshot.head.spec import MOST_RATIO, HeadKind, HeadSpec

__all__ = [
    "Score", "Similarities", "accepts", "check_threshold", "nearest", "nearest_of_each",
    "parse_threshold", "similarities",
]  # fmt: skip

Codes = NDArray[np.int64]
Flags = NDArray[np.bool_]
Exact = NDArray[np.float64] | NDArray[np.int64]  # integers, in a type that holds them exactly

_EXACT_FLOAT = 1 << 53  # float64 holds every integer below, so sums below are exact in any order
# sign(a) a^2 / A in float64: a, a, the product, A and the quotient are each rounded once, by at most 2^-53 of their
# size (nothing underflows: the least is 2^-63). Five roundings are below 2^-50, of the exact value; so below 2^-49 of
# the computed one. Two scores whose difference exceeds 2^-48 of the sum of their sizes are in the right order, though
# that difference, that sum and the product are rounded, too. a / A has fewer roundings.
_MARGIN = 2.0**-48
_LONGEST_NUMBER = 40  # characters of a threshold
_LARGE_EXPONENT = re.compile(r"[eE][+-]?[\d_]{3}")  # 1e999999999 is a number that fills the memory


class Score(NamedTuple):
    """value / weight, weight >= 1: how near a class is, larger is nearer."""

    value: int
    weight: int


@dataclass(frozen=True, slots=True)
class Similarities:
    """Queries against classes.

    a           [queries, classes]
    weights     [classes]: A, where A = 0 counts as 1: the score of a prototype at the centre is then 0 / 1
    query_norm  [queries]: <Q, Q>
    """

    kind: HeadKind
    a: Codes
    weights: Codes
    query_norm: Codes

    def score(self, query: int, column: int) -> Score:
        a = int(self.a[query, column])
        return Score(a * abs(a) if self.kind is HeadKind.COSINE else a, int(self.weights[column]))

    def as_fraction(self, query: int, column: int) -> Fraction:
        """What a threshold is compared with.

        cosine  the squared cosine with the sign of the cosine, in [-1, 1]; 0 for a prototype or a query at the centre
        Euclid  minus the squared distance in steps of the code
        """
        value, weight = self.score(query, column)
        norm = int(self.query_norm[query])
        if self.kind is HeadKind.COSINE:
            return Fraction(value, weight * max(norm, 1))
        return Fraction(value, weight) - norm


def similarities(spec: HeadSpec, counts: Codes, sums: Codes, codes: Codes) -> Similarities:
    """Compare queries with classes.

    counts  [classes] shots, at least 1
    sums    [classes, dimension] of their codes
    codes   [queries, dimension]
    """
    centre = spec.centre_codes
    prototypes = (sums << spec.fraction_bits) - counts[:, None] * centre
    queries = (codes << spec.fraction_bits) - centre
    products = _products(queries, prototypes)
    prototype_norm = (prototypes * prototypes).sum(axis=1)
    query_norm = (queries * queries).sum(axis=1)
    if spec.kind is HeadKind.COSINE:
        return Similarities(spec.kind, products, np.maximum(prototype_norm, 1), query_norm)
    return Similarities(spec.kind, 2 * counts * products - prototype_norm, counts * counts, query_norm)


def _products(queries: Codes, prototypes: Codes) -> Codes:
    """<Q, P> [queries, classes]. Integers have no fast product of matrices; floats have, and may be exact."""
    if not len(queries) or not len(prototypes):
        return np.zeros((len(queries), len(prototypes)), dtype=np.int64)
    largest = np.abs(queries).max(axis=0) * np.abs(prototypes).max(axis=0)
    if sum(largest.tolist()) < _EXACT_FLOAT:
        return (queries.astype(np.float64) @ prototypes.T.astype(np.float64)).astype(np.int64)
    return queries @ prototypes.T


def nearest_of_each(found: Similarities) -> Codes:
    """The column of the nearest class for each query, the lowest where several are equally near; there is a class."""
    return nearest(found.kind, found.a, np.broadcast_to(found.weights, found.a.shape))[0]


def nearest(kind: HeadKind, a: Exact, weights: Exact) -> tuple[Codes, Flags]:
    """(the first position of the nearest class, whether others are as near) along the last axis.

    a, weights  [..., classes] integers, weights at least 1: by sign(a) a^2 / A for the cosine, a / A for Euclid
    """
    scores = a.astype(np.float64)
    if kind is HeadKind.COSINE:
        scores *= np.abs(scores)
    scores /= weights
    positions = scores.argmax(axis=-1).astype(np.int64)
    best = np.take_along_axis(scores, positions[..., None], axis=-1)
    in_doubt = best - scores <= _MARGIN * (np.abs(best) + np.abs(scores))
    tied = np.zeros(positions.shape, dtype=np.bool_)
    at = np.nonzero(np.count_nonzero(in_doubt, axis=-1) > 1)
    if at[0].size:
        positions[at], tied[at] = _exactly_nearest(kind, a[at].astype(np.int64), weights[at].astype(np.int64))
    return positions, tied


def _exactly_nearest(kind: HeadKind, a: Codes, weights: Codes) -> tuple[Codes, Flags]:
    """`nearest` of rows [R, classes], in integers of any size."""
    values, wide = a.astype(object), weights.astype(object)
    if kind is HeadKind.COSINE:
        values = values * np.abs(values)
    best, tied = np.zeros(len(a), dtype=np.int64), np.zeros(len(a), dtype=np.bool_)
    value, weight = values[:, 0], wide[:, 0]
    for position in range(1, a.shape[1]):
        ours, theirs = values[:, position] * weight, value * wide[:, position]
        nearer = np.asarray(ours > theirs, dtype=np.bool_)
        tied = (tied | np.asarray(ours == theirs, dtype=np.bool_)) & ~nearer
        best = np.where(nearer, position, best)
        value, weight = np.where(nearer, values[:, position], value), np.where(nearer, wide[:, position], weight)
    return best, tied


def accepts(found: Similarities, query: int, column: int, threshold: Fraction | None) -> bool:
    """Whether a class is near enough to a query.

    cosine  a >= 0 and a^2 d >= t A <Q, Q> for a threshold t / d on the squared cosine
    Euclid  (A <q, q> - a) d <= t A for a threshold t / d on the squared distance, in squared steps of the code

    A = 0 and <Q, Q> = 0 count as 1: the cosine of nothing is 0, which no positive threshold accepts.
    """
    if threshold is None:
        return True
    t, d = threshold.numerator, threshold.denominator
    a, weight, norm = int(found.a[query, column]), int(found.weights[column]), int(found.query_norm[query])
    if found.kind is HeadKind.COSINE:
        return a >= 0 and a * a * d >= t * weight * max(norm, 1)
    return (weight * norm - a) * d <= t * weight


def parse_threshold(text: str) -> Fraction:
    """The decimal or the fraction that a user wrote, exactly. Raises CompileError."""
    try:
        if len(text) > _LONGEST_NUMBER or _LARGE_EXPONENT.search(text):
            raise ValueError
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise CompileError(
            Code.HEAD_THRESHOLD, f"the threshold {quote_given(text)} is no number", hint="for example 0.81, or 81/100"
        ) from None


def check_threshold(spec: HeadSpec, threshold: Fraction | None) -> None:
    """Demand that the emitted code, too, can compare with `threshold`. Raises CompileError."""
    if threshold is None:
        return
    hint = "a squared cosine is in 0 to 1, such as 81/100" if spec.kind is HeadKind.COSINE else (
        "a squared distance, in squared steps of the feature codes, such as 1200"
    )  # fmt: skip
    if not isinstance(threshold, Fraction | int) or isinstance(threshold, bool):
        raise CompileError(Code.HEAD_THRESHOLD, f"{quote_given(threshold)} is no fraction", hint=hint)
    most = 1 if spec.kind is HeadKind.COSINE else MOST_RATIO
    if not 0 <= threshold <= most:
        raise CompileError(Code.HEAD_THRESHOLD, f"the threshold {threshold} is not in 0 to {most}", hint=hint)
    if threshold.denominator > MOST_RATIO or threshold.numerator > MOST_RATIO:
        raise CompileError(
            Code.HEAD_THRESHOLD,
            f"numerator or denominator of the threshold {threshold} exceed 32 bits",
            hint=f"round it to a few decimals; {hint}",
        )
