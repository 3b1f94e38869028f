"""Missions for programs: to read, for staff. The shapes are those of `fleet_mission … --json` (docs/commands.md)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.permissions import IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet import errors, ids
from missions import queries
from missions.models import Mission

ITEMS = 100  # sorties in one answer, each with its result
MOST = 200  # of anything


class Newest(CursorPagination):
    """The newest first, with links to the next and the previous page; as quick on the last page as on the first."""

    ordering = "-id"
    page_size = 50

    def get_page_size(self, request: Request) -> int:
        return _limit(request.query_params.get("limit"), otherwise=self.page_size)

    def decode_cursor(self, request: Request) -> Any:
        try:
            cursor = super().decode_cursor(request)
            if cursor is not None and cursor.position is not None:
                UUID(str(cursor.position))
        except (NotFound, ValueError):
            raise errors.Invalid(
                "This cursor is not one that was given out.", hint="Follow `next`, or begin without it."
            ) from None
        return cursor


class Missions(APIView):
    permission_classes = [IsAdminUser]

    def get(self, request: Request) -> Response:
        """`{next, previous, results: [{id, name, state, sorties: {…}, …}]}`"""
        pages = Newest()
        page = pages.paginate_queryset(Mission.objects.defer("plan"), request, view=self) or []
        counted = queries.counts([mission.id for mission in page])
        return pages.get_paginated_response([queries.summary(mission, counted.get(mission.id, {})) for mission in page])


class OneMission(APIView):
    permission_classes = [IsAdminUser]

    def get(self, request: Request, ref: str) -> Response:
        """The summary, under `items` its sorties (`?limit=` of them, behind the sortie `?after=`), and under `next` the
        link to those behind these, or null."""
        mission = Mission.objects.defer("plan").filter(id=ids.decode(ids.MISSION, ref)).first()
        if mission is None:
            raise errors.NotFound(f"There is no mission {ref}.")
        limit = _limit(request.query_params.get("limit"), otherwise=ITEMS)
        asked = request.query_params.get("after")
        after = queries.find_sortie(mission, asked) if asked else None
        items = list(queries.items(mission, after=after, most=limit + 1))
        following = None
        if len(items) > limit:
            items.pop()
            query = urlencode({"limit": limit, "after": items[-1]["id"]})
            following = f"{request.build_absolute_uri(request.path)}?{query}"
        return Response({**queries.summary(mission), "items": items, "next": following})


def _limit(given: str | None, *, otherwise: int) -> int:
    if given is None:
        return otherwise
    if not (given.isascii() and given.isdigit() and len(given) <= 4 and 1 <= int(given) <= MOST):
        raise errors.Invalid(
            f"limit={given[:20]} is not a number from 1 to {MOST}.", hint="Leave it out, or change it."
        )
    return int(given)
