"""What a classifier computes with, and the proof that its numbers fit their words.

Codes q of a feature vector (one scale > 0, zero point 0), S the sum of a class' code vectors, n their count, m the
centre with f fraction bits:

    P = 2^f S - n m        the prototype, times n 2^f / scale
    Q = 2^f q - m          the query, times 2^f / scale
    cosine    score = sign(a) a^2 / A,   a = <P, Q>,               A = <P, P>
    Euclid    score = a / A,             a = 2 n <q, S> - <S, S>,  A = n^2       (f = 0 and m = 0: P = S, Q = q)

Cosine: the shots are averaged, centred, and the mean is put on the sphere, the order of PEFSL (arXiv 2602.12295). The
positive factors cancel or are those of all classes. Euclid: |q - S/n|^2 = <q, q> - a / A.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from operator import index

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.head.interval import Interval
from pefslc.numeric.accumulate import fits_int64
from pefslc.numeric.rounding import round_ratio

__all__ = ["LIMB_BITS", "MOST_ID", "Bounds", "HeadKind", "HeadSpec", "bounds_of", "centre_of"]

Codes = NDArray[np.int64]

LIMB_BITS = 32
MOST_ID = 2**32 - 1  # ids of classes and devices are uint32_t
MOST_RATIO = 2**32 - 1  # numerators and denominators of thresholds are, too
_MOST_FRACTION_BITS = 16
_MOST_FILE_BYTES = 2**31 - 1
_MOST_COUNT = 2**31 - 1


class HeadKind(StrEnum):
    """How near a query is to a class."""

    COSINE = "cosine"  # the angle at the centre
    EUCLID = "euclid"  # the squared distance to the mean


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSpec:
    """One classifier's arithmetic. `HeadSpec.cosine` and `HeadSpec.euclid` make it.

    dimension      features of a vector
    low, high      range of the feature codes; scale > 0, zero point 0
    centre         cosine: [dimension], about 2^fraction_bits times the mean code (`centre_of`); Euclid: ()
    fraction_bits  of the centre beyond those of a code; Euclid: 0
    max_shots      the most shots that a class may count
    max_classes    the most classes of a state
    max_devices    the most devices whose states are merged into one; at least 2

    Raises CompileError where a number is out of range, where sums leave int32, and where `a` or `A` leave int64.
    """

    kind: HeadKind
    dimension: int
    low: int
    high: int
    centre: tuple[int, ...] = ()
    fraction_bits: int = 0
    max_shots: int = 4095
    max_classes: int = 64
    max_devices: int = 16

    @classmethod
    def cosine(
        cls,
        low: int,
        high: int,
        centre: Sequence[int] | Codes,
        *,
        fraction_bits: int = 4,
        max_shots: int = 4095,
        max_classes: int = 64,
        max_devices: int = 16,
    ) -> HeadSpec:
        """Centred cosine. The centre has as many numbers as a vector has features."""
        numbers = tuple(map(index, centre))
        return cls(
            kind=HeadKind.COSINE, dimension=len(numbers), low=low, high=high, centre=numbers,
            fraction_bits=fraction_bits, max_shots=max_shots, max_classes=max_classes, max_devices=max_devices,
        )  # fmt: skip

    @classmethod
    def euclid(
        cls, dimension: int, low: int, high: int, *, max_shots: int = 4095, max_classes: int = 64, max_devices: int = 16
    ) -> HeadSpec:
        """Squared distance to the mean. It needs no centre: distances do not change when everything moves."""
        return cls(
            kind=HeadKind.EUCLID, dimension=dimension, low=low, high=high,
            max_shots=max_shots, max_classes=max_classes, max_devices=max_devices,
        )  # fmt: skip

    def __post_init__(self) -> None:
        # The proof needs integers without an end: those of NumPy would wrap.
        for name in ("dimension", "low", "high", "fraction_bits", "max_shots", "max_classes", "max_devices"):
            object.__setattr__(self, name, index(getattr(self, name)))
        object.__setattr__(self, "centre", tuple(map(index, self.centre)))
        wrong = self._wrong_numbers()
        if wrong:
            raise CompileError(Code.HEAD_SPEC, wrong, hint=_USUAL.get(wrong.partition(" ")[0]))
        wide = bounds_of(self).too_wide()
        if not wide:
            return
        most = self._most_shots()
        hint = f"max_shots={most} fits" if most else "use fewer bits a feature, or fewer fraction bits of the centre"
        raise CompileError(Code.HEAD_SPEC, f"the classifier's numbers are too wide: {wide}", hint=hint)

    def _wrong_numbers(self) -> str:
        """What is out of range; "" where nothing is."""
        for name, low, high in (
            ("dimension", 1, 2**20),
            ("fraction_bits", 0, _MOST_FRACTION_BITS),
            ("max_shots", 1, _MOST_COUNT),
            ("max_classes", 1, MOST_ID),
            ("max_devices", 2, MOST_ID),  # with one, nothing could be merged
        ):
            if not low <= getattr(self, name) <= high:
                return f"{name} = {getattr(self, name)} is not in {low} to {high}"
        if not -(2**31) <= self.low <= self.high < 2**31:
            return f"codes from {self.low} to {self.high} are no range of 32-bit integers"
        if self.kind is HeadKind.EUCLID and (self.centre or self.fraction_bits):
            return "Euclid has no centre: distances do not change when everything moves"
        if self.kind is HeadKind.COSINE and len(self.centre) != self.dimension:
            return f"the centre has {len(self.centre)} numbers, a vector {self.dimension}"
        low, high = self.low << self.fraction_bits, self.high << self.fraction_bits
        for i, m in enumerate(self.centre):
            if not max(low, -(2**31)) <= m <= min(high, 2**31 - 1):
                return f"number {i} of the centre, {m}, is not in {low} to {high}: it is no mean of codes"
        if self.file_bytes > _MOST_FILE_BYTES:
            return f"a state of {self.max_classes} classes and {self.max_devices} devices has {self.file_bytes} bytes"
        return ""

    @property
    def file_bytes(self) -> int:
        """The size of the largest state file (state_file.py)."""
        return 92 + 4 * len(self.centre) + 4 * self.max_devices + self.max_classes * (40 + 4 * self.dimension)

    @property
    def centre_codes(self) -> Codes:
        """The centre m, int64 [dimension]; zeros for Euclid."""
        return np.array(self.centre or (0,) * self.dimension, dtype=np.int64)

    def _most_shots(self) -> int:
        """The largest max_shots whose numbers fit; 0 where not even one shot does."""
        fits, too_many = 0, self.max_shots
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            fits, too_many = (fits, middle) if _derive(self, middle).too_wide() else (middle, too_many)
        return fits


_USUAL = {
    "max_shots": "the shots of a class, at most: --max-shots 4095",
    "max_classes": "the classes, at most: --max-classes 64",
    "max_devices": "the devices whose states are merged, at most: 16",
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where every number of a classifier lies, partial sums included.

    sums        S_i
    prototypes  P_i = 2^f S_i - n m_i, and both of its terms
    queries     Q_i = 2^f q_i - m_i, and both of its terms
    scores      a, and both terms of Euclid's
    weights     A
    query_norm  <Q, Q>
    distance    Euclid: n^2 |q - S/n|^2 = A <q, q> - a, and both of its terms; cosine: 0
    comparison  the largest product of a comparison: of two scores crosswise, or of a score with a threshold
    """

    sums: Interval
    prototypes: Interval
    queries: Interval
    scores: Interval
    weights: Interval
    query_norm: Interval
    distance: Interval
    comparison: int

    def too_wide(self) -> str:
        """Which number leaves the word that it is computed in; "" where all fit."""
        if self.sums.bits > 32:
            return f"a sum of shots needs {self.sums.bits} bits, an int32 has 32"
        for name in ("prototypes", "queries", "scores", "weights", "query_norm", "distance"):
            interval: Interval = getattr(self, name)
            if not fits_int64(interval.magnitude):
                return f"{_CALLED[name]} needs {interval.bits} bits, an int64 has 64"
        return ""

    @property
    def limbs(self) -> int:
        """32-bit words that hold the products of every comparison."""
        return -(-self.comparison.bit_length() // LIMB_BITS)


_CALLED = {
    "prototypes": "a prototype's number",
    "queries": "a query's number",
    "scores": "a product of prototype and query",
    "weights": "a prototype's squared length",
    "query_norm": "a query's squared length",
    "distance": "a squared distance",
}


@lru_cache(maxsize=64)
def bounds_of(spec: HeadSpec) -> Bounds:
    """The widths of a classifier: the proof that nothing overflows."""
    return _derive(spec, spec.max_shots)


def _derive(spec: HeadSpec, max_shots: int) -> Bounds:
    """Every line is one number of the arithmetic, for 0 <= n <= max_shots shots and every code in [low, high]."""
    cosine = spec.kind is HeadKind.COSINE
    n = Interval(0, max_shots)
    code = Interval(spec.low, spec.high)
    unit = Interval(1 << spec.fraction_bits, 1 << spec.fraction_bits)
    centre = {m: Interval(m, m) for m in sorted(set(spec.centre or (0,)))}  # equal numbers have equal bounds
    times = {m: spec.centre.count(m) if cosine else spec.dimension for m in centre}

    sums = n * code  # S_i: n codes
    query = {m: unit * code - c for m, c in centre.items()}  # Q_i = 2^f q_i - m_i
    # P_i = 2^f S_i - n m_i is the sum of Q_i over the n shots. (Bounding its two terms apart would be too wide.)
    prototype = {m: n * q for m, q in query.items()}
    product = _sum_of((times[m], prototype[m] * query[m]) for m in centre)  # <P, Q>
    prototype_norm = _sum_of((times[m], prototype[m].squared()) for m in centre)  # <P, P>
    query_norm = _sum_of((times[m], query[m].squared()) for m in centre)  # <Q, Q>

    ratio = MOST_RATIO  # t and d of a threshold t / d are at most that
    if cosine:
        scores, weights, distance = product, prototype_norm, Interval(0, 0)
        value = scores.magnitude**2  # sign(a) a^2, compared as value * other's A
        weight = max(weights.high, 1)  # A = 0 counts as 1
        # Accepted: a^2 d >= t A <Q, Q>.
        comparison = max(value * weight, value * ratio, ratio * weight * max(query_norm.high, 1))
    else:
        two_n = n + n
        scores = Interval.around((two_n * product, prototype_norm, two_n * product - prototype_norm))
        weights = n.squared()
        distance = Interval.around((weights * query_norm, weights * query_norm - scores))
        # Accepted: (A <q, q> - a) d <= t A.
        comparison = max(scores.magnitude * weights.high, distance.magnitude * ratio, ratio * weights.high)
    return Bounds(
        sums=sums,
        prototypes=Interval.around([*prototype.values(), unit * sums, *(n * c for c in centre.values())]),
        queries=Interval.around([*query.values(), unit * code, *centre.values()]),
        scores=scores,
        weights=weights,
        query_norm=query_norm,
        distance=distance,
        comparison=comparison,
    )


def _sum_of(terms: Iterable[tuple[int, Interval]]) -> Interval:
    """The sum of `times` numbers from each interval, and every partial sum."""
    return Interval.total(Interval(times, times) * i.with_zero() for times, i in terms)


def centre_of(codes: Codes, fraction_bits: int = 4) -> tuple[int, ...]:
    """2^fraction_bits times the mean code of each feature, rounded half to even.

    codes  integers [vectors, dimension], at least one vector: the base set's, or those of background frames
    """
    if codes.ndim != 2 or not len(codes) or codes.dtype.kind not in "iu":
        raise CompileError(
            Code.HEAD_CODES,
            f"a centre is the mean of integer codes [vectors, features], not of {codes.dtype} {list(codes.shape)}",
            hint="give the feature codes of the base set, or of background frames",
        )
    sums = codes.astype(object).sum(axis=0).tolist()  # of any size
    return tuple(round_ratio(total << fraction_bits, len(codes)) for total in sums)
