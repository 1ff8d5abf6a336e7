"""Nearest class mean in integers: learn from a few shots, recognise, forget, merge. Every decision is exact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote, quote_given
from pefslc.fewshot.head.scores import Similarities, accepts, check_threshold, nearest_of_each, similarities
from pefslc.fewshot.head.spec import MOST_ID, HeadSpec

__all__ = ["NO_CLASS", "Classifier", "Decision", "vote"]

Codes = NDArray[np.int64]
Names = Mapping[int, str]  # of classes, by id: the arithmetic knows none

_NO_NAMES: Names = MappingProxyType({})
NO_CLASS = -1  # of `classify_all`: rejected, or there is no class


@dataclass(frozen=True, slots=True)
class Decision:
    """What a query is.

    class_id  None where it is rejected, and where no class has a shot
    nearest   the nearest class, rejected or not; None where no class has a shot
    scores    by class, where they were asked for: the signed squared cosine, or minus the squared distance in steps
              of the code (`Similarities.as_fraction`)
    """

    class_id: int | None
    nearest: int | None
    scores: Mapping[int, Fraction] | None = None


class Classifier:
    """Counts and sums of the code vectors of each class; its memory does not grow with the shots.

    Class ids are integers in 0 to 2^32 - 1, in any order. Equally near classes: the lowest id. What would not fit is
    refused before anything is changed.
    """

    def __init__(self, spec: HeadSpec) -> None:
        self.spec = spec
        self._counts: dict[int, int] = {}
        self._sums: dict[int, Codes] = {}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Classifier):
            return NotImplemented
        return (
            self.spec == other.spec
            and self._counts == other._counts
            and all((self._sums[c] == other._sums[c]).all() for c in self._counts)
        )

    __hash__ = None  # type: ignore[assignment]  # it changes

    @property
    def classes(self) -> tuple[int, ...]:
        """The class ids, ascending; those without shots, too."""
        return tuple(sorted(self._counts))

    def shots(self, class_id: int) -> int:
        """How many shots a class counts. Raises CompileError where there is no such class."""
        return self._counts[self._existing(class_id)]

    def sums(self, class_id: int) -> Codes:
        """The sum of a class' code vectors, int64 [dimension]. Raises CompileError where there is no such class."""
        return self._sums[self._existing(class_id)].copy()

    def set_class(self, class_id: int, shots: int, sums: ArrayLike) -> None:
        """Give a class its count and its sums [dimension], as a state file has them, whatever it had.

        Raises CompileError where they are not those of `shots` vectors, and where there are too many.
        """
        class_id = self._id(class_id)
        assert shots >= 0, "a negative count"
        self._require_countable(class_id, shots)
        self._require_room({class_id})
        vector = self._vectors(sums, (self.spec.low * shots, self.spec.high * shots), "sums")
        assert len(vector) == 1, "sums of several classes"
        self._counts[class_id], self._sums[class_id] = shots, vector[0]

    def enrol(self, class_id: int, codes: ArrayLike, *, names: Names = _NO_NAMES) -> None:
        """Learn shots of a class, which is made where it is not there.

        codes  integers [shots, dimension], or [dimension] for one shot; in spec.low to spec.high
        names  of classes, for messages

        Raises CompileError for other codes, for none, and where shots or classes would be too many.
        """
        class_id = self._id(class_id)
        vectors = self._codes(codes)
        if not len(vectors):
            raise CompileError(
                Code.HEAD_CODES,
                f"there are no shots to enrol for class {_called(class_id, names)}",
                hint="give at least one vector",
            )
        self._require_room({class_id})
        shots = self._counts.get(class_id, 0) + len(vectors)
        self._require_countable(class_id, shots, names)
        self._sums[class_id] = self._sums.get(class_id, 0) + vectors.sum(axis=0)
        self._counts[class_id] = shots

    def forget_shot(self, class_id: int, codes: ArrayLike, *, names: Names = _NO_NAMES) -> None:
        """Take the code vector [dimension] of one shot out of its class, as if it had never been enrolled.

        names  of classes, for messages

        Raises CompileError where the class is not there, has no shot, or cannot have had this one: what stays would
        not be a sum of codes in range.
        """
        self._existing(class_id)
        vectors = self._codes(codes)
        if len(vectors) != 1:
            raise CompileError(
                Code.HEAD_CODES, f"{len(vectors)} vectors where one shot is to be forgotten", hint="one call a shot"
            )
        shots = self._counts[class_id] - 1
        rest = self._sums[class_id] - vectors[0]
        if shots < 0 or (rest < shots * self.spec.low).any() or (rest > shots * self.spec.high).any():
            raise CompileError(
                Code.HEAD_CLASS,
                f"class {_called(class_id, names)} counts {shots + 1} shot{'' if shots == 0 else 's'}, "
                "and this cannot be one of them",
                hint="give the very codes that were enrolled; forget the class if they are lost",
            )
        self._counts[class_id], self._sums[class_id] = shots, rest

    def forget_class(self, class_id: int) -> None:
        """Take a class out with all its shots. Raises CompileError where it is not there."""
        self._existing(class_id)
        del self._counts[class_id], self._sums[class_id]

    def merge(self, other: Classifier, *, names: Names = _NO_NAMES) -> None:
        """Add the shots of another classifier: the same as if all had been enrolled here, whatever the order.

        names  of classes, for messages

        Raises CompileError where the specs differ, and where shots or classes would be too many.
        """
        if other.spec != self.spec:
            raise CompileError(
                Code.STATE_FOREIGN,
                "classifiers of two specs cannot be merged: their sums do not mean the same",
                hint="merge states of one compiled system",
            )
        self._require_room(set(other._counts))
        for class_id, shots in other._counts.items():
            self._require_countable(class_id, shots + self._counts.get(class_id, 0), names)
        for class_id, shots in list(other._counts.items()):
            self._counts[class_id] = shots + self._counts.get(class_id, 0)
            self._sums[class_id] = other._sums[class_id] + self._sums.get(class_id, 0)

    def classify(self, codes: ArrayLike, *, threshold: Fraction | None = None, with_scores: bool = False) -> Decision:
        """The class that a code vector [dimension] is nearest to.

        threshold  cosine: the least squared cosine that is accepted, in 0 to 1; Euclid: the largest squared distance,
                   in steps of the code; None: nothing is rejected

        Raises CompileError for codes of another shape, type or range, and for such thresholds.
        """
        check_threshold(self.spec, threshold)
        classes, found = self._compare(self._one(codes))
        if not classes:
            return Decision(None, None, {} if with_scores else None)
        column = int(nearest_of_each(found)[0])
        accepted = accepts(found, 0, column, threshold)
        scores = {c: found.as_fraction(0, i) for i, c in enumerate(classes)} if with_scores else None
        return Decision(classes[column] if accepted else None, classes[column], scores)

    def ranking(self, codes: ArrayLike) -> tuple[int, ...]:
        """The classes that have shots, the nearest to a code vector [dimension] first, equally near ones by id."""
        classes, found = self._compare(self._one(codes))
        scores = {c: found.as_fraction(0, i) for i, c in enumerate(classes)}
        return tuple(sorted(classes, key=lambda c: (-scores[c], c)))

    def classify_all(self, codes: ArrayLike, *, threshold: Fraction | None = None) -> Codes:
        """`classify` of every row of codes [queries, dimension]: int64 [queries], NO_CLASS where it gives None."""
        check_threshold(self.spec, threshold)
        vectors = self._codes(codes)
        classes, found = self._compare(vectors)
        if not classes:
            return np.full(len(vectors), NO_CLASS, dtype=np.int64)
        columns = nearest_of_each(found)
        result = np.array(classes, dtype=np.int64)[columns]
        if threshold is not None:
            accepted = [accepts(found, i, column, threshold) for i, column in enumerate(columns.tolist())]
            result[~np.array(accepted, dtype=bool)] = NO_CLASS
        return result

    def _compare(self, vectors: Codes) -> tuple[tuple[int, ...], Similarities]:
        """The classes that have shots, ascending, and how near each is."""
        classes = tuple(c for c in self.classes if self._counts[c])
        counts = np.array([self._counts[c] for c in classes], dtype=np.int64)
        sums = np.array([self._sums[c] for c in classes], dtype=np.int64).reshape(-1, self.spec.dimension)
        return classes, similarities(self.spec, counts, sums, vectors)

    def _one(self, codes: ArrayLike) -> Codes:
        vectors = self._codes(codes)
        if len(vectors) != 1:
            raise CompileError(
                Code.HEAD_CODES, f"{len(vectors)} vectors where one is classified", hint="classify_all takes many"
            )
        return vectors

    def _codes(self, codes: ArrayLike) -> Codes:
        return self._vectors(codes, (self.spec.low, self.spec.high), "codes")

    def _vectors(self, given: ArrayLike, limits: tuple[int, int], what: str) -> Codes:
        """int64 [vectors, dimension]. Raises CompileError."""
        try:
            array = np.asarray(given)
        except ValueError:
            array = np.array(None)
        if array.ndim not in (1, 2) or array.dtype.kind not in "iu" or array.shape[-1] != self.spec.dimension:
            raise CompileError(
                Code.HEAD_CODES,
                f"{what} are integers [vectors, {self.spec.dimension}], not {array.dtype} {list(array.shape)}",
                hint="give the codes of the backbone's output, not its values",
            )
        vectors = array.reshape(-1, self.spec.dimension)
        low, high = limits
        if vectors.size and (int(vectors.min()) < low or int(vectors.max()) > high):
            raise CompileError(
                Code.HEAD_CODES,
                f"{what} from {vectors.min()} to {vectors.max()} are not in {low} to {high}",
                hint="give codes of the backbone that the classifier was made for",
            )
        return vectors.astype(np.int64)

    def _id(self, class_id: int) -> int:
        if not _is_integer(class_id) or not 0 <= class_id <= MOST_ID:
            raise CompileError(
                Code.HEAD_CLASS, f"{quote_given(class_id)} is no class id", hint=f"an integer in 0 to {MOST_ID}"
            )
        return int(class_id)

    def _existing(self, class_id: int) -> int:
        if self._id(class_id) not in self._counts:
            known = ", ".join(map(str, self.classes[:20])) or "none"
            raise CompileError(Code.HEAD_CLASS, f"there is no class {class_id}", hint=f"the classes are: {known}")
        return class_id

    def _require_room(self, classes: set[int]) -> None:
        count = len(classes | set(self._counts))
        if count > self.spec.max_classes:
            raise CompileError(
                Code.HEAD_FULL,
                f"{count} classes are too many: the classifier was compiled for {self.spec.max_classes}",
                hint="forget a class, or compile it with a larger max_classes",
            )

    def _require_countable(self, class_id: int, shots: int, names: Names = _NO_NAMES) -> None:
        if shots > self.spec.max_shots:
            raise CompileError(
                Code.HEAD_FULL,
                f"{shots} shots of class {_called(class_id, names)} are too many: "
                f"the classifier counts to {self.spec.max_shots}",
                hint="forget the class and enrol fewer shots, or compile it with a larger max_shots",
            )


def _called(class_id: int, names: Names) -> str:
    return quote(names[class_id]) if class_id in names else str(class_id)


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def vote(decisions: Iterable[int | None]) -> int | None:
    """The class that most frames were given to, the lowest id where several have as many; None for no frames.

    A frame without a class (None) is a vote for none: that wins only with more votes than every class.
    """
    votes = Counter(decisions)
    most = max(votes.values(), default=0)
    return min((c for c, count in votes.items() if c is not None and count == most), default=None)
