"""Connections to the web process: uvicorn's HTTP protocol with timeouts that it lacks.

Started as `uvicorn --http fleet.web.connections:TimeoutProtocol`. uvicorn closes an idle connection, but waits for ever for
a request whose head arrives byte by byte (Slowloris) and for a client that does not read the response. How long a body
may take: fleet/web/bodies.py.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import h11
from django.conf import settings
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from fleet import humanise
from fleet.limits import addresses
from fleet.web import shared_counters
from fleet.web.bodies import Refused, problem

_bucket = lru_cache(4_096)(addresses.bucket)


class Counted:
    """A connection that is counted by its address, in all processes of the site together, while it is open."""

    client: tuple[str, int] | None
    _counted = ""

    def enter(self) -> None:
        if self.client is not None:
            self._counted = f"address:{_bucket(self.client[0])}"
            shared_counters.site.add(self._counted)

    def leave(self) -> None:
        if self._counted:
            shared_counters.site.add(self._counted, -1)
            self._counted = ""

    def crowded(self) -> bool:
        """Whether there are more than one address may have, this one included."""
        most = settings.FLEET_ADDRESS_CONNECTIONS
        if not most or not self._counted or shared_counters.site.count(self._counted) <= most:
            return False
        return self.client is not None and not addresses.is_proxy(self.client[0])


class Socket(Counted, WebSocketsSansIOProtocol):
    """One that has become a WebSocket."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.enter()

    def connection_lost(self, exc: Exception | None) -> None:
        self.leave()
        super().connection_lost(exc)


class TimeoutProtocol(Counted, H11Protocol):
    """While nothing is being answered, the head of the next request has FLEET_PATIENCE_S to be whole: 408. A client that
    takes nothing of an answer for that long is left. One address has FLEET_ADDRESS_CONNECTIONS at most: 429."""

    _timer: asyncio.TimerHandle | None = None
    _unsent = 0  # when it was last looked

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.ws_protocol_class = Socket

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin()
        self.enter()
        if self.crowded():
            self._refuse(
                HTTPStatus.TOO_MANY_REQUESTS, "too_many_connections", "Your address has too many connections open."
            )

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        self.leave()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        super().handle_websocket_upgrade(event)
        self.leave()  # it counts as a Socket now, which is told of its end

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._quiet:
            self._end()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP: a problem like all others."""
        self._refuse(HTTPStatus.BAD_REQUEST, "bad_request", msg)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._quiet:
            self._begin()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._begin()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unsent = 0
        if not self._quiet:
            self._end()

    @property
    def _quiet(self) -> bool:
        """Nothing is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _begin(self) -> None:
        self._end()
        self._timer = self.loop.call_later(settings.FLEET_PATIENCE_S, self._late)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        if self.transport.get_protocol() is not self:
            return  # it has become a WebSocket, which has a patience of its own
        before, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        if self._unsent and self._unsent != before:
            self._begin()  # the last answer is still being taken
        elif self._unsent or self.transport.is_closing():
            self.transport.abort()
        elif not self.conn.trailing_data[0]:
            self.transport.close()  # nothing was asked, so there is nothing to answer
        else:
            seconds = humanise.duration(settings.FLEET_PATIENCE_S)
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "too_slow", f"The request's head did not arrive within {seconds}.")

    def _refuse(self, status: HTTPStatus, code: str, detail: str) -> None:
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            headers, body = problem(Refused(status, code, detail))
            head = h11.Response(status_code=int(status), headers=headers, reason=status.phrase.encode())
            said: list[Any] = [head, h11.Data(data=body), h11.EndOfMessage()]
            self.transport.write(b"".join(self.conn.send(one) or b"" for one in said))
        self.transport.close()
