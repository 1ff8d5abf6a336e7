"""What all cells of a sweep share: data, network, recipes, episodes, boards. A value that is hashed as its JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.diagnostics.progress import Progress
from pefslc.fewshot.data.image_set import SPLITS, FewShotData
from pefslc.fewshot.data.load import load_data
from pefslc.fewshot.episodes.draw import Episodes
from pefslc.version import __version__

__all__ = ["DataSource", "Measurement", "Setting", "versions"]

_PACKAGES = ("numpy", "torch", "brevitas", "onnxoptimizer")  # a result may be another with others of them
_FORM = 3  # of the results; raised when one and the same cell gives another


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """The arguments of `load_data`. Where they are read makes no difference to a result, only the digest does."""

    source: str = "glyphs"
    size: int = 16
    images_per_class: int = 40
    seed: int = 0
    splits: str = ""

    def load(self, cache: str | None = None, progress: Progress | None = None) -> FewShotData:
        """Raises CompileError. `cache`: a folder for drawn glyphs."""
        return load_data(
            self.source,
            self.size,
            splits=self.splits or None,
            images_per_class=self.images_per_class,
            seed=self.seed,
            cache=cache,
            progress=progress,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """How accuracy is measured.

    split            "val" to choose, "novel" to report
    shots            ascending
    centre_pictures  of the base classes, evenly spread, whose mean is the centre; 0: all of them

    Raises CompileError for numbers that make no episode.
    """

    split: str = "novel"
    ways: int = 5
    shots: tuple[int, ...] = (1, 5)
    queries: int = 15
    episodes: int = 10_000
    seed: int = 0
    centre_pictures: int = 4096

    def __post_init__(self) -> None:
        if self.split not in SPLITS[1:]:
            raise _wrong(f"{self.split!r} is no split to measure on", "val, to choose; novel, to report")
        if not self.shots or list(self.shots) != sorted(set(self.shots)):
            raise _wrong(f"the shots are {list(self.shots)}", "each once, ascending: 1,5")
        if self.episodes < 2:
            raise _wrong(f"{self.episodes} episodes", "at least 2, for an interval; usual are 10000")
        if self.centre_pictures < 0:
            raise _wrong(f"{self.centre_pictures} pictures for the centre", "0 takes all of the base classes")
        for shots in self.shots:
            self.of(shots)

    def of(self, shots: int) -> Episodes:
        return Episodes(self.ways, shots, self.queries, self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """description, recipe, tuning  of the backbone, its float training, and what follows it: JSON as `to_json` makes

    data_digest  `FewShotData.digest` of what `data` loads
    boards       Tensil architectures whose modelled cycles are wanted
    versions     of what computes
    """

    data: DataSource
    data_digest: str
    description: str
    recipe: str
    tuning: str
    measurement: Measurement = Measurement()
    boards: tuple[str, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, object]:
        """What is hashed. The path of the data is left out: their digest says more."""
        content = asdict(self)
        content["data"] = {"size": self.data.size}
        content["form"] = _FORM
        for name in ("description", "recipe", "tuning"):
            content[name] = json.loads(content[name])
        return content


def versions() -> tuple[tuple[str, str], ...]:
    """Of pefslc and of the packages that compute, "-" where one is not installed."""
    found = [("pefslc", __version__)]
    for package in _PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            found.append((package, "-"))
    return tuple(found)


def _wrong(what: str, hint: str) -> CompileError:
    return CompileError(Code.SWEEP, what, hint=hint)
