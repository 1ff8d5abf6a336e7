"""The mutants that `make mutate` tries: what is changed, and what is left alone."""

from __future__ import annotations

from mutants import all_mutants, equivalent, mutants_of

SOURCE = '''"""Module."""

LIMIT = -3


def width(a: int, b: int = 1) -> int:
    """Text with 1 < 2."""
    assert a > 0
    if a < b and not (a == 2):
        raise ValueError(f"{a + 1} is too much")
    # a comment with 5 < 6
    return max(abs(a),  # 7 + 8
               b - 1)
'''


def changed(text: str) -> set[str]:
    """The lines that mutants change, as they are then."""
    return {mutant.applied(text).splitlines()[mutant.line - 1].strip() for mutant in mutants_of(text)}


def test_guards_bounds_and_constants_are_changed() -> None:
    lines = changed(SOURCE)
    for line in (
        "LIMIT = -4",
        "def width(a: int, b: int = 2) -> int:",
        "if a <= b and not (a == 2):",
        "if a >= b and not (a == 2):",
        "if a < b or not (a == 2):",
        "if a < b and (a == 2):",
        "if a < b and not (a != 2):",
        "if not (a < b and not (a == 2)):",
        "if False:",
        "return min(abs(a),  # 7 + 8",
        "return max((a),  # 7 + 8",
        "b + 1)",
    ):
        assert line in lines


def test_texts_comments_messages_and_assertions_are_left_alone() -> None:
    whole = SOURCE.splitlines()
    for mutant in mutants_of(SOURCE):
        mutated = mutant.applied(SOURCE).splitlines()
        assert len(mutated) == len(whole)
        (line,) = [i for i, (a, b) in enumerate(zip(whole, mutated, strict=True)) if a != b]
        assert not whole[line].strip().startswith(('"', "#", "assert", "raise"))
        compile(mutant.applied(SOURCE), "mutant", "exec")


def test_columns_of_text_beyond_ascii_are_told_right() -> None:
    assert 'x = "–×–", 2 >= 1' in changed('x = "–×–", 2 < 1\n')


def test_every_equivalent_mutant_exists_and_has_a_reason() -> None:
    """What was rewritten since is judged again."""
    reasons = equivalent()
    modules = {key.split(":")[0].removeprefix("pefslc.") for key in reasons}
    assert not set(reasons) - {drawn.key for drawn in all_mutants(modules)}
    assert all(reasons.values())
