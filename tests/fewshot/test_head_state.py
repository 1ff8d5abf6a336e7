"""State files: the layout as it is documented, what does not belong together, and two processes on one file."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.head.spec import HeadSpec
from pefslc.fewshot.head.state import HeadState, id_of_name
from pefslc.fewshot.head.state_file import editing, from_bytes, load_state, save_state, to_bytes

BACKBONE, OTHER = "ab" * 32, "cd" * 32
SPEC = HeadSpec.cosine(-2, 3, [-3, 5], fraction_bits=2, max_shots=1000, max_classes=4, max_devices=3)


def learned(device: int = 17, spec: HeadSpec = SPEC) -> HeadState:
    state = HeadState.new(spec, BACKBONE, device)
    state.classifier.enrol(2**32 - 1, [[-2, 3], [-2, 2]])
    state.classifier.enrol(5, [0, 1])
    state.rename(5, "Tässe")
    return state


def test_the_layout_is_the_documented_one() -> None:
    words = [1, 200, 0, 2, -2, 3, 2, 1000, 4, 3, 1, 2, -3, 5, 17]
    body = b"PEFSHEAD" + struct.pack("<2I", *words[:2]) + b"\xab" * 32
    body += struct.pack("<2I2i6I2iI", *words[2:])
    body += struct.pack("<2I32s2i", 5, 1, "Tässe".encode(), 0, 1) + struct.pack("<2I32s2i", 2**32 - 1, 2, b"", -4, 5)
    expected = body + struct.pack("<I", zlib.crc32(body))
    assert len(expected) == 200
    assert to_bytes(learned()) == expected
    assert from_bytes(expected) == learned()


def test_the_largest_file_is_as_large_as_the_spec_says() -> None:
    state = HeadState.new(SPEC, BACKBONE, 0)
    state.devices = (0, 1, 2)
    for class_id in range(4):
        state.classifier.enrol(class_id, [0, 0])
    assert len(to_bytes(state)) == SPEC.file_bytes


def _read_again(content: bytes) -> bytes | Code:
    try:
        return to_bytes(from_bytes(content))
    except CompileError as e:
        return e.problems[0].code


@pytest.mark.parametrize("at", [16, 48, 52, 56, 60, 64, 68, 72, 76, 80, 84, 88, 96, 100, 104, 108, 141, 150, 180])
def test_a_file_made_by_hand_is_another_state_or_refused(at: int) -> None:
    """With a right checksum, every word set to numbers that bite: no crash, and what is read is what was written."""
    for value in (0, 1, 2, 5, 2**31 - 1, 2**31, 2**32 - 1):
        content = bytearray(to_bytes(learned()))
        content[at : at + 4] = struct.pack("<I", value)
        content[-4:] = struct.pack("<I", zlib.crc32(content[:-4]))
        assert _read_again(bytes(content)) in (content, Code.STATE_DAMAGED)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is cut short: 0 bytes are less than any state has"),
        (b"PEFSH", "is cut short: 5 bytes"),
        (b"\x89PNG" + bytes(200), "is none: it does not begin with PEFSHEAD"),
        (to_bytes(learned())[:-9], "is cut short: it has 191 of 200 bytes"),
        (to_bytes(learned()) + b"\n", "has too many bytes: it has 201 of 200"),
        (to_bytes(learned())[:-1] + b"\0", "is damaged: its checksum is wrong"),
    ],
)
def test_the_message_says_what_is_wrong(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.state").write_bytes(content)
    with pytest.raises(CompileError, match="PEF1127") as caught:
        load_state(tmp_path / "x.state")
    assert message in str(caught.value)


def test_a_later_layout_is_refused() -> None:
    content = bytearray(to_bytes(learned()))
    content[8] = 2
    content[-4:] = struct.pack("<I", zlib.crc32(content[:-4]))
    with pytest.raises(CompileError, match="has layout 2, not 1"):
        from_bytes(bytes(content))


@pytest.mark.parametrize(
    ("spec", "backbone", "message"),
    [
        (SPEC, OTHER, "belongs to another backbone or normalization: abababababab..., not cdcdcdcdcdcd..."),
        (HeadSpec.euclid(2, -2, 3), BACKBONE, "belongs to another classifier: kind = cosine, not euclid"),
        (HeadSpec.cosine(-2, 2, [-3, 5]), BACKBONE, "high = 3, not 2"),
        (HeadSpec.cosine(-2, 3, [-3, 4], fraction_bits=2, max_shots=1000, max_classes=4, max_devices=3), BACKBONE,
         "another centre"),
    ],
)  # fmt: skip
def test_a_state_of_something_else_is_refused(spec: HeadSpec, backbone: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.state"
    save_state(path, learned())
    with pytest.raises(CompileError, match="PEF1128") as loading:
        load_state(path, spec=spec, backbone=backbone)
    with pytest.raises(CompileError, match="PEF1128") as merging:
        HeadState.new(spec, backbone, 3).merge(load_state(path))
    assert message in str(loading.value)
    assert message in str(merging.value)


def test_merging_is_for_states_that_never_met() -> None:
    together = learned(3)
    together.merge(learned(2))
    assert together.devices == (2, 3)
    assert together.classifier.shots(5) == 2
    before = to_bytes(together)
    with pytest.raises(CompileError, match=r"PEF1129.*the shots of device 2 are in both states"):
        together.merge(learned(2))
    other = learned(9)
    other.rename(5, "pen")
    with pytest.raises(CompileError, match=r"PEF1126.*class 5 is 'Tässe' here and 'pen' there"):
        together.merge(other)
    together.merge(HeadState.new(SPEC, BACKBONE, 8))
    with pytest.raises(CompileError, match=r"PEF1124.*4 devices are too many for 3"):
        together.merge(HeadState.new(SPEC, BACKBONE, 9))
    together.devices = (2, 3)
    assert to_bytes(together) == before


@pytest.mark.parametrize("name", ["x" * 33, "ä" * 17, "a\nb", "\ud800", 5])
def test_names_that_no_file_holds_are_refused(name: str) -> None:
    state = learned()
    with pytest.raises(CompileError, match="PEF1126"):
        state.rename(5, name)
    assert state == learned()


def test_names_come_and_go_with_their_classes() -> None:
    state = learned()
    state.rename(5, "ä" * 16)
    assert from_bytes(to_bytes(state)).name(5) == "ä" * 16
    assert state.find("ä" * 16) == 5
    assert state.find("cup") is None
    state.forget_class(5)
    state.classifier.enrol(5, [0, 1])
    assert state.name(5) == ""
    state.rename(5, "")
    assert from_bytes(to_bytes(state)) == state
    for missing in (lambda: state.rename(6, "x"), lambda: state.name(6), lambda: state.forget_class(6)):
        with pytest.raises(CompileError, match="there is no class 6"):
            missing()


def test_a_name_has_one_id_everywhere() -> None:
    assert id_of_name("mug") == zlib.crc32(b"mug")
    assert 0 <= id_of_name("Tässe") < 2**32


@pytest.mark.parametrize("backbone", ["ab" * 31, "AB" * 32, "x" * 64])
def test_a_backbone_is_named_by_its_hash(backbone: str) -> None:
    with pytest.raises(CompileError, match="names no backbone"):
        HeadState.new(SPEC, backbone, 0)


@pytest.mark.parametrize("device", [-1, 2**32, True])
def test_a_device_is_a_number_of_32_bits(device: int) -> None:
    with pytest.raises(CompileError, match="is no device id"):
        HeadState.new(SPEC, BACKBONE, device)


def test_editing_saves_at_the_end_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.state"
    with editing(path, new=HeadState.new(SPEC, BACKBONE, 17)) as state:
        state.classifier.enrol(0, [0, 0])
    with pytest.raises(CompileError), editing(path, spec=SPEC, backbone=BACKBONE) as state:  # noqa: PT012
        state.classifier.enrol(1, [0, 0])
        state.classifier.enrol(2, [9, 9])
    assert load_state(path).classifier.classes == (0,)
    assert os.listdir(tmp_path) == ["x.state"]
    with pytest.raises(CompileError, match="PEF0101"), editing(tmp_path / "no" / "x.state"):
        pass
    assert not (tmp_path / "no").exists()


def test_a_file_that_is_no_state_stays(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(b"\x89PNG")
    with pytest.raises(CompileError, match=r"PEF0806.*exists and is no state file"):
        save_state(path, learned())
    with pytest.raises(CompileError, match="PEF0102"):
        load_state(tmp_path)
    assert path.read_bytes() == b"\x89PNG"


def test_a_full_disk_is_said_and_the_state_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.state"
    save_state(path, learned())
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CompileError, match=r"PEF0805.*No space left"), editing(path) as state:
        state.forget_class(5)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.state"]


WRITER = """
import sys
from pathlib import Path
from pefslc.fewshot.head.spec import HeadSpec
from pefslc.fewshot.head.state import HeadState
from pefslc.fewshot.head.state_file import editing
spec = HeadSpec.cosine(-2, 3, [-3, 5], fraction_bits=2, max_shots=1000, max_classes=4, max_devices=3)
path, class_id, times = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for _ in range(times):
    with editing(path, new=HeadState.new(spec, "ab" * 32, 17)) as state:
        state.classifier.enrol(class_id, [1, -1])
    print("saved", flush=True)
"""


def writer(path: Path, class_id: int, times: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(class_id), str(times)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_lose_nothing_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / "x.state"
    processes = [writer(path, class_id, 40) for class_id in (1, 2)]
    for process in processes:
        assert process.communicate(timeout=60)[0].count("saved") == 40
    state = load_state(path)
    assert [state.classifier.shots(c) for c in (1, 2)] == [40, 40]


def test_killed_at_any_moment_everything_that_was_saved_is_there(tmp_path: Path) -> None:
    path = tmp_path / "x.state"
    draw = random.Random(1)
    saved = 0
    for _ in range(3):
        process = writer(path, 1, 900)
        assert process.stdout is not None
        for _ in range(draw.randint(1, 20)):
            assert process.stdout.readline() == "saved\n"
            saved += 1
        time.sleep(draw.random() / 50)
        process.send_signal(signal.SIGKILL)
        saved += process.communicate()[0].count("saved\n")
        shots = load_state(path).classifier.shots(1)
        assert saved <= shots <= saved + 1  # the last one may be there and not said
        saved = shots
        with editing(path) as state:  # the lock of the dead holds nobody
            state.classifier.enrol(1, [0, 0])
        saved += 1


def test_a_name_belongs_to_one_class() -> None:
    state = HeadState.new(SPEC, BACKBONE, 1)
    for class_id in (5, 7):
        state.classifier.enrol(class_id, [0] * SPEC.dimension)
    state.rename(5, "mug")
    state.rename(5, "mug")
    with pytest.raises(CompileError, match="'mug' is the name of class 5 already"):
        state.rename(7, "mug")
    state.rename(5, "")
    state.rename(7, "mug")
    assert state.names == {7: "mug"}
