"""Missions for programs: to read, for staff. The shapes are those of `fleet_mission … --json` (docs/commands.md)."""

from __future__ import annotations

from urllib.parse import urlencode

from rest_framework.pagination import CursorPagination
from rest_framework.permissions import IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet import errors, ids
from missions import queries
from missions.models import Mission

ITEMS, MOST_ITEMS = 100, 200  # sorties in one answer, each with its result


class Newest(CursorPagination):
    """The newest first, with links to the next and the previous page; as quick on the last page as on the first."""

    ordering = "-id"
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200


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
        limit = _limit(request.query_params.get("limit"))
        asked = request.query_params.get("after")
        after = queries.find_sortie(mission, asked) if asked else None
        items = list(queries.items(mission, after=after, most=limit + 1))
        following = None
        if len(items) > limit:
            items.pop()
            query = urlencode({"limit": limit, "after": items[-1]["id"]})
            following = f"{request.build_absolute_uri(request.path)}?{query}"
        return Response({**queries.summary(mission), "items": items, "next": following})


def _limit(given: str | None) -> int:
    if given is None:
        return ITEMS
    if not (given.isascii() and given.isdigit() and len(given) <= 4 and 1 <= int(given) <= MOST_ITEMS):
        raise errors.Invalid(
            f"limit={given[:20]} is not a number from 1 to {MOST_ITEMS}.", hint="Leave it out, or change it."
        )
    return int(given)
