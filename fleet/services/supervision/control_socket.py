"""Talking to the supervisor that runs: a Unix socket in its private folder, a JSON line to and fro.

{"do": "status"}                      {"ok": {…}}
{"do": "restart", "name": "valkey"}   {"ok": null}, once it answers again
{"do": "stop"}                        {"ok": null}, at once; the lock tells when it is done
anything that cannot be done          {"error": {"kind": …, "message": …, "hint": …}}
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

from fleet import errors, humanise, invocation
from fleet.config import unix_sockets
from fleet.config.home import Home

Answer = Callable[[dict[str, Any]], Awaitable[Any]]
_KINDS = {kind.code: kind for kind in (errors.NotFound, errors.Invalid, errors.Conflict, errors.Unavailable)}
_SOCKET = "supervisor.sock"


class NotRunning(errors.Unavailable):
    """No supervisor runs here."""


@asynccontextmanager
async def serve(home: Home, answer: Answer) -> AsyncIterator[None]:
    """Answer requests while inside."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Cancelled with the loop, when the supervisor ends in the middle of an answer: asyncio would print a traceback.
        with contextlib.suppress(ConnectionError, ValueError, asyncio.CancelledError):
            request = json.loads(await reader.readline())
            try:
                reply = {"ok": await answer(request)}
            except errors.FleetError as fault:
                reply = {"error": {"kind": fault.code, "message": fault.message, "hint": fault.hint}}
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        writer.close()

    forget(home)
    with unix_sockets.address(home, _SOCKET) as address:
        server = await asyncio.start_unix_server(talk, address)
        os.chmod(address, 0o600)
        try:
            yield
        finally:
            server.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address)


def forget(home: Home) -> None:
    """Remove the socket that a killed supervisor left."""
    with unix_sockets.address(home, _SOCKET) as address, contextlib.suppress(FileNotFoundError):
        os.unlink(address)


def ask(home: Home, request: dict[str, Any], *, seconds: float = 10) -> Any:
    """What the supervisor answers; NotRunning where there is none, or the error that it reports."""
    with unix_sockets.address(home, _SOCKET) as address, socket.socket(socket.AF_UNIX) as line:
        line.settimeout(seconds)
        try:
            line.connect(address)
            line.sendall(json.dumps(request).encode() + b"\n")
            with line.makefile() as answers:
                reply = json.loads(answers.readline() or "null")
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunning(hint=f"Start the fleet: {invocation.command('fleet_up', '--detach')}") from None
        except TimeoutError:
            raise errors.Unavailable(f"The supervisor did not answer within {humanise.duration(seconds)}.") from None
        except ConnectionError:
            reply = None
    if reply is None:
        raise NotRunning("The supervisor ended before it answered.")
    if fault := reply.get("error"):
        raise _KINDS.get(fault["kind"], errors.FleetError)(fault["message"], hint=fault["hint"])
    return reply["ok"]
