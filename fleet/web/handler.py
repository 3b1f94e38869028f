"""Django's ASGI handler, in which one thread does all of a request, as it does under WSGI.

Under Django's own each middleware that is written for threads is a way there and back: a dozen a request, and a seventh of the
processor time that it takes. Nothing of ours waits in the middleware, so there is nothing to gain from them.
"""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.db import connections
from django.http import HttpRequest
from django.http.response import HttpResponseBase


class Handler(ASGIHandler):
    def __init__(self) -> None:
        super().__init__()
        self.load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        return await sync_to_async(self._answer, thread_sensitive=True)(request)

    def _answer(self, request: HttpRequest) -> HttpResponseBase:
        """An answer that is still to flow does so for as long as its client likes, and keeps no connection to Postgres."""
        response = self.get_response(request)
        if response.streaming:
            connections.close_all()  # back into the pool
        return response
