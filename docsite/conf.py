"""How Sphinx builds the site; `build.py` lays out what it reads."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from sphinx.application import Sphinx

from links import documentation_url
from pefslc.version import __version__
from prose import to_rst

project = "pefslc"
author = "the authors of pefslc"
copyright = author
version = release = __version__
html_baseurl = documentation_url()

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
smartquotes = False  # --fmt is two dashes
root_doc = "index"
html_theme = "furo"
html_title = f"pefslc {__version__}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_search_summary = False  # a page that is opened from disk may not fetch the others for it
html_copy_source = False
html_show_sphinx = False
html_last_updated_fmt = None
highlight_language = "text"
copybutton_prompt_text = "$ "  # of console blocks only the commands are copied
autodoc_mock_imports = ["torch", "brevitas", "onnxoptimizer"]  # the pages are the same with the extra `train` or not
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 90


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", _as_rst)


def _as_rst(_app: Sphinx, _what: str, _name: str, _object: object, _options: Any, lines: list[str]) -> None:
    lines[:] = to_rst(lines)
