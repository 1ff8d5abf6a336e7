"""Sums over both digits of a tensor: made side by side (`word_rewrites.both_digits`) if both are of the same terms."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pefslc.targets.tensil.group_rewrites.room import summed_together
from pefslc.targets.tensil.groups.group import Group, LinearHead
from pefslc.targets.tensil.groups.group_program import GroupProgram

__all__ = ["rewritten_in_pairs", "sums_in_pairs", "tensors_in_pairs"]

# (the program, a group of it as it was at first) -> the program with that one rewritten; None where it stays.
RewriteOne = Callable[[GroupProgram, Group], GroupProgram | None]


def sums_in_pairs(program: GroupProgram) -> dict[str, str]:
    """By each of two sums that are made side by side, the other one."""
    of_total: dict[str, list[str]] = {}
    for result, total in summed_together(program).items():
        of_total.setdefault(total, []).append(result)
    return {a: b for pair in of_total.values() if len(pair) == 2 for a, b in (pair, pair[::-1])}


def tensors_in_pairs(program: GroupProgram) -> dict[str, str]:
    """By each of two tensors that such sums read with the same weights, the other one."""
    groups, found = {group.result: group for group in program.groups}, dict[str, str]()
    for first, second in sums_in_pairs(program).items():
        heads = groups[first].head, groups[second].head
        assert isinstance(heads[0], LinearHead)
        assert isinstance(heads[1], LinearHead)
        if len(heads[0].terms) == len(heads[1].terms):
            found |= {a.tensor: b.tensor for a, b in zip(heads[0].terms, heads[1].terms, strict=True)}
    return found


def rewritten_in_pairs(program: GroupProgram, pairs: dict[str, str], rewrite: RewriteOne) -> GroupProgram:
    """Each group rewritten on its own, and with the other one of its pair or not at all."""
    groups, seen = {group.result: group for group in program.groups}, set[str]()
    for group in groups.values():
        together = [name for name in _both(group.result, pairs) if name in groups]
        if group.result in seen:
            continue
        seen.update(together)
        candidate: GroupProgram | None = program
        for name in together:
            candidate = None if candidate is None else rewrite(candidate, groups[name])
        program = program if candidate is None else candidate
    return program


def _both(name: str, pairs: dict[str, str]) -> Iterator[str]:
    yield name
    if name in pairs:
        yield pairs[name]
