"""What every endpoint of the API stands on, and `/api/v1/` itself: where things are."""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db import DatabaseError
from django.http import Http404
from django.urls import NoReverseMatch
from rest_framework import serializers
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from fleet import audit, errors, services
from fleet.access.actor import Actor
from fleet.access.authentication import SessionAuthentication
from fleet.access.models import Role
from fleet.api.endpoints import Endpoint, endpoint
from fleet.api.permissions import Ruled
from fleet.limits import costs, counting
from fleet.limits.rates import Kind

LINKS = ("missions", "agents", "agent-types", "nodes", "events", "audit", "me", "keys", "templates", "schema", "docs")


class ApiView(APIView):
    """An address of the API. Its methods are declared with `@endpoint`."""

    permission_classes = [Ruled]
    http_method_names = ["get", "head", "post", "patch", "delete"]

    @classmethod
    def declared(cls, method: str | None) -> Endpoint | None:
        """What `@endpoint` says of a method; None for one that there is not."""
        name = (method or "").lower()
        return getattr(getattr(cls, "get" if name == "head" else name, None), "endpoint", None)

    def asker(self, request: Request) -> str:
        """Whose Idempotency-Keys these are."""
        return request.auth.name if isinstance(request.auth, Actor) else "anonymous"

    kind = Kind.IP  # whose requests are counted together, where it is no program's
    most_bytes: int | None = None  # of a body; what the settings say where it is not given

    def initial(self, request: Request, *arguments: Any, **path: Any) -> None:
        self.standing = counting.FREE
        try:
            body = request._request.body  # read now, so that what is too large is refused before anything is done
            request._request.META.setdefault("CONTENT_LENGTH", str(len(body)))  # or DRF takes a chunked one for empty
        except RequestDataTooBig:
            raise TooLarge(f"The body is larger than {settings.DATA_UPLOAD_MAX_MEMORY_SIZE:,} bytes.") from None
        if self.most_bytes is not None and len(body) > self.most_bytes:
            raise TooLarge(f"The body is larger than {self.most_bytes:,} bytes.")
        super().initial(request, *arguments, **path)

    def handle_exception(self, exc: Exception) -> Any:
        """What is denied to somebody is written down, whoever denies it: the table, an operation, the check against forged
        requests. Who has not signed in is only asked to."""
        if isinstance(exc, errors.Forbidden | PermissionDenied) and self._is_told(self.request):
            declared = self.declared(self.request.method)
            try:
                audit.record(
                    kind="denied",
                    outcome="denied",
                    subject=self.request.path,
                    data={"action": declared.action if declared else "", "why": str(exc)},
                )
            except DatabaseError as fault:
                exc = fault
        return super().handle_exception(exc)

    def perform_authentication(self, request: Request) -> None:
        """Whoever shows a bad token is told so, also where one without any would be answered; and it counts."""
        try:
            super().perform_authentication(request)
        except errors.FleetError:
            request._not_authenticated()  # type: ignore[attr-defined]
            self._charge(request)  # first: a flood of guesses is not to fill the trail
            audit.record(kind="token", outcome="denied", subject=request.path)
            raise
        self._charge(request)

    def _charge(self, request: Request) -> None:
        who, declared = request.auth, self.declared(request.method)
        kind, named, role = self.kind, "", ""
        if isinstance(who, Actor):
            role = who.role
            if who.lease:
                kind, named = Kind.AGENT, who.lease.rpartition(".")[0]
            elif who.key:
                kind, named = (Kind.AGENT if role == Role.AGENT else Kind.KEY), str(who.key)
            elif who.user and isinstance(request.successful_authenticator, SessionAuthentication):
                kind, named = Kind.SESSION, str(who.user.pk)  # not the session: signing in again is no way round it
        route = declared.action if declared else ""
        self.standing = counting.charge(request=request._request, kind=kind, who=named, role=role, route=route)
        if not self.standing.refused and isinstance(who, Actor) and who.user is not None and kind is not Kind.AGENT:
            # By user as well: who makes a key for each request would have no limit else. Agents from outside are counted
            # one by one, so that none loses its lease because of its neighbours.
            own = counting.charge(request=request._request, kind=Kind.USER, who=str(who.user.pk))
            if own.refused:
                self.standing = own
        if self.standing.refused:
            raise counting.Refused(self.standing)

    def _is_told(self, request: Request) -> bool:
        """Whether the trail tells of one more refusal: it tells of the first ones of an hour, and then that there were more."""
        who = request.auth
        if not isinstance(who, Actor) or who.user is None:
            return True
        return not counting.charge(request=request._request, kind=Kind.DENIED, who=str(who.user.pk)).refused

    def finalize_response(self, request: Request, response: Any, *arguments: Any, **path: Any) -> Any:
        answer = super().finalize_response(request, response, *arguments, **path)
        for name, value in counting.headers(getattr(self, "standing", counting.FREE)).items():
            answer.headers[name] = value
        answer.headers.setdefault("Cache-Control", "private, no-store")
        return answer


class Costly(ApiView):
    """A POST that may take seconds of processor time. It waits for a slot of its own (fleet/web/concurrency_limiter.py), and
    each user has a budget (fleet/limits/costs.py) that is checked before the body is read."""

    _began = 0.0
    _for: int | None = None

    def initial(self, request: Request, *arguments: Any, **path: Any) -> None:
        super().initial(request, *arguments, **path)
        if request.method == "POST" and isinstance(request.auth, Actor) and request.auth.user is not None:
            try:
                costs.ask(request.auth.user.pk)
            except costs.Refused as refused:
                self.standing = refused.standing
                raise
            costs.begin()
            self._for, self._began = request.auth.user.pk, time.thread_time()

    def finalize_response(self, request: Request, response: Any, *arguments: Any, **path: Any) -> Any:
        if self._for is not None:
            costs.charge(self._for, time.thread_time() - self._began)
        return super().finalize_response(request, response, *arguments, **path)


class AsItComes(BaseContentNegotiation):
    """For what is no JSON: a stream, a file, a text. It comes whatever `Accept` says, which may be its media type and nothing
    else; what is refused is told as a problem all the same."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class TooLarge(errors.Invalid):
    """The body is too large."""

    code = "too_large"
    status = 413


class RootAnswer(serializers.Serializer[Any]):
    """Addresses by name."""

    missions = serializers.URLField(initial="http://127.0.0.1:8000/api/v1/missions")


class Root(ApiView):
    @endpoint("root.read", answer=RootAnswer)
    def get(self, request: Request) -> dict[str, Any]:
        """Where things are."""
        links: dict[str, Any] = {}
        for name in LINKS:
            try:
                links[name] = reverse(f"api-{name}", request=request)
            except NoReverseMatch:
                continue
        if isinstance(request.auth, Actor) and request.auth.role == "admin":
            links |= {
                name: reverse(route, request=request)
                for name, route in (("admin", "admin:index"), ("metrics", "metrics"))
            }
            links["flower"] = services.addresses()["flower"]
        return links


class NotFoundView(ApiView):
    """What is asked for below /api/v1/ and is not there, as a problem and not as a page."""

    schema = None
    http_method_names = ["get", "head", "post", "put", "patch", "delete"]

    def initial(self, request: Request, *arguments: Any, **path: Any) -> None:
        super().initial(request, *arguments, **path)
        hint = " Remove the trailing slash." if request.path.endswith("/") else ""
        raise NotFound(f"There is no {request.path}.{hint}")


def actor(request: Request) -> Actor:
    """Who asks, where the permission class has seen that somebody does."""
    if not isinstance(request.auth, Actor):
        raise Http404
    return request.auth
