"""The descent over points of formats, against all plans."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from pefslc.fewshot.precision.points import settle

Plan = Mapping[str, int]


def moved(plan: Plan, name: str, by: int) -> Plan:
    return {**plan, name: plan[name] + by}


@given(
    wanted=st.lists(st.integers(-4, 4), min_size=1, max_size=5),
    start=st.lists(st.integers(-4, 4), min_size=5, max_size=5),
)
def test_a_sum_of_one_bowl_a_name_is_settled_at_its_foot(wanted: list[int], start: list[int]) -> None:
    names = [f"t{i}" for i in range(len(wanted))]
    goal = dict(zip(names, wanted, strict=True))
    found = settle(
        dict(zip(names, start, strict=False)),
        names,
        moved,
        lambda plan: sum((plan[name] - goal[name]) ** 2 for name in names),
        rounds=9,
    )
    assert found == goal


@given(st.lists(st.integers(0, 20), min_size=27, max_size=27))
def test_what_is_found_is_no_worse_than_the_start_and_no_single_step_is_better(losses: list[int]) -> None:
    """On any landscape of three tensors with three places each."""
    places = dict(zip(product((0, 1, 2), repeat=3), losses, strict=True))

    def loss(plan: Plan) -> float:
        return places.get((plan["a"], plan["b"], plan["c"]), 99)

    start = {"a": 1, "b": 1, "c": 1}
    found = settle(start, ["a", "b", "c"], moved, loss, rounds=30)
    assert loss(found) <= loss(start)
    assert all(loss(moved(found, name, by)) >= loss(found) for name in "abc" for by in (-1, 1))


def test_a_plateau_is_not_left() -> None:
    assert settle({"a": 3}, ["a"], moved, lambda _: 1.0) == {"a": 3}


def test_the_number_of_rounds_is_a_limit() -> None:
    assert settle({"a": 0}, ["a"], moved, lambda plan: abs(plan["a"] - 10), rounds=4) == {"a": 4}
