"""The greedy search for bits, against an exhaustive one on small cases. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.precision.budgets import (
    BudgetKind,
    BudgetRequest,
    accumulator_budget,
    mean_budget,
    parse_budget,
    storage_budget,
)
from pefslc.fewshot.precision.descent import Bits, Budget, Descent, descend
from pefslc.fewshot.precision.search_log import search_json, search_text
from pefslc.numeric.accumulate import bits_for_range

NAMES = ("a", "b", "c")
MOST = 5


def everything(budgets: list[Budget]) -> list[dict[str, int]]:
    """All numbers of bits within the budgets."""
    found = (dict(zip(NAMES, bits, strict=True)) for bits in product(range(2, MOST + 1), repeat=len(NAMES)))
    return [bits for bits in found if all(b.excess(bits) == 0 for b in budgets)]


def quantization_noise(factors: Mapping[str, float]) -> Callable[[Bits], float]:
    """A quarter for each bit more, as that of rounding is: convex, and summed over tensors."""
    return lambda bits: math.fsum(f * 4.0 ** -bits[name] for name, f in factors.items())


def replay(found: Descent, budgets: list[Budget], loss: Callable[[Bits], float]) -> None:
    """What the log says is what happened."""
    states = [dict(found.start)]
    assert found.start_loss == loss(found.start)
    for number, step in enumerate(found.steps):
        bits = states[-1]
        assert bits[step.tensor] == step.before != step.after
        assert step.costs_before == tuple(b.cost(bits) for b in budgets)
        assert step.loss_before == loss(bits)
        states.append({**bits, step.tensor: step.after})
        assert step.costs_after == tuple(b.cost(states[-1]) for b in budgets)
        assert step.loss_after == loss(states[-1])
        assert any((t.step, t.tensor, t.bits) == (number, step.tensor, step.after) for t in found.trials)
    assert states[-1] == found.bits
    for trial in found.trials:
        assert trial.loss == loss({**states[trial.step], trial.tensor: trial.bits})


losses = st.fixed_dictionaries({name: st.integers(1, 1000).map(float) for name in NAMES})
sizes = st.fixed_dictionaries({name: st.integers(1, 60) for name in NAMES})


@given(losses, st.integers(2 * len(NAMES), MOST * len(NAMES)))
def test_the_best_is_found_where_bits_cost_the_same(factors: dict[str, float], total: int) -> None:
    budgets = [mean_budget("bits", total / len(NAMES), dict.fromkeys(NAMES, 1))]
    loss = quantization_noise(factors)
    found = descend(dict.fromkeys(NAMES, MOST), budgets, loss)
    assert found.holds
    assert loss(found.bits) == min(map(loss, everything(budgets)))
    replay(found, budgets, loss)


@given(
    sizes,
    st.dictionaries(st.tuples(*[st.integers(2, MOST)] * 3), st.integers(0, 9).map(float), max_size=64),
    st.floats(2, 5),
    st.integers(5, 120),
)
def test_budgets_hold_where_they_can(
    counts: dict[str, int], table: dict[tuple[int, ...], float], mean: float, size: int
) -> None:
    """Whatever the loss is, and with two budgets that pull at different tensors."""
    budgets = [mean_budget("bits", mean, counts), storage_budget("bytes", size, {"a": counts["a"], "b": counts["b"]})]

    def loss(bits: Bits) -> float:
        return table.get(tuple(bits[name] for name in NAMES), 1.0)

    found = descend(dict.fromkeys(NAMES, MOST), budgets, loss)
    possible = everything(budgets)
    assert found.holds is bool(possible)
    assert not found.holds or found.bits in possible
    assert all(2 <= bits <= MOST for bits in found.bits.values())
    replay(found, budgets, loss)
    again = descend(dict.fromkeys(NAMES, MOST), budgets, loss)
    assert again == found


@given(losses, sizes, st.floats(2, 5))
def test_no_bit_that_fits_is_left_over(factors: dict[str, float], counts: dict[str, int], mean: float) -> None:
    budgets = [mean_budget("bits", mean, counts)]
    found = descend(dict.fromkeys(NAMES, MOST), budgets, quantization_noise(factors))
    for name in NAMES:
        more = {**found.bits, name: found.bits[name] + 1}
        assert more[name] > MOST or budgets[0].excess(more) > 0


def test_a_budget_out_of_reach_costs_no_measurement() -> None:
    calls = []
    budgets = [storage_budget("bytes", 3, dict.fromkeys(NAMES, 8))]
    found = descend(dict.fromkeys(NAMES, MOST), budgets, lambda bits: calls.append(bits) or 0.0)
    assert not found.holds
    assert len(calls) == 1
    assert found.bits == found.start


def test_bits_go_together_where_one_alone_does_not_help() -> None:
    def cost(bits: Bits) -> float:
        return sum(4 if b > 3 else 2 for b in bits.values())  # as where 5 and 4 bits lie in one type

    budgets = [Budget("types", cost, lambda bits: max(cost(bits) - 6, 0))]
    found = descend({"a": 5, "b": 5}, budgets, lambda bits: 10 * (5 - bits["a"]) + 5 - bits["b"])
    assert found.bits == {"a": 5, "b": 3}
    assert [(s.tensor, s.before, s.after) for s in found.steps] == [("b", 5, 3)]


@given(st.lists(st.tuples(st.integers(-(2**40), 0), st.integers(0, 2**40)), min_size=1, max_size=5), st.integers(2, 45))
def test_an_accumulator_holds_where_twos_complement_does(ranges: list[tuple[int, int]], limit: int) -> None:
    budget = accumulator_budget("accumulator", limit, lambda _: {str(i): r for i, r in enumerate(ranges)})
    widest = max(bits_for_range(*r) for r in ranges)
    assert budget.cost({}) == widest
    assert (budget.excess({}) == 0) is (widest <= limit)


@pytest.mark.parametrize("bits", [2, 16, 32, 53, 54, 61, 64, 200])
def test_a_sum_of_one_too_many_misses_its_accumulator(bits: int) -> None:
    """Also where a float does not tell 2^60 from 2^60 + 1."""
    most, least = 2 ** (bits - 1) - 1, -(2 ** (bits - 1))
    for low, high, holds in ((least, most, True), (0, most + 1, False), (least - 1, 0, False)):
        budget = accumulator_budget("sums", bits, lambda _, ends=(low, high): {"sum": ends})
        assert (budget.excess({}) == 0) is holds
        assert budget.cost({}) == bits + (not holds)


def test_progress_ends_at_the_budget() -> None:
    told: list[tuple[int, int, str]] = []
    budgets = [mean_budget("bits=3", 3, {"a": 4, "b": 1, "c": 1})]
    loss = quantization_noise({"a": 1.0, "b": 1.0, "c": 1000.0})
    found = descend(dict.fromkeys(NAMES, MOST), budgets, loss, progress=lambda *call: told.append(call))
    assert len(told) == len(found.trials)
    assert [done for done, *_ in told] == sorted(done for done, *_ in told)
    assert told[-1][2].startswith("bits=3 at ")
    for done, _, text in told:
        assert text.endswith(" left") is (0 < done < 1000), "on the way up nobody knows how far it goes"
    assert told[-1][0] == 1000


def test_the_table_and_the_json_hold_every_step() -> None:
    budgets = [mean_budget("bits=3", 3, {"a": 1, "b": 1})]
    found = descend({"a": 4, "b": 4}, budgets, quantization_noise({"a": 1, "b": 256}))
    text, content = search_text(found, ["bits=3"]), search_json(found, ["bits=3"])
    assert [line.split() for line in text.splitlines()[2:5]] == [
        ["0", "4", "1.00391"],
        ["1", "a", "4", "3", "3.5", "1.01562"],
        ["2", "a", "3", "2", "3", "1.06250"],
    ]
    assert f"{len(found.trials)} measurements" in text
    assert [(s["tensor"], s["after"]) for s in content["steps"]] == [("a", 3), ("a", 2)]
    assert content["found"] == {"bits": {"a": 2, "b": 4}, "costs": [3.0], "loss": found.loss}
    assert len(content["trials"]) == len(found.trials)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bits=3.5", BudgetRequest(BudgetKind.BITS, 3.5)),
        ("activations=4", BudgetRequest(BudgetKind.ACTIVATIONS, 4)),
        ("bytes=1234567", BudgetRequest(BudgetKind.BYTES, 1234567)),
        ("accumulator=14", BudgetRequest(BudgetKind.ACCUMULATOR, 14)),
        ("accumulator=custom_perf", BudgetRequest(BudgetKind.ACCUMULATOR, None, "custom_perf")),
    ],
)
def test_budgets_are_read(text: str, expected: BudgetRequest) -> None:
    assert parse_budget(text) == expected
    assert parse_budget(str(expected)) == expected
    assert str(parse_budget(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bits", "'bits' is no budget"),
        ("bits=", "'bits=' is no budget"),
        ("words=3", "'words=3' is no budget"),
        ("bits=few", "few is no limit"),
        ("bits=1.5", "a tensor has at least 2 bits"),
        ("bits=nan", "nan is no limit"),
        ("bytes=0", "0 is no limit"),
        ("bytes=1.5", "1.5 is no limit"),
        ("accumulator=14.5", "14.5 is no limit"),
        ("accumulator=-3", "-3 is no limit"),
        ("accumulator=1e3", "1e3 is no limit"),
        ("cycles=100000", "fewer bits save no cycles"),
    ],
)
def test_what_is_no_budget_is_refused(text: str, message: str) -> None:
    with pytest.raises(CompileError, match=message):
        parse_budget(text)
