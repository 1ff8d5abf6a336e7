"""How long the compiled C of a backbone takes here: the one number of a sweep that is of a machine. None is kept."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pefslc.artifacts.sidecar import load_sidecar
from pefslc.driver.compiler import compile
from pefslc.fewshot.system.backbone import Backbone

__all__ = ["c_milliseconds"]

_PICTURES, _REPEATS = 32, 5


def c_milliseconds(onnx: bytes) -> float:
    """Of one picture, as `run` compiles the C: the least of five means over 32 pictures. Raises CompileError.

    The pictures are noise: the C does the same work on all.
    """
    with TemporaryDirectory(prefix="pefslc-") as folder:
        path = Path(folder) / "backbone.onnx"
        path.write_bytes(onnx)
        program = compile(path, target="c", batch=1)
        *_, sidecar = program.save(folder)
        ends = Backbone.of(program.sidecar)
        element = ends.quantizer.quantization
        codes = np.random.default_rng(0).integers(
            element.low, element.high + 1, (_PICTURES, 3, ends.height, ends.width), dtype=np.int64
        )
        runner = program.target.runner(Path(folder), load_sidecar(sidecar))
        ends.features(runner, codes[:1])
        seconds = []
        for _ in range(_REPEATS):
            start = time.perf_counter()
            ends.features(runner, codes)
            seconds.append(time.perf_counter() - start)
        return min(seconds) / _PICTURES * 1e3
