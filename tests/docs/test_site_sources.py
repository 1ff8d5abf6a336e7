"""What the site is made of, without building it: links, docstrings, help texts."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import PurePosixPath

import pytest

from commands import commands_page
from links import ROOT, absolute, documentation_url, for_site, name_on_site
from pefslc.console.group import commands
from prose import to_rst

README = PurePosixPath("README.md")
TABLE = (ROOT / "docs/python.md").read_text().partition("## What is public")[2]
PUBLIC = re.findall(r"`(pefslc\.[a-z_.]+)`", TABLE)


@pytest.mark.parametrize(
    ("page", "text", "wanted"),
    [
        ("README.md", "[a](docs/errors.md)", "[a](errors.md)"),
        ("README.md", "[a](docs/errors.md#pef0504)", "[a](errors.md#pef0504)"),
        ("README.md", "![a](docs/pictures/few-shot.svg)", "![a](pictures/few-shot.svg)"),
        ("docs/sweeps.md", "[a](../README.md#measured)", "[a](overview.md#measured)"),
        ("docs/decisions/README.md", "[a](../exactness.md)", "[a](../exactness.md)"),
        ("CONTRIBUTING.md", "[a](docs/decisions/README.md)", "[a](decisions/README.md)"),
        ("README.md", "[a](https://x.org/docs/y.md) [b](#measured)", "[a](https://x.org/docs/y.md) [b](#measured)"),
        ("README.md", "`[a](docs/x.md)`\n```\n[a](docs/x.md)\n```\n", "`[a](docs/x.md)`\n```\n[a](docs/x.md)\n```\n"),
    ],
)
def test_links_are_those_of_the_site(page: str, text: str, wanted: str) -> None:
    assert for_site(text, PurePosixPath(page)) == wanted


def test_links_on_a_package_index_lead_to_the_site() -> None:
    text = "[a](docs/errors.md#x) [b](docs/decisions/README.md) [c](CONTRIBUTING.md) ![d](docs/pictures/few-shot.svg)"
    assert absolute(text, README, "https://x.org/") == (
        "[a](https://x.org/errors.html#x) [b](https://x.org/decisions/README.html) [c](https://x.org/contributing.html)"
        " ![d](https://x.org/pictures/few-shot.svg)"
    )
    whole = absolute((ROOT / README).read_text(), README, documentation_url())
    assert not re.findall(r"\]\((?!https://|#)[^)]*\)", whole)


def test_a_link_to_what_is_not_on_the_site_is_refused() -> None:
    with pytest.raises(ValueError, match=r"noxfile\.py is not on the site"):
        name_on_site(PurePosixPath("noxfile.py"))


def test_one_line_says_where_the_site_is() -> None:
    url = documentation_url()
    assert url.endswith("/")
    pages = [
        *ROOT.glob("*.*"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("lowering/**/*.py"),
        *ROOT.glob("docsite/**/*.*"),
    ]
    found = [(path.name, path.read_bytes().count(url.encode())) for path in pages if path.is_file()]
    assert [entry for entry in found if entry[1]] == [("pyproject.toml", 1)]


def test_prose_keeps_its_signs_and_lists_of_names_are_lists() -> None:
    docstring = [
        "A `*b*` and a*b, c_ and |d|.",
        "",
        "width_bits  how wide",
        "a, b        two,",
        "            of a kind",
    ]
    assert to_rst(docstring) == [
        r"A \ ``*b*``\  and a\*b, c\_ and \|d\|.",
        "",
        "``width_bits``",
        "    how wide",
        "``a, b``",
        "    two,",
        "    of a kind",
        "",
    ]
    assert to_rst(["One:", "", "    x = 1 * 2"]) == ["One\\:", "", "::", "", "    x = 1 * 2", ""]


def test_the_page_of_the_commands_says_what_help_says() -> None:
    page = commands_page()
    for name, command in commands.commands.items():
        assert f"\n## pefslc {name}\n" in page
        assert (command.help or "").split("\n")[0].replace("[", r"\[")[:30] in page
    assert "**Options of --target tensil**" in page
    assert "\n### pefslc fewshot train\n" in page


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - {"pefslc.train"}))
def test_a_public_module_is_there_and_says_what_it_offers(name: str) -> None:
    module = import_module(name)
    assert module.__all__
    assert all(hasattr(module, offered) for offered in module.__all__)


def test_the_guides_use_public_modules_only() -> None:
    guides = ("writing-a-pass", "pass-cookbook", "adding-a-target", "python", "ir", "training")
    for guide in guides:
        text = (ROOT / "docs" / f"{guide}.md").read_text()
        used = set(re.findall(r"^\s*from (pefslc\.[a-z_.]+) import", text, re.MULTILINE))
        assert used <= {*PUBLIC, "pefslc.train"}, guide
