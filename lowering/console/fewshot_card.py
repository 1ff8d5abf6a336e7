"""What the card of a backbone says where options of `build` and `evaluate` are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pefslc.diagnostics.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["NO_CENTRE", "Normalization", "base_pictures", "normalization"]

NO_CENTRE = "none"


@dataclass(frozen=True, slots=True)
class Normalization:
    """Texts of the user, or the numbers of a card, one or three: `PictureTable.of` takes both."""

    mean: Sequence[str | float] | str
    std: Sequence[str | float] | str


def normalization(backbone: str, card: dict[str, Any] | None, mean: str | None, std: str | None) -> Normalization:
    """What the user gave, else what the card says. Raises CompileError where the two contradict each other, and for
    what is no number.
    """
    from pefslc.fewshot.sweep.card import card_path
    from pefslc.fewshot.system.pictures import by_colour

    if card is None:
        missing = [flag for flag, value in (("--mean", mean), ("--std", std)) if value is None]
        if missing:
            beside = card_path(Path(backbone))
            what = (
                f"{str(beside)!r} is no card of {backbone!r}"
                if beside.exists()
                else f"{backbone!r} has no card beside it"
            )
            raise click.UsageError(
                f"{what}: give {' and '.join(missing)}, as it was trained\n  help: for "
                "example --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225",
                click.get_current_context(),
            )
        assert mean is not None
        assert std is not None
        for name, text in (("mean", mean), ("std", std)):
            by_colour(_numbers(text), name)
        return Normalization(_numbers(mean), _numbers(std))
    found = {}
    for name, given in (("mean", mean), ("std", std)):
        of_card = card["description"][name]
        if given is not None:
            _require_agreement(backbone, name, given, of_card)
        found[name] = of_card
    return Normalization(found["mean"], found["std"])


def base_pictures(
    backbone: str, card: dict[str, Any], cache: str | None, progress: Progress | None
) -> tuple[NDArray[np.uint8], str]:
    """Pictures uint8 [N, H, W, 3] of the classes that the backbone was trained on, and what their mean is called: those
    that `evaluate` takes. Drawn or read again; raises CompileError where they are others now.
    """
    from pefslc.diagnostics.error_codes import Code
    from pefslc.diagnostics.errors import CompileError, quote
    from pefslc.fewshot.sweep.measure import centre_images
    from pefslc.fewshot.sweep.setting import DataSource, Measurement

    source = DataSource(**card["data"])
    hint = f"--centre with a folder of pictures of the base classes, or --centre {NO_CENTRE}"
    try:
        data = source.load(cache, progress)
    except CompileError as e:
        problem = e.problems[0]
        code = problem.code
        raise CompileError(
            code,
            f"the data that {quote(Path(backbone))} was trained on cannot be had: {problem.message}",
            hint=f"{problem.hint}; or {hint}" if problem.hint else hint,
        ) from None
    if data.digest() != card["data_sha256"]:
        raise CompileError(
            Code.DATA_FILE,
            f"{quote(source.source)} holds other pictures than {quote(Path(backbone))} was trained on",
            hint=hint,
        )
    return centre_images(data.base, Measurement().centre_pictures)


def _require_agreement(backbone: str, name: str, given: str, of_card: Sequence[float]) -> None:
    from pefslc.diagnostics.error_codes import Code
    from pefslc.diagnostics.errors import CompileError, quote
    from pefslc.fewshot.system.pictures import by_colour

    if by_colour(_numbers(given), name) != by_colour(of_card, name):
        shown = ",".join(map(str, of_card))
        raise CompileError(
            Code.WRONG_OPTION,
            f"--{name} {given}, and the card of {quote(Path(backbone))} says {shown}",
            hint=f"leave out --{name}; or remove the card, if it is wrong",
        )


def _numbers(text: str) -> list[str] | str:
    parts = [part.strip() for part in text.split(",")]
    return parts if len(parts) > 1 else text
