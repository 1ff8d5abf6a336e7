"""Means over a whole image, for native arithmetic: in several small steps, each of which loses little.

A mean over N pixels by weights 1/N would round each of N products to 2^-p: log2(N) of the p fraction bits are lost N
times. Steps that divide by 4 lose two bits four times each, and each step averages the errors of those before. Each
adds the quarters of what it reads, so that a row of pixels stays a run of consecutive vectors.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.groups.group import Group, LinearHead, Term
from pefslc.targets.tensil.groups.group_program import GroupProgram, Role, StoredTensor
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.rewriting.rewrite import Context

__all__ = ["SplitMeans"]


class SplitMeans:
    """Every sum over a whole image is made in steps."""

    name: ClassVar[str] = "split-means"
    needs: ClassVar[str] = "native arithmetic: exact sums need no steps"
    ensures: ClassVar[str] = "the steps before the last make tensors of role `mean`"

    def run(self, program: GroupProgram, context: Context) -> GroupProgram:  # noqa: ARG002  # one signature for all
        groups: list[Group] = []
        helpers: list[StoredTensor] = []
        for group in program.groups:
            tensors, steps = _steps(program, group)
            helpers += tensors
            groups += steps
        return program.with_groups(groups, helpers) if helpers else program


def _steps(program: GroupProgram, group: Group) -> tuple[list[StoredTensor], list[Group]]:
    """The helpers and the groups that compute a sum over a whole image; the group itself where it is something else."""
    if not isinstance(group.head, LinearHead) or len(group.head.terms) != 1:
        return [], [group]
    (term,) = group.head.terms
    layout = program.layout(term.tensor)
    identity = np.eye(layout.channels, dtype=np.int64)[:, :, None, None]
    whole = term.window.kernel == (layout.height, layout.width) and not term.window.is_padded
    # One image of channels at a time: the weights of all taps may be a view of one.
    is_sum = whole and all(
        np.array_equal(term.weight[:, :, y : y + 1, x : x + 1], identity) for y, x in np.ndindex(term.window.kernel)
    )
    windows = _windows(layout) if is_sum and not group.head.bias.any() else []
    if len(windows) < 2:
        return [], [group]
    made = program.tensors[group.result]
    tensors: list[StoredTensor] = []
    groups: list[Group] = []
    source, codes = term.tensor, program.tensors[term.tensor].codes
    for i, window in enumerate(windows):
        layout = Layout(layout.channels, *window.output_size(layout.height, layout.width))
        weight = np.broadcast_to(identity, (*identity.shape[:2], *window.kernel))
        head = LinearHead((Term(source, weight, window),), group.head.bias)
        if i == len(windows) - 1:
            break
        codes = codes[0] * window.taps, codes[1] * window.taps
        tensors.append(made.helper(Role.MEAN, layout, codes, i))
        source = tensors[-1].name
        groups.append(Group(source, layout, head, (), (), group.origin))
    return tensors, [*groups, replace(group, head=head)]


def _windows(layout: Layout) -> list[Window]:
    """Each adds f pixels that lie 1/f of the height, or of the width, apart."""
    windows = []
    for size, is_row in ((layout.height, True), (layout.width, False)):
        while size > 1:
            factor = 4 if size % 4 == 0 else next(f for f in range(2, size + 1) if size % f == 0)
            size //= factor
            windows.append(
                Window(kernel=(factor, 1) if is_row else (1, factor), dilations=(size, 1) if is_row else (1, size))
            )
    return windows
