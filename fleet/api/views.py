"""`/api/v1/`: where things are."""

from __future__ import annotations

from typing import Any

from django.urls import NoReverseMatch
from rest_framework.decorators import api_view, permission_classes
from rest_framework.exceptions import NotFound
from rest_framework.permissions import IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from fleet import services

LINKS = {"missions": "api-missions", "admin": "admin:index", "metrics": "metrics"}  # by name: the apps are above


@api_view(["GET"])
@permission_classes([IsAdminUser])
def root(request: Request) -> Response:
    """Links to what there is; a part that is not installed is left out."""
    links: dict[str, Any] = {}
    for name, route in LINKS.items():
        try:
            links[name] = reverse(route, request=request)
        except NoReverseMatch:
            continue
    return Response({**links, "flower": services.addresses()["flower"]})


@api_view(["GET", "POST", "PUT", "PATCH", "DELETE"])
@permission_classes([IsAdminUser])
def nothing(request: Request, path: str) -> Response:
    """What is asked for below /api/v1/ and is not there, as a problem and not as a page."""
    raise NotFound(f"There is no {request.path}.")
