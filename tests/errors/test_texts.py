"""docs/errors.md has a section for each code, and its examples are what is printed (--update-golden writes them)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from errors import cases
from errors.fewshot_cases import FEWSHOT_CASES, FEWSHOT_WITHOUT

import pefslc
from pefslc.diagnostics.error_codes import Code

CASES = cases.CASES | FEWSHOT_CASES
WITHOUT = cases.WITHOUT | FEWSHOT_WITHOUT
PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "errors.md"
SECTION = re.compile(r"^### (PEF\d{4}): (.*)\n((?:(?!^#).*\n?)*)", re.MULTILINE)
EXAMPLE = re.compile(r"\n```text\n(.*?)```\n", re.DOTALL)


def sections() -> dict[str, tuple[str, str]]:
    """Number -> (title, text) of each section."""
    return {number: (title, text) for number, title, text in SECTION.findall(PAGE.read_text())}


def test_every_code_has_a_section_and_every_section_a_code() -> None:
    assert {number: title for number, (title, _) in sections().items()} == {c.number: c.title for c in Code}
    assert list(sections()) == sorted(sections())


def test_every_code_has_an_example_or_a_reason() -> None:
    assert set(CASES) | set(WITHOUT) == set(Code)
    assert not set(CASES) & set(WITHOUT)


@pytest.mark.parametrize("code", CASES, ids=lambda c: c.number)
def test_the_example_is_what_is_printed(
    code: Code, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pefslc.CompileError) as caught:
        CASES[code]()
    assert code in {p.code for p in caught.value.problems}
    text = str(caught.value)
    if request.config.getoption("--update-golden"):
        update(code.number, text)
    _, section = sections()[code.number]
    found = EXAMPLE.search(section)
    assert found, f"docs/errors.md has no example of {code}: pytest --update-golden writes it"
    assert found.group(1).rstrip("\n") == text


def update(number: str, text: str) -> None:
    """Write the example into the page."""
    page = PAGE.read_text()
    title, section = sections()[number]
    heading = f"### {number}: {title}\n"
    prose = EXAMPLE.sub("", section).rstrip("\n")
    PAGE.write_text(page.replace(heading + section, f"{heading}{prose}\n\n```text\n{text}\n```\n\n"))
