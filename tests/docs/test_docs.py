"""The documentation is true: its Python runs, its commands print what they say, its links lead somewhere.

A ```python block runs in the page's own folder, after the blocks before it; `file=NAME` saves it as well, `no-run` only
compiles it, and so does `train` without the extra of that name; a ```console train block then does nothing. In a
```console block, `$ pefslc ...` runs; the lines
below are its output, `...` standing for anything,
`[status N]` for its exit status (else 0).
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from pefslc.console import cli

Capture = pytest.CaptureFixture[str]

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
BLOCK = re.compile(r"^```(python|console)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)\)")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the blocks of a page run: beside the examples, and nothing else."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_code_blocks_run(page: Path, folder: Path, capfd: Capture) -> None:
    run_blocks(page, folder, capfd, with_extra=False)


@pytest.mark.train
@pytest.mark.filterwarnings("ignore")  # torch and brevitas announce changes of their own
@pytest.mark.parametrize("page", [p for p in PAGES if "```python train" in p.read_text()], ids=lambda p: p.name)
def test_the_code_blocks_that_train_run(page: Path, folder: Path, capfd: Capture) -> None:
    pytest.importorskip("brevitas")
    run_blocks(page, folder, capfd, with_extra=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_no_page_has_a_placeholder(page: Path) -> None:
    assert "@@" not in page.read_text()


def test_the_recipe_is_short() -> None:
    recipe = next(text for _, info, text in BLOCK.findall((ROOT / "docs/training.md").read_text()) if "train" in info)
    assert sum(bool(line.strip()) for line in recipe.splitlines()) < 40


def run_blocks(page: Path, folder: Path, capfd: Capture, *, with_extra: bool) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for language, info, text in BLOCK.findall(page.read_text()):
        if language == "console":
            if with_extra or "train" not in info:
                run_console(text, capfd)
            continue
        code = compile(text, f"{page.name} block", "exec", dont_inherit=True)
        for saved in re.findall(r"file=(\S+)", info):
            (folder / saved).write_text(text)
        if "no-run" not in info and (with_extra or "train" not in info):
            exec(code, namespace)


def run_console(text: str, capfd: Capture) -> None:
    for entry in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = entry.partition("\n")
        words = shlex.split(command, comments=True)
        if words[0] != "pefslc":
            continue
        capfd.readouterr()
        returned = cli.run(words[1:])  # in this process: that it ends one with this status is shown in tests/cli
        ended = capfd.readouterr()
        printed = "\n".join(line.rstrip() for line in (ended.out + ended.err).splitlines())
        *lines, status = [*shown.rstrip().splitlines(), "[status 0]"]
        if lines and lines[-1].startswith("[status "):
            status = lines.pop()
        assert status == f"[status {returned}]", f"{command}\n{printed}"
        pattern = re.escape("\n".join(lines)).replace(r"\.\.\.", ".*")
        assert not lines or re.fullmatch(pattern, printed.strip("\n"), re.DOTALL), f"{command}\n{printed}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
