"""Commands talk to the supervisor over its socket, and say what happened if it does not answer."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fleet import errors
from fleet.config.home import Home
from fleet.services.supervision import control_socket
from tests.fleet.services.supervisor_harness import SupervisorHarness, new_service


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.create_folders()
    return home


@contextmanager
def listener(home: Home, answer: Callable[[socket.socket], None]) -> Iterator[None]:
    """A program that listens on the socket of the supervisor and treats one connection in its own way."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(home.run / "supervisor.sock"))
        server.listen(1)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(60)


def request(home: Home) -> Any:
    return control_socket.send_request(home, {"do": "status"}, seconds=0.3)


def test_a_socket_that_a_killed_supervisor_left_means_that_none_runs(home: Home) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(home.run / "supervisor.sock"))
    with pytest.raises(control_socket.NotRunning) as error:
        request(home)
    assert error.value.hint.startswith("Start the fleet: ")
    control_socket.remove(home)
    assert not (home.run / "supervisor.sock").exists()


def test_a_supervisor_that_is_halted_does_not_block_a_command(home: Home) -> None:
    done = threading.Event()

    def say_nothing(connection: socket.socket) -> None:
        done.wait(60)

    with listener(home, say_nothing):
        with pytest.raises(errors.Unavailable, match=r"The supervisor did not answer within 0\.3 s"):
            request(home)
        done.set()


@pytest.mark.parametrize("part", [b"", b'{"ok": {"pid": 12'])
def test_a_supervisor_that_ends_during_its_answer_is_not_running(home: Home, part: bytes) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(part)

    with listener(home, answer), pytest.raises(control_socket.NotRunning, match="ended before it answered"):
        request(home)


def test_a_supervisor_that_fails_unexpectedly_does_not_let_its_client_wait(home: Home) -> None:
    async def fail(request: dict[str, Any]) -> Any:
        raise KeyError("port")

    async def ask() -> None:
        async with control_socket.serve(home, fail):
            await asyncio.to_thread(request, home)

    with pytest.raises(control_socket.NotRunning, match="ended before it answered"):
        asyncio.run(ask())


def test_the_supervisor_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    harness = SupervisorHarness(tmp_path, new_service("base"))

    async def send(request: dict[str, Any]) -> Any:
        return await asyncio.to_thread(control_socket.send_request, harness.home, request)

    async def ask() -> None:
        with pytest.raises(errors.NotFound, match="No service is called 'redis'") as unknown:
            await send({"do": "restart", "name": "redis"})
        assert unknown.value.hint == "The services are: base."
        with pytest.raises(errors.Invalid, match="does not know this request") as newer:
            await send({"do": "something new"})
        assert "Restart the fleet." in newer.value.hint
        assert (await send({"do": "status"}))["ready"]

    assert harness.run(ask) == 0


def test_a_line_that_is_no_request_does_not_stop_the_supervisor_from_answering(tmp_path: Path) -> None:
    harness = SupervisorHarness(tmp_path, new_service("base"))

    def garbage() -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(harness.home.run / "supervisor.sock"))
            client.sendall(b"GET / HTTP/1.1\n")
            return client.recv(1000)

    async def ask() -> None:
        assert await asyncio.to_thread(garbage) == b""
        assert (await asyncio.to_thread(control_socket.send_request, harness.home, {"do": "status"}))["ready"]

    assert harness.run(ask) == 0
