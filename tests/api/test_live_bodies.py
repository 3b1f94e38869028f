"""The web process refuses bodies that are too large or too slow while they arrive."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings

from fleet.config import ports
from tests.support.paths import CHECKOUT
from tests.support.processes import live
from tests.support.processes.live import Web
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)
TOKEN = "/api/v1/auth/token"
MOST = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
SHORT = """
import uvicorn
from fleet.asgi import django_application
from fleet.web.bodies import BodyLimiter
uvicorn.run(BodyLimiter(django_application, max_bytes=100_000, timeout_s=0.6), host="127.0.0.1", port={port}, lifespan="off")
"""


@pytest.fixture(scope="module")
def web(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with live.serving(tmp_path_factory.mktemp("web"), live.environment()) as server:
        yield server


def read_response(line: socket.socket) -> tuple[int, dict[str, Any]]:
    """The response, up to the end of the connection."""
    line.settimeout(15)
    data = b""
    try:
        while more := line.recv(65_536):
            data += more
    except ConnectionResetError:
        pass  # data was still in transit when the server closed the connection
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, data
    return int(head.split(b" ", 2)[1]), json.loads(body)


def send_head(port: int, *headers: str) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", port))
    lines = [f"POST {TOKEN} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *headers]
    line.sendall("\r\n".join([*lines, "", ""]).encode())
    return line


def test_a_body_with_a_too_large_content_length_is_refused_before_it_is_sent(web: Web) -> None:
    with send_head(web.port, f"Content-Length: {MOST + 1}") as line:
        status, problem = read_response(line)
    assert (status, problem["status"], problem["code"]) == (413, 413, "too_large")
    assert problem["request_id"].startswith("req_")


def test_content_length_with_transfer_encoding_is_refused_and_the_rest_is_no_request(web: Web) -> None:
    with send_head(web.port, "Content-Length: 5", "Transfer-Encoding: chunked") as line:
        line.sendall(b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        status, problem = read_response(line)
    assert (status, problem["code"]) == (400, "bad_request")
    assert "Both Content-Length and Transfer-Encoding" in problem["detail"]


def test_a_chunked_body_is_refused_when_it_becomes_too_large(web: Web) -> None:
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    with send_head(web.port, "Transfer-Encoding: chunked") as line:
        sent = 0
        try:
            while sent < MOST * 3:
                line.sendall(chunk)
                sent += 65_536
        except OSError:
            pass  # refused, and closed
        assert MOST - 65_536 < sent < MOST * 3
    with send_head(web.port, "Transfer-Encoding: chunked") as line:
        for _ in range(MOST // 65_536 + 1):
            line.sendall(chunk)
        assert read_response(line)[0] == 413


def test_a_chunked_body_within_the_limit_is_accepted(web: Web) -> None:
    body = json.dumps({"username": "nobody", "password": "x" * 500}).encode()
    with send_head(web.port, "Transfer-Encoding: chunked", "Connection: close") as line:
        for begin in range(0, len(body), 100):
            part = body[begin : begin + 100]
            line.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        line.sendall(b"0\r\n\r\n")
        assert read_response(line)[1]["code"] == "not_authenticated"


def test_a_truncated_body_has_no_effect_and_logs_no_error(web: Web) -> None:
    with send_head(web.port, "Content-Length: 100") as line:
        line.sendall(b'{"username":')
    assert web.request("GET", "/healthz")[0] == 200
    assert "Traceback" not in web.log_text
    assert "Exception" not in web.log_text


def test_a_slow_body_is_refused_even_if_it_is_steady() -> None:
    port = ports.find_free()
    env = {**os.environ, **live.environment(), "DJANGO_SETTINGS_MODULE": "fleet.settings"}
    process = subprocess.Popen([sys.executable, "-c", SHORT.format(port=port)], cwd=CHECKOUT, env=env)
    try:
        until(lambda: _listens(port))
        with send_head(port, "Content-Length: 1000") as line:
            start = time.monotonic()
            line.settimeout(0.05)
            try:
                while time.monotonic() < start + 15:
                    line.sendall(b"x")
                    try:
                        if line.recv(1, socket.MSG_PEEK):
                            break
                    except TimeoutError:
                        continue
            except OSError:
                pass
            status, problem = read_response(line)
        assert (status, problem["code"]) == (408, "too_slow")
        with send_head(port, "Content-Length: 1000") as line:  # and a client that sends nothing at all
            assert read_response(line)[0] == 408
        with send_head(port, "Content-Length: 100001") as line:
            assert read_response(line)[0] == 413
    finally:
        process.terminate()
        process.wait(60)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
