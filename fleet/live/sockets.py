"""The same streams over WebSocket (RFC 6455), by channels.

A socket is opened by the view of its SSE stream, asked with the handshake's headers: the same rights, limits and trail.
Whoever is refused is let in and closed with a code of docs/live.md, which is all that a browser would tell its page.
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

from fleet import errors
from fleet.live import feeds, origins, paths, tickets
from fleet.live.feeds import End, Told
from fleet.live.hub import hub
from fleet.live.listening import Listener
from fleet.live.streaming import OPENED, SLOW_S
from fleet.web.bodies import Application

log = logging.getLogger("fleet.live")

PROTOCOL, TICKET = "fleet.v1", "fleet.ticket."  # of Sec-WebSocket-Protocol
CODES = {401: 4401, 403: 4403, 404: 4404, 422: 4422, 429: 4429}  # of HTTP, and what we close with
TICKET_S = 5.0  # in which it must be said
NOT_NOW, BAD_MESSAGE, TOO_SLOW, LONGEST_WHY = 1013, 4400, 4408, 123  # bytes (RFC 6455)
_OF_THE_HANDSHAKE = (
    b"sec-websocket-",
    b"upgrade",
    b"connection",
    b"origin",
    b"content-",
    b"transfer-",
    b"last-event-id",
)


class Socket(AsyncWebsocketConsumer):  # type: ignore[misc]
    """One client. It may say `{"cursor": …}` once, and hears `{"cursor": …, "event": …}` from there on. One that speaks
    fleet.v1 and has shown nothing yet says `{"ticket": …}` first."""

    def __init__(self, *, door: Application) -> None:
        super().__init__()
        self._door = door
        self._listener: Listener | None = None
        self._telling: asyncio.Task[None] | None = None
        self._asked = False
        self._stream = ""
        self._awaiting: asyncio.Task[None] | None = None  # a ticket

    async def connect(self) -> None:
        headers = origins.read(self.scope["headers"])
        stream = paths.of_socket(self.scope["path"])
        own = origins.is_own(headers)
        if stream is None or not origins.is_host(headers) or not (own or origins.is_friend(headers)):
            raise DenyConnection
        self._stream = stream
        spoken = self.scope.get("subprotocols", ())
        shown = _ticket(spoken)
        awaited = PROTOCOL in spoken and not shown and b"authorization" not in headers
        opened = await self._open(cookies=own, ticket=shown)
        await self.accept(PROTOCOL if PROTOCOL in spoken else None)
        if isinstance(opened, End) and opened.code == CODES[HTTPStatus.UNAUTHORIZED] and awaited:
            self._awaiting = asyncio.create_task(self._await_ticket())
        else:
            await self._begin(opened)

    async def disconnect(self, code: int) -> None:
        for task in (self._awaiting, self._telling):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self._awaiting is not None:
            self._awaiting.cancel()
            self._awaiting = None
            await self._redeem(text_data or "")
            return
        if self._listener is None:
            return
        try:
            said = json.loads(text_data or "")
            if self._asked or not isinstance(said, dict) or said.keys() != {"cursor"}:
                raise ValueError
            self._asked = True
            last = await hub.work(lambda: feeds.read(str(said["cursor"])))
        except (ValueError, RecursionError):
            self._listener.end(End(BAD_MESSAGE, 'Say {"cursor": "…"}, once.'))
        except errors.Invalid as fault:
            self._listener.end(End(CODES[fault.status], str(fault)))
        else:
            self._listener.rewind(last)

    async def _begin(self, opened: Listener | End) -> None:
        if isinstance(opened, End):
            await self._end(opened)
            return
        self._listener = opened
        self._telling = asyncio.create_task(self._tell(opened))

    async def _await_ticket(self) -> None:
        await asyncio.sleep(TICKET_S)
        await self.close(CODES[401], "No ticket came.")

    async def _redeem(self, text: str) -> None:
        """A ticket that is said, and not shown in the handshake, is in no proxy's log whatever that writes down."""
        try:
            match json.loads(text):
                case {"ticket": str(shown), **more} if shown and not more:
                    await self._begin(await self._open(cookies=False, ticket=shown))
                case _:
                    raise ValueError
        except (ValueError, RecursionError):
            await self.close(BAD_MESSAGE, 'Say {"ticket": "…"} first.')

    async def _open(self, *, cookies: bool, ticket: str) -> Listener | End:
        """What the view answers."""
        asked = dict(parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True))
        if unknown := sorted(asked.keys() - {"cursor"}):
            return End(CODES[404], f"There is no parameter {unknown[0][:40]!r}; there is `cursor`.")
        with_cursor = "cursor" in asked
        if with_cursor:
            asked["last_event_id"] = asked.pop("cursor")
        kept = [
            (name, value) for name, value in self.scope["headers"]
            if not name.lower().startswith(_OF_THE_HANDSHAKE) and (cookies or name.lower() != b"cookie")
        ]  # fmt: skip
        scope: dict[str, Any] = {
            **{name: self.scope[name] for name in ("asgi", "client", "server", "root_path") if name in self.scope},
            "type": "http", "http_version": "1.1", "method": "GET", "headers": kept,
            "scheme": "https" if self.scope.get("scheme") == "wss" else "http",
            "path": self._stream, "raw_path": self._stream.encode(), "query_string": urlencode(asked).encode(),
            paths.ASKED: self.scope["path"],
        }  # fmt: skip
        if ticket:
            scope[tickets.SHOWN] = ticket
        status, said, sent = 500, b"", False

        async def receive() -> Any:
            nonlocal sent
            if sent:
                await asyncio.Event().wait()  # nobody goes before it is answered
            sent = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status, said
            status = message.get("status", status)
            said += message.get("body", b"")

        await self._door(scope, receive, send)
        return scope[OPENED] if status == 200 and OPENED in scope else _refusal(status, said, with_cursor=with_cursor)

    async def _end(self, end: End) -> None:
        await self.close(end.code, end.why.encode()[:LONGEST_WHY].decode(errors="ignore"))

    async def _tell(self, listener: Listener) -> None:
        try:
            async with contextlib.aclosing(listener.batches()) as batches:
                async for batch in batches:
                    async with asyncio.timeout(SLOW_S):
                        if not batch:
                            await self.send(json.dumps({"cursor": feeds.cursor(listener.position)}))
                        for told in batch:
                            await self.send(_written(told))
        except TimeoutError:
            listener.end(End(TOO_SLOW, "Too slow; come again with your last cursor."))
        end = listener.ended or End(NOT_NOW, "")
        async with asyncio.timeout(SLOW_S):
            if end.code == feeds.OVER:
                await self.send(json.dumps({"cursor": feeds.cursor(listener.position), "end": end.as_json()}))
            await self._end(end)


def _refusal(status: int, said: bytes, *, with_cursor: bool) -> End:
    """Why the view lets nobody listen. Without a cursor it is the address that cannot be right: to come again is of no use."""
    if status == HTTPStatus.UNPROCESSABLE_ENTITY and not with_cursor:
        status = HTTPStatus.NOT_FOUND
    try:
        why = str(json.loads(said)["detail"])
    except (ValueError, KeyError, TypeError):
        why = "This cannot be followed now; come again later."
    return End(CODES.get(status, NOT_NOW), why)


def _written(told: Told) -> str:
    return f'{{"cursor":"{told.cursor}","event":{told.text}}}'


def _ticket(protocols: Iterable[str]) -> str:
    """The one that stands among the subprotocols: a page can send no other header, and this one is in no log."""
    return next((one.removeprefix(TICKET) for one in protocols if one.startswith(TICKET)), "")


class Sockets:
    """ASGI: what is asked for by WebSocket. `door` answers HTTP."""

    def __init__(self, door: Application) -> None:
        self._application = Socket.as_asgi(door=door)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        tickets.hide(scope)
        scope.pop(tickets.SHOWN, None)  # one in the address is not taken: a socket has a better place for it
        await self._application(scope, receive, send)
