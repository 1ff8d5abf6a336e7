"""Native arithmetic for a plain host: the same magnitudes, and so the same words, however the host lays an input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from plain_support import board, compiled

from builders import ModelBuilder


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
