"""`pefslc explain`: each code and each page, out of what a wheel has; what messages cite is there."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_support import Cli

from pefslc.console import cli
from pefslc.diagnostics.error_codes import Code
from pefslc.files.pages import error_sections, page, page_names

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = [p for folder in ("lowering", "frontend", "passes", "targets") for p in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("code", Code, ids=lambda c: c.number)
def test_every_code_is_explained(pefslc: Cli, code: Code) -> None:
    result = pefslc("explain", code)
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith(f"### {code.number}: {code.title}\n")
    assert result.out.splitlines()[1].strip()
    assert result.out.count("### PEF") == 1
    assert result.out in (ROOT / "docs" / "errors.md").read_text()


def test_a_code_is_found_as_a_message_has_it(pefslc: Cli) -> None:
    for text in ("error[PEF0504]:", "error[PEF0504]", "[PEF0504]", "pef0504"):
        assert pefslc("explain", text).out == error_sections()["PEF0504"]


def test_several_codes_are_explained_in_their_order(pefslc: Cli) -> None:
    assert re.findall(r"^### (PEF\d+)", pefslc("explain", "PEF0504", "PEF0101").out, re.M) == ["PEF0504", "PEF0101"]


def test_every_page_is_printed_whole(pefslc: Cli) -> None:
    assert {"exactness", "operators", "errors"} <= set(page_names())
    for name in page_names():
        assert pefslc("explain", name).out == page(name) == pefslc("explain", f"docs/{name}.md").out


@pytest.mark.parametrize(
    ("wrong", "meant"), [("PEF504", "PEF0504"), ("0504", "PEF0504"), ("PEF0540", "PEF05"), ("exactnes", "exactness")]
)
def test_an_unknown_name_is_answered_with_what_may_be_meant(pefslc: Cli, wrong: str, meant: str) -> None:
    result = pefslc("explain", wrong)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"error: no code or page '{wrong}'\n  help: did you mean {meant}")


def test_what_is_like_nothing_leads_to_the_list(pefslc: Cli) -> None:
    assert pefslc("explain", "xyzzy").err.endswith("help: `pefslc explain` lists the codes and the pages\n")
    listed = pefslc("explain").out
    assert all(f"  {code.number}  {code.title}\n" in listed for code in Code)
    assert listed.endswith("\n".join(f"  {name}" for name in page_names()) + "\n")


def test_a_terminal_is_told_which_command_explains(pefslc: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = pefslc("check", __file__, "--target", "c")
    assert "pefslc explain" not in plain.err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert pefslc("check", __file__, "--target", "c").err == f"{plain.err}  more: pefslc explain PEF0103\n"
    assert cli.run(["explain", "PEF0103"]) == 0


def texts(path: Path, with_word: str) -> Iterator[str]:
    """The strings of a module that are no docstrings; none where the word is not in the file."""
    source = path.read_text()
    if with_word not in source:
        return
    tree = ast.parse(source, str(path))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def test_messages_cite_no_file_that_a_wheel_lacks() -> None:
    cited = [
        f"{path.name}: {text}" for path in SOURCES for text in texts(path, "docs") if re.search(r"docs/\S+\.md", text)
    ]
    assert not cited


def test_what_messages_say_is_explained_is() -> None:
    cited = {
        name
        for path in SOURCES
        for text in texts(path, "explain")
        for name in re.findall(r"pefslc explain ([\w-]+)", text)
    }
    assert {"operators", "exactness"} <= cited
    assert cited <= {*page_names(), *error_sections()}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("PEF9999", "`pefslc explain` lists the codes and the pages"),
        ("pass", "did you mean pass-cookbook or writing-a-pass?"),
        ("passes", "did you mean pass-cookbook or writing-a-pass?; `pefslc help passes` is about the command"),
        ("deploy", "`pefslc help deploy` is about the command"),
        ("targets", "did you mean adding-a-target?; `pefslc help targets` is about the command"),
        ("exactnes", "did you mean exactness?"),
    ],
)
def test_what_is_no_page_leads_to_pages_that_hold_the_word_and_to_commands(pefslc: Cli, name: str, hint: str) -> None:
    result = pefslc("explain", name)
    assert (result.status, result.err) == (2, f"error: no code or page {name!r}\n  help: {hint}\n")
