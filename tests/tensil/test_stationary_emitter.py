"""Weights that move while activations stay in the array: the sums of one layer, by themselves, in the simulator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pefslc.diagnostics.errors import Origin
from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.check.hazards import accumulator_hazards
from pefslc.targets.tensil.groups.group import Stationary
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.program.tmodel import TensilProgram
from pefslc.targets.tensil.schedule.constants import Constants
from pefslc.targets.tensil.schedule.emitter import Emitter
from pefslc.targets.tensil.schedule.stationary_emitter import StationaryLayer
from pefslc.targets.tensil.simulate.simulator import Machine
from pefslc.targets.tensil.words.word_group import SumHead, WordGroup, WordTerm

A, OUTPUTS = 4, 5


@pytest.mark.parametrize("zeros", [0, 0.9])
@pytest.mark.parametrize("channels", [3, 4, 8])
@pytest.mark.parametrize("seed", range(12))
def test_each_pixel_sums_what_lies_under_its_taps_wherever_it_comes_from(
    custom_perf: Architecture, seed: int, channels: int, zeros: float
) -> None:
    """Nine input pixels in three blocks: a block of the output finds its pixels under a tap in one of them or more. And
    in frames of their own, up to two, some of those under taps that no block has. Rows of zeros are not moved. Where
    arrays are of one tap, taps that see the same share it, and those that see a whole block of the input take that.
    """
    r = np.random.default_rng(seed)
    machine = replace(custom_perf, array_size=A)
    one = machine.data_type.one
    extra = int(r.integers(3))
    first = 6 - extra
    own = [tuple(sorted(r.choice(first, int(r.integers(1, first)), replace=False).tolist())) for _ in range(2)]
    taps = (*own, *((first + f,) for f in range(extra)))
    spread = r.permuted(np.eye(2 * A, dtype=np.int64)[None].repeat(extra, 0)[:, : 2 * A], axis=1)[:, :A]
    # Of each lane under each tap, the input pixel that it sees; -1 for none.
    seen = r.integers(-1, 9, (sum(map(len, taps)), A))
    seen[:, 0] = r.integers(9, size=len(seen))
    same = np.random.default_rng([seed, 2])
    seen[same.random(len(seen)) < 0.3] = seen[0]
    seen[same.random(len(seen)) < 0.3] = np.arange(A) + A * int(same.integers(2))
    seen[same.random(len(seen)) < 0.2] = [8, -1, -1, -1]  # a block of the input that is not full
    pixels = (seen[:, :, None] == np.arange(9)).astype(np.int64)
    weight, bias = r.integers(-4, 5, (OUTPUTS, 6, channels)), r.integers(-2, 3, OUTPUTS) * int(r.integers(2))
    weight *= np.random.default_rng([seed, 1]).random(weight.shape) >= zeros
    image = r.integers(-20, 21, (channels, 9))

    of_blocks = spread.reshape(extra, A, 2, A).transpose(0, 2, 1, 3)
    how = Stationary(taps, pixels.reshape(-1, 9), of_blocks if extra else None)
    term = WordTerm("x", weight.reshape(OUTPUTS, -1, 1, 1) * one, Window(kernel=(1, 1)))
    ends = np.zeros(OUTPUTS, dtype=np.int64)
    layout = Layout(2 * A, OUTPUTS, 1)
    group = WordGroup("y", layout, SumHead(how), (term,), bias, (), (0, 0), (ends, ends), None, Origin("y", "Conv"))
    layer = StationaryLayer(group, how, Layout(9, channels, 1), A, one)
    emitter, constants = Emitter(machine, {0: 2047}), Constants(resident=False)
    room, spare = int(r.integers(layer.least, layer.rows + 1)), int(r.integers(1, channels + 1))
    layer.emit(10, range(OUTPUTS), [0, 1], range(100, 100 + room), range(50, 50 + spare), emitter, constants)
    program = TensilProgram.assemble(
        machine, "sums", emitter.instructions, constants=constants.rows(), inputs=[], outputs=[]
    )
    assert accumulator_hazards(machine, program.table).size == 0

    simulated = Machine(machine, poison_seed=seed)
    simulated.load_constants(program)
    blocks = np.pad(image, ((0, 0), (0, 3)), constant_values=77).reshape(channels, 3, A)
    simulated.local[10 : 10 + 3 * channels] = blocks.transpose(1, 0, 2).reshape(-1, A)
    simulated.run(program)

    under = np.concatenate([image, np.zeros((channels, 1), dtype=np.int64)], axis=1)[:, seen]  # [channel, tap, lane]
    rows = iter(range(len(seen)))
    sums = [
        sum((weight[:, t] @ under[:, next(rows)] for t in own), np.zeros((OUTPUTS, A), dtype=np.int64)) for own in taps
    ]
    expected = np.concatenate(sums[:2], axis=1) + bias[:, None]
    for frame, matrix in zip(sums[2:], spread, strict=True):
        expected = expected + frame @ matrix
    assert np.array_equal(simulated.acc[: 2 * OUTPUTS], np.concatenate(np.split(expected, 2, axis=1)))
