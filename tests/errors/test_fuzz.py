"""A few of the mutated models of tests/fuzz_campaign.py: each compiles or is refused, in bounded time."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_corpus import Entry, corpus
from fuzzing import Case, make_case, outcome

_CASES, _CHUNK = 400, 50


@pytest.mark.parametrize("first", range(0, _CASES, _CHUNK))
def test_mutated_models_compile_or_are_refused(first: int, tmp_path: Path) -> None:
    for number in range(first, first + _CHUNK):
        assert outcome(make_case(2026, number), tmp_path / "model.onnx"), number
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_the_same_seed_gives_the_same_case() -> None:
    assert make_case(1, 7) == make_case(1, 7)
    assert make_case(1, 7) != make_case(2, 7)


def test_the_models_that_are_mutated_compile(tmp_path: Path) -> None:
    """Else the mutations would only reach the first check."""
    found = [outcome_of(model, tmp_path) for model in corpus()]
    assert found.count("compiled") == len(found) - 1  # one is a float model: it needs --fmt
    assert found.count("PEF0503") == 1


def outcome_of(entry: Entry, folder: Path) -> str:
    case = Case(entry.model, entry.beside, "c", arch=None, fmt=None, input_fmt=None, check_passes=True)
    return outcome(case, folder / "model.onnx")
