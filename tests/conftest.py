"""Options and paths that every test may use."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent

# Where the environment forbids it, each of hundreds of processes would compile every module again, and so would pytest
# the tests. `__pycache__` is in .gitignore.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Every processor has a process of tests: more threads would wait for each other. Read when numpy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# The same examples in every run: what fails was changed. `make explore` draws others, and prints how to reproduce them.
settings.register_profile("same", database=None, deadline=None, derandomize=True)
settings.register_profile("explore", database=None, deadline=None, print_blob=True)
settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files instead of comparing")


def pytest_collection_finish() -> None:
    """What was collected stays until the end: the garbage collector need not look at thousands of tests each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def models() -> Path:
    """Small networks as Brevitas exports them, each with inputs and expected outputs in a .npz."""
    return ROOT / "tests" / "data" / "models"


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """golden(name, text): compare with tests/golden/<name>, or write it with --update-golden."""

    def compare(name: str, text: str) -> None:
        path = ROOT / "tests" / "golden" / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert path.is_file(), f"{path} is missing: run pytest --update-golden and review it"
        assert text == path.read_text()

    return compare
