"""The tiles that the array loads: the constants that sums carry, and taps that no border hides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest

from pefslc.diagnostics.errors import Origin
from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.schedule.weights import Tile, tiles_of, with_carried
from pefslc.targets.tensil.words.word_group import SumHead, WordGroup, WordTerm

FP8 = DataType["FP8BP4"]
POINT = Window(kernel=(1, 1))


@dataclass(frozen=True)
class Layer:
    """One pixel, weights that are whole numbers, inputs in [0, 3]; an array of 2 x 2."""

    weight: np.ndarray
    bias: np.ndarray
    tiles: list[Tile]
    placed: WordGroup
    layouts: dict[str, Layout]

    @classmethod
    def of(cls, weight: np.ndarray, bias: np.ndarray, offset: int = 0) -> Layer:
        """`offset`: what the inputs are stored with; on its way, a lane holds its word or what takes that off."""
        kernel = weight[:, :, None, None]
        layout, origin = Layout(len(weight), 1, 1), Origin("y", "Conv")
        largest = max(3, -offset)
        lowest, highest = largest * np.minimum(weight, 0).sum(axis=1), largest * np.maximum(weight, 0).sum(axis=1)
        words = int((lowest + bias).min()), int((highest + bias).max())
        terms = (WordTerm("x", kernel * FP8.one, POINT, offset),)
        placed = WordGroup("y", layout, SumHead(), terms, bias, (), words, (lowest, highest), None, origin)
        layouts = {"x": Layout(weight.shape[1], 1, 1)}
        (tiles,) = tiles_of(placed, layouts, 2, set(), FP8.one, bias_alone=False)
        return cls(weight, bias, tiles, placed, layouts)

    def sums(self, tiles: list[Tile], x: np.ndarray) -> np.ndarray:
        """What the accumulators hold after the tiles, for inputs [inputs, points]: each MAC and addition saturates."""
        total = np.zeros((2, x.shape[1]), dtype=np.int64)
        for tile in tiles:
            rows = tile.rows if tile.has_bias else np.concatenate([np.zeros_like(tile.rows[:1]), tile.rows])
            one = np.repeat(rows[0][:, None], x.shape[1], axis=1)
            for row, lane in zip(rows[1:], x[2 * tile.in_block :], strict=False):
                one = np.clip(one + row[:, None] // FP8.one * lane, FP8.min_code, FP8.max_code)
            total = one if tile.overwrites else np.clip(total + one, FP8.min_code, FP8.max_code)
        return total


EVERY_INPUT = np.array(list(product(range(4), repeat=4))).T


@pytest.mark.parametrize("seed", range(12))
def test_sums_that_carry_a_word_saturate_only_where_the_finished_sum_would(seed: int) -> None:
    """Every input, through the array's own arithmetic; some layers have no room for the word, and are left alone."""
    r = np.random.default_rng(seed)
    kept = 0
    for _ in range(300):
        # Of one sign in each half of the inputs, often: what the first tile adds, the last one takes away.
        signs = r.choice([-1, 1], (2, 2)).repeat(2, axis=1) if r.random() < 0.7 else r.choice([-1, 1], (2, 4))
        layer = Layer.of(signs * r.integers(0, 25, (2, 4)), r.integers(-100, 101, 2))
        word = int(r.choice([-1, 1])) * int(r.integers(1, 200))
        tiles = with_carried(layer.placed, layer.layouts, layer.tiles, word, FP8)
        if tiles is None:
            continue
        kept += 1
        wanted = layer.weight @ EVERY_INPUT + layer.bias[:, None] + word
        assert np.array_equal(layer.sums(tiles, EVERY_INPUT), np.clip(wanted, FP8.min_code, FP8.max_code))
    assert kept >= 10


@pytest.mark.parametrize("offset", [-1, -4])
@pytest.mark.parametrize("seed", range(4))
def test_tiles_take_off_the_offset_that_inputs_are_stored_with(seed: int, offset: int) -> None:
    """Every input, through the array's own arithmetic: the sums, and the same with a word that they carry."""
    r = np.random.default_rng(seed)
    carried = 0
    for _ in range(100):
        layer = Layer.of(r.integers(-7, 8, (2, 4)), r.integers(-60, 61, 2), offset)
        wanted = layer.weight @ EVERY_INPUT + layer.bias[:, None]
        assert np.array_equal(layer.sums(layer.tiles, EVERY_INPUT + offset), wanted)
        word = int(r.choice([-1, 1])) * int(r.integers(1, 200))
        tiles = with_carried(layer.placed, layer.layouts, layer.tiles, word, FP8)
        if tiles is not None:
            carried += 1
            found = layer.sums(tiles, EVERY_INPUT + offset)
            assert np.array_equal(found, np.clip(wanted + word, FP8.min_code, FP8.max_code))
    assert carried >= 10


@pytest.mark.parametrize("seed", range(8))
def test_tiles_hold_the_weights_of_every_channel_and_nothing_in_lanes_without_one(seed: int) -> None:
    """Square weights with one number on the diagonal of each tap, whose first tap is thin: not all are a mean."""
    r = np.random.default_rng(seed)
    for _ in range(40):
        channels, a, kernel = int(r.integers(1, 8)), int(r.integers(1, 4)), (2, 2)
        weight = np.eye(channels, dtype=np.int64)[:, :, None, None] * r.integers(-2, 3, (1, 1, *kernel))
        if r.random() < 0.7:  # off the diagonal, in a tap after the first
            weight[int(r.integers(channels)), int(r.integers(channels)), 1, int(r.integers(2))] += int(r.integers(3))
        layout, none = Layout(channels, 2, 2), np.zeros(channels, dtype=np.int64)
        window = Window(kernel=kernel, pads=(0, 0, 1, 1))
        term = WordTerm("x", weight * FP8.one, window)
        group = WordGroup("y", layout, SumHead(), (term,), none, (), (0, 0), (none, none), None, Origin("y", "Conv"))
        blocks = tiles_of(group, {"x": layout}, a, set(), FP8.one, bias_alone=True)
        held = np.zeros((len(blocks) * a, len(blocks) * a, *kernel), dtype=np.int64)
        for tile in (tile for tiles in blocks for tile in tiles if tile.tap is not None):
            out, into = tile.out_block * a, tile.in_block * a
            held[out : out + a, into : into + len(tile.rows), *tile.tap] += tile.rows.T
        assert np.array_equal(held[:channels, :channels], weight * FP8.one)
        # A mean is one matrix for each tap, in the last block, too: so it is loaded once.
        if np.array_equal(weight, np.eye(channels, dtype=np.int64)[:, :, None, None] * weight[0, 0]):
            for tap in np.argwhere(weight[0, 0]):
                same = [tile for tiles in blocks for tile in tiles if tile.tap == tuple(tap)]
                assert len(same) == len(blocks)
                assert all(tile.loads_the_same_as(same[0]) for tile in same)


@pytest.mark.parametrize("sign", [1, -1])
def test_sums_that_overflow_by_themselves_carry_nothing(sign: int) -> None:
    """With --allow-overflow: 3 * 43 leaves 8 bits, 3 * 42 does not."""
    for weight, carries in ((42, True), (43, False)):
        layer = Layer.of(sign * np.array([[weight, 0, 0, 0], [0, 0, 1, 0]]), np.zeros(2, dtype=np.int64))
        tiles = with_carried(layer.placed, layer.layouts, layer.tiles, -sign * 130, FP8)
        assert (tiles is not None) == carries


@pytest.mark.parametrize("seed", range(4))
def test_lanes_of_one_product_carry_a_word_in_one_tile(seed: int) -> None:
    """Every input, with products up to a whole word: the one addition is all that saturates. One tile, or two."""
    r = np.random.default_rng(seed)
    of_one_tile = 0
    for _ in range(100):
        weight = np.zeros((2, int(r.choice([2, 4]))), dtype=np.int64)
        weight[[0, 1], r.integers(0, weight.shape[1], 2)] = r.choice([-42, -7, 1, 42], 2)
        layer, word = Layer.of(weight, r.integers(-20, 21, 2)), int(r.integers(-108, 108))
        tiles = with_carried(layer.placed, layer.layouts, layer.tiles, word, FP8)
        assert tiles is not None
        of_one_tile += len(tiles) == 1
        assert [tile.has_bias for tile in tiles[1:]] == [False] * (len(tiles) - 1)
        inputs = EVERY_INPUT[: weight.shape[1]]
        wanted = np.clip(weight @ inputs + layer.bias[:, None] + word, FP8.min_code, FP8.max_code)
        assert np.array_equal(layer.sums(tiles, inputs), wanted)
    assert 10 < of_one_tile < 90


def carrying(weight: list[list[int]], word: int, offset: int = 0, factor: int = FP8.one) -> list[Tile] | None:
    """The tiles of such a layer with a word, where a weight is as many times the factor."""
    layer = Layer.of(np.array(weight), np.zeros(2, dtype=np.int64), offset)
    (term,) = layer.placed.terms
    placed = replace(layer.placed, terms=(replace(term, weight=term.weight // FP8.one * factor),))
    (tiles,) = tiles_of(placed, layer.layouts, 2, set(), FP8.one, bias_alone=False)
    return with_carried(placed, layer.layouts, tiles, word, FP8)


def test_one_tile_carries_a_word_where_each_sum_is_one_product_only() -> None:
    """Not two, the first of which may saturate before the second brings it back; not what a MAC rounds; not where the
    tile takes an offset off; not by a bias that is no word.
    """
    assert carrying([[1, 0], [0, 1]], -100) is not None
    assert carrying([[1, 1], [0, 1]], -100) is None
    assert carrying([[1, 0], [0, 1]], -100, factor=FP8.one // 2) is None
    assert carrying([[1, 0], [0, 1]], -100, offset=-1) is None
    assert carrying([[1, 0], [0, 1]], FP8.min_code) is not None
    assert carrying([[1, 0], [0, 1]], FP8.min_code - 1) is None
