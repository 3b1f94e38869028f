"""Identifies the caller of requests to the admin. The endpoints of the API do so themselves."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.deprecation import MiddlewareMixin

from fleet import caller

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


class IdentifyCaller(MiddlewareMixin):
    """Must follow Django's AuthenticationMiddleware. Safe methods are left alone, to save the query for the user."""

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> None:
        if request.method not in SAFE_METHODS and request.user.is_authenticated:
            caller.identify(name=f"user:{request.user.get_username()}", user=request.user.pk)
