"""Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html.

A Django view opens the stream, with the usual authentication, permissions and rate limits. After its response headers,
Django is done: its thread and its connection are released, and a task of this module continues the stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, ClassVar

from django.http import StreamingHttpResponse
from rest_framework.request import Request
from rest_framework.serializers import CharField

from fleet.access.authentication import BearerAuthentication, SessionAuthentication
from fleet.api.serializers import Strict
from fleet.api.views import ApiView, IgnoreAccept, actor_of
from fleet.events import stream
from fleet.live import feeds, paths, tickets
from fleet.live.feeds import Feed, SerializedEvent
from fleet.live.grants import Grant
from fleet.live.hub import hub
from fleet.live.listening import Listener
from fleet.live.tickets import TicketAuthentication
from fleet.web.bodies import Application

log = logging.getLogger("fleet.live")

LISTENER = "fleet.live"  # key in the ASGI scope of the listener that the view has opened
RETRY_MS = 2_000  # after which a browser reconnects
SEND_TIMEOUT_S = 20.0  # then a slow client is disconnected; it can reconnect with its cursor
MEDIA_TYPE = "text/event-stream"
_HEADERS = {"Cache-Control": "private, no-store, no-transform", "X-Accel-Buffering": "no"}


class StreamQuery(Strict):
    last_event_id = CharField(
        max_length=40,
        required=False,
        initial="81714-20415",
        help_text="like the header `Last-Event-ID`, which takes precedence",
    )
    ticket = CharField(
        max_length=100,
        required=False,
        initial="tkt_8Vw0nR4y",
        help_text="for clients that cannot set headers; see POST tickets",
    )


class LiveView(ApiView):
    """A view that opens a stream."""

    authentication_classes: ClassVar[list[Any]] = [  # type: ignore[misc]
        BearerAuthentication, TicketAuthentication, SessionAuthentication,
    ]  # fmt: skip
    content_negotiation_class = IgnoreAccept

    def grant(self, request: Request) -> Grant:
        authenticator = request.successful_authenticator
        if isinstance(authenticator, TicketAuthentication) and authenticator.grant is not None:
            return authenticator.grant
        return Grant.of(actor_of(request), browser=request._request.session.session_key or "")

    def follow(self, request: Request, query: Mapping[str, Any], **feed: Any) -> StreamingHttpResponse:
        """Open a stream at the client's cursor, or now. Without ASGI the stream ends at once."""
        grant = self.grant(request)
        hub.check_capacity(grant.user)
        snapshot = None
        if cursor := request.headers.get("Last-Event-ID") or query.get("last_event_id"):
            start = feeds.parse_cursor(cursor)
        else:
            snapshot = stream.snapshot()
            start = snapshot.position
        new_feed = Feed(grant=grant, start=start, snapshot=snapshot, **feed)
        preamble = f"retry: {RETRY_MS}\nid: {feeds.cursor(start)}\n\n".encode()
        content: AsyncIterator[bytes] | Iterator[bytes] = iter([preamble])
        if (scope := getattr(request._request, "scope", None)) is not None and request.method == "GET":
            scope[LISTENER] = Listener(new_feed, sees_everything=new_feed.sees_everything(actor_of(request)))
            content = _single(preamble)
        return StreamingHttpResponse(content, content_type=f"{MEDIA_TYPE}; charset=utf-8", headers=_HEADERS)


class Streams:
    """ASGI middleware: continues the streams that LiveView opens."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not paths.is_stream(scope["path"]):
            return await self._application(scope, receive, send)
        tickets.hide(scope)

        async def keep_open(message: Any) -> None:
            if LISTENER in scope and message["type"] == "http.response.body":
                message = {**message, "more_body": True}
            await send(message)

        await self._application(scope, receive, keep_open)
        if LISTENER in scope:
            await _stream(scope[LISTENER], receive, send)
        return None


async def _stream(listener: Listener, receive: Any, send: Any) -> None:
    sender = asyncio.current_task()
    assert sender is not None
    disconnected = asyncio.create_task(_wait_for_disconnect(receive))
    disconnected.add_done_callback(lambda task: None if task.cancelled() else sender.cancel())
    try:
        async with contextlib.aclosing(listener.batches()) as batches:
            async for batch in batches:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await send({"type": "http.response.body", "body": _encode(listener, batch), "more_body": True})
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await send({"type": "http.response.body", "body": _encode_end(listener), "more_body": False})
    except TimeoutError:
        log.info("a listener read nothing for %.0f s and is disconnected", SEND_TIMEOUT_S)
    except asyncio.CancelledError:
        if not disconnected.done():
            raise
    finally:
        disconnected.cancel()


async def _wait_for_disconnect(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _encode(listener: Listener, batch: list[SerializedEvent]) -> bytes:
    if not batch:
        return f": keepalive\nid: {feeds.cursor(listener.position)}\n\n".encode()
    return "".join(f"id: {event.cursor}\nevent: {event.event.kind}\ndata: {event.text}\n\n" for event in batch).encode()


def _encode_end(listener: Listener) -> bytes:
    """The final event, which says why the stream ends."""
    if listener.ended is None:
        return b""
    data = json.dumps(listener.ended.as_json(), separators=(",", ":"))
    return f"id: {feeds.cursor(listener.position)}\nevent: end\ndata: {data}\n\n".encode()


async def _single(content: bytes) -> AsyncIterator[bytes]:
    yield content
