"""The integer head on episodes: every decision and every tie as rational arithmetic has them, near ties among them."""

from __future__ import annotations

from math import isqrt

import numpy as np
import pytest
from fewshot.ncm_oracle import decide, scores
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.episodes.centre import IntegerCentre
from pefslc.fewshot.episodes.decisions import Decisions
from pefslc.fewshot.episodes.integer_ncm import IntegerNcm
from pefslc.fewshot.head.classifier import Classifier
from pefslc.fewshot.head.spec import HeadKind, HeadSpec

Integers = NDArray[np.int64]
HEADS = ("cosine", "euclid")


def head_of(kind: str, centre: IntegerCentre | None) -> IntegerNcm:
    return IntegerNcm(HeadKind.COSINE, centre) if kind == "cosine" else IntegerNcm(HeadKind.EUCLID)


def decided(kind: str, features: Integers, supports: Integers, queries: Integers, centre: IntegerCentre) -> Decisions:
    return head_of(kind, centre).prepare(features, supports.shape[2])(supports, queries)


def agrees(kind: str, features: Integers, supports: Integers, queries: Integers, centre: IntegerCentre) -> Decisions:
    """The decisions, compared with the oracle's one by one."""
    found = decided(kind, features, supports, queries, centre)
    rows = features.tolist()
    for e, images in enumerate(queries):
        shots = {way: [rows[i] for i in own] for way, own in enumerate(supports[e])}
        for r, image in enumerate(images):
            wanted = decide(scores(kind, shots, rows[image], centre.codes, centre.fraction_bits))
            assert (found.positions[e, r], found.tied[e, r]) == wanted
    return found


@st.composite
def tasks(draw: st.DrawFn) -> tuple[Integers, Integers, Integers, IntegerCentre]:
    """Features of few or of many values, episodes on them that need not be sensible, and a centre."""
    count, dimension = draw(st.integers(2, 8)), draw(st.integers(1, 4))
    low, high = draw(st.sampled_from([(0, 1), (-1, 1), (0, 3), (-8, 7), (0, 255), (-(2**22), 2**22), (0, 2**24)]))
    codes = st.lists(st.integers(low, high), min_size=dimension, max_size=dimension)
    features = np.array(draw(st.lists(codes, min_size=count, max_size=count)), dtype=np.int64)
    ways, shots = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    image = st.integers(0, count - 1)

    def images(*shape: int) -> Integers:
        size = int(np.prod(shape))
        return np.array(draw(st.lists(image, min_size=size, max_size=size))).reshape(shape)

    bits = draw(st.sampled_from([0, 1, 4]))
    own = IntegerCentre("given", tuple(draw(codes)), 0)
    centre = draw(st.sampled_from([IntegerCentre.none(dimension), own, IntegerCentre.mean(features, "all", bits)]))
    return features, images(2, ways, shots), images(2, 3), centre


@pytest.mark.parametrize("kind", HEADS)
@given(task=tasks())
def test_decisions_and_ties_are_those_of_rationals(
    kind: str, task: tuple[Integers, Integers, Integers, IntegerCentre]
) -> None:
    agrees(kind, *task)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_codes_like_those_of_networks(kind: str, bits: int) -> None:
    """80 codes, half of them 0; of one bit many scores are equal."""
    words = np.random.Philox(key=bits).random_raw(60 * 80).reshape(60, 80)
    features = np.where(words >> np.uint64(63), (words >> np.uint64(8)) % np.uint64(1 << bits), 0).astype(np.int64)
    images = np.arange(60)
    found = agrees(
        kind, features, images[:50].reshape(2, 5, 5), images[30:].reshape(2, 15), IntegerCentre.mean(features)
    )
    assert found.positions.max() == 4


def neighbours(size: int, count: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Pairs of directions (x, y), (u, v) with x v - y u = 1: next to each other among all with codes of that size."""
    pairs = []
    for k in range(count):
        x = size - 2 * k - 1
        y = x // (16 * (k % 4 + 1)) | 1
        while np.gcd(x, y) != 1:
            y += 2
        v = pow(x, -1, y) if y > 1 else 1  # x v = 1 mod y
        pairs.append(((x, y), ((x * v - 1) // y, v)))
    return pairs


@pytest.mark.parametrize("size", [2**26, 2**30], ids=["products in float64", "products in int64"])
def test_scores_that_float64_cannot_tell_apart(size: int) -> None:
    """Prototypes whose cosines to a query differ by 2^-50 and less; two are equal, around or before the other."""
    wrong = 0
    for first, second in neighbours(size, 60):
        for a, b in ((first, second), (second, first)):
            features = np.array([a, b, a, (1, 0), (0, 1), (-3, 2)], dtype=np.int64)
            supports, queries = np.array([[[0], [1], [2]]]), np.array([[3, 4, 5]])
            centre = IntegerCentre.none(2)
            found = agrees("cosine", features, supports, queries, centre)
            products = features[3:].astype(np.float64) @ features[:3].astype(np.float64).T
            naive = products * np.abs(products) / np.square(features[:3].astype(np.float64)).sum(axis=1)
            wrong += int((naive.argmax(axis=1) != found.positions[0]).sum())
            agrees("euclid", features, supports, queries, centre)
            agrees("cosine", features, np.array([[[0], [2], [1]]]), queries, centre)
    assert wrong > 0  # else these are no hard cases


def test_a_mean_at_the_centre_scores_nothing() -> None:
    """It loses to what lies towards the query, wins over what lies away from it, and ties with what is across."""
    features = np.array([[4, 4], [6, 4], [2, 4], [4, 7], [9, 4]])
    centre = IntegerCentre("given", (4, 4), 0)
    for others, position, tied in ((1, 1, False), (2, 0, False), (3, 0, True), (0, 0, True)):
        found = agrees("cosine", features, np.array([[[0], [others]]]), np.array([[4]]), centre)
        assert (found.positions[0, 0], found.tied[0, 0]) == (position, tied)


def test_the_centre_is_the_rounded_mean() -> None:
    codes = np.array([[0, 1, -1, 3], [1, 2, -2, 3]], dtype=np.int8)
    assert IntegerCentre.mean(codes).codes == (8, 24, -24, 48)
    assert IntegerCentre.mean(codes, fraction_bits=0).codes == (0, 2, -2, 3)  # halves to even
    assert str(IntegerCentre.mean(codes)) == "base mean (4 fraction bits)"
    assert IntegerCentre.none(3) == IntegerCentre("none", (0, 0, 0), 0)
    large = np.full((3, 1), 2**62, dtype=np.int64)
    assert IntegerCentre.mean(large, fraction_bits=8).codes == (2**70,)


def test_the_name_tells_arithmetic_order_and_centre() -> None:
    centre = IntegerCentre.mean(np.ones((1, 2), dtype=np.int64), "6 frames of the background")
    assert IntegerNcm(HeadKind.COSINE, centre).name == (
        "integer NCM, cosine in PEFSL's order, centre: 6 frames of the background (4 fraction bits)"
    )
    assert (
        IntegerNcm(HeadKind.COSINE, IntegerCentre.none(2)).name == "integer NCM, cosine in PEFSL's order, centre: none"
    )
    assert IntegerNcm(HeadKind.EUCLID).name == "integer NCM, Euclidean, centre: none"


def refused(kind: str, features: NDArray[np.generic], centre: IntegerCentre | None, shots: int = 1) -> str:
    with pytest.raises(CompileError) as caught:
        head_of(kind, centre).prepare(features, shots)
    assert caught.value.problems[0].code is Code.FEATURES
    return str(caught.value)


def test_what_is_no_features_is_refused() -> None:
    centre = IntegerCentre.none(2)
    assert "float64 of shape [3, 2]" in refused("cosine", np.ones((3, 2)), centre)
    assert "of shape [2]" in refused("cosine", np.ones(2, dtype=np.int64), centre)
    assert "of shape [0, 2]" in refused("cosine", np.ones((0, 2), dtype=np.int64), centre)
    assert "bool" in refused("cosine", np.ones((3, 2), dtype=np.bool_), centre)
    assert "have 3 entries, and the centre has 2" in refused("cosine", np.ones((3, 3), dtype=np.int64), centre)
    assert "needs a centre" in refused("cosine", np.ones((3, 2), dtype=np.int64), None)
    assert "exceed 63 bits" in refused("cosine", np.full((3, 2), 2**63, dtype=np.uint64), centre)
    with pytest.raises(CompileError, match="a centre changes no Euclidean distance"):
        IntegerNcm(HeadKind.EUCLID, centre)


@pytest.mark.parametrize("kind", HEADS)
def test_the_largest_codes_are_decided_and_larger_ones_refused(kind: str) -> None:
    """n^2 |q|^2 (three times that for Euclid) must fit int64; here it does so by less than one part in a million."""
    shots = 3
    largest = isqrt((2**63 - 1) // (shots * shots * (3 if kind == "euclid" else 1)))
    features = np.array([[largest], [-largest], [largest - 1], [1]])
    supports = np.array([[[0, 0, 0], [1, 1, 1], [2, 2, 2], [3, 0, 1]]])
    agrees(kind, features, supports, np.array([[0, 1, 2, 3]]), IntegerCentre.none(1))
    assert "more than 64 bits" in refused(kind, features + np.sign(features), IntegerCentre.none(1), shots)
    assert "more than 64 bits" in refused(kind, np.full((1, 2), 2**40), IntegerCentre.none(2))
    assert "more than 64 bits" in refused("cosine", features, IntegerCentre("given", (2**70,), 0))
    assert "more than 64 bits" in refused("cosine", np.full((1, 1), 2**60), IntegerCentre("given", (0,), 4))


@pytest.mark.parametrize("bits", range(20, 31))
def test_distances_that_differ_by_little_of_large_codes(bits: int) -> None:
    """From where all is exact in float64 to where nothing is."""
    features = (1 << bits) + np.array([[0], [1], [-1], [2], [-2], [3], [5]])
    supports = np.array([[[i], [j], [k]] for i in range(5) for j in range(5) for k in range(5)])
    agrees("euclid", features, supports, np.tile(np.arange(7), (125, 1)), IntegerCentre.none(1))


@pytest.mark.parametrize("kind", HeadKind)
@pytest.mark.parametrize("most", [1, 3, 200])
def test_episodes_are_decided_as_the_classifier_decides_them(kind: HeadKind, most: int) -> None:
    """Enrolled shot by shot, from few codes, so that many decisions are ties."""
    r = np.random.default_rng(most)
    features = r.integers(0, most + 1, (60, 7))
    ways, shots, queries = 4, 3, 5
    indices = np.stack([r.permutation(60)[: ways * shots + queries] for _ in range(40)])
    supports = indices[:, : ways * shots].reshape(40, ways, shots)
    asked = indices[:, ways * shots :]
    centre = IntegerCentre.mean(features) if kind is HeadKind.COSINE else None
    found = IntegerNcm(kind, centre).prepare(features, shots)(supports, asked)
    spec = HeadSpec.euclid(7, 0, most) if centre is None else HeadSpec.cosine(0, most, centre.codes)
    for episode in range(40):
        classifier = Classifier(spec)
        for way in range(ways):
            classifier.enrol(way, features[supports[episode, way]])
        assert classifier.classify_all(features[asked[episode]]).tolist() == found.positions[episode].tolist()
    assert most > 1 or found.tied.any()
