"""A system check: no route of the API without a rule. `manage.py check` and each start of the web process make it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error
from django.urls import URLPattern, URLResolver, get_resolver

from fleet.access.rules import RULES
from fleet.api.accounts import Public
from fleet.api.endpoints import METHODS
from fleet.api.views import ApiView, NotFoundView

PREFIX = "api/v1/"


def routes() -> Iterator[tuple[str, type[Any] | None]]:
    """Each address of the API and the class that answers there."""
    for address, callback in _patterns(get_resolver().url_patterns, ""):
        view = getattr(callback, "cls", getattr(callback, "view_class", None))
        if address.startswith(PREFIX) and view is not NotFoundView:
            yield address, view


def faults() -> list[CheckMessage]:
    """Each method of each address names an action of the table, or is declared public."""
    return [
        Error(
            f"{method.upper()} /{address} {fault}",
            hint="Declare it with @endpoint, by an action of RULES.",
            id="fleet.E001",
        )
        for address, view in routes()
        for method, fault in _faults(view)
    ]


def _faults(view: type[Any] | None) -> Iterator[tuple[str, str]]:
    if view is None or not (isinstance(view, type) and issubclass(view, ApiView)):
        if not getattr(view, "documents", False):
            yield "any", "is answered by no ApiView"
        return
    for method in METHODS:
        if not hasattr(view, method):
            continue
        declared = view.declared(method)
        if declared is None:
            yield method, "has no @endpoint"
        elif declared.action not in RULES and not issubclass(view, Public):
            yield method, f"names an action without a rule: {declared.action}"


def _patterns(patterns: list[Any], before: str) -> Iterator[tuple[str, Any]]:
    for one in patterns:
        address = before + str(one.pattern)
        if isinstance(one, URLResolver):
            yield from _patterns(one.url_patterns, address)
        elif isinstance(one, URLPattern):
            yield address, one.callback
