"""The demo over HTTP, without a browser: what it answers to its page, and what it refuses to others."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import threading
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import monotonic, sleep

import numpy as np
import pytest
from fewshot.demo.client import Client
from fewshot.system_support import ARCH, frames

from pefslc.diagnostics.errors import CompileError
from pefslc.fewshot.demo.requests import MOST_BYTES
from pefslc.fewshot.demo.server import DemoServer
from pefslc.fewshot.demo.session import DemoSession


@pytest.fixture
def client(server: DemoServer) -> Iterator[Client]:
    made = Client(server.server_address[1])
    yield made
    made.connection.close()


def test_frames_are_learned_recognised_and_forgotten(client: Client, server: DemoServer) -> None:
    shown = frames(3, 50, 12, 16)
    ids = {}
    for name, frame in zip(("mug", "cup & saucer", "Töpfe"), shown, strict=True):
        status, content = client.post("enrol", frame, name=name)
        assert status == 200
        ids[name] = content["class"]
    assert content["classes"] == [{"id": i, "name": name, "shots": 1, "undoable": 1} for name, i in ids.items()]
    system = server.session.system
    query = frames(4, 51, 9, 9)[1]
    status, content = client.post("recognise", query, recent=f"{ids['mug']},-,{ids['mug']}")
    expected = server.session.recognise(query)
    assert (status, content["class"], content["nearest"]) == (200, ids["cup & saucer"], ids["cup & saucer"])
    assert content["voted"] == ids["mug"]
    assert {s["class"]: s["exact"] for s in content["scores"]} == {c: str(s) for c, s in expected.scores.items()}
    assert [s["score"] for s in content["scores"]] == [float(s) for s in expected.scores.values()]
    seen = content["seen"]
    fitted = np.frombuffer(b64decode(seen["rgb"]), dtype=np.uint8).reshape(seen["height"], seen["width"], 3)
    assert (fitted == system.fit(query)).all()
    assert client.post("recognise", query, threshold="1")[1]["class"] is None
    assert client.post("forget-shot", name="Töpfe")[1]["left"] == 0
    assert [c["name"] for c in client.post("forget-class", name="mug")[1]["classes"]] == ["cup & saucer"]


def test_the_system_is_described(client: Client, server: DemoServer) -> None:
    status, content = client.ask("GET", "/api/system")
    found = content["system"]
    board = server.session.board
    assert (status, content["classes"]) == (200, [])
    assert board is not None
    assert (found["height"], found["width"], found["kind"], found["state"]) == (8, 8, "cosine", None)
    page = server.files["/main.js"].content.decode()
    assert [key for key in found if not re.search(rf"\bsystem\.{key}\b|{{ {key} }} = system\b", page)] == []
    assert [key for key in found["board"] if f"board.{key}" not in page] == []
    assert found["board"]["modelled_cycles"] == board.cycles
    assert found["board"]["name"] == ARCH


def test_the_page_and_its_files_are_served_and_nothing_else(client: Client) -> None:
    status, content = client.ask("GET", "/")
    assert status == 200
    assert b"<title>pefslc few-shot demo</title>" in content
    for path, kind in (("/main.js", "text/javascript"), ("/page.css", "text/css"), ("/icon.svg", "image/svg+xml")):
        client.connection.request("GET", path)
        response = client.connection.getresponse()
        assert response.read()
        assert response.getheader("Content-Type", "").startswith(kind)
        assert response.getheader("Content-Security-Policy", "").startswith("default-src 'self'")
        assert response.getheader("Cache-Control") == "no-store"
    for path in ("/server.py", "/../server.py", "/page/main.js", "/%2e%2e/server.py", "/api/enrol"):
        assert client.ask("GET", path)[0] == 404
    assert client.ask("POST", "/main.js")[0] == 404
    assert client.ask("PUT", "/api/enrol")[0] == 501


def test_the_page_names_no_address_of_elsewhere(server: DemoServer) -> None:
    for path, file in server.files.items():
        text = file.content.decode().replace("http://www.w3.org/2000/svg", "")  # a name, which nobody fetches
        assert "http:" not in text, path
        assert "https:" not in text, path
        assert "url(" not in text, path


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Host": "127.0.0.1:9"}, True),  # a port that ssh forwards
        ({"Host": "localhost"}, True),
        ({"Host": "localhost:80", "Origin": "http://localhost:80"}, True),
        ({"Host": "evil.example"}, False),
        ({"Host": "127.0.0.1.evil.example:80"}, False),
        ({"Host": "localhost.evil.example"}, False),
        ({"Host": ""}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://127.0.0.1:1"}, False),  # another server of this computer
        ({"Host": "localhost:80", "Origin": "https://localhost:80"}, False),
    ],
)
def test_pages_of_others_are_refused(client: Client, headers: dict[str, str], allowed: bool) -> None:
    """A name that leads to 127.0.0.1 makes another's page one of the same origin: DNS rebinding."""
    for method, path in (("GET", "/"), ("GET", "/api/system"), ("POST", "/api/forget-class?name=mug")):
        status, _ = client.ask(method, path, b"", {"Content-Type": "application/octet-stream", **headers})
        assert (status != 403) is allowed


@pytest.mark.parametrize(
    ("site", "allowed"),
    [("same-origin", True), ("none", True), ("cross-site", False), ("same-site", False), ("", False), ("new", False)],
)
def test_what_the_browser_says_is_asked_by_another_site_is_refused(client: Client, site: str, allowed: bool) -> None:
    """Pictures and scripts of another page are asked for without an Origin; same-site is another port's."""
    headers = {"Content-Type": "application/octet-stream", "Sec-Fetch-Site": site}
    for method, path in (("GET", "/api/system"), ("GET", "/api/"), ("POST", "/api/forget-class?name=mug")):
        assert (client.ask(method, path, b"", headers)[0] != 403) is allowed
    assert client.ask("GET", "/", headers=headers)[0] == 200  # a link to the page


def test_every_answer_has_the_headers(server: DemoServer) -> None:
    """Those of the library to what is no request of HTTP, too."""
    port = server.server_address[1]
    for head, status in (
        ("PUT /api/enrol HTTP/1.1\nHost: localhost\nContent-Length: 3\n\nabc", 501),
        ("GET /a <script> HTTP/1.1\n\n", 400),
        ("<script> HTTP/1.1\n\n", 400),
        ("GET / HTTP/9.9\n\n", 505),
        (f"GET /{'x' * 70000} HTTP/1.1\n\n", 414),
        ("GET / HTTP/1.1\n" + "A: b\n" * 200 + "\n", 431),
        ("GET /none HTTP/1.1\nHost: localhost\n\n", 404),
        ("GET / HTTP/1.1\nHost: evil.example\n\n", 403),
    ):
        answer = whole(port, head)
        start, _, content = answer.partition(b"\r\n\r\n")
        first, *lines = start.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        assert f" {status} " in first
        assert headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert (headers["Content-Type"], headers["Connection"]) == ("application/json", "close")
        assert set(json.loads(content)) == {"error"}
        assert len(content) == int(headers["Content-Length"])
    assert whole(port, "HEAD / HTTP/1.1\nHost: localhost\n\n").endswith(b"\r\n\r\n")


def test_the_body_of_a_get_is_no_request(server: DemoServer) -> None:
    port = server.server_address[1]
    hidden = "GET /main.js HTTP/1.1\nHost: localhost\n\n"
    start = "GET /icon.svg HTTP/1.1\nHost: localhost\n"
    icon = server.files["/icon.svg"].content
    for length in (f"Content-Length: {len(hidden) + 3}\n", "Transfer-Encoding: chunked\n", "Content-Length: x\n"):
        assert whole(port, f"{start}{length}\n{hidden}").endswith(icon)
    kept = whole(port, f"{start}Content-Length: 0\n\n{start}Connection: close\n\n")
    assert kept.count(icon) == 2


def test_forms_of_others_are_refused_for_their_type(client: Client, server: DemoServer) -> None:
    frame = frames(1, 52)[0]
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        path = "/api/enrol?name=mug&height=8&width=8"
        assert client.ask("POST", path, frame.tobytes(), {"Content-Type": kind})[0] == 415
    assert server.session.classes() == ()


def test_broken_frames_are_refused_with_a_message(client: Client) -> None:
    frame = frames(1, 53)[0]
    short = frame.tobytes()[:-1]
    assert client.error("recognise", frame, short) == "PEF1186: a frame of 8 x 8 pixels in 191 bytes, not 192"
    assert client.error("recognise", frame, b"").startswith("PEF1186: a frame of 8 x 8 pixels in 0 bytes")
    for side in ("0", "-8", "8.0", "1e1", "٨", "99999999999", ""):
        assert client.error("recognise", frame, height=side).startswith("PEF1186: height is ")
    assert client.error("recognise", body=frame.tobytes(), height=8) == "PEF1186: a request has no width"
    assert client.error("recognise", frame, threshold="2").startswith("PEF1125: the threshold 2 is not in 0 to 1")
    for text in ("x", "1/0", "nan", "1e99999999", "1" * 50):
        assert client.error("recognise", frame, threshold=text).endswith("is no number")
    for text in ("x", "1,", "-1", str(2**32)):
        assert client.error("recognise", frame, recent=text).startswith("PEF1186: recent is ")
    assert "more than 200" in client.error("recognise", frame, recent=",".join(["-"] * 201))
    assert client.error("enrol", frame) == "PEF1186: a request has no name"
    assert client.error("enrol", frame, name="") == "PEF1126: a class has no name"
    assert client.error("enrol", frame, name="a\nb").startswith("PEF1126: ")
    assert client.error("forget-class", name="mug") == "PEF1123: there is no class 'mug'"
    headers = {"Content-Type": "application/octet-stream"}
    for query in ("name=%ff", "name=a&name=b", "name", "&".join(f"k{i}=1" for i in range(30))):
        status, content = client.ask("POST", f"/api/forget-class?{query}", b"", headers)
        assert (status, content["error"]["code"]) == (400, "PEF1186")
    assert client.post("recognise", frame)[0] == 200  # on the same connection


def raw(port: int, head: str, body: bytes = b"") -> bytes:
    """The first line of the answer to what is sent as it stands."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + body)
        return connection.makefile("rb").readline()


def whole(port: int, head: str) -> bytes:
    """All that is answered until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode())
        answer = b""
        with suppress(ConnectionResetError):  # what it did not read
            while more := connection.recv(1 << 16):
                answer += more
        return answer


def test_bodies_are_limited(server: DemoServer, client: Client) -> None:
    port = server.server_address[1]
    start = "POST /api/recognise?height=8&width=8 HTTP/1.1\nHost: localhost\nContent-Type: application/octet-stream\n"
    assert b" 413 " in raw(port, f"{start}Content-Length: {MOST_BYTES + 1}\n\n")
    assert b" 413 " in raw(port, f"{start}Content-Length: {'9' * 5000}\n\n")
    for length in ("", "Content-Length: -1\n", "Content-Length: x\n", "Transfer-Encoding: chunked\n"):
        assert b" 411 " in raw(port, f"{start}{length}\n", b"0\r\n\r\n")
    assert b" 200 " in raw(port, f"{start}Content-Length: 192\n\n", bytes(192))
    assert b" 404 " in raw(port, "GET http://[ HTTP/1.1\nHost: localhost\n\n")
    most = int((MOST_BYTES / 3) ** 0.5)
    assert client.post("recognise", np.zeros((most, most, 3), dtype=np.uint8))[0] == 200


def test_a_page_that_is_closed_in_the_middle_harms_nobody(
    server: DemoServer, client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    port = server.server_address[1]
    before = set(threading.enumerate())
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /api/recognise?height=8&width=8 HTTP/1.1\r\nHost: localhost\r\n")
        connection.sendall(b"Content-Type: application/octet-stream\r\nContent-Length: 192\r\n\r\n123")
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"\x16\x03\x01\x00 no HTTP \r\n\r\n")
    assert client.ask("GET", "/api/system")[0] == 200  # connections are taken in turn: both threads have begun
    client.connection.close()
    end = monotonic() + 20
    while set(threading.enumerate()) - before and monotonic() < end:
        sleep(0.005)
    assert set(threading.enumerate()) - before == set()
    assert capfd.readouterr() == ("", "")


def test_a_fault_of_ours_is_told_and_the_next_request_answered(
    server: DemoServer, client: Client, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(DemoSession, "forget_class", lambda *_: {}[0])
        status, content = client.post("forget-class", name="mug")
        assert (status, content["error"]["message"]) == (500, "fault in pefslc: KeyError: 0")
        assert capfd.readouterr().err == ""
        server.debug = True
        assert client.post("forget-class", name="mug")[0] == 500
        assert "Traceback" in capfd.readouterr().err
    assert client.post("forget-class", name="mug")[0] == 400


def test_an_error_of_the_disk_is_told(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/desk.state")

    with monkeypatch.context() as patch:
        patch.setattr(DemoSession, "forget_class", full)
        status, content = client.post("forget-class", name="mug")
        assert (status, content["error"]["code"]) == (500, None)
        assert content["error"]["message"] == "'/desk.state': No space left on device"
        patch.setattr(DemoSession, "forget_class", lambda *_: os.close(-1))
        assert client.post("forget-class", name="mug")[1]["error"]["message"] == "Bad file descriptor"
    assert client.post("forget-class", name="mug")[0] == 400


def test_requests_at_one_time_are_all_answered_right(server: DemoServer) -> None:
    port = server.server_address[1]
    shown = frames(12, 54)
    for name, frame in zip(("mug", "cup", "pot"), shown, strict=False):
        server.session.enrol(name, frame)
    expected = [server.session.recognise(frame).scores for frame in shown]

    def ask(worker: int) -> bool:
        mine = Client(port)
        for i in range(worker, worker + 12):
            _, content = mine.post("recognise", shown[i % 12])
            if {s["class"]: s["exact"] for s in content["scores"]} != {c: str(s) for c, s in expected[i % 12].items()}:
                return False
        mine.connection.close()
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8)))


def test_a_port_that_another_has_is_refused(server: DemoServer) -> None:
    port = server.server_address[1]
    with pytest.raises(CompileError, match=f"cannot serve at port {port} of 127.0.0.1: ") as caught:
        DemoServer(server.session, port)
    assert caught.value.problems[0].hint == "--port 0 takes any that is free"
