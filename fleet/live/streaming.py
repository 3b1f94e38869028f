"""Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html.

A stream is opened by a view of Django's, with all that belongs to a request: who asks, whether they may, how often. When it
has answered, Django is done with it (its thread and its connection are given back), and the stream goes on here, by a task.
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
from fleet.api.views import ApiView, AsItComes, actor
from fleet.events import stream
from fleet.live import feeds, paths, tickets
from fleet.live.feeds import Feed, Told
from fleet.live.grants import Grant
from fleet.live.hub import hub
from fleet.live.listening import Listener
from fleet.live.tickets import TicketAuthentication
from fleet.web.bodies import Application

log = logging.getLogger("fleet.live")

OPENED = "fleet.live"  # where in the ASGI scope the view leaves what is to be followed
RETRY_MS = 2_000  # after which a browser comes again
SLOW_S = 20.0  # a client that takes nothing for so long is left; it comes again and goes on from where it was
MEDIA_TYPE = "text/event-stream"
_HEADERS = {"Cache-Control": "private, no-store, no-transform", "X-Accel-Buffering": "no"}


class Asked(Strict):
    last_event_id = CharField(
        max_length=40, required=False, initial="81714-20415", help_text="as the header has it, which is preferred"
    )
    ticket = CharField(
        max_length=100,
        required=False,
        initial="tkt_8Vw0nR4y",
        help_text="where no header can be sent; see POST tickets",
    )


class LiveView(ApiView):
    """An address with a stream."""

    authentication_classes: ClassVar[list[Any]] = [  # type: ignore[misc]
        BearerAuthentication, TicketAuthentication, SessionAuthentication,
    ]  # fmt: skip
    content_negotiation_class = AsItComes

    def grant(self, request: Request) -> Grant:
        shown = request.successful_authenticator
        if isinstance(shown, TicketAuthentication) and shown.grant is not None:
            return shown.grant
        return Grant.of(actor(request), browser=request._request.session.session_key or "")

    def follow(self, request: Request, asked: Mapping[str, Any], **feed: Any) -> StreamingHttpResponse:
        """Open it, where the client was or from now on. Without ASGI there is nobody to go on with it, and it ends."""
        grant = self.grant(request)
        hub.make_room(grant.user)
        text = request.headers.get("Last-Event-ID") or asked.get("last_event_id")
        begun = None if text else stream.now()
        start = begun.position if begun else feeds.read(text or "")
        opened = Feed(grant=grant, start=start, begun=begun, **feed)
        opening = f"retry: {RETRY_MS}\nid: {feeds.cursor(start)}\n\n".encode()
        content: AsyncIterator[bytes] | Iterator[bytes] = iter([opening])
        if (scope := getattr(request._request, "scope", None)) is not None and request.method == "GET":
            scope[OPENED] = Listener(opened, everything=opened.everything(actor(request)))
            content = _one(opening)
        return StreamingHttpResponse(content, content_type=f"{MEDIA_TYPE}; charset=utf-8", headers=_HEADERS)


class Streams:
    """ASGI: goes on with what a LiveView has opened."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not paths.is_stream(scope["path"]):
            return await self._application(scope, receive, send)
        tickets.hide(scope)

        async def go_on(message: Any) -> None:
            if OPENED in scope and message["type"] == "http.response.body":
                message = {**message, "more_body": True}
            await send(message)

        await self._application(scope, receive, go_on)
        if OPENED in scope:
            await _stream(scope[OPENED], receive, send)
        return None


async def _stream(listener: Listener, receive: Any, send: Any) -> None:
    telling = asyncio.current_task()
    assert telling is not None
    gone = asyncio.create_task(_gone(receive))
    gone.add_done_callback(lambda task: None if task.cancelled() else telling.cancel())
    try:
        async with contextlib.aclosing(listener.batches()) as batches:
            async for batch in batches:
                async with asyncio.timeout(SLOW_S):
                    await send({"type": "http.response.body", "body": _written(listener, batch), "more_body": True})
        async with asyncio.timeout(SLOW_S):
            await send({"type": "http.response.body", "body": _last(listener), "more_body": False})
    except TimeoutError:
        log.info("a listener took nothing for %.0f s and is left", SLOW_S)
    except asyncio.CancelledError:
        if not gone.done():
            raise
    finally:
        gone.cancel()


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _written(listener: Listener, batch: list[Told]) -> bytes:
    if not batch:
        return f": still here\nid: {feeds.cursor(listener.position)}\n\n".encode()
    return "".join(f"id: {told.cursor}\nevent: {told.event.kind}\ndata: {told.text}\n\n" for told in batch).encode()


def _last(listener: Listener) -> bytes:
    """The final event: why nothing more comes."""
    if listener.ended is None:
        return b""
    data = json.dumps(listener.ended.as_json(), separators=(",", ":"))
    return f"id: {feeds.cursor(listener.position)}\nevent: end\ndata: {data}\n\n".encode()


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content
