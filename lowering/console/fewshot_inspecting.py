"""`pefslc fewshot inspect`: what a state holds, and what a system is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pefslc.console.fewshot_options import debug_option
from pefslc.console.loading import LoadingCommand

if TYPE_CHECKING:
    from pefslc.fewshot.head.spec import HeadSpec
    from pefslc.fewshot.head.state import HeadState
    from pefslc.fewshot.system.description import SystemDescription

__all__ = ["inspect"]


@click.command(
    "inspect",
    cls=LoadingCommand,
    loads="pefslc.fewshot.system.description",
    short_help="classes, shots and devices of a state; what a system is",
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(), metavar="[BUILD] [STATE]")
@debug_option
def inspect(paths: tuple[str, ...], debug: bool) -> None:
    """Show the system in the folder BUILD, or the classes in the file STATE; with both, whether they go together."""
    del debug  # read by cli.run
    from pefslc.fewshot.head.state_file import load_state
    from pefslc.fewshot.system.description import load_description

    builds = [p for p in paths if Path(p).is_dir()]
    states = [p for p in paths if not Path(p).is_dir()]
    if len(builds) > 1 or len(states) > 1:
        raise click.UsageError("give one folder of a system, one state, or both")
    description = load_description(Path(builds[0])) if builds else None
    if description is not None:
        _print_system(description)
    if not states:
        return
    if description is None:
        state = load_state(Path(states[0]))
    else:
        state = load_state(Path(states[0]), spec=description.spec, backbone=description.codes_sha256)
        print()
    _print_state(state, Path(states[0]))


def _print_system(description: SystemDescription) -> None:
    from pefslc.fewshot.head.spec import bounds_of

    spec = description.spec
    rows = {
        "backbone": f"{description.name}, {'exact' if description.exact else 'bounded'}",
        "pictures": f"{description.height} x {description.width}, mean {_listed(description.mean)}, std "
        f"{_listed(description.std)}",
        "features": f"{spec.dimension} codes in {spec.low} to {spec.high}, scale {description.scale}",
        "head": description.ncm,
        "at most": _limits(spec),
        "comparison": f"{bounds_of(spec).comparison.bit_length()} bits",
        "engines": ", ".join(description.engines)
        + (f" (tensil: {description.architecture}{_pictures(description.batch)})" if description.architecture else ""),
        "codes": description.codes_sha256,
    }
    width = max(map(len, rows))
    print("\n".join(f"{what.ljust(width)}  {text}" for what, text in rows.items()))


def _listed(numbers: tuple[object, ...]) -> str:
    return ", ".join(map(str, dict.fromkeys(numbers) if len(set(numbers)) == 1 else numbers))


def _limits(spec: HeadSpec) -> str:
    return (
        f"{spec.max_shots} shots a class, {spec.max_classes} classes, {spec.max_devices} devices; "
        f"a state of {spec.file_bytes} bytes"
    )


def _print_state(state: HeadState, path: Path) -> None:
    from pefslc.diagnostics.text_table import plain_table
    from pefslc.fewshot.head.state_file import to_bytes

    devices = ", ".join(map(str, state.devices))
    print(f"{path}: {len(to_bytes(state))} bytes, {state.spec.kind} head, codes {state.backbone[:12]}...")
    print(f"device{'' if len(state.devices) == 1 else 's'} {devices}; at most {_limits(state.spec)}")
    rows = [(state.name(c), str(c), str(state.classifier.shots(c))) for c in state.classifier.classes]
    rows.sort()
    print(plain_table(("class", "id", "shots"), rows, frozenset((1, 2))) if rows else "no classes")


def _pictures(batch: int) -> str:
    return "" if batch == 1 else f", {batch} pictures in a run"
