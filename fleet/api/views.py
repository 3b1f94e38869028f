"""Base classes of the API's views, and `/api/v1/` itself, which lists the URLs."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any, ClassVar

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

from fleet import errors, services
from fleet.access.actor import Actor
from fleet.access.authentication import SessionAuthentication
from fleet.access.models import Role
from fleet.api.endpoints import Endpoint, endpoint
from fleet.api.permissions import RulePermission
from fleet.limits import costs, counting, denials
from fleet.limits.rates import RequestKind

LINKS = (
    "missions", "schedules", "checkpoints", "agents", "agent-types", "nodes", "events", "audit", "me", "keys", "templates",
    "schema", "docs",
)  # fmt: skip


# Ten times as many small values would take seconds to parse, during which the process answers nobody. This is enough
# for the longest report, escaped as JSON allows.
MAX_BODY_BYTES = 2_000_000


class ApiView(APIView):
    """A resource of the API. Its methods are declared with `@endpoint`."""

    permission_classes = [RulePermission]
    http_method_names = ["get", "head", "post", "patch", "delete"]
    rate_kind = RequestKind.IP  # for callers without a machine key, session or lease
    max_body_bytes: ClassVar[int] = MAX_BODY_BYTES
    large_body_methods: ClassVar[Collection[str]] = ()  # whose bodies have the limit of the settings, for a plan

    @classmethod
    def declaration(cls, method: str | None) -> Endpoint | None:
        """The `@endpoint` declaration of a method; None if the view has no such method."""
        name = (method or "").lower()
        return getattr(getattr(cls, "get" if name == "head" else name, None), "endpoint", None)

    def idempotency_caller(self, request: Request) -> str:
        """The owner of the Idempotency-Keys of a request. A user by id, because another one may get the name later."""
        actor = request.auth
        if not isinstance(actor, Actor):
            return "anonymous"
        return actor.name if actor.user is None or actor.key is not None else f"user:{actor.user.pk}"

    def idempotency_access(self, request: Request) -> str:
        """A fingerprint of what the caller may do and see. A stored response is returned only while it is the same."""
        return request.auth.access_fingerprint if isinstance(request.auth, Actor) else ""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.quota = counting.UNLIMITED
        try:
            body = request._request.body  # read now, to refuse a large body before doing any work
            # Without this, DRF treats a chunked body as empty.
            request._request.META.setdefault("CONTENT_LENGTH", str(len(body)))
        except RequestDataTooBig:
            raise BodyTooLarge(f"The body is larger than {settings.DATA_UPLOAD_MAX_MEMORY_SIZE:,} bytes.") from None
        if len(body) > self.max_body_bytes and request.method not in self.large_body_methods:
            raise BodyTooLarge(f"The body is larger than {self.max_body_bytes:,} bytes.")
        super().initial(request, *args, **kwargs)

    def handle_exception(self, exc: Exception) -> Any:
        """Record every 403 in the audit trail, whether from the table, an operation or the CSRF check."""
        if isinstance(exc, errors.Forbidden | PermissionDenied):
            declaration = self.declaration(self.request.method)
            try:
                self._record_denial(
                    self.request, data={"action": declaration.action if declaration else "", "why": str(exc)}
                )
            except DatabaseError as error:
                exc = error
        return super().handle_exception(exc)

    def perform_authentication(self, request: Request) -> None:
        """Reject an invalid token even where none is required, and count the request."""
        try:
            super().perform_authentication(request)
        except (errors.FleetError, PermissionDenied) as error:
            request._not_authenticated()  # type: ignore[attr-defined]
            self._charge(request)
            if not isinstance(error, PermissionDenied):  # the CSRF check, which `handle_exception` records
                self.record_invalid_token(request)
            raise
        self._charge(request)

    def _charge(self, request: Request) -> None:
        actor, declaration = request.auth, self.declaration(request.method)
        kind, identity, role = self.rate_kind, "", ""
        if isinstance(actor, Actor):
            role = actor.role
            if actor.lease:
                kind, identity = RequestKind.AGENT, actor.lease.rpartition(".")[0]
            elif actor.key:
                kind, identity = (RequestKind.AGENT if role == Role.AGENT else RequestKind.KEY), str(actor.key)
            elif actor.user and isinstance(request.successful_authenticator, SessionAuthentication):
                # By user and not by session: otherwise signing in again would reset the count.
                kind, identity = RequestKind.SESSION, str(actor.user.pk)
        route = declaration.action if declaration else ""
        self.quota = counting.charge(request=request._request, kind=kind, identity=identity, role=role, route=route)
        if (
            not self.quota.refused
            and isinstance(actor, Actor)
            and actor.user is not None
            and kind is not RequestKind.AGENT
        ):
            # Also by user: otherwise a new key for each request would evade the limit. External agents are counted
            # individually, so that none loses its lease because another one is busy.
            user_quota = counting.charge(request=request._request, kind=RequestKind.USER, identity=str(actor.user.pk))
            if user_quota.refused:
                self.quota = user_quota
        if self.quota.refused:
            raise counting.TooManyRequests(self.quota)

    def record_invalid_token(self, request: Request) -> None:
        self._record_denial(request, kind="token")

    def _record_denial(self, request: Request, **entry: Any) -> None:
        user = request.auth.user if isinstance(request.auth, Actor) else None
        denials.record(request=request._request, user=user, subject=request.path, **entry)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        final = super().finalize_response(request, response, *args, **kwargs)
        for name, value in counting.headers(getattr(self, "quota", counting.UNLIMITED)).items():
            final.headers[name] = value
        final.headers.setdefault("Cache-Control", "private, no-store")
        return final


class Costly(ApiView):
    """A resource with methods that may take seconds of CPU time.

    It has separate concurrency slots (fleet/web/concurrency_limiter.py). Each user has a budget
    (fleet/limits/costs.py), which is checked before the body is validated.
    """

    costly_methods: ClassVar[Collection[str]] = ("POST",)
    _started_at = 0.0
    _charged_user: int | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if self.is_costly(request) and isinstance(request.auth, Actor) and request.auth.user is not None:
            try:
                costs.check(request.auth.user.pk)
            except costs.BudgetExceeded as error:
                self.quota = error.quota
                raise
            costs.begin()
            self._charged_user, self._started_at = request.auth.user.pk, time.thread_time()

    def is_costly(self, request: Request) -> bool:
        """Whether to charge the user for this request. Its body has been read, but not parsed."""
        return request.method in self.costly_methods

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        if self._charged_user is not None:
            costs.charge(self._charged_user, time.thread_time() - self._started_at)
        return super().finalize_response(request, response, *args, **kwargs)


class IgnoreAccept(BaseContentNegotiation):
    """Content negotiation for streams, files and text, which are sent regardless of `Accept`."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class BodyTooLarge(errors.Invalid):
    """The body is too large."""

    code = "too_large"
    status = 413


class RootResponse(serializers.Serializer[Any]):
    """URLs by name."""

    missions = serializers.URLField(initial="http://127.0.0.1:8000/api/v1/missions")


class Root(ApiView):
    @endpoint("root.read", response=RootResponse)
    def get(self, request: Request) -> dict[str, Any]:
        """List the URLs of the API, by name."""
        links: dict[str, Any] = {}
        for name in LINKS:
            try:
                links[name] = reverse(f"api-{name}", request=request)
            except NoReverseMatch:
                continue
        if isinstance(request.auth, Actor) and request.auth.role == Role.ADMIN:
            links |= {
                name: reverse(route, request=request)
                for name, route in (("admin", "admin:index"), ("metrics", "metrics"))
            }
            links["flower"] = services.addresses()["flower"]
        return links


class NotFoundView(ApiView):
    """Responds to all other paths below /api/v1/ with a 404, as a problem instead of an HTML page."""

    schema = None
    http_method_names = ["get", "head", "post", "put", "patch", "delete"]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        hint = " Remove the trailing slash." if request.path.endswith("/") else ""
        raise NotFound(f"There is no {request.path}.{hint}")


def actor_of(request: Request) -> Actor:
    """The authenticated caller. The permission class has checked that there is one."""
    if not isinstance(request.auth, Actor):
        raise Http404
    return request.auth
