"""`<name>_run.py`: the self-test for a board, on the simulator and on a driver that is like Tensil's."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from runpy import run_path
from unittest.mock import patch

import numpy as np
import pytest
from tensil_support import emit

import pefslc
from builders import ModelBuilder, import_bytes, lower
from pefslc.analysis.limits import TargetLimits
from pefslc.passes.manager import run_passes
from pefslc.passes.pipeline import pipeline
from pefslc.targets.protocol import TargetOptions
from pefslc.targets.self_test import input_codes, share_at_ends, source_of_input_codes
from pefslc.targets.tensil.machine.architecture import built_in_architectures, load_architecture
from pefslc.targets.tensil.simulate.driver import run_tmodel
from pefslc.targets.tensil.target import TensilTarget

assert run_tmodel is not None  # imported before a script does, whose imports are forgotten

CNN = Path(__file__).parents[2] / "examples" / "cnn_bnfold_q2_3.onnx"
FLOAT_CNN = CNN.with_name("cnn_float.onnx")
MODEL = "cnn_bnfold_q2_3"

# A board: the modules that the script imports there. FAULT breaks it.
PYNQ = """
class Overlay:
    def __init__(self, path):
        import os
        if os.environ.get("FAULT") == "root":
            raise RuntimeError("Root permissions required.")
        self.axi_dma_0 = "dma"
"""
DRIVER = """
import os, time
import numpy as np
from pathlib import Path
from collections import namedtuple
from pefslc.targets.tensil.program.tmodel import load_tmodel
from pefslc.targets.tensil.simulate.simulator import Machine

FAULT = os.environ.get("FAULT")
Consts = namedtuple("Consts", "file_name base size")


class Memory:
    data_type_numpy, data_type_numpy_size_bytes = np.uint16, 2

    def __init__(self, words):
        self.words = words

    def write(self, offset, data):
        self.words.reshape(-1)[offset : offset + data.size] = data.astype(np.int16)

    def compare(self, offset, data):
        return np.array_equal(self.words.reshape(-1)[offset : offset + data.size], data.astype(np.int16))

    def read_bytes(self, offset, size):
        words = self.words.reshape(-1)[offset // 2 : (offset + size) // 2].astype(np.int16)
        return bytes(len(words.tobytes())) if FAULT == "memory" else words.tobytes()


class Driver:
    def __init__(self, arch, dma):
        assert dma == "dma" and arch.data_type.name == "FP16BP8"
        if FAULT == "allocate":
            raise RuntimeError("Failed to allocate Memory!")
        if FAULT == "hang":
            time.sleep(30)
        self.arch, self.loads, self.runs = arch, 0, 0

    def scalar_address(self, vectors):
        return vectors * self.arch.array_size

    def load_model(self, path):
        self.program = load_tmodel(Path(path))
        if not self.loads:
            self.machine = Machine(self.program.architecture, poison_seed=0)
        self.dram0, self.dram1 = Memory(self.machine.dram0), Memory(self.machine.dram1)
        self.loads += 1
        self.machine.load_constants(self.program)
        if FAULT == "constants" and self.loads == 1:
            self.machine.local[:] = 0
        name = Path(path).stem + ".tdata"
        Model = namedtuple("Model", "consts outputs")
        self.model = Model([Consts(name, b.base, len(b.vectors)) for b in self.program.constants], self.program.outputs)

    def run(self, inputs):
        self.runs += 1
        size = self.arch.array_size
        words = {n: np.rint(v * 256).astype(np.int64).reshape(-1, size) for n, v in inputs.items()}
        if FAULT == "raises":
            raise KeyError("input")
        if FAULT == "writes nothing":
            found = {e.name: self.machine.dram0[e.base : e.base + e.size] for e in self.program.outputs}
        else:
            found = self.machine.infer(self.program, words)
        flips = {"flaky": self.runs, "other array": 1, "memory": 1}.get(FAULT, 0)
        return {n: (v + 32 * flips).reshape(-1) / 256.0 for n, v in found.items()}
"""
ARCHITECTURE = """
from collections import namedtuple
from pefslc.targets.tensil.machine.architecture import load_architecture
Architecture = namedtuple("Architecture", load_architecture("pynqz1").to_json_dict())
"""
DATA_TYPE = """
from enum import Enum
DataType = Enum("DataType", "INVALID FP16BP8")
"""


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example compiled for pynqz1, a bitstream, and a board's modules beside it."""
    folder = tmp_path_factory.mktemp("board")
    pefslc.compile(CNN, target="tensil").save(folder / "build")
    for end in ("bit", "hwh"):
        (folder / "build" / f"tensil_pynqz1.{end}").touch()
    (folder / "home" / "tcu_pynq").mkdir(parents=True)
    (folder / "home" / "pynq.py").write_text(PYNQ)
    for name, text in (("driver", DRIVER), ("architecture", ARCHITECTURE), ("data_type", DATA_TYPE), ("__init__", "")):
        (folder / "home" / "tcu_pynq" / f"{name}.py").write_text(text)
    return folder / "build"


def run_script(folder: Path, *arguments: str, fault: str = "") -> tuple[int, str]:
    """Its status, and what it prints. What it imports is forgotten."""
    script = next(folder.glob("*_run.py"))
    printed = StringIO()
    here = patch.dict(sys.modules), patch.object(sys, "path", [*sys.path]), patch.dict(os.environ, FAULT=fault)
    with here[0], here[1], here[2], redirect_stdout(printed):
        status: int = run_path(str(script))["main"](list(arguments))
    return status, printed.getvalue()


def on_board(build: Path, fault: str = "") -> tuple[int, str]:
    return run_script(build, "--driver", str(build.parent / "home"), "--runs", "3", fault=fault)


@pytest.fixture
def copied(build: Path, tmp_path: Path) -> Path:
    """The files, to be damaged."""
    for path in filter(Path.is_file, build.iterdir()):  # a run leaves __pycache__
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.parametrize("arch", built_in_architectures())
def test_the_script_passes_on_the_simulator_of_each_board(arch: str, tmp_path: Path) -> None:
    program = pefslc.compile(CNN, target=pefslc.TensilTarget(arch=arch))
    program.save(tmp_path)
    status, text = run_script(tmp_path, "--dry-run")
    assert (status, text.splitlines()[0]) == (
        0,
        "PASS: 10 of 10 output codes of the simulator are as expected",
    )
    assert ("MHz" in text) == (arch != "cmoda7")


def test_the_script_passes_for_native_arithmetic(tmp_path: Path) -> None:
    """What rounds on its way is not the integers': the simulator said what comes out."""
    pefslc.compile(FLOAT_CNN, target="tensil", fmt="Q8.8").save(tmp_path)
    assert run_script(tmp_path, "--dry-run")[0] == 0


def test_the_script_passes_where_sums_saturate(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input([1, 64, 3, 3], "x"), 0.125, 8)
    m.output(m.node("Conv", x, m.weight(np.full((2, 64, 3, 3), 7.0), 1, 4)), [1, 2, 1, 1])
    graph = import_bytes(m, tmp_path)
    integer = run_passes(graph, pipeline(TargetLimits(16, "the TCU"), allow_overflow=True))[0]
    emission = TensilTarget(arch="pynqz1").lower(integer, TargetOptions(allow_overflow=True))
    for name, content in emission.files.items():
        (tmp_path / name).write_bytes(content)
    assert run_script(tmp_path, "--dry-run")[0] == 0


def test_the_script_passes_on_a_board_and_says_the_time(build: Path) -> None:
    status, text = on_board(build)
    first, measured, modelled = text.splitlines()
    assert (status, first) == (0, "PASS: 10 of 10 output codes of the board are as expected")
    assert measured.endswith("median of 3, with the driver's own work")
    assert modelled.endswith("at 50 MHz")


@pytest.mark.parametrize(
    ("fault", "messages"),
    [
        ("root", ["cannot load", "Root permissions required", "sudo XILINX_XRT=/usr"]),
        ("allocate", ["cannot start the driver: RuntimeError: Failed to allocate", "32 MB of DMA memory"]),
        ("raises", ["cannot run the model: KeyError"]),
        ("memory", ["10 of 10 codes differ", "the constants in DRAM1 are not those of the .tdata"]),
        ("writes nothing", ["the TCU wrote no output", "architecture pynqz1"]),
        ("flaky", ["10 of 10 codes differ, the first at index 0: ", "two runs of the same inputs differ"]),
        ("constants", ["after a second load_model it passes: the constants were not loaded"]),
        ("other array", ["10 of 10 codes differ", "take the bitstream of the architecture pynqz1"]),
    ],
)
def test_the_script_says_what_is_likely_wrong_with_a_board(fault: str, messages: list[str], build: Path) -> None:
    status, text = on_board(build, fault)
    assert status == 1
    assert text.startswith("FAIL: ")
    assert all(message in text for message in messages), text


def test_the_script_does_not_wait_for_ever(copied: Path, build: Path) -> None:
    script = copied / f"{MODEL}_run.py"
    script.write_text(script.read_text().replace("PATIENCE_SECONDS = 60", "PATIENCE_SECONDS = 1"))
    status, text = run_script(copied, "--driver", str(build.parent / "home"), fault="hang")
    assert status == 1
    assert "cannot start the driver: the TCU does not answer for 1 seconds" in text


@pytest.mark.parametrize("end", [".tmodel", ".tdata", ".tprog", "_io.py"])
def test_the_script_names_a_damaged_file(end: str, copied: Path) -> None:
    path = copied / f"{MODEL}{end}"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    status, text = run_script(copied, "--dry-run")
    assert (status, text.splitlines()[0]) == (
        1,
        f"FAIL: {path.name} ({len(content)} bytes) is damaged, or of another compile than this script",
    )


@pytest.mark.parametrize("end", [".tmodel", ".tdata", ".tprog", "_io.py"])
def test_the_script_names_a_missing_file(end: str, copied: Path) -> None:
    (copied / f"{MODEL}{end}").unlink()
    status, text = run_script(copied, "--dry-run")
    assert (status, text.splitlines()[0]) == (1, f"FAIL: cannot read {MODEL}{end}: No such file or directory")


def test_the_script_runs_from_another_folder(build: Path, tmp_path: Path) -> None:
    script = build / f"{MODEL}_run.py"
    ended = subprocess.run(
        [sys.executable, str(script), "--dry-run"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (ended.returncode, ended.stderr, ended.stdout.startswith("PASS: ")) == (0, "", True)


def test_the_simulator_fails_where_the_expected_codes_are_others(copied: Path) -> None:
    script = copied / f"{MODEL}_run.py"
    expected = script.read_text().split('"output": [\n')[1].split(",")[0].strip()
    script.write_text(script.read_text().replace(f"        {expected}, ", f"        {int(expected) + 1}, ", 1))
    status, text = run_script(copied, "--dry-run")
    assert status == 1
    assert f"output 'output': 1 of 10 codes differ, the first at index 0: {expected} instead of" in text


def test_a_bitstream_needs_its_hwh(copied: Path, build: Path) -> None:
    (copied / "tensil_pynqz1.hwh").unlink()
    status, text = run_script(copied, "--driver", str(build.parent / "home"))
    assert (status, "tensil_pynqz1.bit has no .hwh beside it" in text) == (1, True)
    (copied / "tensil_pynqz1.bit").unlink()
    status, text = run_script(copied, "--driver", str(build.parent / "home"))
    assert (status, "no bitstream: " in text, "--bitstream FILE.bit" in text) == (1, True, True)


def test_the_script_is_python_3_6(build: Path) -> None:
    text = (build / f"{MODEL}_run.py").read_text()
    tree = ast.parse(text, feature_version=(3, 6))
    later = (ast.JoinedStr, ast.NamedExpr, ast.AnnAssign)  # f-strings are 3.6's, and read worse in a template
    assert not [node for node in ast.walk(tree) if isinstance(node, later)]
    assert max(map(len, text.splitlines())) <= 140


def test_names_that_python_reads_otherwise_stay_names(tmp_path: Path) -> None:
    m = ModelBuilder()
    x = m.quant(m.input([1, 3, 4, 4], 'in"""\\x'), 0.125, 4)
    m.output(m.node("Conv", x, m.weight(np.ones((2, 3, 3, 3)), 0.25, 3)), [1, 2, 2, 2])
    emit(lower(import_bytes(m, tmp_path)), load_architecture("pynqz1"), tmp_path)
    assert run_script(tmp_path, "--dry-run")[0] == 0


def test_the_inputs_of_the_test_fill_their_range_and_are_the_same_on_the_board() -> None:
    names: dict[str, Callable[..., np.ndarray]] = {}
    exec("import numpy as np\n" + source_of_input_codes(), names)
    for low, high, seed in ((-16, 15, 0), (0, 255, 3), (-32768, 32767, 9), (0, 0, 1), (-(1 << 31), (1 << 31) - 1, 7)):
        codes = input_codes(5000, low, high, seed)
        assert np.array_equal(codes, names["input_codes"](5000, low, high, seed))
        assert low <= codes.min() <= codes.max() <= high
        if high - low < 256:
            assert set(codes.tolist()) == set(range(low, high + 1))


def test_the_script_passes_for_two_inputs_and_two_outputs(tmp_path: Path) -> None:
    m = ModelBuilder()
    first, second = (m.quant(m.input([1, 3, 6, 6], name), 0.125, 5) for name in ("left eye", "right eye"))
    both = m.quant(m.node("Concat", first, second, axis=1), 0.125, 5)
    for seed in (0, 1):
        weight = np.random.default_rng(seed).integers(-4, 4, (2, 6, 3, 3)) * 0.25
        m.output(m.node("Conv", both, m.weight(weight, 0.25, 4)), [1, 2, 4, 4])
    emission = emit(lower(import_bytes(m, tmp_path)), load_architecture("pynqz1"), tmp_path)
    status, text = run_script(tmp_path, "--dry-run")
    assert (status, text.splitlines()[0]) == (0, "PASS: 64 of 64 output codes of the simulator are as expected")
    io = next(content.decode() for name, content in emission.files.items() if name.endswith("_io.py"))
    assert 'driver.run(io.to_driver({"left eye": x0, "right eye": x1}))' in io
    assert 'A run takes "left eye" [1, 3, 6, 6] and "right eye" [1, 3, 6, 6], and gives ' in io


def test_a_python_without_numpy_is_told_what_to_do(build: Path) -> None:
    """-I -S: nothing that is installed is found."""
    (script,) = build.glob("*_run.py")
    for arguments in ([], ["--dry-run"]):
        ended = subprocess.run(
            [sys.executable, "-I", "-S", str(script), *arguments], capture_output=True, text=True, check=False
        )
        assert (ended.returncode, ended.stderr) == (1, "")
        assert ended.stdout.startswith("FAIL: this Python has no NumPy (")


@pytest.mark.parametrize("option", ["--runs=3", "--bitstream=x.bit", "--driver=/home/xilinx"])
def test_an_option_for_a_board_is_refused_in_a_dry_run(
    build: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        run_script(build, "--dry-run", option)
    assert end.value.code == 2
    assert f"{option.split('=')[0]} is for a board" in capsys.readouterr().err


def constant_of(script: str, name: str) -> int:
    (line,) = [line for line in script.splitlines() if line.startswith(f"{name} = ")]
    return int(line.split(" = ")[1].split("#")[0])


@pytest.mark.parametrize("calibrate", [None, CNN.with_name("cnn_float.npz")])
def test_few_outputs_of_a_float_models_test_saturate(calibrate: Path | None, tmp_path: Path) -> None:
    """Inputs reach 1 to 2, of the 128 of the format; the words of saturated sums would be the largest or smallest."""
    program = pefslc.compile(FLOAT_CNN, target="tensil", fmt="Q8.8", calibrate=calibrate)
    program.save(tmp_path)
    expected = run_path(str(tmp_path / "cnn_float_run.py"))["EXPECTED"]["output"]
    assert share_at_ends({"output": np.array(expected)}) == 0
    assert len(set(expected)) == 10
    assert constant_of((tmp_path / "cnn_float_run.py").read_text(), "HALVINGS") == 6
    assert run_script(tmp_path, "--dry-run")[0] == 0


def test_inputs_of_what_cannot_saturate_use_their_whole_range(build: Path) -> None:
    assert constant_of((build / f"{MODEL}_run.py").read_text(), "HALVINGS") == 0


@pytest.mark.parametrize(
    ("codes", "share"),
    [
        ([0, 0, 0, 5], 0.0),
        ([7, 7, 1, 2], 0.5),
        ([-8, -8, 7, 7], 1.0),
        ([-8, -7, 7, 8], 0.0),
        ([3, 3, 3, 3], 1.0),
        ([-8, -8, -8, 0], 0.75),
        ([5], 0.0),
    ],
)
def test_what_saturates_is_what_is_alike_at_an_end(codes: list[int], share: float) -> None:
    assert share_at_ends({"a": np.arange(9), "b": np.array(codes)}) == share
