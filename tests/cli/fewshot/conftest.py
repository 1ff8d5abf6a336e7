"""Fixtures: a small system with its pictures, the folder that has them, and a state of three classes."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_support import Cli
from fewshot.system_support import ARCH, MEAN, STD, frames, tiny_backbone

from pefslc.fewshot.system.build import build_system

NAMES = ("mug", "cup", "pot")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """build/ of tiny_backbone for C and a board, pictures/NAME/0.png to 3.png."""
    image = pytest.importorskip("PIL.Image", reason="pillow, of the extra fewshot, is not installed")
    folder = tmp_path_factory.mktemp("fewshot")
    build_system(
        tiny_backbone(folder), folder / "build", mean=MEAN, std=STD, centre_pictures=frames(9, 0), arch=ARCH,
        max_shots=9, max_classes=4,
    )  # fmt: skip
    for i, picture in enumerate(frames(12, 20, 12, 16)):
        path = folder / "pictures" / NAMES[i % 3] / f"{i // 3}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(picture).save(path)
    return folder


@pytest.fixture
def here(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: links to build/ and pictures/, and nothing else."""
    for name in ("build", "pictures"):
        (tmp_path / name).symlink_to(built / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def learned(pefslc: Cli, here: Path) -> Path:
    """desk.state: two shots of each class."""
    for name in NAMES:
        pictures = [f"pictures/{name}/{i}.png" for i in (0, 1)]
        assert pefslc("fewshot", "enrol", "build", "desk.state", "--class", name, *pictures, "--device", 5).status == 0
    return here / "desk.state"
