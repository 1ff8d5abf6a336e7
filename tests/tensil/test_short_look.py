"""Whether a network has a place at all is said by less work than the best words take, and says the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensil_support import line

from builders import ModelBuilder, import_bytes, lower
from pefslc import compile as compile_model
from pefslc.diagnostics.errors import CompileError
from pefslc.numeric.deviation import largest_deviation
from pefslc.numeric.staircase import Staircase
from pefslc.targets.protocol import TargetOptions
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.target import TensilTarget
from pefslc.targets.tensil.words import channel_fits
from pefslc.targets.tensil.words.channel_fits import ChannelFits
from pefslc.targets.tensil.words.channel_requantize import LARGEST_DEVIATION, fit_channels
from pefslc.targets.tensil.words.short_look import Channels
from pefslc.targets.tensil.words.steps import apply_steps

FP16 = DataType.FP16BP8


def bent_lines(seed: int) -> Staircase:
    """Lines of some channels, falling ones among them, some of their steps moved."""
    rng = np.random.default_rng(seed)
    channels, codes, high = 5, int(rng.choice([7, 60, 255])), int(rng.choice([500, 3000, 9000]))
    slopes = codes / high / 2 * rng.uniform(0.5, 1.0, channels) * rng.choice([1, -1], channels)
    whole = line(-high, high, (0, codes), slopes.tolist(), (codes / 2 + rng.uniform(-3, 3, channels)).tolist())
    width = 2 * high / codes * float(rng.choice([0.0, 0.5, 2.5]))
    moved = whole.thresholds + np.rint(rng.uniform(-width, width, whole.thresholds.shape)).astype(np.int64)
    ordered = np.where(whole.direction[:, None] > 0, np.sort(moved, axis=1), -np.sort(-moved, axis=1))
    return replace(whole, thresholds=np.clip(ordered, -high - 1, high + 1))


@pytest.mark.parametrize("seed", range(24))
def test_what_a_short_look_finds_is_near_and_what_it_denies_the_search_does_not_find(seed: int) -> None:
    staircase = bent_lines(seed)
    low, high = (np.full(staircase.channels, end) for end in (staircase.domain_low, staircase.domain_high))
    may_be_near, found = Channels(staircase, low, high, 0, FP16).short_look()
    if found is not None:
        assert may_be_near
        codes = np.tile(np.arange(staircase.domain_low, staircase.domain_high + 1), (staircase.channels, 1))
        made = np.clip(apply_steps(found.steps, codes, FP16), staircase.low, staircase.high)
        assert np.array_equal(made, found.computed(codes))
        assert np.abs(made - staircase(codes)).max() <= LARGEST_DEVIATION
    best = fit_channels(staircase, low, high, 0, FP16)
    is_near = best is not None and largest_deviation(staircase, best.computed, low, high) <= LARGEST_DEVIATION
    assert may_be_near or not is_near


def test_a_short_look_finds_some_and_denies_others() -> None:
    looks = []
    for seed in range(24):
        staircase = bent_lines(seed)
        low, high = (np.full(staircase.channels, end) for end in (staircase.domain_low, staircase.domain_high))
        may_be_near, found = Channels(staircase, low, high, 0, FP16).short_look()
        looks.append((may_be_near, found is not None))
    assert looks.count((True, True)) > 5
    assert looks.count((False, False)) > 5


def refused_network(seed: int) -> ModelBuilder:
    """Three layers with BatchNorm kept. The first ends with a sigmoid, which is no line; others may be too fine."""
    rng, m, channels = np.random.default_rng(seed), ModelBuilder(), 4
    x = m.quant(m.input([1, channels, 6, 6], "input"), 2.0**-6, 8)
    for layer in range(3):
        spread, bits = float(rng.choice([0.1, 0.3, 0.4])), int(rng.choice([8, 9, 10]))
        x = m.node("Conv", x, m.weight(rng.normal(0, spread, (channels, channels, 1, 1)), 2.0**-6, 8))
        ends, middles = rng.uniform(0.5, 1.5, (2, channels)), rng.normal(0, 0.2, (2, channels))
        x = m.node("BatchNormalization", x, *(m.constant(part) for part in (ends[0], *middles, ends[1])))
        x = m.quant(m.node("Relu" if layer else "Sigmoid", x), 2.0**-6, bits, signed=0)
    m.output(x, [1, channels, 6, 6])
    return m


def refusal(model: ModelBuilder, folder: Path) -> list[str]:
    with pytest.raises(CompileError) as refused:
        compile_model(model.save(folder), target="tensil", arch="pynqz1")
    return [str(problem.at) for problem in refused.value.problems]


@pytest.mark.parametrize("seed", [0, 1, 3, 4, 6, 7, 9, 14])
def test_a_short_look_refuses_the_layers_that_the_search_refuses(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = refused_network(seed)
    found = refusal(model, tmp_path)
    monkeypatch.setattr(ChannelFits, "short_look", lambda self, *asked: (self.may_be_near(*asked), None))
    assert found == refusal(model, tmp_path)


def test_some_of_these_networks_have_several_layers_without_a_place_that_no_correction_helps(tmp_path: Path) -> None:
    assert [len(refusal(refused_network(seed), tmp_path)) for seed in (7, 0)] == [2, 1]


def test_a_network_that_is_refused_is_not_searched_any_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[Staircase] = []
    plain = channel_fits.fit_channels
    monkeypatch.setattr(channel_fits, "fit_channels", lambda *asked: searched.append(asked[0]) or plain(*asked))
    refusal(refused_network(3), tmp_path)
    assert not searched


def test_of_what_is_asked_only_for_problems_nothing_is_emitted(tmp_path: Path) -> None:
    graph = lower(import_bytes(one_layer(), tmp_path))
    target = TensilTarget(arch="pynqz1")
    assert target.lower(graph, TargetOptions()).files
    assert not target.lower(graph, TargetOptions(problems_only=True)).files


def test_what_was_searched_in_one_attempt_is_not_searched_in_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, options = lower(import_bytes(one_layer(), tmp_path)), TargetOptions(kept={})
    first = TensilTarget(arch="pynqz1").lower(graph, options)
    searches = []
    plain = channel_fits.fit_channels
    monkeypatch.setattr(channel_fits, "fit_channels", lambda *asked: searches.append(1) or plain(*asked))
    assert TensilTarget(arch="pynqz1").lower(graph, options).files == first.files
    assert not searches
    TensilTarget(arch="pynqz1").lower(graph, TargetOptions())
    assert searches


def one_layer() -> ModelBuilder:
    """A convolution with BatchNorm kept, to 8 bits."""
    m, rng = ModelBuilder(), np.random.default_rng(3)
    x = m.quant(m.input([1, 2, 4, 4], "input"), 2.0**-4, 6)
    x = m.node("Conv", x, m.weight(rng.normal(0, 0.3, (3, 2, 1, 1)), 2.0**-4, 6))
    x = m.node("BatchNormalization", x, *(m.constant(part) for part in rng.uniform(0.5, 1.5, (4, 3))))
    m.output(m.quant(m.node("Relu", x), 2.0**-4, 8, signed=0), [1, 3, 4, 4])
    return m
