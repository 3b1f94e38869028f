"""Connections to the web process: uvicorn's HTTP protocol with timeouts that it lacks.

`fleet/web/__main__.py` passes TimeoutProtocol to uvicorn. uvicorn itself closes an idle connection, but waits forever
for a request whose headers arrive byte by byte (Slowloris) and for a client that does not read the response. The
timeout for bodies is in fleet/web/bodies.py.
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
from fleet.web.refusals import RequestRefused, problem

FREE_CHUNKS = 1_000  # of a body, before their size matters
MIN_CHUNK_BYTES = 64  # on average
SOCKET_BYTES, SOCKET_BYTES_PER_S = 16_384, 1_024  # that the client of a WebSocket may send at once, and on average
POLICY_VIOLATION = 1008  # close code of RFC 6455

_bucket = lru_cache(4_096)(addresses.bucket)


class _Parser(h11.Connection):
    """h11's parser, which refuses a body of many tiny chunks: each takes as long to parse as a large one."""

    _chunks = _body_bytes = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._body_bytes = 0
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            self._body_bytes += len(event.data)
            if self._chunks > FREE_CHUNKS and self._body_bytes < self._chunks * MIN_CHUNK_BYTES:
                raise h11.RemoteProtocolError("The body has too many tiny chunks.")
        return event


class _CountedConnection:
    """A connection that is counted by its address while it is open, across all processes of the site."""

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

    def exceeds_limit(self) -> bool:
        """Whether the address has more connections than allowed, including this one."""
        limit = settings.FLEET_ADDRESS_CONNECTIONS
        if not limit or not self._counted or shared_counters.site.count(self._counted) <= limit:
            return False
        return self.client is not None and not addresses.is_proxy(self.client[0])


class WebSocketProtocol(_CountedConnection, WebSocketsSansIOProtocol):
    """A connection that has become a WebSocket.

    Clients have little to say here. One that sends more than SOCKET_BYTES at once, or SOCKET_BYTES_PER_S on average, is
    disconnected: each frame takes 3 µs to parse, however small it is, and each ping is answered, even while the client
    reads nothing, so the answers would fill the memory.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bytes_left, self._counted_at = float(SOCKET_BYTES), self.loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.enter()

    def data_received(self, data: bytes) -> None:
        """Parse what the client may send. Close the connection if that is too much, or if websockets refuses the head of
        the handshake, for which uvicorn would wait forever."""
        bytes_left = self._count(len(data)) if self.handshake_initiated else len(data)
        super().data_received(data[:bytes_left])
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.close()
        elif len(data) > bytes_left and not self.transport.is_closing():
            self._refuse()

    def _count(self, size: int) -> int:
        """Count bytes that have arrived. Returns how many of them the client was allowed to send."""
        now = self.loop.time()
        allowed = min(SOCKET_BYTES, self._bytes_left + (now - self._counted_at) * SOCKET_BYTES_PER_S)
        self._bytes_left, self._counted_at = max(0.0, allowed - size), now
        return int(allowed)

    def _refuse(self) -> None:
        if self.handshake_complete and not self.close_sent:
            self.conn.fail(POLICY_VIOLATION, "You have sent too much.")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.leave()
        super().connection_lost(exc)


class TimeoutProtocol(_CountedConnection, H11Protocol):
    """uvicorn's HTTP/1.1 protocol with timeouts and a limit per address.

    - The headers of a request must arrive within FLEET_HTTP_TIMEOUT_S (408).
    - A client that reads nothing of a response for FLEET_HTTP_TIMEOUT_S is disconnected.
    - An address may have at most FLEET_ADDRESS_CONNECTIONS (429).
    - A body may not consist of many tiny chunks (400).
    """

    _timer: asyncio.TimerHandle | None = None
    _unsent = 0  # bytes, at the last timeout

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _Parser(h11.SERVER, self.conn._max_incomplete_event_size)
        self.ws_protocol_class = WebSocketProtocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()
        self.enter()
        if self.exceeds_limit():
            self._refuse(
                HTTPStatus.TOO_MANY_REQUESTS, "too_many_connections", "Your address has too many connections open."
            )

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self.leave()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        super().handle_websocket_upgrade(event)
        self._stop_timer()  # which would keep this object, with the request, in memory until it ends
        self.leave()  # it is counted by WebSocketProtocol from now on

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._idle:
            self._stop_timer()

    def send_400_response(self, msg: str) -> None:
        """Respond to malformed HTTP with a problem."""
        self._refuse(HTTPStatus.BAD_REQUEST, "bad_request", msg)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._idle:
            self._start_timer()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unsent = 0
        if not self._idle:
            self._stop_timer()

    @property
    def _idle(self) -> bool:
        """Whether no request is in progress."""
        return self.cycle is None or self.cycle.response_complete

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(settings.FLEET_HTTP_TIMEOUT_S, self._on_timeout)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        before, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        if self._unsent and self._unsent != before:
            self._start_timer()  # the client is still reading
        elif self._unsent or self.transport.is_closing():
            self.transport.abort()
        elif not self.conn.trailing_data[0]:
            self.transport.close()  # no request has started, so no response is due
        else:
            seconds = humanise.duration(settings.FLEET_HTTP_TIMEOUT_S)
            self._refuse(
                HTTPStatus.REQUEST_TIMEOUT, "too_slow", f"The request headers did not arrive within {seconds}."
            )

    def _refuse(self, status: HTTPStatus, code: str, detail: str) -> None:
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            headers, body = problem(RequestRefused(status, code, detail))
            head = h11.Response(status_code=int(status), headers=headers, reason=status.phrase.encode())
            events: list[Any] = [head, h11.Data(data=body), h11.EndOfMessage()]
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()
