"""Cursor pagination: `{next, previous, results}`. The last page is as fast as the first."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

from django.db.models import CharField, Field, Model, QuerySet, UUIDField
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response

from fleet import errors
from fleet.api.serializers import Strict

MAX_LIMIT, DEFAULT_LIMIT = 200, 50
M = TypeVar("M", bound=Model)


class LimitQuery(Strict):
    """The query of lists that define their own cursor."""

    limit = serializers.IntegerField(
        required=False, min_value=1, max_value=MAX_LIMIT, help_text=f"page size; {DEFAULT_LIMIT} by default"
    )


class PageQuery(LimitQuery):
    """The query of all other lists."""

    cursor = serializers.CharField(
        required=False, max_length=300, initial="cD0yMDQxNQ==", help_text="from `next` or `previous`"
    )


class _Pages(CursorPagination):
    def __init__(self, ordering: str, limit: int, *, field: Field[Any, Any]) -> None:
        self.ordering, self.page_size, self._field = ordering, limit, field

    def decode_cursor(self, request: Request) -> Any:
        try:
            cursor = super().decode_cursor(request)
            if cursor is not None and not (cursor.position or cursor.offset or cursor.reverse):
                raise ValueError("an empty cursor would start over, and a client that follows `next` would never end")
            if cursor is not None and cursor.position is not None:
                self._check(str(cursor.position))
        except (NotFound, ValueError):
            raise errors.Invalid(
                "Unknown cursor.",
                hint="Follow `next`, or start without a cursor.",
                pointer="/cursor",
            ) from None
        return cursor

    def _check(self, position: str) -> None:
        if isinstance(self._field, UUIDField):
            UUID(position)
        elif isinstance(self._field, CharField):
            if not position.isprintable():
                raise ValueError(position)
        elif not (position.isascii() and position.isdigit() and len(position) < 19):
            raise ValueError(position)


def paginate(
    request: Request,
    rows: QuerySet[M],
    *,
    query: Any,
    serialize: Callable[[Sequence[M]], Sequence[Any]],
    ordering: str = "-id",
) -> Response:
    """One page of rows. `serialize` gets the whole page; the ordering field must be unique."""
    field: Any = rows.model._meta.get_field(ordering.removeprefix("-"))
    pages = _Pages(ordering, query.get("limit", DEFAULT_LIMIT), field=field)
    page = pages.paginate_queryset(rows, request) or []
    return pages.get_paginated_response(list(serialize(page)))


@functools.cache
def page_of(shape: Any) -> Any:
    """The serializer of a page of `shape`, for the OpenAPI document."""
    child = shape(many=True)
    fields = {
        "next": serializers.URLField(allow_null=True, help_text="URL of the next page"),
        "previous": serializers.URLField(allow_null=True),
        "results": child,
    }
    return type(f"{shape.__name__}Page", (serializers.Serializer,), fields)
