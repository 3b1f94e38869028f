"""An ASGI handler in which one thread of a pool handles a whole request, as under WSGI.

Django's own ASGI handler switches threads for each synchronous middleware, for its signals and at the end of the
response, and starts a new thread with a new database wrapper for each request. Each switch costs CPU time, and in
a busy process up to 5 ms of waiting for the GIL. Our middleware never waits, so the switches gain nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from functools import partial
from typing import IO, Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.signals import request_started
from django.db import connection, connections
from django.http import FileResponse
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

from fleet.web.address_bytes import AddressBytes

EXEMPT_THREADS = 60  # in addition to FLEET_WEB_CONCURRENCY, for requests that need no slot
UNREAD_BYTES = 64_000_000  # of the responses that the clients of one address have not read yet
LIVENESS_PATH = "/healthz"  # has its own thread, for when all others wait for a halted Postgres


class Handler(ASGIHandler):
    def __init__(self) -> None:
        super().__init__()
        self.load_middleware(is_async=False)
        threads = settings.FLEET_WEB_CONCURRENCY + EXEMPT_THREADS
        self._threads = ThreadPoolExecutor(threads, "requests")  # starts its threads on demand, so after a fork
        self._liveness = ThreadPoolExecutor(1, "liveness")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        with closing(body):
            threads = self._liveness if scope["path"] == LIVENESS_PATH else self._threads
            handle = partial(copy_context().run, self._handle, scope, body)
            response = await asyncio.get_running_loop().run_in_executor(threads, handle)
            if response.streaming:
                await self._stream(response, receive, send)
            else:
                await self._send(response, scope, send)

    def _handle(self, scope: Any, body: IO[bytes]) -> HttpResponseBase:
        """Handle a request up to, but not including, sending the response.

        A streaming response holds no connection to Postgres.
        """
        set_script_prefix(get_script_prefix(scope))
        request_started.send(sender=self.__class__, scope=scope)
        request, refusal = self.create_request(scope, body)
        response: HttpResponseBase
        if request is None:
            assert refusal is not None
            response = refusal
        else:
            response = self.get_response(request)
        response._handler_class = self.__class__  # type: ignore[attr-defined]  # the sender of request_finished
        if isinstance(response, FileResponse):
            response.block_size = self.chunk_size  # as in Django's handler
        if response.streaming:
            connections.close_all()  # back into the pool
        else:
            response.close()
        if connection.in_atomic_block:  # a bug somewhere, which must not affect the next request
            del connections[connection.alias]
        return response

    async def _send(self, response: HttpResponseBase, scope: Any, send: Any) -> None:
        """Send a response, which is in memory until the client has read it. Refused if its address reads too slowly."""
        unread = AddressBytes(
            scope, "responses", UNREAD_BYTES, "Your address has more than {:,} bytes of responses that it has not read."
        )
        try:
            if (size := len(response.content)) > self.chunk_size:  # type: ignore[attr-defined]  # it is not streaming
                unread.add(size)
            await self.send_response(response, send)
        finally:
            unread.release()

    async def _stream(self, response: HttpResponseBase, receive: Any, send: Any) -> None:
        """Send a streaming response until it is complete or the client disconnects."""
        if not response.is_async:  # type: ignore[attr-defined]  # of a streaming response
            response.streaming_content = _read_in_thread(iter(response))  # type: ignore[attr-defined]
        async with ThreadSensitiveContext():
            sending = asyncio.create_task(self.send_response(response, send))
            disconnected = asyncio.create_task(self.listen_for_disconnect(receive))
            try:
                await asyncio.wait((sending, disconnected), return_when=asyncio.FIRST_COMPLETED)
            finally:
                completed = sending.done()
                sending.cancel()
                disconnected.cancel()
                await asyncio.gather(sending, disconnected, return_exceptions=True)
                await sync_to_async(response.close)()
        if completed:
            sending.result()


async def _read_in_thread(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Iterate over synchronous content, such as a static file, which Django would first read into memory as a whole."""
    read_next = sync_to_async(lambda: next(chunks, None), thread_sensitive=False)
    while (chunk := await read_next()) is not None:
        yield chunk
