"""A client of the demo's server: what its page asks, without a browser."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode

import numpy as np

__all__ = ["Client", "Frame"]

Frame = np.ndarray[Any, np.dtype[np.uint8]]


class Client:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connection = HTTPConnection("127.0.0.1", port, timeout=20)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        self.connection.request(method, path, body, dict(headers or {}))
        response = self.connection.getresponse()
        content = response.read()
        return response.status, json.loads(content) if response.getheader(
            "Content-Type"
        ) == "application/json" else content

    def post(
        self, what: str, frame: Frame | None = None, body: bytes | None = None, **query: object
    ) -> tuple[int, Any]:
        """With the size and the bytes of a frame, where they are not given otherwise."""
        if frame is not None:
            query = {"height": frame.shape[0], "width": frame.shape[1], **query}
            body = frame.tobytes() if body is None else body
        headers = {"Content-Type": "application/octet-stream"}
        return self.ask("POST", f"/api/{what}?{urlencode(query)}", body or b"", headers)

    def error(self, what: str, frame: Frame | None = None, body: bytes | None = None, **query: object) -> str:
        """The code of a request that is refused for what it says, and its message."""
        status, content = self.post(what, frame, body, **query)
        assert status == 400
        assert set(content["error"]) == {"code", "message", "hint"}
        return f"{content['error']['code']}: {content['error']['message']}"
