"""What a built system gives a device: C from raw frames to decisions, and the Python modules on a board's driver."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from fewshot.conftest import SANITIZERS, WARNINGS
from fewshot.head_oracle import Oracle
from fewshot.system_support import (
    ARCH,
    FEATURES,
    MEAN,
    STD,
    SimulatedDriver,
    codes_by_definition,
    frames,
    tiny_backbone,
)

from pefslc.artifacts.sidecar import load_sidecar
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.device.board_python import board_module
from pefslc.fewshot.device.pictures_c import emit_pictures_c
from pefslc.fewshot.head.state_file import load_state, to_bytes
from pefslc.fewshot.system.build import build_system
from pefslc.fewshot.system.classes import enrol_class
from pefslc.fewshot.system.system import FewShotSystem
from pefslc.targets.c.naming import model_prefix

MODULES = ("tiny_io", "tiny_head", "tiny_fewshot")
NAMES = ("mug", "cup", "pot")


def test_the_emitted_c_recognises_raw_frames_as_python_does(build: Path, compiler: str, tmp_path: Path) -> None:
    """Backbone, pictures and head in one program, with sanitizers; the state that it saves is ours, byte for byte."""
    header = (build / "tiny_pictures.h").read_text()
    input_type, feature_type = re.findall(r"\*   static (u?int\d+_t) (?:input|features)\[", header)
    (tmp_path / "main.c").write_text(_MAIN.replace("@INPUT@", input_type).replace("@FEATURE@", feature_type))
    sources = [build / f"tiny{part}.c" for part in ("", "_weights", "_pictures", "_head")]
    program = tmp_path / "program"
    flags = [compiler, *WARNINGS, *SANITIZERS, "-O1", f"-I{build}"]
    done = subprocess.run(
        [*flags, *map(str, sources), str(tmp_path / "main.c"), "-o", str(program)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:4000]
    supports, queries = frames(9, 6), frames(12, 7)
    given = supports.tobytes() + queries.tobytes()
    ran = subprocess.run([str(program), "9", "12"], input=given, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr[:4000]

    system = FewShotSystem.open(build)
    oracle, state = Oracle(system.spec), system.new_state(17)
    for i, frame in enumerate(supports):
        exact = codes_by_definition(frame)
        state.classifier.enrol(i % 3, [exact])
        oracle.shots.setdefault(i % 3, []).append(exact)
    numbers = np.frombuffer(ran.stdout[: 12 * (FEATURES + 1) * 8], "<i8").reshape(12, FEATURES + 1)
    for frame, (decision, *codes) in zip(queries, numbers.tolist(), strict=True):
        exact = codes_by_definition(frame)
        assert tuple(codes) == exact
        expected = oracle.classify(exact, Fraction(9, 10))
        assert decision == (-1 if expected is None else expected)
    assert ran.stdout[12 * (FEATURES + 1) * 8 :] == to_bytes(state)


_MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include "tiny.h"
#include "tiny_head.h"
#include "tiny_pictures.h"

static tiny_arena arena;
static tiny_head_state state;

/* On the heap, of the very sizes: what reads or writes beyond is seen. */
static @FEATURE@ *next_features(void)
{
    uint8_t *const frame = malloc(tiny_PICTURES_BYTES);
    @INPUT@ *const input = malloc(tiny_PICTURES_CODES * sizeof(@INPUT@));
    @FEATURE@ *const features = malloc(tiny_HEAD_DIMENSION * sizeof(@FEATURE@));
    if (fread(frame, 1, tiny_PICTURES_BYTES, stdin) != tiny_PICTURES_BYTES) { exit(2); }
    tiny_pictures(frame, input);
    tiny_run(&arena, input, features);
    free(frame);
    free(input);
    return features;
}

int main(int count, char **arguments)
{
    static uint8_t file[tiny_HEAD_FILE_BYTES];
    uint32_t i;
    if (count != 3) { return 3; }
    tiny_head_init(&state, 17);
    for (i = 0; i < (uint32_t)atoi(arguments[1]); i++) {
        @FEATURE@ *const features = next_features();
        if (tiny_head_enrol(&state, i % 3, features, 1) != tiny_HEAD_OK) { return 4; }
        free(features);
    }
    for (i = 0; i < (uint32_t)atoi(arguments[2]); i++) {
        @FEATURE@ *const features = next_features();
        int64_t told = tiny_head_classify(&state, features, 9, 10);
        int j;
        fwrite(&told, 8, 1, stdout);
        for (j = 0; j < tiny_HEAD_DIMENSION; j++) {
            told = features[j];
            fwrite(&told, 8, 1, stdout);
        }
        free(features);
    }
    fwrite(file, 1, tiny_head_save(&state, file, sizeof(file)), stdout);
    return 0;
}
"""


@pytest.mark.parametrize("name", ["x_pictures", "9 lives", "Ω*/", "con"])
@pytest.mark.parametrize("types", [("int8_t", -128, 127), ("int32_t", -(2**31), 2**31 - 1), ("uint8_t", 0, 255)])
def test_pictures_of_any_name_and_type_compile(
    name: str, types: tuple[str, int, int], compiler: str, tmp_path: Path
) -> None:
    kind, low, high = types
    table = np.linspace(low, high, 768).astype(np.int64).reshape(3, 256)
    files = emit_pictures_c(name, table, (5, 7), (kind, "int16_t"), (("*/", "??/", "1/3"), ("1",) * 3))
    assert sorted(files) == [f"{model_prefix(name)}_pictures.{suffix}" for suffix in "ch"]
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    source = tmp_path / f"{model_prefix(name)}_pictures.c"
    command = [compiler, *WARNINGS, "-Wtrigraphs", "-fsyntax-only", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- the board ----------------------------------------------------------------------------------------------------


@contextmanager
def modules_of(build: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """tiny_fewshot, imported beside the modules that it needs."""
    monkeypatch.syspath_prepend(str(build))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in MODULES:
        sys.modules.pop(name, None)
    yield importlib.import_module("tiny_fewshot")
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def board(build: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    with modules_of(build, monkeypatch) as module:
        yield module


@pytest.fixture
def driver(build: Path) -> SimulatedDriver:
    found = SimulatedDriver()
    found.load_model(build / "tiny.tmodel")
    return found


def test_the_modules_are_python_of_an_old_board(build: Path) -> None:
    for name in MODULES:
        text = (build / f"{name}.py").read_text()
        tree = ast.parse(text, feature_version=(3, 6))
        imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        assert imported <= {
            "numpy", "os", "struct", "sys", "importlib", "tempfile", "time", "warnings", "zlib", "fcntl", *MODULES
        }  # fmt: skip
    assert board_module("9-lives") == "model_9_lives_fewshot"


def test_the_board_decides_as_python_and_fractions_do(
    build: Path, board: ModuleType, driver: SimulatedDriver, tmp_path: Path
) -> None:
    path = tmp_path / "board.state"
    on_board = board.System(driver, path, device=17)
    system = FewShotSystem.open(build)
    oracle, state = Oracle(system.spec), system.new_state(17)
    supports = frames(6, 8, 13, 20)
    for i, name in enumerate(NAMES):
        class_id = on_board.enrol(name, supports[i::3])
        assert class_id == enrol_class(state, name, system.codes(supports[i::3]))
        oracle.shots[class_id] = [codes_by_definition(system.fit(f)) for f in supports[i::3]]
    assert to_bytes(load_state(path)) == to_bytes(state)
    for frame in frames(6, 9, 20, 13):
        exact = codes_by_definition(system.fit(frame))
        assert tuple(on_board.codes([frame])[0]) == exact
        for threshold in (None, Fraction(9, 10)):
            assert on_board.classify(frame, threshold) == oracle.classify(exact, threshold)
    again = board.System(driver, path, device=99)  # what was learned is there after a restart
    assert again.name(again.classify(supports[0])) == "mug"
    again.forget("mug")
    assert sorted(board.System(driver, path, device=17).head.names.values()) == ["cup", "pot"]


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (3, 50), (50, 3), (7, 9), (480, 640)])
def test_the_board_fits_frames_as_the_host_does(build: Path, board: ModuleType, size: tuple[int, int]) -> None:
    (frame,) = frames(1, 10, *size)
    assert (board.fit(frame) == FewShotSystem.open(build).fit(frame)).all()


@pytest.mark.parametrize("frame", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((8, 0, 3), np.uint8)])
def test_the_board_refuses_what_is_no_frame(board: ModuleType, frame: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"a frame is uint8 \[rows, columns, 3\]"):
        board.fit(frame)


def test_a_board_does_not_learn_from_nothing(board: ModuleType, driver: SimulatedDriver, tmp_path: Path) -> None:
    system = board.System(driver, tmp_path / "x.state", device=1)
    with pytest.raises(ValueError, match="no shots"):
        system.enrol("mug", [])
    assert list(tmp_path.iterdir()) == []
    assert system.classify(frames(1, 1)[0]) is None
    system.enrol("plumless", frames(1, 1))
    with pytest.raises(ValueError, match="have one class id"):
        system.enrol("buckeroo", frames(1, 1))


def test_a_session_learns_while_a_button_is_down_and_then_votes(
    board: ModuleType, driver: SimulatedDriver, tmp_path: Path
) -> None:
    session = board.Session(board.System(driver, tmp_path / "x.state", device=1), shots=2, remembered=3)
    mug, cup = frames(30, 11)[0::3], frames(30, 11)[1::3]
    assert session.step(mug[0]) == "?"
    assert session.step(mug[1], "mug") == "learning mug: 1 of 2"
    assert session.step(mug[2], "cup") == "learned mug"  # a second button waits until the first is done
    assert [session.step(cup[0], "cup"), session.step(cup[1])] == ["learning cup: 1 of 2", "learned cup"]
    assert [session.step(frame) for frame in mug[3:6]] == ["mug"] * 3
    assert [session.step(frame) for frame in cup[2:5]] == ["mug", "cup", "cup"]


# --- a batch ----------------------------------------------------------------------------------------------------------


class _CountingDriver(SimulatedDriver):
    runs = 0

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.runs += 1
        return super().run(inputs)


@pytest.fixture(scope="module")
def batched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The system of `build`, four pictures in a run."""
    folder = tmp_path_factory.mktemp("batched")
    options = {"mean": MEAN, "std": STD, "centre_pictures": frames(9, 0), "arch": ARCH}
    build_system(tiny_backbone(folder), folder / "build", **options, batch=4)
    return folder / "build"


def test_a_board_enrols_and_recognises_in_whole_batches(
    batched: Path, build: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """13 shots are four runs; the states and the decisions are those of the system without a batch."""
    driver = _CountingDriver()
    driver.load_model(batched / "tiny.tmodel")
    single = FewShotSystem.open(build)
    state, shots = single.new_state(17), frames(13, 8, 13, 20)
    with modules_of(batched, monkeypatch) as board:
        on_board = board.System(driver, tmp_path / "board.state", device=17)
        for runs, count in ((1, 1), (2, 4), (4, 5), (8, 13)):
            enrol_class(state, "mug", single.codes(shots[:count]))
            on_board.enrol("mug", iter(shots[:count]))
            assert driver.runs == runs
        assert to_bytes(load_state(tmp_path / "board.state")) == to_bytes(state)
        enrol_class(state, "cup", single.codes(shots[1:2]))
        on_board.enrol("cup", shots[1:2])
        exact = [codes_by_definition(single.fit(f)) for f in shots]
        assert list(map(tuple, on_board.codes(shots))) == exact
        decided = [state.classifier.classify(np.array(codes)).class_id for codes in exact]
        assert on_board.classify_all(shots) == decided
        assert on_board.classify(shots[1]) == decided[1]
        assert on_board.classify_all([]) == []


def test_a_session_recognises_a_batch_at_a_time(batched: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    driver = _CountingDriver()
    driver.load_model(batched / "tiny.tmodel")
    mug, cup = frames(30, 11)[0::3], frames(30, 11)[1::3]
    with modules_of(batched, monkeypatch) as board:
        session = board.Session(board.System(driver, tmp_path / "x.state", device=1), shots=3, remembered=4)
        for name, shown in (("mug", mug), ("cup", cup)):
            session.step(mug[9])  # waits for a run that learning takes over
            assert [session.step(f, name) for f in shown[:3]][-1] == f"learned {name}"
        assert driver.runs == 2
        assert [session.step(frame) for frame in mug[3:7]] == ["?", "?", "?", "mug"]
        assert [session.step(frame) for frame in cup[3:7]] == ["mug", "mug", "mug", "cup"]
        assert driver.runs == 4


def test_every_engine_has_the_codes_of_batch_1(batched: Path) -> None:
    shown = frames(6, 1)
    expected = [list(codes_by_definition(frame)) for frame in shown]
    for engine in ("c", "tensil", "float"):
        assert FewShotSystem.open(batched, engine).codes(shown).tolist() == expected
    assert load_sidecar(batched / "tiny.tensil.json").inputs[0].shape == (4, 3, 8, 8)
    assert load_sidecar(batched / "tiny.c.json").inputs[0].shape == (1, 3, 8, 8)


def test_a_batch_needs_a_board(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="the C runs pictures one after the other") as caught:
        build_system(tiny_backbone(tmp_path), tmp_path / "build", mean=0, std=1, batch=4)
    assert caught.value.problems[0].code is Code.WRONG_OPTION


# --- a host that knows nothing of the quantizer ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A system whose input are numbers in Q8.8."""
    folder = tmp_path_factory.mktemp("plain")
    build_system(tiny_backbone(folder), folder / "build", mean=MEAN, std=STD, arch=ARCH, input_fmt="Q8.8")
    return folder / "build"


def test_a_host_that_only_normalizes_gets_the_codes_of_the_system(plain: Path) -> None:
    """float32 pixels, padded to the array, one a vector; the driver rounds. Engines and fractions agree with it."""
    driver = SimulatedDriver()
    driver.load_model(plain / "tiny.tmodel")
    shown = frames(6, 12)
    expected = [codes_by_definition(frame, words=True) for frame in shown]
    for engine in ("c", "tensil", "float"):
        assert FewShotSystem.open(plain, engine).codes(shown).tolist() == list(map(list, expected))
    for frame, codes in zip(shown, expected, strict=True):
        pixels = (frame / np.float32(255) - np.array(MEAN, np.float32)) / np.float32(STD)
        vectors = np.pad(pixels, [(0, 0), (0, 0), (0, 8 - 3)]).reshape(-1, 8)
        (flat,) = driver.run({"input": vectors}).values()
        # The words of the mean: the features in Q8.8, padded to the array.
        assert tuple(flat[:FEATURES] * 128) == codes


def test_the_grid_of_the_words_is_not_that_of_the_table(plain: Path, build: Path) -> None:
    plain_system, system = FewShotSystem.open(plain), FewShotSystem.open(build)
    assert plain_system.description.codes_sha256 != system.description.codes_sha256
    assert plain_system.description.input_fmt == "Q8.8"
    assert plain_system.table.codes[0, 255] == 512  # (1 - 0.5) / 0.25 in Q8.8


@pytest.mark.parametrize("input_fmt", ["Q6.8", "Q8.4", "auto:8", "8.8"])
def test_words_that_a_board_does_not_have(tmp_path: Path, input_fmt: str) -> None:
    with pytest.raises(CompileError) as caught:
        build_system(tiny_backbone(tmp_path), tmp_path / "build", mean=0, std=1, arch=ARCH, input_fmt=input_fmt)
    assert caught.value.problems[0].code in (Code.WRONG_OPTION, Code.BAD_FORMAT)
    assert not (tmp_path / "build").exists()
