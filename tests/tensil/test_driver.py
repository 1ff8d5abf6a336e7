"""A .tmodel without a sidecar: Tensil's own programs, on what the PYNQ driver would be given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pefslc.diagnostics.errors import CompileError
from pefslc.driver.compiled_artifact import BareProgram, open_artifact
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.simulate.driver import run_tmodel, to_words

PROGRAMS = Path(__file__).resolve().parents[1] / "data" / "tcu"
NAMES = ("tiny_conv_pynqz1", "residual_small_custom_perf", "maxpool_net_zcu104")


@pytest.mark.parametrize(
    ("value", "word"), [(0.0, 0), (1.0, 256), (0.5 / 256, 0), (1.5 / 256, 2), (-0.5 / 256, 0), (128.0, -32768)]
)
def test_the_driver_rounds_half_to_even_and_wraps(value: float, word: int) -> None:
    assert to_words(np.array([value]), DataType["FP16BP8"]).tolist() == [word]


@pytest.mark.parametrize("name", NAMES)
def test_tensils_own_programs_run_without_a_sidecar(name: str) -> None:
    path = PROGRAMS / f"{name}.tmodel"
    data = np.load(path.with_suffix(".npz"))
    artifact = open_artifact(path)
    assert isinstance(artifact, BareProgram)
    (values,) = artifact.run({"x": data["in_codes"] / 256}).values()
    assert np.array_equal(values * 256, data["out_codes"].reshape(len(values), -1))


def test_arrays_that_do_not_fill_the_vectors_are_refused() -> None:
    path = PROGRAMS / f"{NAMES[0]}.tmodel"
    with pytest.raises(CompileError, match="a run reads 2048 numbers"):
        run_tmodel(path, {"x": np.zeros(100)})
    with pytest.raises(CompileError, match="no array for input"):
        run_tmodel(path, {"y": np.zeros(2048)})
