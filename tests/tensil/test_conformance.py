"""The simulator against the states that Tensil's own emulator ends in, and against programs of Tensil's compiler.

28 cases of every kind and the programs come with the checkout; all 77 run where the folder `shared` lies beside it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pefslc.targets.tensil.machine.architecture import architecture_from_json
from pefslc.targets.tensil.program.encoding import decode, encode
from pefslc.targets.tensil.program.tmodel import TensilProgram, load_tmodel
from pefslc.targets.tensil.simulate.simulator import Driver, Machine

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data" / "tcu"
SHARED = ROOT.parent / "shared" / "tcu"

CASES = sorted((DATA / "conformance").glob("*.npz"))
ALL_CASES = sorted((SHARED / "conformance").glob("*.npz"))
PROGRAMS = [(path, path.with_suffix(".npz")) for path in sorted(DATA.glob("*.tmodel"))]
ALL_PROGRAMS = [(path, path.parent / "io.npz") for path in sorted((SHARED / "programs").glob("*/*.tmodel"))]

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="optional reference data (../shared) is not there")


def check_case(path: Path) -> None:
    case = np.load(path)
    architecture = architecture_from_json(json.loads(str(case["arch"])), at=path.name)
    program = TensilProgram(architecture, path.stem, case["prog"].tobytes(), (), (), ())
    assert encode(architecture, decode(architecture, program.code)) == program.code
    machine = Machine(architecture)
    machine.dram0[:] = case["dram0_in"]
    machine.dram1[:] = case["dram1_in"]
    machine.run(program)
    np.testing.assert_array_equal(machine.local, case["local_out"])
    np.testing.assert_array_equal(machine.acc, case["acc_out"])
    np.testing.assert_array_equal(machine.dram0, case["dram0_out"])
    np.testing.assert_array_equal(machine.dram1, case["dram1_out"])
    np.testing.assert_array_equal(machine.simd_registers, case["simd_out"])
    np.testing.assert_array_equal(machine.weights, case["weights_out"])


def check_program(model: Path, io: Path) -> None:
    """Two inferences in a row, from a poisoned machine, with each driver's flush probe between them."""
    program, data = load_tmodel(model), np.load(io)
    for seed, driver in ((None, Driver.PYNQ), (1, Driver.PYNQ), (2, Driver.C)):
        machine = Machine(program.architecture, poison_seed=seed)
        machine.load_constants(program)
        for x, y in zip(data["in_codes"], data["out_codes"], strict=True):
            (output,) = machine.infer(program, {"x": x.astype(np.int64)}, driver).values()
            np.testing.assert_array_equal(output, y)


def test_the_cases_of_the_checkout_are_there() -> None:
    assert len(CASES) == 28
    assert len(PROGRAMS) == 3


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_conformance_case(path: Path) -> None:
    check_case(path)


@pytest.mark.parametrize(("model", "io"), PROGRAMS, ids=lambda path: path.stem)
def test_program_of_tensils_compiler(model: Path, io: Path) -> None:
    check_program(model, io)


@needs_shared
def test_all_conformance_cases_are_found() -> None:
    assert len(ALL_CASES) == 77
    assert len(ALL_PROGRAMS) == 3


@needs_shared
@pytest.mark.parametrize("path", ALL_CASES, ids=lambda path: path.stem)
def test_every_conformance_case(path: Path) -> None:
    check_case(path)


@needs_shared
@pytest.mark.parametrize(("model", "io"), ALL_PROGRAMS, ids=lambda path: path.stem)
def test_every_program_of_tensils_compiler(model: Path, io: Path) -> None:
    check_program(model, io)
