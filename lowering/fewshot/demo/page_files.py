"""The files of the page, which lie in the package: read once, served from memory, by their exact names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

__all__ = ["PageFile", "page_files"]

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file and its Content-Type."""

    type: str
    content: bytes


def page_files() -> Mapping[str, PageFile]:
    """By the path of the address: "/" is index.html."""
    found = {}
    for file in sorted(resources.files(__package__).joinpath("page").iterdir(), key=lambda file: file.name):
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            name = "" if file.name == "index.html" else file.name
            found[f"/{name}"] = PageFile(kind, file.read_bytes())
    return found
