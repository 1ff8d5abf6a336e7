"""Packed inputs: the smaller convolution on neighbouring pixels equals the convolution on the image."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from tensil_support import group_program

from pefslc.diagnostics.errors import Origin
from pefslc.geometry.shapes import Window
from pefslc.ir.semantics import conv2d
from pefslc.targets.tensil.group_rewrites.input_packing import PackInputs
from pefslc.targets.tensil.groups.group import AddTensor, Group, LinearHead, Term
from pefslc.targets.tensil.groups.group_program import GroupProgram
from pefslc.targets.tensil.groups.layout import Layout, packed
from pefslc.targets.tensil.machine.architecture import load_architecture
from pefslc.targets.tensil.rewriting.rewrite import Context

GEOMETRIES = list(itertools.product((1, 2, 3), (3, 5), (1, 2), (0, 1, 2), (1, 2), (4, 6, 8, 12, 27)))


def program_of(weight: np.ndarray, window: Window, image: Layout, outputs: str = "y") -> GroupProgram:
    output = Layout(weight.shape[0], *window.output_size(image.height, image.width))
    head = LinearHead((Term("x", weight, window),), np.zeros(weight.shape[0], dtype=np.int64))
    group = Group("y", output, head, (), ("y",), Origin("conv", "Conv"))
    return group_program([group], {"x": image}, outputs, {"x": (-8, 7), "y": (-99, 99)})


def pack_inputs(program: GroupProgram, array_size: int) -> GroupProgram:
    return PackInputs().run(program, Context(replace(load_architecture("custom_perf"), array_size=array_size)))


def by_taps(term: Term, image: np.ndarray, output: Layout) -> np.ndarray:
    """The convolution as the program computes it: by offsets from the output pixel, leaving out what is outside."""
    result = np.zeros((term.weight.shape[0], output.height, output.width), dtype=np.int64)
    (sh, sw), (kh, kw), (uh, uw) = term.window.strides, term.window.kernel, term.window.input_dilations
    for ky, kx, y, x in itertools.product(range(kh), range(kw), range(output.height), range(output.width)):
        dy, dx = term.window.tap_offset(ky, kx)
        (row, between), (column, beside) = divmod(y * sh + dy, uh), divmod(x * sw + dx, uw)
        if not between and not beside and 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
            result[:, y, x] += term.weight[:, :, ky, kx] @ image[:, row, column]
    return result


@pytest.mark.parametrize("height", [10, 11])
@pytest.mark.parametrize(("channels", "kernel", "stride", "pad", "dilation", "array_size"), GEOMETRIES)
def test_a_packed_convolution_equals_the_plain_one(
    channels: int, kernel: int, stride: int, pad: int, dilation: int, array_size: int, height: int
) -> None:
    window = Window(kernel=(kernel,) * 2, strides=(stride,) * 2, dilations=(dilation,) * 2, pads=(pad,) * 4)
    r = np.random.default_rng(channels * 100 + kernel)
    image = r.integers(-8, 8, (channels, height, 10))
    weight = r.integers(-4, 5, (2, channels, kernel, kernel))
    before = program_of(weight, window, Layout(channels, height, 10))
    after = pack_inputs(before, array_size)
    head = after.groups[0].head
    assert isinstance(head, LinearHead)
    expected = conv2d(image[None], weight, None, window)[0]
    stored = after.tensors["x"]
    source = packed(image, stored.packing, stored.steps)
    assert stored.image == Layout(channels, height, 10)
    assert source.shape[0] == after.layout("x").channels <= max(array_size, channels)
    assert np.array_equal(by_taps(head.terms[0], source, after.layout("y")), expected)


def test_three_channels_on_twelve_lanes_take_a_third_of_the_taps() -> None:
    weight = np.ones((4, 3, 3, 3), dtype=np.int64)
    window = Window(kernel=(3, 3), pads=(1, 1, 1, 1))
    after = pack_inputs(program_of(weight, window, Layout(3, 8, 8)), 12)
    head = after.groups[0].head
    assert isinstance(head, LinearHead)
    assert after.tensors["x"].packing == ((0, -1), (0, 0), (0, 1))
    assert head.terms[0].window.taps == 3


def test_two_rows_of_windows_share_a_vector_where_that_is_shorter() -> None:
    """Four rows fill 12 lanes, and every other row of vectors is read: of large images half is worth three tiles more,
    of small ones it is not. An odd row would find its pixels in no vector.
    """
    weight = np.ones((4, 3, 3, 3), dtype=np.int64)
    window = Window(kernel=(3, 3), pads=(1, 1, 1, 1))
    after = pack_inputs(program_of(weight, window, Layout(3, 32, 32)), 12)
    assert after.tensors["x"].packing == ((-1, 0), (0, 0), (1, 0), (2, 0))
    assert after.tensors["x"].steps == (2, 1)
    assert after.layout("x") == Layout(12, 16, 32)
    head = after.groups[0].head
    assert isinstance(head, LinearHead)
    assert head.terms[0].window == Window(kernel=(2, 3), pads=(1, 1, 0, 0), input_dilations=(2, 1))
    for image in (Layout(3, 8, 8), Layout(3, 33, 32)):
        assert pack_inputs(program_of(weight, window, image), 12).tensors["x"].steps == (1, 1)


@pytest.mark.parametrize("size", [(32, 32), (30, 34), (32, 33)])
def test_windows_of_two_rows_and_columns_share_vectors_on_many_lanes(size: tuple[int, int]) -> None:
    """Two rows of four columns take 24 of 32 lanes, and a quarter of the vectors is read: two MatMuls a pixel."""
    r = np.random.default_rng(3)
    weight, image = r.integers(-4, 5, (4, 3, 3, 3)), r.integers(-8, 8, (3, *size))
    window = Window(kernel=(3, 3), pads=(1, 1, 1, 1))
    after = pack_inputs(program_of(weight, window, Layout(3, *size)), 32)
    stored, head = after.tensors["x"], after.groups[0].head
    assert isinstance(head, LinearHead)
    if size[1] % 2 == 0:
        assert stored.packing == tuple((y, x) for y in (0, 1) for x in (-1, 0, 1, 2))
        assert stored.steps == (2, 2)
    else:
        assert stored.steps[1] == 1
    source = packed(image, stored.packing, stored.steps)
    expected = conv2d(image[None], weight, None, window)[0]
    assert np.array_equal(by_taps(head.terms[0], source, after.layout("y")), expected)


def test_steps_leave_out_rows_and_columns() -> None:
    image = np.arange(24, dtype=np.int64).reshape(1, 4, 6)
    lanes = packed(image, ((0, 0), (1, 0)), (2, 3))
    assert lanes.tolist() == [[[0, 3], [12, 15]], [[6, 9], [18, 21]]]


def test_an_input_that_something_else_reads_stays_as_it_is() -> None:
    weight = np.ones((3, 3, 3, 3), dtype=np.int64)
    window = Window(kernel=(3, 3), pads=(1, 1, 1, 1))
    before = program_of(weight, window, Layout(3, 8, 8))
    (group,) = before.groups
    added = Group(group.result, group.layout, group.head, (AddTensor("x"),), group.ops, group.origin)
    read_twice = before.with_groups([added])
    assert pack_inputs(read_twice, 12) is read_twice
    handed_out = program_of(weight, window, Layout(3, 8, 8), outputs="xy")
    assert pack_inputs(handed_out, 12) is handed_out
    assert pack_inputs(before, 5) is before
    once = pack_inputs(before, 12)
    assert pack_inputs(once, 12) is once


def test_padding_is_zero_in_every_lane() -> None:
    image = np.arange(1, 7, dtype=np.int64).reshape(1, 2, 3)
    lanes = packed(image, ((0, -1), (0, 0), (1, 1), (-1, 0), (3, 0), (0, -4)))
    assert lanes.tolist() == [
        [[0, 1, 2], [0, 4, 5]],
        [[1, 2, 3], [4, 5, 6]],
        [[5, 6, 0], [0, 0, 0]],
        [[0, 0, 0], [1, 2, 3]],
        [[0, 0, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 0, 0]],
    ]


@pytest.mark.parametrize("kernels", [(1, 3), (3, 1)])
def test_the_widest_window_chooses_the_pixels(kernels: tuple[int, int]) -> None:
    """The other convolution finds its one tap among them."""
    image = Layout(3, 8, 8)
    windows = [Window(kernel=(k, k), pads=(k // 2,) * 4) for k in kernels]
    groups = [
        program_of(np.ones((4, 3, *window.kernel), dtype=np.int64), window, image).groups[0] for window in windows
    ]
    groups = [replace(group, result=name, ops=(name,)) for group, name in zip(groups, "yz", strict=True)]
    both = group_program(groups, {"x": image}, "yz", dict.fromkeys("xyz", (-8, 7)))
    after = pack_inputs(both, 12)
    assert after.tensors["x"].packing == ((0, -1), (0, 0), (0, 1))
    heads = [group.head for group in after.groups]
    taps = [term.window.taps for head in heads if isinstance(head, LinearHead) for term in head.terms]
    assert taps == list(kernels), "a column of the window of nine"


@pytest.mark.parametrize(
    ("channels", "kernel", "why"),
    [(6, 3, None), (7, 3, "its 7 channels leave no room for another pixel"), (6, 1, "have one tap")],
)
def test_why_an_input_is_not_packed_is_said(
    channels: int, kernel: int, why: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    window = Window(kernel=(kernel, kernel), pads=(kernel // 2,) * 4)
    with caplog.at_level("DEBUG", logger="pefslc.tensil"):
        pack_inputs(
            program_of(np.ones((4, channels, kernel, kernel), dtype=np.int64), window, Layout(channels, 8, 8)), 12
        )
    assert (why in caplog.text) if why else not caplog.text
