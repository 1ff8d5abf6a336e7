"""How much memory networks that one knows take: numbers that are the same on every machine."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path

import pytest

import pefslc
from pefslc.targets.c.cpus import FAST, SMALL

_BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

# Bytes of all tensors that are alive at one time, at most, with the input: the least, where none lies over another.
_LIFETIMES = {"resnet9": 35_840, "resnet20": 49_152, "mobilenet": 55_296}
# Bytes of the arena with the input: the rows "cortex-m0" of docs/microcontrollers.md.
_ARENAS = {
    "resnet9": {FAST: 36_672, SMALL: 20_400},
    "resnet20": {FAST: 49_984, SMALL: 33_184},
    "mobilenet": {FAST: 55_424, SMALL: 37_276},
}
_SMALL_PACKED = {"resnet9": 23_400, "resnet20": 35_488, "mobilenet": 37_500}
_PACKED = {"resnet9": 118_272, "resnet20": 170_908, "mobilenet": 139_712}


@pytest.mark.parametrize("name", _ARENAS)
def test_memory(name: str, tmp_path: Path) -> None:
    if str(_BENCHMARKS) not in sys.path:
        sys.path.append(str(_BENCHMARKS))
    models = importlib.import_module("c_models")
    path = models.make_network(name, models.Precision(5, 5), models.Spelling.QONNX).save(tmp_path)

    def compiled(**options: object) -> dict[str, object]:
        return dict(pefslc.compile(path, target="c", cpu="cortex-m0", **options).emission.details)  # type: ignore[arg-type]

    for memory, wanted in _ARENAS[name].items():
        assert _with_input(compiled(memory=memory)) == wanted
    assert _ARENAS[name][FAST] <= 1.10 * _LIFETIMES[name]
    packed = compiled(pack=True, memory=SMALL)
    assert packed["constant_bytes"] == _PACKED[name]
    assert _with_input(packed) == _SMALL_PACKED[name]


def _with_input(details: dict[str, object]) -> int:
    """Bytes of the arena, and of the inputs that have no place in it."""
    arguments: list[dict[str, object]] = details["arguments"]  # type: ignore[assignment]
    held = [math.prod(a["shape"]) for a in arguments if a["direction"] == "input" and "place" not in a]  # type: ignore[arg-type]
    return int(str(details["arena_bytes"])) + sum(held)
