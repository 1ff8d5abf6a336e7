"""Native arithmetic for a plain host: the same magnitudes, and so the same words, however the host lays an input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from plain_support import board, compiled

import pefslc
from builders import ModelBuilder
from pefslc.targets.tensil.program.tmodel import load_tmodel


@pytest.mark.parametrize("host", ["plain", "dense"])
@pytest.mark.parametrize(
    ("channels", "batch"),
    [(3, 1), (8, 2), (12, 1), (12, 2), (20, 1)],  # below the lanes, as many, above them
)
def test_how_a_host_lays_an_input_changes_no_words(host: str, channels: int, batch: int, tmp_path: Path) -> None:
    r, m = np.random.default_rng(channels), ModelBuilder()
    x, weight = m.input([1, channels, 2, 8], "x"), r.uniform(-0.2, 0.2, (channels, channels, 1, 1))
    first = m.node("Relu", m.node("Conv", x, m.constant(weight)))
    m.output(m.node("Add", first, x), [1, channels, 2, 8])
    data = {"x": np.rint(r.uniform(-1, 1, (2, channels, 2, 8)) * 256) / 256}
    path, architecture = m.save(tmp_path), board(8)
    words = []
    for each in ("module", host):
        program = compiled(path, architecture, each, fmt="Q8.8", batch=batch, calibrate=data)
        verified = program.verify(data)
        assert verified.layers
        assert not any(layer.outside or layer.saturated for layer in verified.layers)
        details = program.sidecar.details["native_layers"]
        words.append(details["layers"])  # type: ignore[index,call-overload]
    assert words[0].items() <= words[1].items()


@pytest.mark.parametrize("host", ["module", "plain"])
@pytest.mark.parametrize(("local_depth", "resident"), [(8192, True), (90, False)])
def test_a_batch_holds_every_word_with_constants_that_stay_and_that_do_not(
    host: str, local_depth: int, resident: bool, tmp_path: Path
) -> None:
    """Of five pictures in runs of three: the last run is filled up."""
    r, m = np.random.default_rng(2), ModelBuilder()
    x = m.input([1, 8, 4, 8], "x")
    first = m.node("Relu", m.node("Conv", x, m.constant(r.uniform(-0.2, 0.2, (12, 8, 3, 3))), pads=[1] * 4))
    m.output(m.node("Conv", first, m.constant(r.uniform(-0.2, 0.2, (8, 12, 1, 1)))), [1, 8, 4, 8])
    data = {"x": np.rint(r.uniform(-1, 1, (5, 8, 4, 8)) * 256) / 256}
    path, architecture = m.save(tmp_path), replace(board(8), local_depth=local_depth)
    program = compiled(path, architecture, host, fmt="Q8.8", batch=3, calibrate=data)
    program.save(tmp_path / "build")
    (tmodel,) = (tmp_path / "build").glob("*.tmodel")
    assert load_tmodel(tmodel).load_consts_to_local == resident
    verified = program.verify(data)
    assert verified.layers
    assert not any(layer.outside or layer.saturated for layer in verified.layers)
    one = compiled(path, architecture, host, fmt="Q8.8", calibrate=data)
    (several,), (alone,) = program.run(data).values(), one.run(data).values()
    assert np.abs(several - alone).max() <= 2.0**-8  # the order of a sum may decide a tie
    assert np.abs(several - next(iter(pefslc.load(path).run(data).values()))).max() < 0.02


@pytest.mark.parametrize("host", ["plain", "dense"])
def test_formats_from_data_are_reported_for_a_plain_host_as_for_any(host: str, tmp_path: Path) -> None:
    """The words of the driver stand before the input's codes: they are no tensor of the float model."""
    r, m = np.random.default_rng(1), ModelBuilder()
    x, weight = m.input([1, 4, 2, 8], "x"), r.uniform(-0.5, 0.5, (3, 4, 1, 1))
    m.output(m.node("GlobalAveragePool", m.node("Relu", m.node("Conv", x, m.constant(weight)))), [1, 3, 1, 1])
    data = {"x": np.rint(r.uniform(-1, 1, (4, 4, 2, 8)) * 256) / 256}
    path, found = m.save(tmp_path), []
    for each in ("module", host):
        program = compiled(path, board(8), each, fmt="auto:8", calibrate=data)
        assert program.verify(data).equal
        assert program.post_training is not None
        found.append([(t.name, t.format, t.weight, t.clipped) for t in program.post_training.tensors])
    assert found[0] == found[1]
