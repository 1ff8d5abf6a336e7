"""The long description, which pyproject.toml cannot compute: the README with links that work on a package index."""

import sys
from pathlib import Path, PurePosixPath

from setuptools import setup

if sys.version_info < (3, 11):  # noqa: UP036 - pip asks this file before it looks at requires-python
    sys.exit("pefslc needs Python 3.11 or newer, and this is %d.%d" % sys.version_info[:2])  # noqa: UP031

sys.path.insert(0, str(Path(__file__).resolve().parent / "docsite"))

from links import ROOT, absolute, documentation_url

README = PurePosixPath("README.md")

setup(
    long_description=absolute((ROOT / README).read_text(encoding="utf-8"), README, documentation_url()),
    long_description_content_type="text/markdown",
)
