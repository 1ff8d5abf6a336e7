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
from pefslc.fewshot.head.scores import Exact, nearest
from pefslc.fewshot.head.spec import HeadKind
from pefslc.numeric.accumulate import fits_int64, largest_magnitude

__all__ = ["IntegerNcm"]

Integers = NDArray[np.int64]

_FLOAT64_INTEGERS = 1 << 53


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

        def decide(supports: Integers, queries: Integers) -> Decisions:
            sums = vectors[supports].sum(axis=2)
            products = vectors[queries] @ sums.transpose(0, 2, 1)
            norms = np.einsum("ewd,ewd->ew", sums, sums)[:, None, :]
            if self.kind is HeadKind.COSINE:  # where A is 0 so is a
                return Decisions(*nearest(self.kind, products, np.broadcast_to(np.maximum(norms, 1), products.shape)))
            scores = products * (2 * shots)
            scores -= norms
            return Decisions(*nearest(self.kind, scores, np.ones_like(scores)))  # all classes have as many shots

        return decide


def _beyond_64_bits(shots: int) -> CompileError:
    return CompileError(
        Code.FEATURES,
        f"sums of {shots} shots of these codes and their products need more than 64 bits",
        hint="features of fewer bits, fewer fraction bits of the centre, or fewer shots",
    )
