"""Endpoints of reservations: list them, request more for a running attempt, release them."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from fleet import errors, ids
from fleet.api.endpoints import Validated, endpoint
from fleet.api.http.paging import PageQuery, page_of, paginate
from fleet.api.serializers import Id, Text
from fleet.api.views import ApiView, actor_of
from missions.api.agents.external_agents import LeaseBody, lease_token
from missions.models import Mission, Reservation
from missions.operations import reserving
from missions.queries import reservations, visibility

DEFAULT_TTL_S = 600.0


class ReservationResponse(serializers.Serializer[Any]):
    """Files that a sortie has reserved or is waiting for."""

    id = Id(ids.RESERVATION)
    mission = Id(ids.MISSION)
    sortie = Id(ids.SORTIE)
    key = serializers.CharField(initial="api")
    pattern = serializers.CharField(initial="src/api/**")
    shared = serializers.BooleanField(initial=False, help_text="other sorties may share it; none may change the files")
    attempt = serializers.IntegerField(
        allow_null=True, initial=1, help_text="the attempt that requested it; null: the plan"
    )
    state = serializers.ChoiceField(["in force", "waiting", "released", "ended"], initial="in force")
    until = serializers.DateTimeField(
        allow_null=True, help_text="when a requested one expires; it also ends with its attempt"
    )
    branch = serializers.CharField(initial="fleet/msn_01997c5ebaffdk3714bm5hxyv1")


class ReservationQuery(PageQuery):
    ended = serializers.BooleanField(default=False, help_text="include those that have ended or been released")


class RequestBody(LeaseBody):
    patterns = serializers.ListField(
        child=Text(max_length=200), min_length=1, max_length=reserving.MAX_PATTERNS, initial=["src/api/**", "docs/*.md"]
    )
    shared = serializers.BooleanField(default=False, help_text="for reading only: others may read them too")
    ttl_s = serializers.FloatField(
        default=DEFAULT_TTL_S, min_value=1, max_value=reserving.MAX_TTL_S, help_text="seconds until they end"
    )


class ReleaseBody(LeaseBody):
    patterns = serializers.ListField(
        child=Text(max_length=200), default=list, max_length=reserving.MAX_REQUESTED, help_text="empty: all"
    )


class GrantedResponse(serializers.Serializer[Any]):
    items = ReservationResponse(many=True)


class ReleasedResponse(serializers.Serializer[Any]):
    released = serializers.IntegerField(initial=2)


class MissionReservations(ApiView):
    @endpoint("missions.read", query=ReservationQuery, response=page_of(ReservationResponse))
    def get(self, request: Request, ref: str, *, query: Validated) -> Response:
        """List the reservations of a mission's sorties."""
        mission = visibility.mission(actor_of(request), ref)
        rows = reservations.rows(missions=Mission.objects.filter(id=mission.id), ended=query["ended"])
        return _page(request, rows, query)


class SortieReservations(ApiView):
    @endpoint("sorties.read", query=ReservationQuery, response=page_of(ReservationResponse))
    def get(self, request: Request, ref: str, *, query: Validated) -> Response:
        """List the reservations of a sortie."""
        sortie = visibility.sortie(actor_of(request), ref)
        missions = Mission.objects.filter(id=sortie.mission_id)
        return _page(request, reservations.rows(missions=missions, sortie=sortie.id, ended=query["ended"]), query)

    @endpoint("sorties.fly", body=RequestBody, response=GrantedResponse, status=201)
    def post(self, request: Request, ref: str, *, body: Validated) -> dict[str, Any]:
        """Reserve more files for a running attempt: all of them or none. The request does not wait: a 409 names the sortie
        that has reserved them. Reservations end with the attempt or after `ttl_s` seconds; request them again to extend
        them."""
        granted = reserving.request(
            token=lease_token(actor_of(request), body, ref),
            patterns=body["patterns"],
            shared=body["shared"],
            ttl_s=body["ttl_s"],
        )
        rows = Reservation.objects.filter(id__in=[row.id for row in granted]).select_related("sortie__mission")
        return {"items": list(reservations.as_json(rows))}


class ReleaseRequestedReservations(ApiView):
    @endpoint("sorties.fly", body=ReleaseBody, response=ReleasedResponse)
    def post(self, request: Request, ref: str, *, body: Validated) -> dict[str, Any]:
        """Release reservations that the running attempt requested. Those of the plan stay in force."""
        token = lease_token(actor_of(request), body, ref)
        return {"released": reserving.release_requested(token=token, patterns=body["patterns"])}


class ReleaseReservation(ApiView):
    @endpoint("reservations.release", response=ReservationResponse)
    def post(self, request: Request, ref: str) -> dict[str, Any]:
        """Release a reservation, even if its sortie is still running. Other sorties may then change the files."""
        actor = actor_of(request)
        row = Reservation.objects.select_related("sortie").filter(id=ids.decode(ids.RESERVATION, ref)).first()
        if row is None or not visibility.missions(actor).filter(id=row.sortie.mission_id).exists():
            raise errors.NotFound(f"There is no reservation {ref}.")
        visibility.sortie(actor, row.sortie.ref, "reservations.release")
        reserving.release(reservation=row.id)
        released = Reservation.objects.filter(id=row.id).select_related("sortie__mission")
        return next(reservations.as_json(released))


def _page(request: Request, rows: Any, query: Validated) -> Response:
    return paginate(request, rows, query=query, serialize=lambda page: [*reservations.as_json(page)], ordering="id")
