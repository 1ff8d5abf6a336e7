"""Which known name may be meant by one that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["alike"]


def alike(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is the same but for case and punctuation, else the one most like it; None without one.

    + is no punctuation, but plus: of cortex-m0 and cortex-m0plus, cortex-m0+ means the second.

    cutoff  difflib's ratio, from which on two names are alike
    """
    plain = {_plain(other): other for other in known}
    if (same := plain.get(_plain(name))) is not None:
        return same
    close = get_close_matches(_plain(name), plain, n=1, cutoff=cutoff)
    return plain[close[0]] if close else None


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold().replace("+", "plus") if c.isalnum())
