"""The examples of few-shot learning in docs/errors.md: one call for each code that it raises."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from errors.cases import Case, model, written

from builders import ModelBuilder
from pefslc.diagnostics.error_codes import Code
from pefslc.fewshot.demo.requests import Query
from pefslc.fewshot.episodes.accuracy import EpisodeAccuracies, evaluate_episodes
from pefslc.fewshot.episodes.draw import Episodes
from pefslc.fewshot.episodes.integer_ncm import IntegerNcm
from pefslc.fewshot.episodes.intervals import paired_difference
from pefslc.fewshot.head.classifier import Classifier
from pefslc.fewshot.head.spec import HeadKind, HeadSpec
from pefslc.fewshot.head.state import HeadState
from pefslc.fewshot.head.state_file import load_state, to_bytes
from pefslc.fewshot.system.build import build_system
from pefslc.fewshot.system.description import load_description
from pefslc.fewshot.system.pictures import fit_picture


def evaluated(features: np.ndarray, seed: int = 0) -> EpisodeAccuracies:
    """Of five classes of 20 images, each image with features of its own class."""
    drawn = Episodes(seed=seed).draw(np.repeat(np.arange(5), 20), 0, 10)
    return evaluate_episodes(features, drawn, IntegerNcm(HeadKind.EUCLID))


def distinct() -> np.ndarray:
    return np.repeat(np.eye(5, dtype=np.int64), 20, axis=0)


def as_backbone(m: ModelBuilder) -> object:
    Path("model.onnx").write_bytes(m.build().SerializeToString())
    return build_system("model.onnx", "build", mean=0.5, std=0.25)


def head() -> Classifier:
    """Two features, at most 8 shots; classes 0 and 7."""
    return state(1).classifier


def state(device: int) -> HeadState:
    made = HeadState.new(HeadSpec.cosine(0, 496, [320, 640], max_shots=8), "ab" * 32, device)
    for class_id in (0, 7):
        made.classifier.enrol(class_id, [20, 40])
    return made


FEWSHOT_CASES: dict[Code, Case] = {
    Code.EPISODES: lambda: Episodes(shots=5).draw(np.repeat(np.arange(5), 12), 0, 10_000, ("cup", "mug", "pen")),
    Code.FEATURES: lambda: evaluated(np.ones((100, 80))),
    Code.DEAD_NETWORK: lambda: evaluated(np.ones((100, 80), dtype=np.int64)),
    Code.NOT_PAIRED: lambda: paired_difference(evaluated(distinct(), seed=0), evaluated(distinct(), seed=1)),
    Code.INPUT_PICTURE: lambda: fit_picture(np.zeros((480, 640, 4), dtype=np.uint8), 32, 32),
    Code.HEAD_SPEC: lambda: HeadSpec.cosine(-4096, 4095, [0] * 80, max_shots=2**20),
    Code.HEAD_CODES: lambda: head().enrol(0, [0, 900]),
    Code.HEAD_CLASS: lambda: head().forget_class(4),
    Code.HEAD_FULL: lambda: head().enrol(0, [[0, 0]] * 9),
    Code.HEAD_THRESHOLD: lambda: head().classify([0, 0], threshold=Fraction(3, 2)),
    Code.HEAD_NAME: lambda: state(1).rename(0, "the mug that stands on the table at home"),
    Code.STATE_DAMAGED: lambda: load_state(Path(written("desk.state", to_bytes(state(1))[:90]))),
    Code.STATE_FOREIGN: lambda: load_state(Path(written("desk.state", to_bytes(state(1)))), backbone="cd" * 32),
    Code.MERGED_TWICE: lambda: state(1).merge(state(1)),
    Code.SYSTEM_BACKBONE: lambda: as_backbone(model(lambda m, x: m.node("Relu", x))),
    Code.NOT_A_SYSTEM: lambda: load_description(Path()),
    Code.DEMO_REQUEST: lambda: Query("height=8&width=8").frame(bytes(191)),
}

# Codes without an example here, each with the reason.
FEWSHOT_WITHOUT = {
    **{code: "needs files of a data set: tests/fewshot" for code in Code if "PEF1101" <= code.number <= "PEF1120"},
    **{code: "needs torch: tests/fewshot" for code in Code if "PEF1161" <= code.number <= "PEF1180"},
    **{code: "needs torch, or Dask: tests/fewshot" for code in Code if code.number >= "PEF1201"},
    Code.NO_ENGINE: "needs a system that was built: tests/fewshot/test_system.py",
    Code.DEMO_PORT: "needs a port that another has: tests/fewshot/demo/test_server.py",
    Code.NO_SHOTS: "the commands raise it: tests/cli/fewshot/test_mistakes.py",
}
