"""Event streams over WebSocket (RFC 6455), with channels.

A socket is opened by the view of its SSE stream, called with the headers of the handshake, so permissions, rate limits
and the audit trail are the same. A refused client is accepted and then closed with a code of docs/live.md, because a
page in a browser cannot see why a handshake failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlencode

from channels.exceptions import DenyConnection
from channels.generic.websocket import AsyncWebsocketConsumer

from fleet import errors, humanise
from fleet.live import feeds, origins, paths, tickets
from fleet.live.feeds import End, SerializedEvent
from fleet.live.hub import hub
from fleet.live.listening import Listener
from fleet.live.streaming import LISTENER, SEND_TIMEOUT_S
from fleet.web.bodies import Application

log = logging.getLogger("fleet.live")

PROTOCOL, TICKET = "fleet.v1", "fleet.ticket."  # of Sec-WebSocket-Protocol
CODES = {  # HTTP status to close code
    401: feeds.NOT_SIGNED_IN,
    403: feeds.FORBIDDEN,
    404: feeds.NOT_FOUND,
    422: 4422,
    429: 4429,
}
TICKET_TIMEOUT_S = 5.0  # for the ticket as the first message
TRY_AGAIN_LATER, BAD_MESSAGE, TOO_SLOW = 1013, 4400, 4408
MAX_REASON_BYTES = 123  # of a close frame (RFC 6455)
_HANDSHAKE_HEADERS = (
    b"sec-websocket-",
    b"upgrade",
    b"connection",
    b"origin",
    b"content-",
    b"transfer-",
    b"last-event-id",
)


class Socket(AsyncWebsocketConsumer):  # type: ignore[misc]
    """One client. It may send `{"cursor": …}` once, and receives `{"cursor": …, "event": …}` from there on.

    A client with the subprotocol fleet.v1 and no other credential sends `{"ticket": …}` first.
    """

    def __init__(self, *, http_app: Application) -> None:
        super().__init__()
        self._http_app = http_app
        self._listener: Listener | None = None
        self._sender: asyncio.Task[None] | None = None
        self._cursor_received = False
        self._stream = ""
        self._ticket_timeout: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        headers = origins.headers_of(self.scope["headers"])
        stream = paths.sse_path_for(self.scope["path"])
        same_origin = origins.is_same_origin(headers)
        if (
            stream is None
            or not origins.is_allowed_host(headers)
            or not (same_origin or origins.is_allowed_origin(headers))
        ):
            raise DenyConnection
        self._stream = stream
        protocols = self.scope.get("subprotocols", ())
        ticket = _ticket(protocols)
        awaits_ticket = PROTOCOL in protocols and not ticket and b"authorization" not in headers
        result = await self._open(cookies=same_origin, ticket=ticket)
        await self.accept(PROTOCOL if PROTOCOL in protocols else None)
        if isinstance(result, End) and result.code == feeds.NOT_SIGNED_IN and awaits_ticket:
            self._ticket_timeout = asyncio.create_task(self._await_ticket())
        else:
            await self._begin(result)

    async def disconnect(self, code: int) -> None:
        for task in (self._ticket_timeout, self._sender):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self._ticket_timeout is not None:
            self._ticket_timeout.cancel()
            self._ticket_timeout = None
            await self._redeem(text_data or "")
            return
        if self._listener is None:
            return
        try:
            message = json.loads(text_data or "")
            if self._cursor_received or not isinstance(message, dict) or message.keys() != {"cursor"}:
                raise ValueError
            self._cursor_received = True
            position = await hub.run(lambda: feeds.parse_cursor(str(message["cursor"])))
        except (ValueError, RecursionError):
            self._listener.end(End(BAD_MESSAGE, 'Send {"cursor": "…"}, once.'))
        except errors.Invalid as error:
            self._listener.end(End(CODES[error.status], str(error)))
        else:
            self._listener.rewind(position)

    async def _begin(self, result: Listener | End) -> None:
        if isinstance(result, End):
            await self._end(result)
            return
        self._listener = result
        self._sender = asyncio.create_task(self._send_events(result))

    async def _await_ticket(self) -> None:
        await asyncio.sleep(TICKET_TIMEOUT_S)
        await self.close(feeds.NOT_SIGNED_IN, f"No ticket was sent within {humanise.duration(TICKET_TIMEOUT_S)}.")

    async def _redeem(self, text: str) -> None:
        """Use a ticket from the first message. Unlike one in the handshake, it cannot end up in the log of a proxy."""
        try:
            match json.loads(text):
                case {"ticket": str(ticket), **others} if ticket and not others:
                    await self._begin(await self._open(cookies=False, ticket=ticket))
                case _:
                    raise ValueError
        except (ValueError, RecursionError):
            await self.close(BAD_MESSAGE, 'Send {"ticket": "…"} first.')

    async def _open(self, *, cookies: bool, ticket: str) -> Listener | End:
        """Open the stream by an internal HTTP request to its view. Returns the listener, or why there is none."""
        query = dict(parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True))
        if unknown := sorted(query.keys() - {"cursor"}):
            return End(feeds.NOT_FOUND, f"Unknown parameter {unknown[0][:40]!r}. The only one is `cursor`.")
        with_cursor = "cursor" in query
        if with_cursor:
            query["last_event_id"] = query.pop("cursor")
        headers = [
            (name, value) for name, value in self.scope["headers"]
            if not name.lower().startswith(_HANDSHAKE_HEADERS) and (cookies or name.lower() != b"cookie")
        ]  # fmt: skip
        scope: dict[str, Any] = {
            **{name: self.scope[name] for name in ("asgi", "client", "server", "root_path") if name in self.scope},
            "type": "http", "http_version": "1.1", "method": "GET", "headers": headers,
            "scheme": "https" if self.scope.get("scheme") == "wss" else "http",
            "path": self._stream, "raw_path": self._stream.encode(), "query_string": urlencode(query).encode(),
            paths.REQUESTED_PATH: self.scope["path"],
        }  # fmt: skip
        if ticket:
            scope[tickets.SCOPE_KEY] = ticket
        status, content, request_sent = 500, b"", False

        async def receive() -> Any:
            nonlocal request_sent
            if request_sent:
                await asyncio.Event().wait()  # this client never disconnects
            request_sent = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status, content
            status = message.get("status", status)
            content += message.get("body", b"")

        await self._http_app(scope, receive, send)
        if status == HTTPStatus.OK and LISTENER in scope:
            listener: Listener = scope[LISTENER]
            return listener
        return _refusal(status, content, with_cursor=with_cursor)

    async def _end(self, end: End) -> None:
        await self.close(end.code, end.why.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))

    async def _send_events(self, listener: Listener) -> None:
        try:
            async with contextlib.aclosing(listener.batches()) as batches:
                async for batch in batches:
                    async with asyncio.timeout(SEND_TIMEOUT_S):
                        if not batch:
                            await self.send(json.dumps({"cursor": feeds.cursor(listener.position)}))
                        for event in batch:
                            await self.send(_encode(event))
        except TimeoutError:
            listener.end(End(TOO_SLOW, "Too slow. Reconnect with the last cursor."))
        end = listener.ended or End(TRY_AGAIN_LATER, "")
        async with asyncio.timeout(SEND_TIMEOUT_S):
            if end.code == feeds.NORMAL_CLOSURE:
                await self.send(json.dumps({"cursor": feeds.cursor(listener.position), "end": end.as_json()}))
            await self._end(end)


def _refusal(status: int, content: bytes, *, with_cursor: bool) -> End:
    """Why the view refused the stream. Without a cursor, a 422 means that the path is wrong, so it becomes a 404."""
    if status == HTTPStatus.UNPROCESSABLE_ENTITY and not with_cursor:
        status = HTTPStatus.NOT_FOUND
    try:
        why = str(json.loads(content)["detail"])
    except (ValueError, KeyError, TypeError):
        why = "The stream is unavailable. Try again later."
    return End(CODES.get(status, TRY_AGAIN_LATER), why)


def _encode(event: SerializedEvent) -> str:
    return f'{{"cursor":"{event.cursor}","event":{event.text}}}'


def _ticket(protocols: Iterable[str]) -> str:
    """The ticket among the subprotocols: the one header that a page can set, and one that is not logged."""
    return next((name.removeprefix(TICKET) for name in protocols if name.startswith(TICKET)), "")


class Sockets:
    """The ASGI application for WebSockets. `http_app` handles the internal HTTP requests."""

    def __init__(self, http_app: Application) -> None:
        self._application = Socket.as_asgi(http_app=http_app)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        tickets.hide(scope)
        scope.pop(tickets.SCOPE_KEY, None)  # sockets accept no ticket in the URL
        await self._application(scope, receive, send)
