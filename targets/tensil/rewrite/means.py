"""Means over a whole image, for native arithmetic: in several small steps, each of which loses little.

A mean over N pixels by weights 1/N would round each of N products to 2^-p: log2(N) of the p fraction bits are lost N
times. Steps that divide by 4 lose two bits four times each, and each step averages the errors of those before. Each
adds the quarters of what it reads, so that a row of pixels stays a run of consecutive vectors.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.groups.group import Group, LinearHead, Selection, Term
from pefslc.targets.tensil.groups.layout import Layout

__all__ = ["MEANS", "split_means"]

MEANS = tuple(f".mean{i}" for i in range(32))  # added to the name of the result; an image has fewer than 2^32 pixels


def split_means(selection: Selection) -> Selection:
    """The selection with every sum over a whole image in steps."""
    groups: list[Group] = []
    layouts, ranges, storage = dict(selection.layouts), dict(selection.ranges), dict(selection.storage)
    for group in selection.groups:
        *helpers, last = _steps(selection, group)
        for helper in helpers:
            layouts[helper.result], storage[helper.result] = helper.layout, helper.result
            ranges[helper.result] = ranges[group.result]
        groups += [*helpers, last]
    return replace(selection, groups=tuple(groups), layouts=layouts, ranges=ranges, storage=storage)


def _steps(selection: Selection, group: Group) -> list[Group]:
    """The groups that compute a sum over a whole image; the group itself where it is something else."""
    if not isinstance(group.head, LinearHead) or len(group.head.terms) != 1:
        return [group]
    (term,) = group.head.terms
    layout = selection.layouts[term.tensor]
    identity = np.eye(layout.channels, dtype=np.int64)[:, :, None, None]
    whole = term.window.kernel == (layout.height, layout.width) and not term.window.is_padded
    # One image of channels at a time: the weights of all taps may be a view of one.
    is_sum = whole and all(
        np.array_equal(term.weight[:, :, y : y + 1, x : x + 1], identity) for y, x in np.ndindex(term.window.kernel)
    )
    windows = _windows(layout) if is_sum and not group.head.bias.any() else []
    if len(windows) < 2:
        return [group]
    found: list[Group] = []
    tensor = term.tensor
    for i, window in enumerate(windows):
        layout = Layout(layout.channels, *window.output_size(layout.height, layout.width))
        weight = np.broadcast_to(identity, (*identity.shape[:2], *window.kernel))
        head = LinearHead((Term(tensor, weight, window),), group.head.bias)
        tensor = group.result + MEANS[i]
        found.append(Group(tensor, layout, head, (), (), group.origin))
    return [*found[:-1], replace(group, head=found[-1].head)]


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
