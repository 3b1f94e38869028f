"""System check fleet.E001: every route of the API has a rule.

It runs in `manage.py check` and when the web process starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error
from django.urls import URLPattern, URLResolver, get_resolver

from fleet.access.rules import RULES
from fleet.api.accounts import PublicView
from fleet.api.endpoints import METHODS
from fleet.api.views import ApiView, NotFoundView

PREFIX = "api/v1/"


def routes() -> Iterator[tuple[str, type[Any] | None]]:
    """Each route of the API, and its view class."""
    for route, callback in _patterns(get_resolver().url_patterns, ""):
        view = getattr(callback, "cls", getattr(callback, "view_class", None))
        if route.startswith(PREFIX) and view is not NotFoundView:
            yield route, view


def problems() -> list[CheckMessage]:
    """An error for each method that is neither public nor has an action of the table."""
    return [
        Error(
            f"{method.upper()} /{route} {problem}",
            hint="Declare the method with @endpoint and an action of fleet.access.rules.RULES.",
            id="fleet.E001",
        )
        for route, view in routes()
        for method, problem in _problems(view)
    ]


def _problems(view: type[Any] | None) -> Iterator[tuple[str, str]]:
    if view is None or not (isinstance(view, type) and issubclass(view, ApiView)):
        if not getattr(view, "documents", False):
            yield "any", "is not served by an ApiView"
        return
    for method in METHODS:
        if not hasattr(view, method):
            continue
        declaration = view.declaration(method)
        if declaration is None:
            yield method, "has no @endpoint"
        elif declaration.action not in RULES and not issubclass(view, PublicView):
            yield method, f"names an action without a rule: {declaration.action}"


def _patterns(patterns: list[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _patterns(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route, pattern.callback
