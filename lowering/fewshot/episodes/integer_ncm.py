"""Nearest class mean on feature codes, in integers: the decisions of exact arithmetic on many episodes at once.

Codes q have one scale and the zero point 0, so that both drop out. With the sum S_c of the n supports of class c and
the centre m (2^f times a mean code):

cosine    P_c = 2^f S_c - n m, Q = 2^f q - m; the score is sign(a) a^2 / A with a = <P_c, Q>, A = <P_c, P_c>, and 0
          where A = 0. It is the cosine of PEFSL's order (average, centre, put on the sphere), squared with its sign,
          times <Q, Q>, which all classes share: no root and no norm of the query is needed.
euclid    (2 n <q, S_c> - <S_c, S_c>) / n^2: the squared distance to the mean, negated, plus <q, q>, which all share.
          All classes of an episode have n supports, so the numerators are compared. A centre would change nothing.

Among equal scores the first class wins; episodes list classes by id.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.episodes.centre import IntegerCentre
from pefslc.fewshot.episodes.decisions import Decide, Decisions
from pefslc.fewshot.episodes.features import integer_features
from pefslc.fewshot.head.spec import HeadKind
from pefslc.numeric.accumulate import fits_int64, largest_magnitude

__all__ = ["IntegerNcm"]

Integers = NDArray[np.int64]
Exact = NDArray[np.float64] | NDArray[np.int64]  # integers, in the type that holds every partial sum exactly
Floats = NDArray[np.float64]

_FLOAT64_INTEGERS = 1 << 53
# With u = 2^-53 a score in float64 is off by the factor (1 + u)^6 at most: three roundings of a, a and A to float64
# (where they are int64), one of the product, one of the quotient, one to spare: less than 2^-50. Scores that are
# farther apart than twice that, relative to the best, are in the right order.
_DOUBT = 2.0**-48


@dataclass(frozen=True, slots=True)
class IntegerNcm:
    """The head that is compiled. `centre` is for the cosine, and needed there."""

    kind: HeadKind
    centre: IntegerCentre | None = None

    def __post_init__(self) -> None:
        if self.kind is HeadKind.COSINE and self.centre is None:
            raise CompileError(
                Code.FEATURES, "the centred cosine needs a centre", hint="IntegerCentre.mean(base codes), or .none(D)"
            )
        if self.kind is HeadKind.EUCLID and self.centre is not None:
            raise CompileError(Code.FEATURES, "a centre changes no Euclidean distance", hint="leave it out")

    @property
    def name(self) -> str:
        if self.kind is HeadKind.EUCLID:
            return "integer NCM, Euclidean, centre: none"
        return f"integer NCM, cosine in PEFSL's order, centre: {self.centre}"

    def prepare(self, features: NDArray[np.generic], shots: int) -> Decide:
        """What decides on episodes of codes [N, D]. Raises CompileError for what is none, and beyond 64 bits."""
        codes = integer_features(features, "features")
        dimension = codes.shape[1]
        shift, subtracted = 0, (0,) * dimension
        if self.centre is not None:
            shift, subtracted = self.centre.fraction_bits, self.centre.codes
        if len(subtracted) != dimension:
            raise CompileError(
                Code.FEATURES,
                f"features have {dimension} entries, and the centre has {len(subtracted)}",
                hint="a centre of features of the same network",
            )
        largest = (largest_magnitude(codes) << shift) + max(abs(m) for m in subtracted)
        if not fits_int64(largest):
            raise _beyond_64_bits(shots)
        centred = (codes << shift) - np.array(subtracted, dtype=np.int64)
        if not fits_int64(dimension * largest_magnitude(centred) ** 2):
            raise _beyond_64_bits(shots)
        # By Cauchy and Schwarz no partial sum of <P, Q> exceeds |P| |Q| <= n bound, none of <P, P> n^2 bound.
        bound = int(np.einsum("nd,nd->n", centred, centred).max())
        needed = shots * shots * bound * (3 if self.kind is HeadKind.EUCLID else 1)
        if not fits_int64(needed):
            raise _beyond_64_bits(shots)
        vectors: Exact = centred.astype(np.float64) if needed <= _FLOAT64_INTEGERS else centred
        euclid = self.kind is HeadKind.EUCLID

        def decide(supports: Integers, queries: Integers) -> Decisions:
            sums = vectors[supports].sum(axis=2)
            products = vectors[queries] @ sums.transpose(0, 2, 1)
            norms = np.einsum("ewd,ewd->ew", sums, sums)[:, None, :]
            if not euclid:
                return _nearest_by_cosine(products, np.broadcast_to(norms, products.shape))
            scores = products * (2 * shots)
            scores -= norms
            return Decisions(*_first_best(scores))

        return decide


def _beyond_64_bits(shots: int) -> CompileError:
    return CompileError(
        Code.FEATURES,
        f"sums of {shots} shots of these codes and their products need more than 64 bits",
        hint="features of fewer bits, fewer fraction bits of the centre, or fewer shots",
    )


def _first_best(scores: Exact) -> tuple[Integers, NDArray[np.bool_]]:
    """(the first position of the best, whether there are others) along the last axis."""
    best = scores.argmax(axis=-1)
    equal = scores == np.take_along_axis(scores, best[..., None], axis=-1)
    return best, np.count_nonzero(equal, axis=-1) > 1


def _nearest_by_cosine(a: Exact, norms: Exact) -> Decisions:
    """The decisions by sign(a) a^2 / A, from a and A [E, queries, ways]."""
    scores = a.astype(np.float64)
    scores *= np.abs(scores)
    scores /= np.maximum(norms, 1)  # where A is 0 so is a
    best = scores.argmax(axis=-1)
    top = np.take_along_axis(scores, best[..., None], axis=-1)
    near = scores >= top - _DOUBT * np.abs(top)
    tied = np.zeros(best.shape, dtype=np.bool_)
    at = np.nonzero(np.count_nonzero(near, axis=-1) > 1)
    if at[0].size:
        best[at], tied[at] = _exactly_best(a[at].astype(np.int64), norms[at].astype(np.int64))
    return Decisions(best, tied)


def _exactly_best(a: Integers, norms: Integers) -> tuple[Integers, NDArray[np.bool_]]:
    """(the first position of the highest sign(a) a^2 / A, whether others equal it), of rows [R, ways]."""
    wide = a.astype(object)
    numerators, denominators = wide * np.abs(wide), np.maximum(norms, 1).astype(object)
    best = np.zeros(len(a), dtype=np.int64)
    numerator, denominator = numerators[:, 0], denominators[:, 0]
    tied = np.zeros(len(a), dtype=np.bool_)
    for position in range(1, a.shape[1]):
        left, right = numerators[:, position] * denominator, numerator * denominators[:, position]
        greater = np.asarray(left > right, dtype=np.bool_)
        tied = (tied | np.asarray(left == right, dtype=np.bool_)) & ~greater
        best = np.where(greater, position, best)
        numerator = np.where(greater, numerators[:, position], numerator)
        denominator = np.where(greater, denominators[:, position], denominator)
    return best, tied
