"""`pefslc fewshot evaluate`: the accuracy of backbones, by the integers that their artifacts compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pefslc.console.fewshot_card import normalization
from pefslc.console.fewshot_data_options import data_options, measurement_of, measurement_options, source_of
from pefslc.console.loading import LoadingCommand
from pefslc.console.options import no_such_file

if TYPE_CHECKING:
    from pefslc.fewshot.data.image_set import FewShotData
    from pefslc.fewshot.networks import TrainedFile
    from pefslc.fewshot.sweep.measure import Measured
    from pefslc.fewshot.sweep.setting import Measurement

__all__ = ["evaluate"]


@click.command(
    "evaluate",
    cls=LoadingCommand,
    loads="pefslc.driver.compiler",
    short_help="measure backbones on episodes: intervals, paired differences, the worst class",
)
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...")
@click.option("--float", "floating", metavar="FILE.pt", help="the float network with which all are compared")
@click.option("--mean", metavar="M[,M,M]", help="subtracted from img / 255; for an .onnx without a card")
@click.option("--std", metavar="S[,S,S]", help="img / 255 - mean is divided by it; for an .onnx without a card")
@click.option("--cache", type=click.Path(), metavar="DIR", help="folder that keeps the drawn glyphs for the next time")
@data_options
@measurement_options
@click.option("-q", "--quiet", is_flag=True, help="no progress")
@click.option("--debug", is_flag=True, help="show a traceback for faults of pefslc")
def evaluate(
    networks: tuple[str, ...],
    floating: str | None,
    mean: str | None,
    std: str | None,
    cache: str | None,
    data: dict[str, Any],
    measurement: dict[str, Any],
    quiet: bool,
    debug: bool,
) -> None:
    """Measure each NETWORK on the same episodes: a quantized .onnx by its compiled C, with the integer head and the
    float one; a trained .pt by torch, with the float head.
    """
    del debug  # read by cli.run
    from pefslc.console.progress import progress_bar
    from pefslc.fewshot.sweep.evaluation import evaluation_text

    given = [*([floating] if floating else []), *networks]
    for name in given:
        if not Path(name).is_file():
            raise no_such_file(name, click.get_current_context())
    paths = list(dict.fromkeys(map(Path, given)))
    measured = measurement_of(measurement, "novel")
    opened = {_label(path, paths): _open(path, mean, std) for path in paths}
    source = source_of(data, next((o.data for o in opened.values() if o.data), None))
    with progress_bar(quiet=quiet) as progress:
        pictures = source.load(cache, progress)
        results = {}
        for position, (name, network) in enumerate(opened.items()):
            if progress is not None:
                progress(position, len(opened), name)
            results[name] = network.measure(pictures, measured)
    print(f"{pictures.name}, {measured.split} classes, {source.size} pixels, sha256 {pictures.digest()[:12]}")
    print(evaluation_text(results, next(iter(results))))


class _Quantized:
    def __init__(self, path: Path, mean: str | None, std: str | None) -> None:
        from pefslc.fewshot.sweep.card import read_card

        card: Any = read_card(path)
        self.path = path
        self.data: dict[str, Any] = {} if card is None else dict(card["data"])
        self.normalization = normalization(str(path), card, mean, std)

    def measure(self, data: FewShotData, measurement: Measurement) -> Measured:
        from pefslc.driver.compiler import compile
        from pefslc.fewshot.sweep.evaluation import measure_program

        program, numbers = compile(self.path, target="c", batch=1), self.normalization
        return measure_program(program, numbers.mean, numbers.std, data, measurement)[0]


class _Float:
    def __init__(self, content: TrainedFile) -> None:
        self.trained = content.trained
        self.data: dict[str, Any] = json.loads(content.origin.get("data", "{}"))

    def measure(self, data: FewShotData, measurement: Measurement) -> Measured:
        from pefslc.fewshot.sweep.float_network import measure_float

        return measure_float(self.trained, data, measurement)


def _open(path: Path, mean: str | None, std: str | None) -> _Quantized | _Float:
    """torch is loaded for a trained file only."""
    if path.suffix == ".onnx":
        return _Quantized(path, mean, std)
    from pefslc.fewshot.networks import read_trained

    return _Float(read_trained(path))


def _label(path: Path, paths: list[Path]) -> str:
    """The name of the file, or its path where two have one name."""
    return path.name if [p.name for p in paths].count(path.name) == 1 else str(path)
