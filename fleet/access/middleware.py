"""Who acts in a request of a browser that has signed in to the admin. The API's endpoints find that out by themselves."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.deprecation import MiddlewareMixin

from fleet import caller

READING = {"GET", "HEAD", "OPTIONS"}


class Named(MiddlewareMixin):
    """Stands behind Django's AuthenticationMiddleware. Only for what may change something: else it asks for no user."""

    def process_view(self, request: HttpRequest, view: Any, arguments: Any, options: Any) -> None:
        if request.method not in READING and request.user.is_authenticated:
            caller.identify(name=f"user:{request.user.get_username()}", user=request.user.pk)
