"""Lists by cursor: `{next, previous, results}`, as quick on the last page as on the first."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

from django.db.models import Model, QuerySet, UUIDField
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response

from fleet import errors
from fleet.api.serializers import Strict

MOST, USUAL = 200, 50
M = TypeVar("M", bound=Model)


class Paged(Strict):
    """The parameters of every list."""

    limit = serializers.IntegerField(required=False, min_value=1, max_value=MOST, help_text=f"how many ({USUAL})")
    cursor = serializers.CharField(
        required=False, max_length=300, initial="cD0yMDQxNQ==", help_text="as `next` and `previous` have it"
    )


class _Pages(CursorPagination):
    def __init__(self, ordering: str, limit: int, *, uuids: bool) -> None:
        self.ordering, self.page_size, self._uuids = ordering, limit, uuids

    def get_page_size(self, request: Request) -> int:
        return self.page_size or USUAL

    def decode_cursor(self, request: Request) -> Any:
        try:
            cursor = super().decode_cursor(request)
            if cursor is not None and not (cursor.position or cursor.offset or cursor.reverse):
                raise ValueError("it says nothing, so it would begin anew, without end")
            if cursor is not None and cursor.position is not None:
                position = str(cursor.position)
                if self._uuids:
                    UUID(position)
                elif not (position.isascii() and position.isdigit() and len(position) < 19):
                    raise ValueError(position)
        except (NotFound, ValueError):
            raise errors.Invalid(
                "This cursor is not one that was given out.", hint="Follow `next`, or begin without it."
            ) from None
        return cursor


def page(
    request: Request,
    rows: QuerySet[M],
    *,
    asked: Any,
    shape: Callable[[Sequence[M]], Sequence[Any]],
    ordering: str = "-id",
) -> Response:
    """One page of rows, each as `shape` makes it of the page."""
    pages = _Pages(ordering, asked.get("limit", USUAL), uuids=isinstance(rows.model._meta.pk, UUIDField))
    found = pages.paginate_queryset(rows, request) or []
    return pages.get_paginated_response(list(shape(found)))


@functools.cache
def of(shape: Any) -> Any:
    """What a page of these is called in the OpenAPI document."""
    child = shape(many=True)
    fields = {
        "next": serializers.URLField(allow_null=True, help_text="the address of the next page"),
        "previous": serializers.URLField(allow_null=True),
        "results": child,
    }
    return type(f"{shape.__name__}Page", (serializers.Serializer,), fields)
