"""Classifier, emitted Python and emitted C make the very decisions of the definition, and write the same files."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from fewshot.head_actors import Actor, InC, InPython, Ours, Result, Vector
from fewshot.head_oracle import Oracle
from fewshot.head_specs import SPECS
from hypothesis import given, settings
from hypothesis import strategies as st

from pefslc.fewshot.head.spec import HeadKind, HeadSpec

Heads = dict[str, tuple[InPython, InC]]
IDS = (0, 1, 7, 2**31, 2**32 - 1)


class Trial:
    """All actors and the oracle, which do the same."""

    def __init__(self, name: str, heads: Heads) -> None:
        self.spec = SPECS[name]
        self.actors: list[Actor] = [Ours(self.spec), *heads[name]]
        self.oracles: dict[int, Oracle] = {}
        self.outcomes: list[Result] = []

    def do(self, what: str, *arguments: object) -> Result:
        """The result that all actors give."""
        results = [getattr(actor, what)(*arguments) for actor in self.actors]
        assert results[0] == results[1] == results[2], (what, arguments, results)
        self.outcomes.append(results[0])
        return results[0]  # type: ignore[no-any-return]

    def init(self, slot: int, device: int) -> None:
        self.do("init", slot, device)
        self.oracles[slot] = Oracle(self.spec)

    def enrol(self, slot: int, class_id: int, shots: list[Vector]) -> None:
        oracle, spec = self.oracles[slot], self.spec
        count = len(oracle.shots.get(class_id, ())) + len(shots)
        room = class_id in oracle.shots or len(oracle.shots) < spec.max_classes
        valid = shots and all(spec.low <= x <= spec.high for shot in shots for x in shot)
        expected = "bad-codes" if not valid else "ok" if room and count <= spec.max_shots else "full"
        assert self.do("enrol", slot, class_id, shots) == expected
        if expected == "ok":
            oracle.shots.setdefault(class_id, []).extend(shots)

    def forget_shot(self, slot: int, class_id: int, shot: Vector) -> None:
        shots = self.oracles[slot].shots.get(class_id, [])
        result = self.do("forget_shot", slot, class_id, shot)
        if shot in shots:
            assert result == "ok"
            shots.remove(shot)
        elif result == "ok":  # sums cannot know: some other shots have these
            self.do("enrol", slot, class_id, [shot])
        elif not shots:
            assert result == "class"

    def forget_class(self, slot: int, class_id: int) -> None:
        known = self.oracles[slot].shots.pop(class_id, None) is not None
        assert self.do("forget_class", slot, class_id) == ("ok" if known else "class")

    def classify(self, slot: int, query: Vector, threshold: Fraction | None = None) -> None:
        expected = self.oracles[slot].classify(query, threshold)
        assert self.do("classify", slot, query, threshold) == expected

    def same_files(self, slot: int) -> bytes:
        files = [actor.save(slot) for actor in self.actors]
        assert files[0] == files[1] == files[2]
        return files[0]


def codes(draw: random.Random, spec: HeadSpec, known: list[Vector]) -> Vector:
    """A vector: the ends, the centre, one bit beside a known one, or anything."""
    low, high = spec.low, spec.high
    nearest = [min(max(round(Fraction(m, 2**spec.fraction_bits)), low), high) for m in spec.centre or (low,)]
    kind = draw.randrange(7)
    if kind == 0:
        return (draw.choice((low, high)),) * spec.dimension
    if kind == 1:
        return tuple((nearest * spec.dimension)[: spec.dimension])
    if kind == 2:
        return tuple(draw.choice((low, high)) for _ in range(spec.dimension))
    if kind in (3, 4) and known:
        vector = list(draw.choice(known))
        if kind == 4:
            at = draw.randrange(spec.dimension)
            vector[at] = min(max(vector[at] + draw.choice((-1, 1)), low), high)
        return tuple(vector)
    return tuple(draw.randint(low, high) for _ in range(spec.dimension))


def threshold(draw: random.Random, trial: Trial, slot: int, query: Vector) -> Fraction | None:
    """None, at the very score of a class, one step beside it, or anything that is allowed."""
    scores = [abs(s) for s in trial.oracles[slot].scores(query).values()]
    most = 1 if trial.spec.kind is HeadKind.COSINE else 2**32 - 1
    kind = draw.randrange(4)
    if kind == 0:
        return None
    if kind == 1 or not scores:
        return Fraction(draw.choice((0, most, draw.randint(0, most))), draw.choice((1, 2**32 - 1)))
    chosen = draw.choice(scores)
    if kind == 2 and max(chosen.numerator, chosen.denominator) < 2**32 and chosen <= most:
        return chosen
    beside = (chosen + Fraction(draw.choice((-1, 1)), 2**30)).limit_denominator(2**20)
    beside = min(max(beside, Fraction(0)), Fraction(most))
    return beside if beside.numerator < 2**32 else Fraction(int(beside))


def play(trial: Trial, draw: random.Random, steps: int) -> None:
    """Anything a device may do, in any order, mistakes included."""
    spec = trial.spec
    known: list[Vector] = []
    for slot in range(3):
        trial.init(slot, slot)
    for _ in range(steps):
        slot, class_id, act = draw.randrange(3), draw.choice(IDS), draw.randrange(12)
        query = codes(draw, spec, known)
        if act < 4:
            known.append(query)
            trial.enrol(slot, class_id, [query, *(codes(draw, spec, known) for _ in range(draw.randrange(3)))])
        elif act == 4:
            shots = trial.oracles[slot].shots.get(class_id) or [query]
            trial.forget_shot(slot, class_id, draw.choice((query, *shots)))
        elif act == 5 and draw.random() < 0.3:
            trial.forget_class(slot, class_id)
        elif act == 6 and draw.random() < 0.5:
            trial.do("load", slot, trial.same_files(slot))
        else:
            trial.classify(slot, query, threshold(draw, trial, slot, query))
    merged = trial.do("merge", 0, 1)
    if merged == "ok":
        for class_id, shots in trial.oracles[1].shots.items():
            trial.oracles[0].shots.setdefault(class_id, []).extend(shots)
    for slot in range(3):
        trial.same_files(slot)
        trial.classify(slot, codes(draw, spec, known))


@pytest.mark.parametrize("name", SPECS)
def test_every_decision_of_a_long_life_is_that_of_the_definition(name: str, heads: Heads) -> None:
    trial = Trial(name, heads)
    for seed in range(3):
        play(trial, random.Random(seed), 40 if trial.spec.dimension > 20 else 120)  # fractions take their time
    assert trial.outcomes.count("ok") > 30
    assert "class" in trial.outcomes
    assert None in trial.outcomes
    assert name == "cosine80" or len({r for r in trial.outcomes if isinstance(r, int)}) > (name != "one")


@given(seed=st.integers(0, 2**32), name=st.sampled_from(["small", "whole_type", "brim", "euclid_brim"]))
@settings(max_examples=25)
def test_short_lives_agree(seed: int, name: str, heads: Heads) -> None:
    play(Trial(name, heads), random.Random(seed), 25)


@pytest.mark.parametrize("name", SPECS)
def test_numbers_at_their_largest_agree(name: str, heads: Heads) -> None:
    """As many shots as are counted, all at one end; queries at the ends: the widest sums, squares and products."""
    trial = Trial(name, heads)
    spec = trial.spec
    trial.init(0, 1)
    ends = [(end,) * spec.dimension for end in (spec.low, spec.high)]
    signs = [m > (spec.low + spec.high) << (spec.fraction_bits - 1) if spec.fraction_bits else 0 for m in spec.centre]
    if signs:  # as far from the centre as codes are, everywhere
        ends.append(tuple(spec.low if above else spec.high for above in signs))
    for class_id, end in zip(IDS, ends[: spec.max_classes], strict=False):
        trial.enrol(0, class_id, [end] * spec.max_shots)
        trial.enrol(0, class_id, [end])  # one too many
    assert trial.outcomes.count("full") == min(len(ends), spec.max_classes)
    for query in ends:
        for given_threshold in (None, Fraction(0), Fraction(1), Fraction(2**32 - 2, 2**32 - 1)):
            trial.classify(0, query, given_threshold)
    trial.do("load", 1, trial.same_files(0))
    for class_id, end in zip(IDS, ends[: spec.max_classes], strict=False):
        trial.forget_shot(0, class_id, end)
    trial.same_files(0)


def test_ties_go_to_the_lowest_id_whatever_the_order_of_enrolling(heads: Heads) -> None:
    trial = Trial("cosine80", heads)
    draw = random.Random(3)
    one, two = (codes(draw, trial.spec, []) for _ in range(2))
    trial.init(0, 1)
    for class_id, shots in ((2**32 - 1, [one]), (7, [one] * 3), (9, [two]), (0, [two, two])):  # scores know no counts
        trial.enrol(0, class_id, shots)
    trial.classify(0, one)
    trial.classify(0, two)
    assert trial.outcomes[-2:] == [7, 0]


def test_a_prototype_or_a_query_at_the_centre_scores_nothing(heads: Heads) -> None:
    trial = Trial("one", heads)
    trial.init(0, 1)
    trial.enrol(0, 5, [(0,)])
    for query in ((0,), (1,)):
        trial.classify(0, query)
        trial.classify(0, query, Fraction(0))
        trial.classify(0, query, Fraction(1, 2**32 - 1))
    assert trial.outcomes[-6:] == [5, 5, None, 5, 5, None]


def test_codes_out_of_range_are_refused_wherever_they_stand(heads: Heads) -> None:
    trial = Trial("euclid", heads)
    trial.init(0, 1)
    for at in range(16):
        for code in (-17, 16):
            trial.enrol(0, 0, [(0,) * 16, tuple(code if i == at else 0 for i in range(16))])
    assert trial.outcomes == ["ok", *["bad-codes"] * 32]


def test_merging_in_any_order_gives_the_same_file(heads: Heads) -> None:
    trial = Trial("whole_type", heads)
    draw = random.Random(5)
    shots = {slot: [(draw.choice(IDS), codes(draw, trial.spec, [])) for _ in range(6)] for slot in range(3)}
    files = set()
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        for slot in range(3):
            trial.init(slot, 50 - slot)
            for class_id, shot in shots[slot]:
                trial.enrol(slot, class_id, [shot])
            trial.do("rename", slot, shots[slot][0][0], "mug" if slot else "Tässe")
        first, *others = order
        results = [trial.do("merge", first, slot) for slot in others]
        files.add((trial.same_files(first), tuple(results)))
    names = {slot: shots[slot][0][0] for slot in range(3)}
    assert len({names[0], names[1]}) == 2, "these are two classes, so that names do not contradict"
    assert {results for _, results in files} == {("ok", "ok")}
    assert len({file for file, _ in files}) == 1


def test_what_does_not_belong_together_is_not_merged(heads: Heads) -> None:
    trial = Trial("small", heads)
    for slot, device in enumerate((4, 4, 5, 6)):
        trial.init(slot, device)
        trial.enrol(slot, 1, [(0, 1)])
    before = trial.same_files(0)
    assert trial.do("merge", 0, 1) == "twice"
    trial.do("rename", 0, 1, "mug")
    trial.do("rename", 2, 1, "pen")
    assert trial.do("merge", 0, 2) == "two-names"
    trial.do("rename", 2, 1, "mug")
    trial.enrol(2, 1, [(0, 1)] * 2)
    assert trial.do("merge", 0, 2) == "full"  # 1 + 3 shots of 3
    trial.forget_shot(2, 1, (0, 1))
    for class_id in (2, 3, 7):
        trial.enrol(2, class_id, [(0, 1)])
    trial.enrol(0, 9, [(0, 1)])
    assert trial.do("merge", 0, 2) == "full"  # 5 classes of 4
    trial.forget_class(0, 9)
    trial.do("rename", 0, 1, "")
    assert trial.same_files(0) == before  # nothing of it was done
    assert trial.do("merge", 0, 2) == "ok"
    trial.do("init", 1, 8)
    assert trial.do("merge", 0, 1) == "ok"
    trial.do("init", 1, 9)
    assert trial.do("merge", 0, 1) == "full"  # 4 devices of 3


@pytest.mark.parametrize("name", ["small", "euclid_unsigned"])
def test_every_byte_of_a_file_counts(name: str, heads: Heads) -> None:
    trial = Trial(name, heads)
    spec = trial.spec
    trial.init(0, 9)
    for class_id in (3, 1):
        trial.enrol(0, class_id, [(spec.low, *(spec.high,) * (spec.dimension - 1))] * 2)
    trial.do("rename", 0, 3, "mug")
    whole = trial.same_files(0)
    for size in range(len(whole)):
        assert trial.do("load", 0, whole[:size]) == "damaged"
    for at in range(len(whole)):
        for flipped in (1, 128, 255):
            damaged = bytearray(whole)
            damaged[at] ^= flipped
            assert trial.do("load", 0, bytes(damaged)) == "damaged"
    assert trial.do("load", 0, whole + b"\0") == "damaged"
    assert trial.do("load", 1, whole) == "ok"
    assert trial.same_files(1) == whole == trial.same_files(0)


votes = st.lists(st.one_of(st.none(), st.integers(0, 4), st.sampled_from([2**31, 2**32 - 1])), max_size=12)


@given(decisions=votes)
def test_a_vote_is_counted(decisions: list[int | None], heads: Heads) -> None:
    candidates = sorted({d for d in decisions if d is not None})
    most = max((decisions.count(c) for c in candidates), default=0)
    expected = (
        None if decisions.count(None) > most else next((c for c in candidates if decisions.count(c) == most), None)
    )
    trial = Trial("one", heads)
    assert trial.do("vote", decisions) == expected
