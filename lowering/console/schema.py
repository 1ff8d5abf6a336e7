"""`pefslc schema NAME`: the JSON Schema of what a command prints with --json."""

from __future__ import annotations

import difflib

import click

__all__ = ["show_schema"]


def _names(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from pefslc.console.json_schemas import SCHEMAS

    return [name for name in SCHEMAS if name.startswith(incomplete)]


@click.command("schema", short_help="the JSON Schema of what a command prints with --json")
@click.argument("name", required=False, shell_complete=_names)
def show_schema(name: str | None) -> None:
    """Print the JSON Schema of what the command NAME prints with --json; without a NAME, list them."""
    from pefslc.console.json_output import print_json
    from pefslc.console.json_schemas import SCHEMAS

    if name is None:
        width = max(map(len, SCHEMAS))
        for known, schema in SCHEMAS.items():
            print(f"{known:{width}}  {schema['title']}")
    elif name in SCHEMAS:
        print_json(SCHEMAS[name])
    else:
        close = difflib.get_close_matches(name, SCHEMAS, n=1)
        meant = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(SCHEMAS)}"
        raise click.UsageError(f"no schema {name!r}\n  help: {meant}", click.get_current_context())
