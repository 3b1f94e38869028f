"""Clients that stall are disconnected. Clients that are slow but steady are served."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from websockets.sync.client import connect

from fleet.web import connections
from tests.support import api
from tests.support.processes import live
from tests.support.processes.live import Listener, Web
from tests.support.waiting import until

TIMEOUT_S = 1
PLACES = 20
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture(scope="module")
def web(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    more = {"FLEET_HTTP_TIMEOUT_S": str(TIMEOUT_S)}
    with live.serving(tmp_path_factory.mktemp("web"), {**live.environment(), **more}) as server:
        yield server


@pytest.fixture(scope="module")
def small_web(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """A server that accepts PLACES connections of one address, and does not disconnect slow clients."""
    more = {"FLEET_ADDRESS_CONNECTIONS": str(PLACES)}
    with live.serving(tmp_path_factory.mktemp("web"), {**live.environment(), **more}) as server:
        yield server


def connect_to(web: Web, *, buffer: int = 0) -> socket.socket:
    connection = socket.socket()
    if buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.settimeout(10)
    connection.connect(("127.0.0.1", web.port))
    return connection


def read_rest(open_line: socket.socket) -> bytes:
    """The remaining data, up to the end of the connection."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while more := open_line.recv(65_536):
            data += more
    return data


def is_healthy(open_line: socket.socket) -> bool:
    data = b""
    while not data.endswith(b"\r\n\r\nok\n") and (more := open_line.recv(4_096)):
        data += more
    return data.startswith(b"HTTP/1.1 200")


def test_slow_request_heads_time_out_and_do_not_delay_others(web: Web) -> None:
    lines = [connect_to(web) for _ in range(50)]
    start, answered = time.monotonic(), 0
    head = iter(HEALTH)
    while time.monotonic() < start + TIMEOUT_S * 3:
        byte = bytes([next(head)])
        for item in lines:
            with contextlib.suppress(OSError):  # closed already
                item.send(byte)
        answered += web.request("GET", "/healthz")[0] == 200
        time.sleep(TIMEOUT_S / 10)
    assert answered > 2
    for item in lines:
        text = read_rest(item)
        assert (text[:12], b'"too_slow"' in text) == (b"HTTP/1.1 408", True)
        item.close()
    assert "Traceback" not in web.log_text


@pytest.mark.parametrize(
    "head", [b"Content-Length: 1\r\nContent-Length: 2\r\n", b"Transfer-Encoding: x\r\n", b"no header\r\n"]
)
def test_malformed_http_gets_a_problem_and_ends_the_connection(web: Web, head: bytes) -> None:
    with connect_to(web) as client:
        client.send(HEALTH + head + b"\r\n" + HEALTH + b"\r\n")
        text = read_rest(client)
        assert (text[:12], text.count(b"HTTP/1.1"), b'"bad_request"' in text) == (b"HTTP/1.1 400", 1, True)


@pytest.mark.parametrize(("size", "number", "status"), [(1, 5_000, 400), (1, 900, 422), (100, 150, 422)])
def test_a_body_of_many_tiny_chunks_is_refused(web: Web, size: int, number: int, status: int) -> None:
    """A process that parses a million chunks of one byte answers nobody for ten seconds."""
    chunks = (b"%x\r\n" % size + b" " * size + b"\r\n") * number + b"2\r\n{}\r\n0\r\n\r\n"
    head = b"POST /api/v1/auth/token HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    with connect_to(web) as client:
        client.sendall(head + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks)
        assert read_rest(client).startswith(b"HTTP/1.1 %d" % status)


def test_a_silent_connection_is_closed_without_a_response(web: Web) -> None:
    with connect_to(web) as silent:
        assert read_rest(silent) == b""


def test_a_reused_connection_has_the_same_timeout(web: Web) -> None:
    with connect_to(web) as connection:
        for _ in range(3):
            connection.send(HEALTH + b"\r\n")
            assert is_healthy(connection)
            time.sleep(TIMEOUT_S / 4)
        start = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() < start + TIMEOUT_S * 4:
                connection.send(b"G")
                time.sleep(TIMEOUT_S / 10)
        assert read_rest(connection).startswith(b"HTTP/1.1 40")


def test_a_client_that_stops_reading_is_disconnected_and_a_slow_one_is_served(web: Web) -> None:
    page = web.request("GET", "/api/v1/docs")[2].decode()
    (large,) = re.findall(r'src="([^"]*swagger-ui-bundle\.js)"', page)
    size = len(web.request("GET", large)[2])
    request = f"GET {large} HTTP/1.1\r\nHost: 127.0.0.1\r\n".encode()
    with connect_to(web, buffer=4_096) as greedy, connect_to(web, buffer=65_536) as slow:
        greedy.send((request + b"\r\n") * 10)  # more than the buffers of both kernels hold
        slow.send(request + b"Connection: close\r\n\r\n")
        start, taken = time.monotonic(), 0
        while more := slow.recv(16_384):
            taken += len(more)
            time.sleep(TIMEOUT_S / 20)
        assert taken > size
        assert time.monotonic() - start > TIMEOUT_S * 3
        assert len(read_rest(greedy)) < size * 9


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_streams_outlive_the_timeout(web: Web) -> None:
    ann = api.person("ann")
    headers = {"Authorization": f"Bearer {ann.bearer}"}
    with (
        Listener(web, "/api/v1/events/stream", **headers) as stream,
        connect(f"ws://127.0.0.1:{web.port}/ws/v1/events", additional_headers=headers) as socket_line,
    ):
        assert not stream.ended.wait(TIMEOUT_S * 3)
        socket_line.ping().wait(60)


def test_a_malformed_websocket_handshake_ends_the_connection(web: Web) -> None:
    with connect_to(web) as connection:
        connection.sendall(
            b"GET /ws/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 1\r\n\r\n"
        )
        assert read_rest(connection) == b""


@pytest.mark.parametrize("frame", [b"\x89\xfd" + b"\0" * 129, b"\x8a\x80\0\0\0\0"], ids=["pings", "pongs"])
def test_a_websocket_client_that_sends_too_much_is_disconnected(web: Web, frame: bytes) -> None:
    """Answers to its pings would fill the memory while it reads nothing, and a million frames would delay all others."""
    with connect_to(web) as client:
        client.sendall(
            b"GET /ws/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Protocol: fleet.v1\r\n\r\n"  # so it waits for a ticket
        )
        assert client.recv(65_536).startswith(b"HTTP/1.1 101")
        with contextlib.suppress(ConnectionError):
            client.sendall(frame * (1_000_000 // len(frame)))
        text = read_rest(client)
        assert (len(text) < 2 * connections.SOCKET_BYTES, b"No ticket" in text) == (True, False)
    assert "Traceback" not in web.log_text


def test_nothing_is_left_of_refused_handshakes(small_web: Web) -> None:
    """Each had 60 KB of head, which stayed in memory for FLEET_HTTP_TIMEOUT_S after the connection had closed."""
    head = (
        b"GET /ws/v1/events?cursor=%b HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % (b"9" * 60_000)
    )

    def refuse(number: int) -> int:
        """The memory of the web process after so many refused handshakes."""
        for _ in range(number):
            with connect_to(small_web) as client:
                client.sendall(head)
                assert read_rest(client)[:13] in (b"", b"HTTP/1.1 400 ")  # 400 if the head arrives in pieces
        return memory(small_web)

    before = refuse(100)
    assert refuse(1_500) - before < 20_000_000


def memory(web: Web) -> int:
    """The memory of the web process."""
    (process,) = (
        process
        for process in psutil.process_iter(["cmdline", "memory_info"])
        if f"--port={web.port}" in (process.info["cmdline"] or ())
    )
    return int(process.info["memory_info"].rss)


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_a_websocket_client_that_sends_now_and_then_stays_connected(web: Web) -> None:
    headers = {"Authorization": f"Bearer {api.person('ann').bearer}"}
    with connect(f"ws://127.0.0.1:{web.port}/ws/v1/events", additional_headers=headers) as line:
        for _ in range(10):
            assert line.ping(b" " * 100).wait(10)


def test_the_connections_of_one_address_are_limited(small_web: Web) -> None:
    with contextlib.ExitStack() as open_connections:
        for _ in range(PLACES):
            open_connections.enter_context(connect_to(small_web))
        text = read_rest(open_connections.enter_context(connect_to(small_web)))
        assert (text[:12], b'"too_many_connections"' in text) == (b"HTTP/1.1 429", True)
    until(lambda: not is_full(small_web))


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_a_websocket_counts_as_a_connection_until_it_closes(small_web: Web) -> None:
    headers = {"Authorization": f"Bearer {api.person('ann').bearer}"}
    address = f"ws://127.0.0.1:{small_web.port}/ws/v1/events"
    with contextlib.ExitStack() as open_connections:
        for _ in range(PLACES):
            open_connections.enter_context(connect(address, additional_headers=headers)).ping().wait(10)
        with connect_to(small_web) as one_too_many:
            assert read_rest(one_too_many)[:12] == b"HTTP/1.1 429"
    until(lambda: not is_full(small_web))


def is_full(web: Web) -> bool:
    """Whether a new connection is refused for lack of room."""
    with connect_to(web) as response, contextlib.suppress(OSError):
        response.send(HEALTH + b"Connection: close\r\n\r\n")
        return not read_rest(response).startswith(b"HTTP/1.1 200")
    return True
