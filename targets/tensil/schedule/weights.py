"""Weight tiles: what one LoadWeights brings into the array, and the order in which DRAM1 holds them.

A tile serves one output block, one input block of one term, and one tap. Its rows are, for each input lane in use, the
weights to all output lanes, before them the bias where it is not zero. Lanes not in use hold 0, so that their rows of
the array may hold anything. Tiles that are all zero do not exist. The first tile of an output block overwrites its
accumulators and carries the bias; pixels that it does not reach get the bias row by a MatMul of zeroes. In a transposed
convolution so does the first tile of each phase, for no two of them reach one pixel.

Where a tensor is stored with an offset, each tile that reads it takes the offset off again by a bias of its own: then
taps outside of the image still add nothing. Such a bias is for the pixels that the tile reaches, and for no others:
where tiles that overwrite leave any, the group's own bias is set by a tile alone.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.dilation_phases import taps_together
from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.groups.expanded_weights import is_diagonal
from pefslc.targets.tensil.groups.group import MaxHead
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.words.word_group import WordGroup, WordTerm

__all__ = ["Tile", "in_order", "least_rows", "tiles_of", "with_carried"]

Words = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """`rows` [1 .. A + 1, A] words to load, `has_bias` if the first is the bias row; else that row is made zero.

    `tap` is None for the bias row alone, which a MatMul of zeroes applies. `beside` are the taps of other tiles that
    overwrite, each its own pixels; what none of them reaches is for the first to fill. `side` is that of the sums which
    the tile is for (`WordGroup.sides`), None for all.
    """

    out_block: int
    term: int
    in_block: int
    tap: tuple[int, int] | None
    overwrites: bool
    has_bias: bool
    rows: Words
    fills: bool = True
    beside: tuple[tuple[int, int], ...] = ()
    side: int | None = None

    @property
    def adding_rows(self) -> int:
        """How many rows are not all zero."""
        return int(np.count_nonzero(self.rows.any(axis=1)))

    def loads_the_same_as(self, other: Tile) -> bool:
        """Whether the array holds this tile once the other is loaded."""
        if self.has_bias != other.has_bias or self.rows.shape != other.rows.shape:
            return False
        return self.rows.tobytes() == other.rows.tobytes()  # a tenth of the time of np.array_equal


def tiles_of(
    group: WordGroup, layouts: dict[str, Layout], array_size: int, unclean: Set[str], one: int, *, bias_alone: bool
) -> list[list[Tile]]:
    """The tiles of each output block, in the order of use.

    unclean     tensors whose lanes without a channel do not hold 0: their tiles have all rows
    one         the word of 1
    bias_alone  set every bias by a tile of its own
    """
    blocks = group.layout.blocks(array_size)
    if group.reads_in_place:
        return [[] for _ in range(blocks)]  # `stationary_emitter` makes them
    bias = np.zeros((blocks, array_size), dtype=np.int64)
    bias.reshape(-1)[: len(group.bias)] = group.bias
    if isinstance(group.head, MaxHead):
        return _lowest_tiles(group.head, layouts, bias)
    high = None
    if group.add_high is not None and (bias.any() or group.add_high.bias.any()):
        high = np.zeros_like(bias)
        high.reshape(-1)[: len(group.bias)] = group.add_high.bias
    all_rows = {t for t, term in enumerate(group.terms) if term.tensor in unclean}
    diagonal = {t for t, term in enumerate(group.terms) if t not in all_rows and is_diagonal(term.weight)}
    all_rows |= diagonal
    return [
        _block_tiles(
            group,
            layouts,
            block,
            bias[block],
            diagonal,
            all_rows,
            one,
            bias_alone=bias_alone,
            high_bias=None if high is None else high[block],
        )
        for block in range(blocks)
    ]


def least_rows(tiles: Sequence[Sequence[Tile]]) -> int:
    """The fewest rows of weights that a group stores: those of each matrix once, without its bias and its zeros."""
    matrices = {m.tobytes(): m for block in tiles for tile in block for m in [tile.rows[1 if tile.has_bias else 0 :]]}
    return sum(int(np.count_nonzero(matrix.any(axis=1))) for matrix in matrices.values())


def _block_words(weight: Words, block: int, a: int, *, diagonal: bool) -> Words:
    """The weights [C_out, C_in, KH, KW] of one output block, as [in blocks, KH, KW, in lane, out lane].

    diagonal  the same for lanes without a channel, which hold 0: then the last block's tiles are those of the others
    """
    own = weight[block * a : (block + 1) * a]
    outputs, inputs, kh, kw = own.shape
    ib = -(-inputs // a)
    full = np.zeros((a, ib * a, kh, kw), dtype=np.int64)
    full[:outputs, :inputs] = own
    words = full.reshape(a, ib, a, kh, kw).transpose(1, 3, 4, 2, 0)
    if diagonal:
        words[block] = np.eye(a, dtype=np.int64) * weight[0, 0][:, :, None, None]
    return words


def _block_tiles(
    group: WordGroup,
    layouts: dict[str, Layout],
    block: int,
    bias: Words,
    diagonal: Set[int],
    all_rows: Set[int],
    one: int,
    *,
    bias_alone: bool,
    high_bias: Words | None,
) -> list[Tile]:
    found: list[tuple[int, int, tuple[int, int], Words]] = []
    for t, term in enumerate(group.terms):
        words = _block_words(term.weight, block, len(bias), diagonal=t in diagonal)
        used = words.any(axis=(3, 4))  # [in blocks, KH, KW]
        found += [
            (t, ib, (kh, kw), words[ib, kh, kw].copy())  # not a view: of the block most tiles are zero
            for ib, kh, kw in (tuple(map(int, i)) for i in np.argwhere(used))
        ]
    reached = _reached_pixels(group, layouts, [(t, tap) for t, _, tap, _ in found])
    first = (
        []
        if bias_alone or high_bias is not None
        else _first_of_phases([term.window for term in group.terms], [f[2] for f in found], reached)
    )
    if any(group.terms[found[i][0]].offset for i in first) and sum(reached[i] for i in first) < group.layout.pixels:
        first = []  # what they leave is filled with the bias row of the first, which takes off an offset, too
    tiles: list[Tile] = []
    if not first and high_bias is None:
        tiles.append(Tile(block, 0, 0, None, True, True, bias[None, :]))
    elif high_bias is not None:  # no row that both sides have
        tiles += [Tile(block, 0, 0, None, True, True, b[None, :], side=i) for i, b in enumerate((bias, high_bias))]
    found = [*(found[i] for i in first), *(f for i, f in enumerate(found) if i not in first)]
    for i, (t, ib, tap, matrix) in enumerate(found):
        overwrites = i < len(first)
        beside = tuple(f[2] for f in found[1 : len(first)]) if i == 0 else ()
        lanes = min(group.terms[t].weight.shape[1] - ib * len(bias), len(bias))
        rows = matrix if t in all_rows else matrix[:lanes]
        row = _own_bias(group.terms[t], matrix, one) + (bias if overwrites else 0)
        has_bias = bool(row.any())
        if has_bias:
            rows = np.concatenate([row[None, :], rows])
        tiles.append(Tile(block, t, ib, tap, overwrites, has_bias, rows, overwrites and i == 0, beside))
    return tiles


def _own_bias(term: WordTerm, matrix: Words, one: int) -> Words:
    """What a tile [A, A] of words adds to each lane, to take off the offset that its tensor is stored with."""
    none = np.zeros(matrix.shape[1], dtype=np.int64)
    return -(matrix * term.offset // one).sum(axis=0) if term.offset else none


def _first_of_phases(windows: Sequence[Window], taps: Sequence[tuple[int, int]], reached: Sequence[int]) -> list[int]:
    """The tiles that overwrite: of those that reach the same pixels, the one that reaches most; it comes first."""
    order = sorted(range(len(taps)), key=lambda i: (-reached[i], i))
    if len(windows) != 1 or not windows[0].dilates_input:
        return order[:1]
    leading: dict[int, int] = {}
    for i in order:
        (together,) = (n for n, part in enumerate(taps_together(windows[0])) if _is_in(taps[i], part))
        leading.setdefault(together, i)
    return list(leading.values())


def _is_in(tap: tuple[int, int], part: tuple[slice, slice]) -> bool:
    return all(k >= s.start and (k - s.start) % s.step == 0 for k, s in zip(tap, part, strict=True))


def _overwriting_once(tiles: list[Tile]) -> list[Tile]:
    """The same tiles where only the first overwrites, and brings the bias to all pixels."""
    others = [
        replace(t, overwrites=False, has_bias=False, rows=t.rows[1:] if t.has_bias else t.rows) if t.overwrites else t
        for t in tiles[1:]
    ]
    return [replace(tiles[0], beside=()), *others]


def _lowest_tiles(head: MaxHead, layouts: dict[str, Layout], bias: Words) -> list[list[Tile]]:
    """For a maximum whose window sees nothing somewhere: tiles that first set the lowest word everywhere."""
    layout = layouts[head.tensor]
    if head.window.always_sees(layout.height, layout.width):
        return [[] for _ in bias]
    return [[Tile(block, 0, 0, None, True, True, row[None, :])] for block, row in enumerate(bias)]


def with_carried(
    group: WordGroup, layouts: dict[str, Layout], tiles: list[Tile], word: int, data_type: DataType
) -> list[Tile] | None:
    """The tiles of one output block with `word` added to every sum by its last addition; None where that cannot be.

    So sums that leave the data type saturate, exactly as if `word` were added to the finished sums, at no cost: the
    first tile's bias goes as far as no partial sum saturates, the last tile's bias the rest of the way. A lane whose
    sums are one product each has one addition only: of the whole bias, in the first tile.
    """
    if not tiles or any(t.tap is None for t in tiles):
        return None
    tiles = _overwriting_once(tiles)
    size = tiles[0].rows.shape[1]
    lanes = slice(tiles[0].out_block * size, (tiles[0].out_block + 1) * size)
    bias, lowest, highest = np.zeros((3, size), dtype=np.int64)
    channels = len(group.bias[lanes])
    for row, words in zip((bias, lowest, highest), (group.bias, *group.partial), strict=True):
        row[:channels] = words[lanes]
    low, high = data_type.min_code, data_type.max_code
    if lowest.min() < low or highest.max() > high:
        return None  # sums that may overflow as they are (--allow-overflow)
    alone = _lanes_of_one_product(group, tiles, data_type.one) & (low <= bias + word) & (bias + word <= high)
    # With it the sums on the way fill a word at most, whatever their order; and it is a word.
    start = np.where(alone, bias + word, low - lowest if word < 0 else high - highest)
    rest = bias + word - start
    if (rest + np.where(alone, 0, lowest)).min() < low or (rest + np.where(alone, 0, highest)).max() > high:
        return None  # the last tile's own sum would saturate

    def with_bias(tile: Tile, bias: Words) -> Tile:
        matrix = tile.rows[1:] if tile.has_bias else tile.rows
        row = bias + _own_bias(group.terms[tile.term], matrix, data_type.one)
        return replace(tile, has_bias=True, fills=True, rows=np.concatenate([row[None, :], matrix]))

    if alone.all():
        return [with_bias(tiles[0], start), *tiles[1:]]
    if len(tiles) < 2 or all(t.loads_the_same_as(tiles[0]) for t in tiles):
        return None
    reached = _reached_pixels(group, layouts, [(t.term, t.tap) for t in tiles if t.tap is not None])
    fitting = [
        i for i, tile in enumerate(tiles) if not group.terms[tile.term].offset or reached[i] == group.layout.pixels
    ]  # others add a bias of their own where they reach, and nothing elsewhere
    if fitting[:1] != [0] or len(fitting) < 2:
        return None
    last = max(fitting[1:], key=lambda i: (reached[i], i))
    return [
        with_bias(tiles[0], start),
        *(tile for i, tile in enumerate(tiles) if i not in (0, last)),
        with_bias(tiles[last], rest),
    ]


def _lanes_of_one_product(group: WordGroup, tiles: Sequence[Tile], one: int) -> NDArray[np.bool_]:
    """[A] whether each sum of a lane is its bias and one product at most, which nothing rounds, of words as they are.

    Then the one MAC, or the one addition to the accumulators, is all that saturates: the product is a word.
    """
    matrices = [tile.rows[1:] if tile.has_bias else tile.rows for tile in tiles]
    weights = np.concatenate(matrices)
    alone = (np.count_nonzero(weights, axis=0) <= 1) & ~(weights % one).any(axis=0)
    return np.asarray(alone & (not any(group.terms[tile.term].offset for tile in tiles)))


def in_order(blocks: list[list[Tile]]) -> list[Tile]:
    """Block after block; but where one matrix serves many taps (a mean), the blocks with that matrix tap by tap, so
    that it is loaded once and neighbouring MatMuls reach different accumulators.
    """
    classes: dict[tuple[bool, bytes], list[list[Tile]]] = {}
    for tiles in blocks:
        if len(tiles) < 2 or not all(t.loads_the_same_as(tiles[0]) for t in tiles):
            return [tile for tiles in blocks for tile in tiles]
        classes.setdefault((tiles[0].has_bias, tiles[0].rows.tobytes()), []).append(tiles)
    return [t for same in classes.values() for row in zip_longest(*same) for t in row if t is not None]


def _reached_pixels(
    group: WordGroup, layouts: dict[str, Layout], taps: Sequence[tuple[int, tuple[int, int]]]
) -> list[int]:
    """Output pixels for which each (term, tap) lies inside the input; many tiles share one."""
    output = (group.layout.height, group.layout.width)
    found = {}
    for t, tap in set(taps):
        source = layouts[group.terms[t].tensor]
        found[t, tap] = group.terms[t].window.reach(tap, (source.height, source.width), output)
    return [found[key] for key in taps]
