"""The server of the demo page: the standard library's, on the loopback interface, for one session.

    GET  /                      the page and its files
    GET  /api/system            what the system is, and its classes
    POST /api/recognise?height=H&width=W[&threshold=T][&recent=ID,-,ID]     what the frame in the body is
    POST /api/enrol?name=N&height=H&width=W                                  learn it
    POST /api/forget-shot?name=N, /api/forget-class?name=N                   with an empty body

A frame is uint8 [H, W, 3], RGB, row by row, as application/octet-stream. Answers are JSON. A mistake is answered with
{"error": {"code", "message", "hint"}} and a status of 4xx; what the computer refuses, and a fault of ours, with 500.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from pefslc.artifacts.sidecar import JsonObject
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, quote
from pefslc.fewshot.demo.page_files import PageFile, page_files
from pefslc.fewshot.demo.replies import classes_json, problem_json, recognition_json, system_json
from pefslc.fewshot.demo.requests import FRAME_TYPE, MOST_BYTES, Query, Refusal, require_own_page, require_own_site
from pefslc.fewshot.demo.session import DemoSession

__all__ = ["HOST", "DemoServer"]

HOST = "127.0.0.1"

_PATIENCE_S = 30.0  # with a connection that says nothing
_HEADERS = {
    # Nothing but what this server sends: no script, style, picture or request of elsewhere.
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",  # another build may be served at this address tomorrow
}


class DemoServer(ThreadingHTTPServer):
    """Serves one session at http://127.0.0.1:port/. `serve_forever` runs it; a context manager closes it.

    port   0: any that is free
    debug  whether faults of ours are printed with a traceback

    Raises CompileError where the port cannot be had.
    """

    daemon_threads = True  # an idle connection does not hold up the end
    allow_reuse_address = os.name != "nt"  # there it would take the port of another

    def __init__(self, session: DemoSession, port: int = 0, *, debug: bool = False) -> None:
        self.session = session
        self.debug = debug
        self.files: Mapping[str, PageFile] = page_files()
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as e:
            raise CompileError(
                Code.DEMO_PORT,
                f"cannot serve at port {port} of {HOST}: {e.strerror or e}",
                hint="--port 0 takes any that is free",
            ) from None

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's asks the network for a name of this computer, which may take long

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is the browser's matter: its page was closed."""
        del request, client_address
        if not isinstance(sys.exception(), OSError) and self.debug:
            traceback.print_exc()


class _BrokenError(Exception):
    """The connection ended in the middle of a request: nobody is there to be answered."""


class _Handler(BaseHTTPRequestHandler):
    server: DemoServer
    protocol_version = "HTTP/1.1"  # a connection for all frames
    server_version, sys_version = "pefslc", ""
    timeout = _PATIENCE_S
    disable_nagle_algorithm = True  # an answer is two writes; the second would wait for the browser

    def do_GET(self) -> None:
        lengths = self.headers.get_all("Content-Length", [])
        if "Transfer-Encoding" in self.headers or any(length != "0" for length in lengths):
            self.close_connection = True  # its body is not read: it would be taken for the next request
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, respond: Callable[[], tuple[str, bytes]]) -> None:
        try:
            require_own_page(self.headers.get("Host"), self.headers.get("Origin"))
            if self.path.startswith("/api/"):
                require_own_site(self.headers.get("Sec-Fetch-Site"))
            kind, content = respond()
            status = HTTPStatus.OK
        except Refusal as e:
            kind, content = _refused(str(e))
            status = e.status
            self.close_connection = True  # its body was not read
        except CompileError as e:
            kind, content = _json(problem_json(e))
            status = HTTPStatus.BAD_REQUEST
        except _BrokenError:
            self.close_connection = True
            return
        except Exception as e:
            if self.server.debug:
                traceback.print_exc()
            kind, content = _refused(_fault_text(e), "--debug shows where")
            status = HTTPStatus.INTERNAL_SERVER_ERROR
        self._send(status, kind, content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The library's own errors, of what is no request that it knows: answered as ours are."""
        del explain
        self.close_connection = True  # what follows was not read
        self.request_version = self.protocol_version  # else one that it cannot read gets an answer without headers
        status = HTTPStatus(code)
        self._send(status, *_refused(message or status.phrase))

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        headers = {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(content))}
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _get(self) -> tuple[str, bytes]:
        path = self.path.partition("?")[0]
        if path == "/api/system":
            session = self.server.session
            return _json({"system": system_json(session), "classes": classes_json(session.classes())})
        file = self.server.files.get(path)
        if file is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "there is no such page")
        return file.type, file.content

    def _post(self) -> tuple[str, bytes]:
        path, _, query = self.path.partition("?")
        act = _ACTS.get(path)
        if act is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "there is no such request")
        body = self._body()
        session = self.server.session
        return _json({**act(session, Query(query), body), "classes": classes_json(session.classes())})

    def _body(self) -> bytes:
        if self.headers.get("Content-Type") != FRAME_TYPE:
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"a request is {FRAME_TYPE}")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or self.headers.get("Transfer-Encoding") is not None:
            raise Refusal(HTTPStatus.LENGTH_REQUIRED, "a request says how long it is")
        if len(length) > 10 or int(length) > MOST_BYTES:
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a frame has more than {MOST_BYTES} bytes")
        try:
            body = self.rfile.read(int(length))
        except OSError:
            raise _BrokenError from None
        if len(body) != int(length):
            raise _BrokenError
        return body

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is for the address and for the end."""


def _json(content: JsonObject) -> tuple[str, bytes]:
    return "application/json", json.dumps(content).encode()


def _refused(message: str, hint: str | None = None) -> tuple[str, bytes]:
    return _json({"error": {"code": None, "message": message, "hint": hint}})


def _fault_text(error: Exception) -> str:
    if isinstance(error, OSError):  # the disk's, or whatever the computer refuses
        where = "" if error.filename is None else f"{quote(str(error.filename))}: "
        return f"{where}{error.strerror or error}"
    return f"fault in pefslc: {type(error).__name__}: {error}"


def _recognise(session: DemoSession, query: Query, body: bytes) -> JsonObject:
    found = session.recognise(query.frame(body), threshold=query.threshold(), recent=query.recent())
    return recognition_json(found)


def _enrol(session: DemoSession, query: Query, body: bytes) -> JsonObject:
    return {"class": session.enrol(query.text("name"), query.frame(body))}


def _forget_shot(session: DemoSession, query: Query, _: bytes) -> JsonObject:
    return {"left": session.forget_last_shot(query.text("name"))}


def _forget_class(session: DemoSession, query: Query, _: bytes) -> JsonObject:
    session.forget_class(query.text("name"))
    return {}


_ACTS: Mapping[str, Callable[[DemoSession, Query, bytes], JsonObject]] = {
    "/api/recognise": _recognise,
    "/api/enrol": _enrol,
    "/api/forget-shot": _forget_shot,
    "/api/forget-class": _forget_class,
}
