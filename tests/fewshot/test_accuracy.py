"""What an evaluation counts: right answers and ties one by one; and networks that are dead."""

from __future__ import annotations

import numpy as np
import pytest
from fewshot.ncm_oracle import decide, scores
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.episodes import accuracy
from pefslc.fewshot.episodes.accuracy import evaluate_episodes
from pefslc.fewshot.episodes.centre import FloatCentre, IntegerCentre
from pefslc.fewshot.episodes.decisions import NearestClassMean
from pefslc.fewshot.episodes.draw import Episodes
from pefslc.fewshot.episodes.float_ncm import FloatNcm, NcmOrder
from pefslc.fewshot.episodes.integer_ncm import IntegerNcm
from pefslc.fewshot.head.spec import HeadKind

LABELS = np.repeat(np.arange(7), 9) + 20


def codes_of(seed: int, highest: int = 3, dimension: int = 6) -> NDArray[np.int64]:
    """Classes that overlap; the last feature never changes."""
    words = np.random.Philox(key=seed).random_raw(63 * dimension).reshape(63, dimension)
    noise = (words % np.uint64(highest)).astype(np.int64)
    codes = noise + noise[:7][LABELS - 20]
    codes[:, -1] = 1
    return codes


@pytest.mark.parametrize("kind", HeadKind)
def test_right_answers_and_ties_are_those_of_rationals(kind: HeadKind) -> None:
    codes, settings = codes_of(1, highest=2, dimension=4), Episodes(ways=4, shots=2, queries=5)
    centre = IntegerCentre.none(4)
    drawn = settings.draw(LABELS, 10, 30)
    head = IntegerNcm(kind, centre if kind is HeadKind.COSINE else None)
    result = evaluate_episodes(codes, drawn, head, ["cup"])
    rows, ties, right = codes.tolist(), 0, np.zeros((20, 4), dtype=int)
    for e in range(20):
        shots = {int(c): [rows[i] for i in own] for c, own in zip(drawn.classes[e], drawn.supports[e], strict=True)}
        for way, images in enumerate(drawn.queries[e]):
            for image in images:
                label, tied = decide(scores(kind.value, shots, rows[image], centre.codes))
                ties += tied
                right[e, way] += label == LABELS[image]
    assert np.array_equal(result.correct, right)
    assert np.array_equal(result.accuracies, right.sum(axis=1) / 20)
    assert (result.ties, result.decisions) == (ties, 400)
    assert 0 < ties < 200
    assert (result.constant_features, result.dimension) == (1, 4)
    assert (result.head, result.settings, result.drawn, result.names) == (head.name, settings, drawn.digest(), ("cup",))


def test_the_answers_do_not_depend_on_how_many_episodes_are_decided_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, drawn = codes_of(2), Episodes(ways=4, shots=3, queries=5).draw(LABELS, 0, 20)
    head = IntegerNcm(HeadKind.EUCLID)
    whole = evaluate_episodes(codes, drawn, head)
    monkeypatch.setattr(accuracy, "_VALUES_AT_ONCE", 3 * 20 * 6)
    parts = evaluate_episodes(codes, drawn, head)
    assert np.array_equal(whole.correct, parts.correct)
    assert whole.ties == parts.ties > 0


HEADS = (
    IntegerNcm(HeadKind.COSINE, IntegerCentre.none(6)),
    IntegerNcm(HeadKind.EUCLID),
    FloatNcm(NcmOrder.PEFSL, FloatCentre("given", (0.1, 0.2, 0.3, 0.0, 0.0, 0.1))),
    FloatNcm(NcmOrder.EASY, FloatCentre("given", (0.1, 0.2, 0.3, 0.0, 0.0, 0.1))),
    FloatNcm(NcmOrder.EUCLID),
)


def dead(codes: NDArray[np.int64], head: NearestClassMean) -> str:
    features = codes if isinstance(head, IntegerNcm) else codes / 8
    with pytest.raises(CompileError) as caught:
        evaluate_episodes(features, Episodes(shots=3, queries=5).draw(LABELS, 0, 20), head)
    assert caught.value.problems[0].code is Code.DEAD_NETWORK
    assert head.name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("head", HEADS, ids=lambda h: h.name)
def test_a_dead_network_has_no_accuracy(head: NearestClassMean) -> None:
    constant = np.full((63, 6), 3)
    assert "all 63 rows are equal" in dead(constant, head)
    constant[0, 0] = 2  # one image of 63 is different: still nearly all decisions are ties
    assert "of 500 decisions are ties" in dead(constant, head)


def test_a_network_with_few_ties_is_alive() -> None:
    """The one feature that changes tells four classes from the other three: 9 of 21 pairs of classes are alike."""
    codes = np.zeros((63, 2), dtype=np.int64)
    codes[:, 0] = LABELS % 2
    result = evaluate_episodes(
        codes, Episodes(ways=2, shots=3, queries=5).draw(LABELS, 0, 300), IntegerNcm(HeadKind.EUCLID)
    )
    assert result.decisions / 4 < result.ties <= result.decisions / 2
    assert result.constant_features == 1


def test_features_of_other_images_are_refused() -> None:
    drawn = Episodes(shots=1, queries=3).draw(LABELS, 0, 200)
    with pytest.raises(CompileError, match=r"there are 62 rows of features, and the episodes .* more than 62 labels"):
        evaluate_episodes(codes_of(1)[:62], drawn, IntegerNcm(HeadKind.EUCLID))
    with pytest.raises(CompileError, match=r"int64 of shape \[\]"):
        evaluate_episodes(np.array(3), drawn, IntegerNcm(HeadKind.EUCLID))
