"""The classifier against its definition in fractions: one query and many, and what it refuses."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from fewshot.head_oracle import Oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.head import scores
from pefslc.fewshot.head.classifier import NO_CLASS, Classifier, vote
from pefslc.fewshot.head.spec import HeadSpec

COSINE = HeadSpec.cosine(-4, 3, [5, -7, 0], fraction_bits=2, max_shots=6, max_classes=3)
CENTRED = HeadSpec.cosine(-4, 3, [4, -8, 0], fraction_bits=2, max_shots=6, max_classes=3)  # codes lie at its centre
EUCLID = HeadSpec.euclid(3, -4, 3, max_shots=6, max_classes=3)
WIDE = HeadSpec.cosine(-30000, 30000, [0, 480000, -7], max_shots=2000, max_classes=6)  # products beyond 2^53
WIDE_EUCLID = HeadSpec.euclid(3, -300000, 300000, max_shots=2000)

vectors = st.tuples(*[st.integers(-4, 3)] * 3)


def pair(spec: HeadSpec) -> tuple[Classifier, Oracle]:
    return Classifier(spec), Oracle(spec)


@given(
    spec=st.sampled_from([COSINE, CENTRED, EUCLID]),
    shots=st.dictionaries(st.integers(0, 2**32 - 1), st.lists(vectors, min_size=1, max_size=6), max_size=3),
    queries=st.lists(vectors, min_size=1, max_size=4),
)
def test_scores_ranking_and_decisions_are_those_of_the_definition(
    spec: HeadSpec, shots: dict[int, list[tuple[int, ...]]], queries: list[tuple[int, ...]]
) -> None:
    classifier, oracle = pair(spec)
    for class_id, some in shots.items():
        classifier.enrol(class_id, some)
        oracle.shots[class_id] = some
    for query in queries:
        found = oracle.scores(query)
        decision = classifier.classify(query, with_scores=True)
        assert decision.scores == found
        assert classifier.ranking(query) == tuple(sorted(found, key=lambda c: (-found[c], c)))
        assert decision.class_id == decision.nearest == oracle.classify(query, None)
        for score in {abs(s) for s in found.values()} | {Fraction(0), Fraction(1, 2), Fraction(1)}:
            for threshold in (score, min(score + Fraction(1, 1000), Fraction(1)) if spec is not EUCLID else score / 2):
                expected = oracle.classify(query, threshold)
                assert classifier.classify(query, threshold=threshold).class_id == expected
                assert classifier.classify_all([query], threshold=threshold).tolist() == [
                    NO_CLASS if expected is None else expected
                ]
    assert classifier.classify_all(queries).tolist() == [
        NO_CLASS if not shots else oracle.classify(q, None) for q in queries
    ]


@pytest.mark.parametrize("spec", [WIDE, WIDE_EUCLID], ids=["cosine", "euclid"])
def test_where_float64_errs_the_decision_is_exact(spec: HeadSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes that differ in a last bit of thousands of shots; float64 alone decides some of them wrongly."""
    draw = random.Random(8)
    wrong = 0
    for _ in range(20):
        classifier, oracle = pair(spec)
        base = [draw.randint(spec.low, spec.high) for _ in range(3)]
        for class_id in (4, 2, 9):
            shots = [tuple(base)] * draw.randint(900, 2000)
            shots[0] = (*base[:2], base[2] - 1 if base[2] > 0 else base[2] + 1)
            classifier.enrol(class_id, shots)
            oracle.shots[class_id] = shots
        queries = [tuple(draw.randint(spec.low, spec.high) for _ in range(3)) for _ in range(3)] + [tuple(base)]
        expected = [oracle.classify(q, None) for q in queries]
        assert classifier.classify_all(queries).tolist() == expected
        assert [classifier.classify(q).class_id for q in queries] == expected
        with monkeypatch.context() as patch:
            patch.setattr(scores, "_MARGIN", -1.0)  # nothing is in doubt
            wrong += sum(a != b for a, b in zip(classifier.classify_all(queries).tolist(), expected, strict=True))
    assert wrong > 0


def test_many_queries_of_ties_and_of_none_are_decided() -> None:
    """A dead network: one code for everything."""
    classifier = Classifier(COSINE)
    queries = np.zeros((1000, 3), dtype=np.int8)
    assert (classifier.classify_all(queries) == NO_CLASS).all()
    for class_id in (5, 3):
        classifier.enrol(class_id, queries[:4])
    assert (classifier.classify_all(queries) == 3).all()
    assert classifier.classify_all(np.zeros((0, 3), dtype=np.int64)).shape == (0,)


@given(shots=st.lists(st.tuples(st.integers(0, 2), vectors), max_size=12), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_what_is_forgotten_was_never_there_and_order_does_not_matter(
    shots: list[tuple[int, tuple[int, ...]]], seed: int
) -> None:
    draw = random.Random(seed)
    spec = HeadSpec.cosine(-4, 3, [5, -7, 0], fraction_bits=2, max_shots=12)
    kept, forgotten = shots[::2], shots[1::2]
    once, again = Classifier(spec), Classifier(spec)
    for class_id, shot in shots:
        once.enrol(class_id, shot)
    draw.shuffle(forgotten)
    for class_id, shot in forgotten:
        once.forget_shot(class_id, shot)
    for class_id in once.classes:
        if not once.shots(class_id):
            once.forget_class(class_id)
    draw.shuffle(kept)
    parts = [Classifier(spec), Classifier(spec)]
    for class_id, shot in kept:
        draw.choice(parts).enrol(class_id, shot)
    for part in parts:
        again.merge(part)
    assert once == again
    assert once.classes == again.classes == tuple(sorted({c for c, _ in kept}))


def test_scores_at_the_centre_are_nothing() -> None:
    classifier = Classifier(CENTRED)
    classifier.enrol(2, [1, -2, 0])
    classifier.enrol(1, [0, 0, 0])
    assert classifier.classify([1, -2, 0], with_scores=True).scores == {1: 0, 2: 0}
    assert classifier.classify([0, 0, 0], with_scores=True).scores == {1: 1, 2: 0}
    assert classifier.classify([2, -4, 0], with_scores=True).scores == {1: -1, 2: 0}
    assert classifier.ranking([2, -4, 0]) == (2, 1)
    assert classifier.classify([1, -2, 0], threshold=Fraction(1, 2**32 - 1)).class_id is None


def test_a_class_whose_shots_are_all_forgotten_is_passed_over() -> None:
    classifier = Classifier(EUCLID)
    classifier.enrol(1, [0, 0, 0])
    classifier.enrol(2, [3, 3, 3])
    classifier.forget_shot(1, [0, 0, 0])
    assert classifier.classes == (1, 2)
    assert classifier.classify([0, 0, 0], with_scores=True).scores == {2: -27}
    assert classifier.ranking([0, 0, 0]) == (2,)


FULL = Classifier(COSINE)
for _class_id in (1, 2, 3):
    FULL.enrol(_class_id, [[0, 1, 2]] * 5)


def _merged(classifier: Classifier, spec: HeadSpec, class_id: int, shots: int) -> None:
    other = Classifier(spec)
    other.enrol(class_id, [[0, 0, 0]] * shots)
    classifier.merge(other)


@pytest.mark.parametrize(
    ("act", "code", "message"),
    [
        (lambda c: c.enrol(1, []), Code.HEAD_CODES, "codes are integers [vectors, 3], not float64 [0]"),
        (lambda c: c.enrol(1, np.zeros((0, 3), int)), Code.HEAD_CODES, "there are no shots to enrol for class 1"),
        (lambda c: c.enrol(1, [[0, 1]]), Code.HEAD_CODES, "codes are integers [vectors, 3], not int64 [1, 2]"),
        (lambda c: c.enrol(1, [[0, 1], [0]]), Code.HEAD_CODES, "codes are integers [vectors, 3], not object"),
        (lambda c: c.enrol(1, [0.0, 1, 2]), Code.HEAD_CODES, "not float64 [3]"),
        (lambda c: c.enrol(1, [0, 1, 4]), Code.HEAD_CODES, "codes from 0 to 4 are not in -4 to 3"),
        (lambda c: c.enrol(1, np.array([0, 1, 2**64 - 1], np.uint64)), Code.HEAD_CODES, "are not in -4 to 3"),
        (lambda c: c.enrol(-1, [0, 1, 2]), Code.HEAD_CLASS, "'-1' is no class id"),
        (lambda c: c.enrol(2**32, [0, 1, 2]), Code.HEAD_CLASS, "'4294967296' is no class id"),
        (lambda c: c.enrol(True, [0, 1, 2]), Code.HEAD_CLASS, "'True' is no class id"),
        (lambda c: c.enrol("mug", [0, 1, 2]), Code.HEAD_CLASS, "'mug' is no class id"),
        (lambda c: c.enrol(1, [[0, 1, 2]] * 2), Code.HEAD_FULL, "7 shots of class 1 are too many"),
        (lambda c: c.enrol(4, [0, 1, 2]), Code.HEAD_FULL, "4 classes are too many"),
        (lambda c: c.forget_shot(4, [0, 1, 2]), Code.HEAD_CLASS, "there is no class 4"),
        (lambda c: c.forget_shot(1, [[0, 1, 2]] * 2), Code.HEAD_CODES, "2 vectors where one shot is to be forgotten"),
        (
            lambda c: c.forget_shot(1, [0, 1, -4]),
            Code.HEAD_CLASS,
            "class 1 counts 5 shots, and this cannot be one of them",
        ),
        (lambda c: c.forget_class(4), Code.HEAD_CLASS, "there is no class 4"),
        (lambda c: c.shots(4), Code.HEAD_CLASS, "there is no class 4"),
        (lambda c: c.classify([[0, 1, 2]] * 2), Code.HEAD_CODES, "2 vectors where one is classified"),
        (lambda c: c.classify([0, 1, 2], threshold=Fraction(5, 4)), Code.HEAD_THRESHOLD, "5/4 is not in 0 to 1"),
        (lambda c: c.classify([0, 1, 2], threshold=Fraction(-1)), Code.HEAD_THRESHOLD, "-1 is not in 0 to 1"),
        (lambda c: c.classify([0, 1, 2], threshold=0.5), Code.HEAD_THRESHOLD, "'0.5' is no fraction"),
        (lambda c: c.classify_all([[0, 1, 2]], threshold=Fraction(1, 2**32)), Code.HEAD_THRESHOLD, "exceed 32 bits"),
        (lambda c: _merged(c, EUCLID, 1, 1), Code.STATE_FOREIGN, "classifiers of two specs cannot be merged"),
        (lambda c: _merged(c, COSINE, 4, 1), Code.HEAD_FULL, "4 classes are too many"),
        (lambda c: _merged(c, COSINE, 2, 2), Code.HEAD_FULL, "7 shots of class 2 are too many"),
    ],
)
def test_what_is_refused_changes_nothing(act: Callable[[Classifier], object], code: Code, message: str) -> None:
    classifier = Classifier(COSINE)
    classifier.merge(FULL)
    with pytest.raises(CompileError) as caught:
        act(classifier)
    assert caught.value.problems[0].code is code
    assert message in str(caught.value)
    assert classifier == FULL


def test_votes_of_frames() -> None:
    assert vote([]) is None
    assert vote([3, 1, 1, 3, None]) == 1
    assert vote([None, None, 2]) is None
    assert vote([None, 2]) == 2
