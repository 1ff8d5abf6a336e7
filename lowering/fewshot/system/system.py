"""A compiled few-shot system: pictures of any size in, feature codes out, and the states that learn from them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.fewshot.head.spec import HeadSpec
from pefslc.fewshot.head.state import HeadState
from pefslc.fewshot.head.state_file import editing, load_state
from pefslc.fewshot.system.backbone import Backbone, Runs
from pefslc.fewshot.system.description import SystemDescription, load_description
from pefslc.fewshot.system.engines import COMPILED, open_engine
from pefslc.fewshot.system.pictures import PictureTable, fit_picture
from pefslc.files.paths import ModelPath, as_path

__all__ = ["FewShotSystem", "random_device"]

Codes = NDArray[np.int64]
Frames = NDArray[np.uint8]


def random_device() -> int:
    """An id for a new device, in 0 to 2^32 - 1, that another hardly has: two states with one id are not merged."""
    return int.from_bytes(os.urandom(4), "little")


@dataclass(frozen=True, slots=True)
class FewShotSystem:
    """A system in a folder, opened with one engine. For one thread at a time. `FewShotSystem.open` makes it."""

    folder: Path
    description: SystemDescription
    engine: str
    backbone: Backbone
    table: PictureTable
    runner: Runs

    @classmethod
    def open(cls, folder: ModelPath, engine: str = COMPILED) -> FewShotSystem:
        """The system in a folder. Raises CompileError, also where a file is not as it was built.

        engine  "c" compiles the C, once for a folder; "tensil" simulates the TCU, code for code the same; "float" is
                the network as its ONNX file says, in float64, its features rounded onto the grid of the codes
        """
        path = as_path(folder, Code.NOT_A_SYSTEM, "the folder of a system", "the path of a folder")
        description = load_description(path)
        backbone, runner = open_engine(path, description, engine)
        table = PictureTable.of(backbone.quantizer, description.mean, description.std)
        if table.digest != description.table_sha256:
            raise CompileError(
                Code.ARTIFACT_CHANGED,
                f"the picture table of {quote(path)} is not the one that its description names",
                hint="build the system again",
            )
        return cls(path, description, engine, backbone, table, runner)

    @property
    def spec(self) -> HeadSpec:
        return self.description.spec

    def fit(self, picture: Frames) -> Frames:
        """A picture uint8 [H, W, 3] in the network's size: the middle part of its shape, by area means."""
        return fit_picture(picture, self.backbone.height, self.backbone.width)

    def codes(self, pictures: Frames | Sequence[Frames]) -> Codes:
        """Feature codes int64 [N, dimension] of pictures uint8 [N, H, W, 3], or of a list of [H, W, 3] of any sizes.

        Raises CompileError for pictures of other kinds.
        """
        if isinstance(pictures, np.ndarray) and pictures.ndim != 4:
            raise CompileError(
                Code.INPUT_PICTURE,
                f"pictures are {pictures.dtype} of shape {list(pictures.shape)}, not uint8 [N, H, W, 3]",
                hint="give one picture as picture[None]",
            )
        if not len(pictures):
            return np.zeros((0, self.backbone.dimension), dtype=np.int64)
        fitted = np.stack([self.fit(picture) for picture in pictures])
        return self.backbone.features(self.runner, self.table(fitted))

    def new_state(self, device: int | None = None) -> HeadState:
        """An empty state. Without `device`, its id is a random one."""
        identity = random_device() if device is None else device
        return HeadState.new(self.spec, self.description.codes_sha256, identity)

    def load_state(self, path: Path) -> HeadState:
        """The state in a file. Raises CompileError, also where it is of another system."""
        return load_state(path, spec=self.spec, backbone=self.description.codes_sha256)

    @contextmanager
    def editing(self, path: Path, *, new: HeadState | None = None) -> Iterator[HeadState]:
        """`pefslc.fewshot.head.state_file.editing`, for a state of this system."""
        with editing(path, spec=self.spec, backbone=self.description.codes_sha256, new=new) as state:
            yield state
