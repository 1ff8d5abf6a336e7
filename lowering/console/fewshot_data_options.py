"""Options of the commands that train and measure few-shot networks: data, network, recipe, episodes.

Each group of options reaches its command as one value, in which only what the user gave stands.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pefslc.fewshot.sweep.setting import DataSource, Measurement

__all__ = [
    "data_options",
    "measurement_of",
    "measurement_options",
    "network_options",
    "numbers",
    "recipe_options",
    "source_of",
    "tuning_options",
]  # fmt: skip

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _packed(group: str, *options: _Decorator) -> _Decorator:
    """The options as one argument of the command, a dict of what the user gave."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        fields: dict[str, str] = {}

        @functools.wraps(function)
        def wrapped(**given: Any) -> Any:
            taken = {field: given.pop(name) for name, field in fields.items()}
            given[group] = {field: value for field, value in taken.items() if value is not None}
            return function(**given)

        before = len(getattr(function, "__click_params__", ()))
        for option in reversed(options):
            option(wrapped)
        for parameter in wrapped.__click_params__[before:]:  # type: ignore[attr-defined]  # where click keeps them
            field = parameter.name
            parameter.name = f"{group}_{field}"  # two groups may have a seed
            fields[parameter.name] = field
        return wrapped

    return decorate


def numbers(kind: type[int] | type[float], what: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback: numbers with commas between them, as a tuple."""

    def callback(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int | float, ...] | None:
        if value is None:
            return None
        try:
            return tuple(kind(part) for part in value.split(","))
        except ValueError:
            raise click.UsageError(f"{parameter.opts[0]}: {value!r} is not {what}", ctx) from None

    return callback


def colours(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """A callback: one number, or one for red, green and blue."""
    given = numbers(float, "one number, or three: 0.485,0.456,0.406")(ctx, parameter, value)
    if given is None:
        return None
    if len(given) not in (1, 3):
        raise click.UsageError(f"{parameter.opts[0]}: {value!r} is neither one number nor three", ctx)
    return tuple(given * (3 // len(given)))


data_options = _packed(
    "data",
    click.option("--data", "source", metavar="SOURCE", help='"glyphs", or a folder of pictures  [default: glyphs]'),
    click.option("--size", type=int, metavar="PIXELS", help="width and height of the pictures  [default: 16]"),
    click.option("--splits", metavar="DIR", help='a folder of split lists, or "fc100"; for data without a split'),
    click.option(
        "--images-per-class",
        type=click.IntRange(1),
        metavar="N",
        help="pictures of each class, for glyphs  [default: 40]",
    ),
    click.option("--data-seed", "seed", type=int, metavar="N", help="seed by which glyphs are drawn  [default: 0]"),
)

network_options = _packed(
    "network",
    click.option("--depth", type=click.Choice(("9", "12")), help="ResNet-9 or ResNet-12  [default: 9]"),
    click.option("--width", type=int, metavar="MAPS", help="channels of the first block  [default: 16]"),
    click.option("--pooled", is_flag=True, default=None, help="halve by max pooling, not by strides"),
    click.option("--activation", type=click.Choice(("relu", "leaky_relu")), help="[default: relu]"),
    click.option("--mean", callback=colours, metavar="M[,M,M]", help="subtracted from img / 255  [default: 0.5]"),
    click.option(
        "--std", callback=colours, metavar="S[,S,S]", help="img / 255 - mean is divided by it  [default: 0.25]"
    ),
)

recipe_options = _packed(
    "recipe",
    click.option("--epochs", type=int, metavar="N", help="epochs of the float training  [default: 20]"),
    click.option("--batch", type=int, metavar="N", help="pictures in a training step  [default: 64]"),
    click.option("--rate", type=float, metavar="R", help="the largest learning rate  [default: 0.005]"),
    click.option("--decay", type=float, metavar="D", help="weight decay  [default: 0.001]"),
    click.option("--smoothing", type=float, metavar="S", help="label smoothing  [default: 0.05]"),
    click.option("--shift", type=int, metavar="PIXELS", help="move pictures by up to so many pixels  [default: 2]"),
    click.option("--contrast", type=float, metavar="W", help="weight of the contrastive loss  [default: 1]"),
    click.option(
        "--rotations", is_flag=True, default=None, help="also learn by how much a picture is turned, as EASY does"
    ),
    click.option(
        "--mixup", is_flag=True, default=None, help="mix features of two pictures while training, as EASY does"
    ),
)

tuning_options = _packed(
    "tuning",
    click.option(
        "--tuning-epochs", "epochs", type=int, metavar="N", help="epochs of QAT, and after pruning  [default: 4]"
    ),
    click.option(
        "--tuning-rate",
        "rate",
        type=float,
        metavar="R",
        help="learning rate of QAT; six times that after pruning  [default: 0.0005]",
    ),
)

measurement_options = _packed(
    "measurement",
    click.option(
        "--split",
        type=click.Choice(("val", "novel")),
        help="classes to measure on: val to choose settings, novel to report",
    ),
    click.option("--ways", type=int, metavar="N", help="classes in an episode  [default: 5]"),
    click.option(
        "--shots",
        callback=numbers(int, "numbers of shots: 1,5"),
        metavar="N,N",
        help="shots of each class  [default: 1,5]",
    ),
    click.option("--queries", type=int, metavar="N", help="pictures of each class to recognise  [default: 15]"),
    click.option("--episodes", type=int, metavar="N", help="how many episodes  [default: 10000]"),
    click.option("--episode-seed", "seed", type=int, metavar="N", help="seed of the episodes  [default: 0]"),
    click.option(
        "--centre-pictures",
        type=int,
        metavar="N",
        help="pictures of base whose mean feature is subtracted; 0: all  [default: 4096]",
    ),
)


def source_of(given: dict[str, Any], before: dict[str, Any] | None = None) -> DataSource:
    """The data that the options name; what they leave open is as in `before`, the data of a training."""
    from pefslc.fewshot.sweep.setting import DataSource

    return DataSource(**{**(before or {}), **given})


def measurement_of(given: dict[str, Any], split: str) -> Measurement:
    """split  where the user named none"""
    from pefslc.fewshot.sweep.setting import Measurement

    return Measurement(**{"split": split, **given})
