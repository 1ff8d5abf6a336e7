"""What the demo page asks for, without HTTP: learn a frame, recognise one, forget. For any thread."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from threading import Lock
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.fewshot.demo.board import Board
from pefslc.fewshot.head.classifier import vote
from pefslc.fewshot.head.scores import check_threshold
from pefslc.fewshot.head.state import HeadState
from pefslc.fewshot.system.classes import class_called, enrol_class, label
from pefslc.fewshot.system.system import FewShotSystem

__all__ = ["DemoSession", "LearnedClass", "Recognition"]

Frame = NDArray[np.uint8]
Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LearnedClass:
    """A class of the state.

    undoable  how many of its shots this session can forget one by one: it has their codes
    """

    class_id: int
    name: str
    shots: int
    undoable: int


@dataclass(frozen=True, slots=True)
class Recognition:
    """What one frame is.

    fitted        uint8 [height, width, 3]: what the network saw
    class_id      None where the frame is rejected, and where no class has a shot
    nearest       the nearest class, rejected or not
    scores        exact, by class: `Decision.scores`
    voted         the class that most of the recent frames and this one were given to, None for none of them
    milliseconds  that the backbone took here
    """

    fitted: Frame
    class_id: int | None
    nearest: int | None
    scores: Mapping[int, Fraction]
    voted: int | None
    milliseconds: float


@dataclass(slots=True)
class DemoSession:
    """A system and what it has learned. `DemoSession.open` makes one.

    path  of the file that every change is saved in, None: what is learned goes with the session
    """

    system: FewShotSystem
    path: Path | None
    board: Board | None
    _state: HeadState
    _lock: Lock = field(default_factory=Lock)
    _order: list[int] = field(default_factory=list)  # of class ids: as they were met, for keys that stay
    _shots: dict[int, list[Codes]] = field(default_factory=dict)  # enrolled here, and surely in the sums still

    @classmethod
    def open(cls, system: FewShotSystem, path: Path | None = None, board: Board | None = None) -> DemoSession:
        """Raises CompileError where there is a file at `path` that is no state of this system."""
        new = path is None or not path.exists()
        state = system.new_state() if path is None or new else system.load_state(path)
        session = cls(system, path, board, state)
        session._take_over(state)
        return session

    def classes(self) -> tuple[LearnedClass, ...]:
        """In the order in which they were met, those of the file by their names."""
        with self._lock:
            state, shots = self._state, self._state.classifier.shots
            return tuple(
                LearnedClass(c, label(state, c), shots(c), min(shots(c), len(self._shots.get(c, []))))
                for c in self._order
            )

    def recognise(
        self, frame: Frame, *, threshold: Fraction | None = None, recent: Sequence[int | None] = ()
    ) -> Recognition:
        """What a frame uint8 [H, W, 3] of any size shows. Raises CompileError.

        threshold  as `Classifier.classify` has it
        recent     what earlier frames of the same thing were taken for, for the vote
        """
        with self._lock:
            check_threshold(self.system.spec, threshold)
            fitted = self.system.fit(frame)
            codes, milliseconds = self._codes(fitted)
            found = self._state.classifier.classify(codes, threshold=threshold, with_scores=True)
        assert found.scores is not None
        voted = vote([*recent, found.class_id])
        return Recognition(fitted, found.class_id, found.nearest, found.scores, voted, milliseconds)

    def enrol(self, name: str, frame: Frame) -> int:
        """Learn a frame of a class, which may be new; returns its id. Raises CompileError, and nothing changes then."""
        with self._lock:
            codes, _ = self._codes(self.system.fit(frame))
            with self._editing() as state:
                class_id = enrol_class(state, name, codes[None])
            self._shots.setdefault(class_id, []).append(codes)
            return class_id

    def forget_last_shot(self, name: str) -> int:
        """Forget the shot of a class that was enrolled last; returns how many shots are left.

        With its last shot a class goes. Raises CompileError, and nothing changes then: this session must have enrolled
        the shot, and no other process changed the class since, for a state keeps sums only.
        """
        with self._lock:
            with self._editing() as state:
                class_id = class_called(state, name)
                shots = self._shots.get(class_id)
                if not shots:
                    raise CompileError(
                        Code.HEAD_CLASS,
                        f"no shot of {quote(name)} was enrolled since the demo began, "
                        "or since another program changed the class",
                        hint="forget the class, or one shot by its picture: pefslc fewshot forget",
                    )
                state.classifier.forget_shot(class_id, shots[-1])
                left = state.classifier.shots(class_id)
                if not left:
                    state.forget_class(class_id)
            shots.pop()
            return left

    def forget_class(self, name: str) -> None:
        """Forget a class and all its shots. Raises CompileError."""
        with self._lock:
            with self._editing() as state:
                class_id = class_called(state, name)
                state.forget_class(class_id)
            self._shots.pop(class_id, None)

    def close(self) -> None:
        """Wait until a change that another thread makes is saved."""
        with self._lock:
            pass

    def _codes(self, fitted: Frame) -> tuple[Codes, float]:
        """Feature codes [dimension], and the milliseconds that the backbone took."""
        system = self.system
        words = system.table(fitted[None])
        start = perf_counter()
        codes = system.backbone.features(system.runner, words)
        return codes[0], (perf_counter() - start) * 1e3

    @contextmanager
    def _editing(self) -> Iterator[HeadState]:
        """A copy of the state, taken over when the block ends: when it is saved, if there is a file."""
        ours = copy.deepcopy(self._state)
        if self.path is None:
            yield ours
            self._take_over(ours)
            return
        # The file is read again: another process may have learned meanwhile. One that is gone is written again.
        with self.system.editing(self.path, new=ours) as state:
            self._drop_changed(state)
            yield state
        self._take_over(state)

    def _drop_changed(self, state: HeadState) -> None:
        """Drop the shots of each class that is not as this session left it: they may no longer be in its sums."""
        left, found = self._state.classifier, state.classifier
        for c in list(self._shots):
            same = c in left.classes and c in found.classes and left.shots(c) == found.shots(c)
            if not (same and np.array_equal(left.sums(c), found.sums(c))):
                del self._shots[c]

    def _take_over(self, state: HeadState) -> None:
        there = state.classifier.classes
        known = [c for c in self._order if c in there]
        self._order = known + sorted(set(there) - set(known), key=lambda c: label(state, c))
        self._state = state
