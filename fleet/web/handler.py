"""Django's ASGI handler, in which one thread does all of a request, as it does under WSGI, and then another request.

Django's own goes to a thread and back for each middleware that is written for threads, for its signals and for the end of the
answer, and starts a thread for each request, with a connection's wrapper of its own. Each of these ways costs processor time,
and on a busy process up to 5 ms of waiting for Python's lock. Nothing of ours waits in the middleware, so nothing is gained by
them.
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

EXEMPT_THREADS = 60  # beside those of FLEET_WEB_AT_ONCE: for what takes no turns
ALIVE = "/healthz"  # waits for nobody, also where all of these wait for a Postgres that is halted


class Handler(ASGIHandler):
    def __init__(self) -> None:
        super().__init__()
        self.load_middleware(is_async=False)
        most = settings.FLEET_WEB_AT_ONCE + EXEMPT_THREADS
        self._threads = ThreadPoolExecutor(most, "answers")  # it starts them when they are needed, after a fork
        self._alive = ThreadPoolExecutor(1, "alive")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        with closing(body):
            threads = self._alive if scope["path"] == ALIVE else self._threads
            answer = partial(copy_context().run, self._answer, scope, body)
            response = await asyncio.get_running_loop().run_in_executor(threads, answer)
            if response.streaming:
                await self._flow(response, receive, send)
            else:
                await self.send_response(response, send)

    def _answer(self, scope: Any, body: IO[bytes]) -> HttpResponseBase:
        """All of a request but the sending. An answer that is still to flow does so for as long as its client likes, and keeps
        no connection to Postgres."""
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
            response.block_size = self.chunk_size  # as Django's own has it
        if response.streaming:
            connections.close_all()  # back into the pool
        else:
            response.close()
        if connection.in_atomic_block:  # somebody's fault, which is not to reach the next request
            del connections[connection.alias]
        return response

    async def _flow(self, response: HttpResponseBase, receive: Any, send: Any) -> None:
        """Until it has all been sent, or its client is gone."""
        if not response.is_async:  # type: ignore[attr-defined]  # of a streaming response
            response.streaming_content = _read_in_threads(iter(response))  # type: ignore[attr-defined]
        async with ThreadSensitiveContext():
            sending = asyncio.create_task(self.send_response(response, send))
            gone = asyncio.create_task(self.listen_for_disconnect(receive))
            try:
                await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
            finally:
                ended = sending.done()
                sending.cancel()
                gone.cancel()
                await asyncio.gather(sending, gone, return_exceptions=True)
                await sync_to_async(response.close)()
        if ended:
            sending.result()


async def _read_in_threads(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """A static file, say, piece by piece. Left to itself, Django warns and reads the whole of it into memory first."""
    following = sync_to_async(lambda: next(pieces, None), thread_sensitive=False)
    while (piece := await following()) is not None:
        yield piece
