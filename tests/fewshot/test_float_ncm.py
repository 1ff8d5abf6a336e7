"""The float heads: each query of each episode once more, one step of the definition after the other."""

from __future__ import annotations

import numpy as np
import pytest
from fewshot.ncm_oracle import decide, scores
from numpy.typing import NDArray

from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.episodes.centre import FloatCentre, IntegerCentre
from pefslc.fewshot.episodes.draw import EpisodeIndices, Episodes
from pefslc.fewshot.episodes.float_ncm import FloatNcm, NcmOrder
from pefslc.fewshot.episodes.integer_ncm import IntegerNcm
from pefslc.fewshot.head.spec import HeadKind

Floats = NDArray[np.float64]
LABELS = np.repeat(np.arange(8), 12)


def features_of(seed: int, dimension: int = 10) -> Floats:
    """Classes that overlap, after a ReLU."""
    words = np.random.Philox(key=seed).random_raw(96 * dimension).reshape(96, dimension)
    noise = words.astype(np.float64) * 2.0**-64
    return np.maximum(noise + 0.5 * noise[:8][LABELS] - 0.4, 0)


def sphere(v: Floats) -> Floats:
    return v / np.sqrt(sum(x * x for x in v))


def expected(order: NcmOrder, shots: list[list[Floats]], query: Floats, centre: Floats) -> int:
    """The nearest class by distances."""
    means = []
    for own in shots:
        match order:
            case NcmOrder.PEFSL:
                means.append(sphere(sum(own[1:], own[0]) / len(own) - centre))
            case NcmOrder.EASY:
                spheres = [sphere(v - centre) for v in own]
                means.append(sum(spheres[1:], spheres[0]) / len(own))
            case NcmOrder.EUCLID:
                means.append(sum(own[1:], own[0]) / len(own))
    point = query if order is NcmOrder.EUCLID else sphere(query - centre)
    return int(np.argmin([np.linalg.norm(point - m) for m in means]))


def head_of(order: NcmOrder, features: Floats) -> FloatNcm:
    return FloatNcm(order) if order is NcmOrder.EUCLID else FloatNcm(order, FloatCentre.mean(features))


def positions(head: FloatNcm, features: NDArray[np.floating], drawn: EpisodeIndices) -> NDArray[np.int64]:
    found = head.prepare(features, drawn.settings.shots)(drawn.supports, drawn.queries.reshape(len(drawn), -1))
    assert not found.tied.any()
    return found.positions


@pytest.mark.parametrize("order", NcmOrder)
@pytest.mark.parametrize("shots", [1, 5])
def test_the_nearest_class_is_that_of_the_definition(order: NcmOrder, shots: int) -> None:
    features = features_of(1)
    drawn = Episodes(shots=shots, queries=4).draw(LABELS, 0, 40)
    found = positions(head_of(order, features), features, drawn)
    for e in range(len(drawn)):
        own = [[features[i] for i in images] for images in drawn.supports[e]]
        queries = drawn.queries[e].reshape(-1)
        assert [expected(order, own, features[i], features.mean(axis=0)) for i in queries] == found[e].tolist()


def test_the_orders_agree_with_one_shot_and_differ_with_five() -> None:
    features = features_of(2)
    easy, pefsl = head_of(NcmOrder.EASY, features), head_of(NcmOrder.PEFSL, features)
    one, five = (Episodes(shots=k, queries=4).draw(LABELS, 0, 200) for k in (1, 5))
    assert np.array_equal(positions(easy, features, one), positions(pefsl, features, one))
    assert not np.array_equal(positions(easy, features, five), positions(pefsl, features, five))


def test_float32_features_and_integer_codes_decide_alike() -> None:
    """The float head is the integer head without its rounding of the centre, where float64 is fine enough."""
    codes = np.rint(features_of(3) * 20).astype(np.int64)
    drawn = Episodes(shots=5, queries=4).draw(LABELS, 0, 100)
    for order, integer in (
        (NcmOrder.PEFSL, IntegerNcm(HeadKind.COSINE, IntegerCentre.mean(codes, fraction_bits=20))),
        (NcmOrder.EUCLID, IntegerNcm(HeadKind.EUCLID)),
    ):
        values = codes.astype(np.float32) * np.float32(0.125)
        queries = drawn.queries.reshape(len(drawn), -1)
        exact = integer.prepare(codes, 5)(drawn.supports, queries)
        found = head_of(order, values.astype(np.float64)).prepare(values, 5)(drawn.supports, queries)
        differing = (exact.positions != found.positions) & ~exact.tied
        assert not differing.any()
        assert np.array_equal(exact.tied, found.tied)


def test_a_mean_at_the_centre_is_no_nan_and_decides_as_the_integer_head_does() -> None:
    rows = [[4, 4], [6, 4], [2, 4], [4, 7], [9, 4]]
    head = FloatNcm(NcmOrder.PEFSL, FloatCentre("given", (4.0, 4.0)))
    decide_episodes = head.prepare(np.array(rows, dtype=np.float64), 1)
    for other in (0, 1, 2, 3):
        wanted = decide(scores("cosine", {0: [rows[0]], 1: [rows[other]]}, rows[4], (4, 4)))
        found = decide_episodes(np.array([[[0], [other]]]), np.array([[4]]))
        assert (found.positions[0, 0], found.tied[0, 0]) == wanted


def test_the_name_tells_order_and_centre() -> None:
    names = [head_of(order, features_of(1)).name for order in NcmOrder]
    assert names == [
        "float NCM, PEFSL's order, centre: base mean",
        "float NCM, EASY's order, centre: base mean",
        "float NCM, Euclidean, centre: none",
    ]
    assert FloatNcm(NcmOrder.EASY, FloatCentre.none(3)).name == "float NCM, EASY's order, centre: none"


def test_features_that_are_no_numbers_are_refused() -> None:
    features = features_of(1)
    head = head_of(NcmOrder.PEFSL, features)
    features[3, 1], features[7, 0] = np.nan, np.inf
    with pytest.raises(CompileError, match="2 of 96 rows are not finite, row 3 first"):
        head.prepare(features, 1)
    with pytest.raises(CompileError, match="2 of 96 rows"):
        FloatCentre.mean(features)
    with pytest.raises(CompileError, match="int64 of shape"):
        head.prepare(np.ones((3, 10), dtype=np.int64), 1)
    with pytest.raises(CompileError, match="have 3 entries, and the centre has 10"):
        head.prepare(np.ones((3, 3)), 1)
    with pytest.raises(CompileError, match="EASY's order without a centre"):
        FloatNcm(NcmOrder.EASY)
    with pytest.raises(CompileError, match="Euclidean with a centre"):
        FloatNcm(NcmOrder.EUCLID, FloatCentre.none(2))
