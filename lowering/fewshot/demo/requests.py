"""Requests as they come in, which anybody may have written: what is answered at all, and what their parts mean.

A page of another site can send requests to this computer. Its name for it is another (DNS rebinding), or the browser
names its origin: both are refused.
"""

from __future__ import annotations

from fractions import Fraction
from http import HTTPStatus
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote_given
from pefslc.fewshot.head.scores import parse_threshold

__all__ = ["FRAME_TYPE", "MOST_BYTES", "MOST_RECENT", "Query", "Refusal", "require_own_page", "require_own_site"]

FRAME_TYPE = "application/octet-stream"  # no form of another site can send it unasked
MOST_BYTES = 1 << 22  # of a frame: 1182 x 1182 pixels
MOST_RECENT = 200  # frames in a vote

_LOOPBACK = ("127.0.0.1", "localhost")
_COLOURS = 3
_LONGEST_SIDE = 1 << 14
_MOST_KEYS = 20


class Refusal(Exception):
    """A request that is answered with an error's status only: it is none of our page's."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


def require_own_page(host: str | None, origin: str | None) -> None:
    """Raises Refusal.

    host    the header: a name of this computer, with any port, for ssh forwards ports to others
    origin  the header, None where there is none: a browser sends it with what another site's page asks for
    """
    name = (host or "").rpartition(":")[0] or (host or "")
    if name not in _LOOPBACK:
        raise Refusal(HTTPStatus.FORBIDDEN, "this server is for the page on 127.0.0.1 only")
    if origin is not None and origin != f"http://{host}":
        raise Refusal(HTTPStatus.FORBIDDEN, "requests of other pages are refused")


def require_own_site(fetch_site: str | None) -> None:
    """Raises Refusal. The header tells of pictures and scripts, too, that another page asks for without an Origin.

    fetch_site  the header Sec-Fetch-Site: same-origin for our page, none for an address that was typed; None where
                there is none: older browsers, and programs, send none
    """
    if fetch_site not in (None, "same-origin", "none"):
        raise Refusal(HTTPStatus.FORBIDDEN, "requests of other pages are refused")


class Query:
    """The query of an address, each key once at most. What is wrong with it is a CompileError."""

    def __init__(self, text: str) -> None:
        try:
            pairs = parse_qsl(
                text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=_MOST_KEYS
            )
        except ValueError:
            raise _wrong("the query of a request cannot be read") from None
        self._values = dict(pairs)
        if len(self._values) != len(pairs):
            raise _wrong("a request has a key twice")

    def text(self, key: str) -> str:
        if key not in self._values:
            raise _wrong(f"a request has no {key}")
        return self._values[key]

    def threshold(self) -> Fraction | None:
        """Exactly the decimal, or the fraction, that the request has."""
        text = self._values.get("threshold")
        return None if text is None else parse_threshold(text)

    def recent(self) -> list[int | None]:
        """Class ids, or - for none, with commas between them: the earlier frames of a vote."""
        text = self._values.get("recent", "")
        parts = text.split(",") if text else []
        if len(parts) > MOST_RECENT:
            raise _wrong(f"a vote over {len(parts)} frames, more than {MOST_RECENT}")
        return [None if part == "-" else self._number("recent", part, 0, 2**32 - 1) for part in parts]

    def frame(self, body: bytes) -> NDArray[np.uint8]:
        """uint8 [height, width, 3]: the body, RGB, row by row."""
        height, width = (self._number(side, self.text(side), 1, _LONGEST_SIDE) for side in ("height", "width"))
        if len(body) != height * width * _COLOURS:
            raise _wrong(f"a frame of {height} x {width} pixels in {len(body)} bytes, not {height * width * _COLOURS}")
        return np.frombuffer(body, dtype=np.uint8).reshape(height, width, _COLOURS)

    @staticmethod
    def _number(key: str, text: str, low: int, high: int) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 10 and low <= int(text) <= high):
            raise _wrong(f"{key} is {quote_given(text)}, no integer in {low} to {high}")
        return int(text)


def _wrong(message: str) -> CompileError:
    return CompileError(Code.DEMO_REQUEST, message, hint="load the page again")
