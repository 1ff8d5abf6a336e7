"""A mistake that a check of ours finds on the command line, as click tells its own: exit status 2."""

from __future__ import annotations

import click

__all__ = ["usage_error"]


def usage_error(error: Exception) -> click.UsageError:
    """The same text, as the user's mistake on the command line."""
    return click.UsageError(str(error))
