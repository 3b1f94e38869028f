"""The control socket of the running supervisor: a Unix socket in the private folder, one JSON line each way.

{"do": "status", "measure": true}     {"ok": {…}}      `measure`: measure the memory now (the default)
{"do": "restart", "name": "valkey"}   {"ok": null}, once the service is healthy again
{"do": "stop"}                        {"ok": null}, at once; the supervisor releases its lock when it has stopped
a request that fails                  {"error": {"kind": …, "message": …, "hint": …}}
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fleet import errors, humanise
from fleet.config import unix_sockets
from fleet.config.home import Home
from fleet.console import invocation

Handler = Callable[[dict[str, Any]], Awaitable[Any]]
_KINDS = {kind.code: kind for kind in (errors.NotFound, errors.Invalid, errors.Conflict, errors.Unavailable)}
_SOCKET = "supervisor.sock"


class NotRunning(errors.Unavailable):
    """No supervisor runs here."""


@asynccontextmanager
async def serve(home: Home, handler: Handler) -> AsyncIterator[None]:
    """Serve requests within the context."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # If the supervisor ends meanwhile, the loop cancels this task, and asyncio would print a traceback.
        with contextlib.suppress(ConnectionError, ValueError, asyncio.CancelledError):
            request = json.loads(await reader.readline())
            try:
                reply = {"ok": await handler(request)}
            except errors.FleetError as error:
                reply = {"error": {"kind": error.code, "message": error.message, "hint": error.hint}}
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        writer.close()

    remove(home)
    with unix_sockets.address(home, _SOCKET) as address:
        server = await asyncio.start_unix_server(respond, address)
        os.chmod(address, 0o600)
        try:
            yield
        finally:
            server.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address)


def remove(home: Home) -> None:
    """Remove the socket that a killed supervisor left behind."""
    with unix_sockets.address(home, _SOCKET) as address, contextlib.suppress(FileNotFoundError):
        os.unlink(address)


def send_request(home: Home, request: dict[str, Any], *, seconds: float = 10) -> Any:
    """Send a request to the supervisor and return its reply.

    Raises NotRunning if no supervisor runs, or the error that the supervisor reports.
    """
    with unix_sockets.address(home, _SOCKET) as address, socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        try:
            connection.connect(address)
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile() as replies:
                reply = json.loads(replies.readline() or "null")
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunning(hint=f"Start the fleet: {invocation.command('fleet_up', '--detach')}") from None
        except TimeoutError:
            raise errors.Unavailable(f"The supervisor did not answer within {humanise.duration(seconds)}.") from None
        except (ConnectionError, ValueError):  # nothing or half a reply, from a supervisor that was killed
            reply = None
    if reply is None:
        raise NotRunning("The supervisor ended before it answered.")
    if error := reply.get("error"):
        raise _KINDS.get(error["kind"], errors.FleetError)(error["message"], hint=error["hint"])
    return reply["ok"]
