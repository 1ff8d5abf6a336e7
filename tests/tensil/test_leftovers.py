"""Packed and factored leftover channels: the rewritten convolutions compute what the plain one does."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from tensil_support import group_program

from pefslc.diagnostics.errors import Origin
from pefslc.geometry.shapes import Window
from pefslc.ir.semantics import conv2d
from pefslc.targets.tensil.group_rewrites.leftover_channels import FactorLeftovers, PackLeftovers
from pefslc.targets.tensil.groups.group import AddTensor, Group, LinearHead, Term
from pefslc.targets.tensil.groups.group_program import GroupProgram, Role
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import Architecture, load_architecture
from pefslc.targets.tensil.rewriting.rewrite import Context

BOARD = replace(load_architecture("custom_perf"), array_size=12)


def factor_leftovers(program: GroupProgram, board: Architecture) -> GroupProgram:
    return FactorLeftovers().run(program, Context(board))


def pack_leftovers(program: GroupProgram, board: Architecture) -> GroupProgram:
    return PackLeftovers().run(program, Context(board))


def evaluate(program: GroupProgram, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every tensor, by offsets from the output pixel, leaving out what is outside."""
    for group in program.groups:
        assert isinstance(group.head, LinearHead)
        layout = group.layout
        result = np.zeros((layout.channels, layout.height, layout.width), dtype=np.int64)
        for term in group.head.terms:
            image, window = values[term.tensor], term.window
            assert image.shape[0] == term.weight.shape[1]
            for ky, kx in itertools.product(range(window.kernel[0]), range(window.kernel[1])):
                dy, dx = window.tap_offset(ky, kx)
                for y, x in itertools.product(range(layout.height), range(layout.width)):
                    row, column = y * window.strides[0] + dy, x * window.strides[1] + dx
                    if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                        result[:, y, x] += term.weight[:, :, ky, kx] @ image[:, row, column]
        values[group.result] = result + group.head.bias[:, None, None]
    return values


def chain(channels: tuple[int, int, int], windows: tuple[Window, Window], size: int, seed: int) -> GroupProgram:
    """x -> a -> b: two convolutions."""
    r = np.random.default_rng(seed)
    layouts = {"x": Layout(channels[0], size, size + 1)}
    groups = []
    for source, result, inputs, outputs, window in zip("xa", "ab", channels[:2], channels[1:], windows, strict=True):
        before = layouts[source]
        layouts[result] = Layout(outputs, *window.output_size(before.height, before.width))
        weight = r.integers(-2, 3, (outputs, inputs, *window.kernel))
        head = LinearHead((Term(source, weight, window),), r.integers(-9, 9, outputs))
        groups.append(Group(result, layouts[result], head, (), (result,), Origin(result, "Conv")))
    return group_program(groups, {"x": layouts["x"]}, "b", dict.fromkeys("xab", (-8, 7)))


WINDOWS = [
    Window(kernel=(kernel,) * 2, strides=(stride,) * 2, pads=(pad,) * 4, dilations=(dilation,) * 2)
    for kernel, stride, pad, dilation in [
        (3, 1, 1, 1),
        (3, 2, 1, 1),
        (3, 1, 0, 1),
        (1, 1, 0, 1),
        (3, 1, 2, 2),
        (2, 1, 0, 1),
    ]
]


@pytest.mark.parametrize("channels", [(5, 16, 16), (16, 16, 5), (13, 16, 14), (3, 28, 16), (20, 20, 20), (5, 17, 19)])
@pytest.mark.parametrize(("first", "second"), list(itertools.product(WINDOWS, WINDOWS)))
def test_the_rewritten_groups_compute_the_same(channels: tuple[int, int, int], first: Window, second: Window) -> None:
    plain = chain(channels, (first, second), 12, seed=sum(channels))
    rewritten = pack_leftovers(factor_leftovers(plain, BOARD), BOARD)
    image = np.random.default_rng(1).integers(-8, 8, (channels[0], 12, 13))
    expected, found = evaluate(plain, {"x": image}), evaluate(rewritten, {"x": image})
    assert all(np.array_equal(found[t], expected[t]) for t in "ab")
    head = plain.groups[0].head
    assert isinstance(head, LinearHead)
    assert np.array_equal(expected["a"], conv2d(image[None], head.terms[0].weight, head.bias, first)[0])
    if "a.partial" in found:  # the others' sources are sums, which leave the range that this test gave them
        low, high = rewritten.tensors["a.partial"].codes
        assert low <= found["a.partial"].min() <= found["a.partial"].max() <= high


def helpers(program: GroupProgram, board: Architecture) -> set[str]:
    rewritten = pack_leftovers(factor_leftovers(program, board), board)
    return {t.name for t in rewritten.tensors.values() if t.role is not Role.VALUE}


def test_sixteen_channels_on_twelve_lanes_get_both_helpers() -> None:
    same = Window(kernel=(3, 3), pads=(1, 1, 1, 1))
    program = chain((16, 16, 16), (same, same), 16, seed=0)
    assert helpers(program, BOARD) == {"a.packed", "a.partial", "b.partial"}
    eight = replace(BOARD, array_size=8)
    assert helpers(program, eight) == set(), "16 channels fill 8 lanes twice"


def test_eight_leftover_channels_of_three_pixels_take_two_vectors() -> None:
    same = Window(kernel=(3, 3), pads=(1, 1, 1, 1))
    program = pack_leftovers(factor_leftovers(chain((32, 32, 32), (same, same), 16, seed=0), BOARD), BOARD)
    assert program.layout("a.packed").channels == 24
    assert program.layout("b.partial").channels == 24


def test_a_reader_of_every_other_row_has_only_these_packed() -> None:
    """Of rows, where the image has an odd number of columns: 8 * 17 pixels are fewer than 16 * 9."""
    same, half = (Window(kernel=(3, 3), strides=(s, s), pads=(1, 1, 1, 1)) for s in (1, 2))
    program = pack_leftovers(chain((16, 16, 16), (same, half), 16, seed=0), BOARD)
    assert program.layout("a.packed") == Layout(12, 8, 17)
    head = program.groups[-1].head
    assert isinstance(head, LinearHead)
    assert [term.window.strides for term in head.terms] == [(2, 2), (1, 2)]


def test_partial_sums_change_their_axis_from_layer_to_layer() -> None:
    """What is summed along columns is packed along columns, and summed along rows next."""
    same = Window(kernel=(3, 3), pads=(1, 1, 1, 1))
    plain = chain((16, 16, 16), (same, same), 24, seed=0)
    program = pack_leftovers(factor_leftovers(plain, BOARD), BOARD)
    heads = {group.result: group.head for group in program.groups}
    kernels = {
        name: [term.window.kernel for term in head.terms]
        for name, head in heads.items()
        if isinstance(head, LinearHead)
    }
    # x is packed by no one; its first reader's partial sums are those of rows, as if it were packed along columns.
    assert kernels["a.partial"] == [(1, 3)]
    assert kernels["a"] == [(3, 3), (3, 1)]
    assert kernels["a.packed"] == [(3, 1)]
    packer = heads["a.packed"]
    assert isinstance(packer, LinearHead)
    assert packer.terms[0].window == Window(kernel=(3, 1), pads=(1, 0, 0, 0)), "no padding that nothing looks at"
    assert kernels["b.partial"] == [(3, 1), (1, 1)]
    assert kernels["b"] == [(3, 3), (1, 3), (1, 3)]


def test_layers_with_strides_are_factored_where_tiles_cost_more_than_their_pixels() -> None:
    same, half = (Window(kernel=(3, 3), strides=(s, s), pads=(1, 1, 1, 1)) for s in (1, 2))
    small = factor_leftovers(chain((40, 40, 40), (same, half), 16, seed=0), BOARD)
    assert small.layout("b.partial") == Layout(12, 8, 17)  # of columns, for there are fewer
    roomy = replace(BOARD, local_depth=1 << 16)
    assert "b.partial" in factor_leftovers(chain((16, 16, 16), (same, half), 32, seed=0), roomy).tensors
    assert "b.partial" not in factor_leftovers(chain((16, 16, 16), (same, half), 64, seed=0), roomy).tensors


def test_an_inputs_own_leftovers_count_as_packed() -> None:
    """9 tiles and 3 of what is packed: as many as 8 for 24 lanes of partial sums, and 4 that add them."""
    same = Window(kernel=(3, 3), pads=(1, 1, 1, 1))
    assert "a.partial" not in factor_leftovers(chain((16, 32, 32), (same, same), 16, seed=0), BOARD).tensors


def test_no_helper_drives_others_out_of_local_memory() -> None:
    same = Window(kernel=(3, 3), pads=(1, 1, 1, 1))
    program = chain((16, 16, 16), (same, same), 16, seed=0)
    assert helpers(program, replace(BOARD, local_depth=1200)) == set()


def test_an_added_tensor_is_packed_beside_itself() -> None:
    """A residual needs the tensor as it is; the convolution reads the packed copy."""
    same = Window(kernel=(3, 3), pads=(1, 1, 1, 1))
    plain = chain((16, 16, 16), (same, same), 16, seed=0)
    first, second = plain.groups
    residual = plain.with_groups([first, replace(second, steps=(AddTensor("a"),))])
    rewritten = pack_leftovers(residual, BOARD)
    assert [g.result for g in rewritten.groups] == ["a", "a.packed", "b"]
    assert rewritten.groups[2].steps == (AddTensor("a"),)
