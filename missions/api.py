"""Missions for programs: to read, for staff. The shapes are those of `fleet_mission … --json` (docs/commands.md)."""

from __future__ import annotations

from rest_framework.pagination import CursorPagination
from rest_framework.permissions import IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet import errors, ids
from missions import queries
from missions.models import Mission


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
        """The summary, and under `items` each sortie."""
        mission = Mission.objects.filter(id=ids.decode(ids.MISSION, ref)).first()
        if mission is None:
            raise errors.NotFound(f"There is no mission {ref}.")
        return Response({**queries.summary(mission), "items": queries.items(mission)})
