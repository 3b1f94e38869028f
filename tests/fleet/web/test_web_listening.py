"""How the processes of the site accept connections, and how soon the kernel forgets a client that no longer reads."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import Any

from fleet.web.__main__ import Server, configuration, listening_socket
from tests.support.waiting import until

BURST = 30


async def no_application(scope: Any, receive: Any, send: Any) -> None:
    """Responds to nothing, because these clients send no request."""


def connect_burst(address: tuple[str, int], open_connections: contextlib.ExitStack) -> None:
    for _ in range(BURST):
        open_connections.enter_context(socket.create_connection(address, timeout=5))


def test_a_process_accepts_a_burst_in_small_batches_so_that_others_get_their_share() -> None:
    async def accept() -> tuple[int, int]:
        with listening_socket(0) as listener, contextlib.ExitStack() as open_connections:
            config = configuration(no_application, port=0)
            config.load()
            server = Server(config)
            server.lifespan = config.lifespan_class(config)
            await server.startup(sockets=[listener])
            server._beat.cancel()
            connect_burst(listener.getsockname(), open_connections)  # blocks the event loop
            for _ in range(10):
                await asyncio.sleep(0)
            early_count = len(server.server_state.connections)
            async with asyncio.timeout(20):
                while len(server.server_state.connections) < BURST:
                    await asyncio.sleep(0.01)
            for open_server in server.servers:
                open_server.close()
            return early_count, len(server.server_state.connections)

    early_count, accepted = asyncio.run(accept())
    assert accepted == BURST
    assert 0 < early_count <= 10


def test_data_that_a_client_does_not_read_is_dropped_after_the_timeout(settings: Any) -> None:
    settings.FLEET_HTTP_TIMEOUT_S = 0.5
    with listening_socket(0) as listener, socket.socket() as client:
        listener.listen()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect(listener.getsockname())
        connection, _ = listener.accept()
        with connection:
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):  # until the buffers of both kernels are full
                while True:
                    connection.send(bytes(65_536))
            error = until(lambda: connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
    assert error == errno.ETIMEDOUT
