"""The site: it builds without a warning and without a network, and no link in it leads nowhere."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest

from links import ROOT
from pefslc.console.group import commands

ROWS = re.findall(r"^\| .*", (ROOT / "docs/python.md").read_text(), re.MULTILINE)
PUBLIC = sorted({name for row in ROWS for name in re.findall(r"`(pefslc\.[a-z_.]+)`", row)})


@dataclass
class Seen(HTMLParser):
    """What a page links to, what it loads, and the names that a link into it can have."""

    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value for name, value in attrs if value}
        self.names |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.append(found["href"])
        elif "src" in found:
            self.loads.append(found["src"])


def seen(page: Path) -> Seen:
    parser = Seen()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


def offered(module: ModuleType) -> list[str]:
    """The functions and classes that a module offers, without those that `pefslc` has."""
    import pefslc

    found = {name: getattr(module, name) for name in module.__all__ if name not in pefslc.__all__}
    return [name for name, value in found.items() if inspect.isroutine(value) or isinstance(value, type)]


def described_elsewhere(name: str) -> str:
    """The name under which what a module offers is described, where it comes from another one."""
    module, _, own = name.rpartition(".")
    return f"{getattr(import_module(module), own).__module__}.{own}"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Seen]:
    return {page: seen(page) for page in sorted(site.rglob("*.html"))}


def wrong_links(pages: dict[Path, Seen]) -> Iterator[str]:
    for page, found in pages.items():
        for link in [*found.links, *found.loads]:
            parts = urlsplit(link)
            if parts.scheme in ("https", "http", "mailto"):
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            named = target not in pages or not parts.fragment or unquote(parts.fragment) in pages[target].names
            if not target.is_file() or not named:
                yield f"{page.name}: {link}"


def test_every_link_inside_the_site_leads_to_a_page_and_to_a_place_in_it(pages: dict[Path, Seen]) -> None:
    assert len(pages) > 40
    assert not sorted(wrong_links(pages))


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    page.write_text('<a href="b.html">b</a><a href="#here">a</a><img src="c.svg"><p id="there"><a href="#there">a</a>')
    assert list(wrong_links({page: seen(page)})) == ["a.html: b.html", "a.html: #here", "a.html: c.svg"]


def test_no_page_loads_anything_from_a_network(pages: dict[Path, Seen]) -> None:
    assert not [(page.name, url) for page, found in pages.items() for url in found.loads if urlsplit(url).scheme]


def test_the_api_describes_every_public_name(site: Path) -> None:
    import pefslc

    described = {name for page in (site / "api").glob("*.html") for name in seen(page).names}
    assert {f"pefslc.{name}" for name in pefslc.__all__ if name != "__version__"} <= described
    assert {f"module-{name}" for name in PUBLIC} <= described
    for module in (import_module(name) for name in PUBLIC if name != "pefslc.train"):
        undescribed = {f"{module.__name__}.{name}" for name in offered(module)} - described
        assert not {name for name in undescribed if described_elsewhere(name) not in described}


def test_the_page_of_the_commands_has_every_command_and_option(site: Path) -> None:
    text = (site / "commands.html").read_text()
    for name, command in commands.commands.items():
        assert f"pefslc {name}" in text
        for option in (flag for parameter in command.params for flag in parameter.opts if flag.startswith("--")):
            assert option in text, f"{name} {option}"


def test_the_search_finds_pages_without_a_server(site: Path) -> None:
    """Its index is a script, which a page that is opened from disk may load; a JSON file it may not."""
    assert (site / "searchindex.js").read_text().startswith("Search.setIndex(")
    assert any(load.endswith("searchindex.js") for load in seen(site / "search.html").loads)


def test_a_page_that_the_navigation_forgets_ends_the_build(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    pytest.importorskip("furo")
    shutil.copytree(ROOT / "docsite", tmp_path / "docsite", ignore=shutil.ignore_patterns("__pycache__", "api"))
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text() if name == "pyproject.toml" else "# A page\n")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "lost.md").write_text("# A page that nothing leads to\n")
    command = [sys.executable, str(tmp_path / "docsite" / "build.py"), str(tmp_path / "built")]
    ended = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert ended.returncode != 0
    assert "lost.md: WARNING: document isn't included in any toctree" in ended.stderr
