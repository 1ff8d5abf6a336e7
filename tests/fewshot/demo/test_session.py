"""The demo without HTTP: what it learns, recognises, forgets and keeps is what the system and its fractions say."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from fewshot.head_oracle import Oracle
from fewshot.system_support import ARCH, MEAN, STD, codes_by_definition, frames, tiny_backbone

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.demo.board import Board, board_of
from pefslc.fewshot.demo.session import DemoSession
from pefslc.fewshot.head.classifier import Classifier
from pefslc.fewshot.head.state_file import to_bytes
from pefslc.fewshot.system.build import build_system
from pefslc.fewshot.system.system import FewShotSystem
from pefslc.targets.tensil.machine.architecture import built_in_architectures
from pefslc.targets.tensil.machine.boards import published_design

NAMES = ("mug", "cup", "pot")


@pytest.fixture(scope="module")
def system(build: Path) -> FewShotSystem:
    return FewShotSystem.open(build)


def code_of(caught: pytest.ExceptionInfo[CompileError]) -> Code:
    return caught.value.problems[0].code


def learned(session: DemoSession) -> list[tuple[str, int, int]]:
    return [(c.name, c.shots, c.undoable) for c in session.classes()]


def test_decisions_are_those_of_fractions(system: FewShotSystem) -> None:
    session, oracle = DemoSession.open(system), Oracle(system.spec)
    for i, frame in enumerate(frames(9, 30)):
        class_id = session.enrol(NAMES[i % 3], frame)
        oracle.shots.setdefault(class_id, []).append(codes_by_definition(frame))
    rejected = 0
    for frame in frames(12, 31):
        exact = codes_by_definition(frame)
        for threshold in (None, Fraction(9, 10)):
            found = session.recognise(frame, threshold=threshold)
            assert found.class_id == found.voted == oracle.classify(exact, threshold)
            assert found.scores == oracle.scores(exact)
            assert found.nearest == oracle.classify(exact, None)
            rejected += found.class_id is None
    assert 0 < rejected < 12


def test_what_the_network_saw_is_the_fitted_frame(system: FewShotSystem) -> None:
    session = DemoSession.open(system)
    large = frames(1, 32, 21, 30)[0]
    found = session.recognise(large)
    assert (found.fitted == system.fit(large)).all()
    assert (found.class_id, found.nearest, found.voted, found.scores) == (None, None, None, {})
    assert found.milliseconds > 0
    with pytest.raises(CompileError, match="with a fourth channel"):
        session.recognise(np.zeros((4, 4, 4), dtype=np.uint8))
    with pytest.raises(CompileError, match="the threshold 2 is not in 0 to 1"):
        session.recognise(large, threshold=Fraction(2))


def test_earlier_frames_vote(system: FewShotSystem) -> None:
    session = DemoSession.open(system)
    shown = frames(3, 33)
    mug, cup, _ = (session.enrol(name, frame) for name, frame in zip(NAMES, shown, strict=True))
    assert session.recognise(shown[0]).class_id == mug
    assert session.recognise(shown[0], recent=[cup, cup]).voted == cup
    assert session.recognise(shown[0], recent=[cup]).voted == min(mug, cup)
    assert session.recognise(shown[0], recent=[None, None]).voted is None


def test_the_last_shot_is_forgotten_as_if_it_had_never_been_enrolled(system: FewShotSystem) -> None:
    session, other = DemoSession.open(system), Classifier(system.spec)
    shown = frames(4, 34)
    for frame in shown:
        class_id = session.enrol("mug", frame)
    assert learned(session) == [("mug", 4, 4)]
    assert [session.forget_last_shot("mug") for _ in range(2)] == [3, 2]
    other.enrol(class_id, system.codes(shown[:2]))
    found = session.recognise(shown[3])
    assert found.scores == other.classify(system.codes(shown[3:])[0], with_scores=True).scores
    assert [session.forget_last_shot("mug") for _ in range(2)] == [1, 0]
    assert learned(session) == []  # a class without shots would be a button that says nothing
    with pytest.raises(CompileError, match="there is no class 'mug'"):
        session.forget_last_shot("mug")


def test_classes_stay_in_the_order_in_which_they_came(system: FewShotSystem) -> None:
    session = DemoSession.open(system)
    for name, frame in zip(("pot", "mug", "axe", "cup"), frames(4, 35), strict=True):
        session.enrol(name, frame)
    session.forget_class("mug")
    assert [c.name for c in session.classes()] == ["pot", "axe", "cup"]
    session.enrol("mug", frames(1, 36)[0])
    assert [c.name for c in session.classes()] == ["pot", "axe", "cup", "mug"]


def test_every_change_is_in_the_file(system: FewShotSystem, tmp_path: Path) -> None:
    path = tmp_path / "desk.state"
    session = DemoSession.open(system, path)
    session.recognise(frames(1, 37)[0])
    assert not path.exists()  # nothing was learned
    for name, frame in zip(NAMES, frames(3, 37), strict=True):
        session.enrol(name, frame)
        assert name in system.load_state(path).names.values()
    session.enrol("mug", frames(1, 38)[0])
    session.forget_last_shot("mug")
    session.forget_class("pot")
    again = DemoSession.open(system, path)
    assert learned(again) == [("cup", 1, 0), ("mug", 1, 0)]
    with pytest.raises(CompileError, match="no shot of 'mug' was enrolled since the demo began"):
        again.forget_last_shot("mug")
    assert learned(session) == [("mug", 1, 1), ("cup", 1, 1)]


def test_what_another_process_learned_is_kept(system: FewShotSystem, tmp_path: Path) -> None:
    path = tmp_path / "desk.state"
    first, second = DemoSession.open(system, path), DemoSession.open(system, path)
    first.enrol("mug", frames(1, 39)[0])
    second.enrol("cup", frames(1, 40)[0])
    assert learned(second) == [("cup", 1, 1), ("mug", 1, 0)]
    first.enrol("pot", frames(1, 41)[0])
    assert sorted(learned(first)) == [("cup", 1, 0), ("mug", 1, 1), ("pot", 1, 1)]
    path.unlink()
    second.enrol("axe", frames(1, 42)[0])  # with what this session knew
    assert sorted(system.load_state(path).names.values()) == ["axe", "cup", "mug"]


def test_a_shot_that_another_process_may_have_forgotten_is_not_taken_out(system: FewShotSystem, tmp_path: Path) -> None:
    path = tmp_path / "desk.state"
    first, second = DemoSession.open(system, path), DemoSession.open(system, path)
    for frame in frames(2, 47):
        first.enrol("mug", frame)
    first.enrol("cup", frames(1, 48)[0])
    second.forget_class("mug")
    others = frames(3, 49)
    for frame in others:
        second.enrol("mug", frame)
    content = path.read_bytes()
    with pytest.raises(CompileError, match="or since another program changed the class") as caught:
        first.forget_last_shot("mug")
    assert code_of(caught) is Code.HEAD_CLASS
    assert path.read_bytes() == content
    own = frames(1, 43)[0]
    class_id = first.enrol("mug", own)  # of this one it is known that it is there
    assert sorted(learned(first)) == [("cup", 1, 1), ("mug", 4, 1)]
    assert first.forget_last_shot("mug") == 3
    state = system.load_state(path).classifier
    assert (state.sums(class_id) == system.codes(others).sum(axis=0)).all()
    with pytest.raises(CompileError, match="or since another program changed the class"):
        first.forget_last_shot("mug")
    assert first.forget_last_shot("cup") == 0  # nobody touched it
    second.forget_class("mug")
    with pytest.raises(CompileError, match="there is no class 'mug'"):
        first.forget_last_shot("mug")


def test_what_cannot_be_saved_is_not_learned(system: FewShotSystem, tmp_path: Path) -> None:
    path = tmp_path / "desk.state"
    session = DemoSession.open(system, path)
    session.enrol("mug", frames(1, 43)[0])
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(b"mine, and no state")
    with pytest.raises(CompileError) as caught:
        session.enrol("mug", frames(1, 44)[0])
    assert code_of(caught) is Code.STATE_DAMAGED
    assert path.read_bytes() == b"mine, and no state"
    assert learned(session) == [("mug", 1, 1)]
    path.write_bytes(content)
    session.enrol("mug", frames(1, 44)[0])
    assert learned(session) == [("mug", 2, 2)]


def test_what_is_refused_changes_nothing(build: Path, tmp_path: Path) -> None:
    build_system(tiny_backbone(tmp_path), tmp_path / "small", mean=MEAN, std=STD, max_shots=2, max_classes=2)
    session = DemoSession.open(FewShotSystem.open(tmp_path / "small"))
    shown = frames(3, 45)
    for name in ("mug", "mug", "cup"):
        session.enrol(name, shown[0])
    before = learned(session)
    no_name = Code.HEAD_NAME
    for name, code in (("mug", Code.HEAD_FULL), ("pot", Code.HEAD_FULL), ("", no_name), ("é" * 17, no_name)):
        with pytest.raises(CompileError) as caught:
            session.enrol(name, shown[1])
        assert code_of(caught) is code
    with pytest.raises(CompileError, match="there is no class 'axe'"):
        session.forget_class("axe")
    assert learned(session) == before == [("mug", 2, 2), ("cup", 1, 1)]
    path = tmp_path / "x.state"
    path.write_bytes(to_bytes(FewShotSystem.open(build).new_state()))
    with pytest.raises(CompileError) as caught:
        DemoSession.open(session.system, path)
    assert code_of(caught) is Code.STATE_FOREIGN


def test_threads_do_not_lose_each_others_shots(system: FewShotSystem, tmp_path: Path) -> None:
    session = DemoSession.open(system, tmp_path / "desk.state")
    shown = frames(5, 46)

    def work(name: str) -> None:
        for frame in shown:
            session.enrol(name, frame)
            session.recognise(frame)

    threads = [Thread(target=work, args=(name,)) for name in NAMES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    codes = system.codes(shown)
    state = system.load_state(tmp_path / "desk.state")
    assert len(state.classifier.classes) == 3
    for class_id in state.classifier.classes:
        assert state.classifier.shots(class_id) == 5
        assert (state.classifier.sums(class_id) == codes.sum(axis=0)).all()


def test_the_board_s_time_is_its_cycles_by_its_clock(system: FewShotSystem, tmp_path: Path) -> None:
    found = board_of(system)
    assert found is not None
    assert (found.name, found.clock_mhz) == (ARCH, 50)
    assert found.cycles > 100
    assert found.milliseconds == pytest.approx(found.cycles / 50e6 * 1e3, rel=1e-12)
    assert board_of(system, 100.0) == Board(ARCH, found.cycles, 1, 100.0, "--clock-mhz")
    assert Board("mine", 1000, 1, None, "").milliseconds is None
    build_system(tiny_backbone(tmp_path), tmp_path / "batch", mean=MEAN, std=STD, arch=ARCH, batch=4)
    of_four = board_of(FewShotSystem.open(tmp_path / "batch"))
    assert of_four is not None
    assert (of_four.batch, of_four.to_json()["batch"]) == (4, 4)
    assert found.cycles < of_four.cycles < 4 * found.cycles
    build_system(tiny_backbone(tmp_path), tmp_path / "c", mean=MEAN, std=STD)
    without = FewShotSystem.open(tmp_path / "c")
    assert board_of(without) is None
    with pytest.raises(CompileError, match="a clock for a system that was built for no board"):
        board_of(without, 100.0)


def test_the_designs_are_of_boards_that_there_are() -> None:
    designed = {name for name in built_in_architectures() if published_design(name) is not None}
    assert designed == set(built_in_architectures()) - {"cmoda7"}  # no published design was found
    assert published_design("own.tarch") is None
