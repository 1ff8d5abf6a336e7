"""Whether a release would work elsewhere: `make release-check`. Needs a package registry, and takes minutes.

Builds the sdist, and the wheel from it, each in isolation, in a temporary folder away from the checkout. Asks twine
whether a package index would take them. Installs each
into a fresh environment with its dependencies, and runs the README's commands there: exit status and exactness count.
Then runs tests out of the unpacked sdist, in its environment.

usage: python tests/release_check.py [--keep DIST] TEST ...

DIST  a folder that does not exist, for the wheel and the sdist if all is well
TEST  files of tests to run out of the sdist
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

from distributions import build, run_as_the_readme_says, twine_faults

_ORIGIN = "import pefslc; print(pefslc.__version__, pefslc.__file__)"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="DIST")
    parser.add_argument("tests", nargs="+", metavar="TEST")
    options = parser.parse_args()
    if options.keep is not None and options.keep.exists():
        parser.error(f"{options.keep} exists")
    with TemporaryDirectory(prefix="pefslc-release-") as name:
        folder = Path(name)
        distributions = build(folder, isolated=True)
        for file_name, faults in twine_faults(distributions).items():
            if faults:
                raise RuntimeError(f"a package index would refuse {file_name}:\n{faults}")
        for archive, extra in ((distributions.wheel, ""), (distributions.sdist, "[test]")):
            print(f"{archive.name}: {archive.stat().st_size:,} bytes", flush=True)
            elsewhere = folder / f"run-{archive.name}"
            python = installed(archive, extra, elsewhere)
            shutil.copytree(distributions.unpacked / "examples", elsewhere / "examples")
            for line in run_as_the_readme_says(python, elsewhere):
                print(f"  {line}", flush=True)
        subprocess.run([python, "-m", "pytest", "-q", *options.tests], cwd=distributions.unpacked, check=True)
        if options.keep is not None:
            shutil.copytree(distributions.wheel.parent, options.keep)
            for path in sorted(options.keep.iterdir()):
                print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path}")
    print("a release would work")
    return 0


def installed(archive: Path, extra: str, folder: Path) -> Path:
    """The interpreter of a fresh environment in `folder` that has the archive, and imports that and no other."""
    environment = folder / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, f"pefslc{extra} @ {archive.as_uri()}"], check=True, stdin=subprocess.DEVNULL)
    origin = subprocess.run([python, "-c", _ORIGIN], cwd=folder, capture_output=True, text=True, check=True).stdout
    version, _, where = origin.strip().partition(" ")
    if not Path(where).is_relative_to(environment) or f"-{version}" not in archive.name:
        raise RuntimeError(f"{archive.name} is not what Python imports: {origin}")
    return python


if __name__ == "__main__":
    sys.exit(main())
