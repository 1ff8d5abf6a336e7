"""The widths of a classifier hold for every number that it forms, and are no wider than needed."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.head.interval import Interval
from pefslc.fewshot.head.spec import Bounds, HeadSpec, bounds_of, centre_of

RATIO = 2**32 - 1


@st.composite
def small_specs(draw: st.DrawFn) -> HeadSpec:
    low = draw(st.integers(-9, 5))
    high = draw(st.integers(low, low + 9))
    dimension, shots = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    if draw(st.booleans()):
        return HeadSpec.euclid(dimension, low, high, max_shots=shots)
    f = draw(st.integers(0, 3))
    centre = draw(st.lists(st.integers(low << f, high << f), min_size=dimension, max_size=dimension))
    return HeadSpec.cosine(low, high, centre, fraction_bits=f, max_shots=shots)


def numbers(spec: HeadSpec, shots: list[tuple[int, ...]], query: tuple[int, ...]) -> dict[str, list[int]]:
    """Every number that the arithmetic forms, in plain integers, by the name of its bound."""
    n, f = len(shots), spec.fraction_bits
    centre = spec.centre or (0,) * spec.dimension
    sums = [sum(column) for column in zip(*shots, strict=True)]
    p = [(s << f) - n * m for s, m in zip(sums, centre, strict=True)]
    q = [(x << f) - m for x, m in zip(query, centre, strict=True)]
    prefixes = range(1, spec.dimension + 1)
    dots = [sum(p[i] * q[i] for i in range(k)) for k in prefixes]
    norms = [sum(p[i] ** 2 for i in range(k)) for k in prefixes]
    query_norms = [sum(x * x for x in q[:k]) for k in prefixes]
    formed = {
        "sums": sums,
        "prototypes": [*p, *(s << f for s in sums), *(n * m for m in centre)],
        "queries": [*q, *(x << f for x in query), *centre],
        "query_norm": query_norms,
    }
    if spec.centre:
        return {**formed, "scores": dots, "weights": norms}
    a = 2 * n * dots[-1] - norms[-1]
    distance = n * n * query_norms[-1] - a
    return {**formed, "scores": [a, 2 * n * dots[-1], *norms], "weights": [n * n], "distance": [distance]}


@given(spec=small_specs(), seed=st.integers(0, 2**32))
@settings(max_examples=60)
def test_every_number_lies_within_its_bound(spec: HeadSpec, seed: int) -> None:
    draw = random.Random(seed)
    bounds = bounds_of(spec)
    largest = 0
    for _ in range(40):
        pool = (spec.low, spec.high) if draw.random() < 0.7 else range(spec.low, spec.high + 1)
        vectors = [
            tuple(draw.choice(pool) for _ in range(spec.dimension)) for _ in range(draw.randint(1, spec.max_shots) + 1)
        ]
        formed = numbers(spec, vectors[1:], vectors[0])
        for name, values in formed.items():
            interval: Interval = getattr(bounds, name)
            assert interval.low <= min(values) and max(values) <= interval.high, name  # noqa: PT018
        a, weight, norm = formed["scores"], max(formed["weights"][-1], 1), max(formed["query_norm"][-1], 1)
        if spec.centre:
            largest = max(largest, a[-1] ** 2 * weight, a[-1] ** 2 * RATIO, weight * norm * RATIO)
        else:
            largest = max(largest, abs(a[0]) * weight, formed["distance"][0] * RATIO, weight * RATIO)
    assert largest <= bounds.comparison < 2 ** (32 * bounds.limbs)


def test_the_bounds_of_cosine_are_reached() -> None:
    """All shots and the query as far from the centre as codes are: nothing is wider than it must be."""
    spec = HeadSpec.cosine(0, 3, [0, 4, 8], fraction_bits=2, max_shots=5)
    bounds = bounds_of(spec)
    formed = [
        numbers(spec, [v] * n, q) for n in (1, 5) for v in product((0, 3), repeat=3) for q in product((0, 3), repeat=3)
    ]
    for name in ("sums", "prototypes", "queries"):
        values = [x for numbers_ in formed for x in numbers_[name]]
        assert (min(*values, 0), max(values)) == (getattr(bounds, name).low, getattr(bounds, name).high), name
    scores, weights = (max(n[name][-1] for n in formed) for name in ("scores", "weights"))
    assert (scores, weights) == (bounds.scores.high, bounds.weights.high)
    assert bounds.comparison == max(scores**2 * weights, RATIO * scores**2)


def _fits(spec_of: object, shots: int) -> bool:
    try:
        spec_of(shots)  # type: ignore[operator]
    except CompileError:
        return False
    return True


@pytest.mark.parametrize(
    ("spec_of", "largest"),
    [
        # A = D (n 2^16 code)^2
        (lambda n: HeadSpec.cosine(0, 32767, [0], fraction_bits=16, max_shots=n), lambda n: (n * 2**16 * 32767) ** 2),
        (lambda n: HeadSpec.cosine(-7, 7, [0] * 5, fraction_bits=16, max_shots=n), lambda n: 5 * (n * 2**16 * 7) ** 2),
        # n <q, S> + n <q, S> + <S, S> at opposite ends
        (lambda n: HeadSpec.euclid(3, -500, 500, max_shots=n), lambda n: 3 * (n * 500) ** 2 * 4),
    ],
)  # fmt: skip
def test_what_leaves_int64_is_refused_and_nothing_less(spec_of, largest) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CompileError) as caught:
        spec_of(2**31 - 1)
    assert caught.value.problems[0].code is Code.HEAD_SPEC
    hint = caught.value.problems[0].hint
    assert hint is not None
    fits = int(hint.removeprefix("max_shots=").removesuffix(" fits"))
    assert _fits(spec_of, fits)
    assert not _fits(spec_of, fits + 1)
    assert largest(fits) < 2**63 <= largest(fits + 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"low": 3, "high": 2}, "codes from 3 to 2 are no range of 32-bit integers"),
        ({"low": -(2**31) - 1}, "codes from -2147483649 to 7 are no range"),
        ({"centre": ()}, "dimension = 0 is not in 1 to"),
        ({"centre": (0, 113)}, "number 1 of the centre, 113, is not in -128 to 112: it is no mean of codes"),
        ({"fraction_bits": 17}, "fraction_bits = 17 is not in 0 to 16"),
        ({"max_shots": 0}, "max_shots = 0 is not in 1 to"),
        ({"max_classes": 2**30}, "a state of 1073741824 classes and 16 devices has"),
        ({"max_devices": 1}, "max_devices = 1 is not in 2 to"),
        ({"low": -(2**30), "max_shots": 4}, "a sum of shots needs 33 bits, an int32 has 32"),
    ],
)
def test_impossible_numbers_are_named(arguments: dict[str, object], message: str) -> None:
    given_arguments = {"low": -8, "high": 7, "centre": (0, 0), **arguments}
    with pytest.raises(CompileError, match="PEF1121") as caught:
        HeadSpec.cosine(**given_arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_where_not_even_one_shot_fits_it_says_so() -> None:
    with pytest.raises(CompileError, match="use fewer bits a feature"):
        HeadSpec.cosine(-(2**31), 2**31 - 1, [0, 0])


def test_limbs_hold_the_bound_and_no_more() -> None:
    assert Bounds(*[Interval(0, 0)] * 7, comparison=2**64 - 1).limbs == 2
    assert Bounds(*[Interval(0, 0)] * 7, comparison=2**64).limbs == 3
    # the case that was tried on paper: 80 features, codes to 496, 4,095 shots
    assert bounds_of(HeadSpec.cosine(0, 496, [0] * 80)).limbs <= 6


@given(rows=st.lists(st.tuples(st.integers(-300, 300), st.integers(0, 7)), min_size=1, max_size=9), f=st.integers(0, 6))
def test_a_centre_is_the_rounded_mean(rows: list[tuple[int, int]], f: int) -> None:
    means = [Fraction(sum(column), len(rows)) for column in zip(*rows, strict=True)]
    assert centre_of(np.array(rows), f) == tuple(round(mean * 2**f) for mean in means)  # round: half to even


@pytest.mark.parametrize("codes", [np.zeros((0, 3), np.int64), np.zeros(3, np.int64), np.zeros((2, 3))])
def test_a_centre_needs_codes(codes: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(CompileError, match="PEF1122"):
        centre_of(codes)


def test_integers_of_numpy_are_those_of_python() -> None:
    """int8 would wrap in the proof."""
    given_as = [
        HeadSpec.cosine(kind(-100), kind(100), np.array([7, -7], dtype=kind), max_shots=kind(90))
        for kind in (int, np.int8)
    ]
    assert given_as[0] == given_as[1]
    assert bounds_of(given_as[1]).sums == Interval(-9000, 9000)
    assert type(given_as[1].low) is int
