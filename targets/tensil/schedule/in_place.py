"""Results of wide sums that may lie where a tensor lies that their group adds, where nobody else reads that.

A pass adds a part of the tensor before it writes the same part. Only groups that sums of several words need are asked:
all others lie as they always did.
"""

from __future__ import annotations

from pefslc.targets.tensil.groups.group import is_copy
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.words.steps import Accumulate
from pefslc.targets.tensil.words.word_group import WordGroup

__all__ = ["is_high_digit", "overwritten"]


def is_high_digit(group: WordGroup, data_type: DataType) -> bool:
    """Whether the group divides a tensor and does nothing else: what is left of it is made next."""
    if len(group.terms) != 1 or group.steps or group.bias.any() or group.stationary or group.carried:
        return False
    (term,) = group.terms
    word = int(term.weight.max(initial=0))
    return 0 < word < data_type.one and is_copy(term.weight, term.window, word)


def overwritten(group: WordGroup, data_type: DataType) -> str | None:
    """The tensor that is added and may be overwritten: by a low digit, a sum of parts, or one over both digits."""
    added = [step for step in group.steps if isinstance(step, Accumulate)]
    if len(added) != 1 or group.stationary or any(added[0].tensor in side for side in group.sides):
        return None
    plain = len(group.steps) == 1 and added[0].ceiling is None and added[0].word is None and not added[0].carried
    is_part = plain and (_saturates(group, data_type) or _takes_multiples(group, data_type))
    return added[0].tensor if is_part or group.add_high is not None else None


def _saturates(group: WordGroup, data_type: DataType) -> bool:
    (added,) = group.steps
    assert isinstance(added, Accumulate)
    low, high = group.words
    return low + added.low < data_type.min_code or high + added.high > data_type.max_code


def _takes_multiples(group: WordGroup, data_type: DataType) -> bool:
    """Whether multiples of one tensor are taken from another: of a high digit, from the tensor that it is of."""
    if len(group.terms) != 1:
        return False
    (term,) = group.terms
    word = int(term.weight.min(initial=0))
    return word < -data_type.one and is_copy(term.weight, term.window, word)
