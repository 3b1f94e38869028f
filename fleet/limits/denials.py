"""Records refused requests in the audit trail. FLEET_LIMIT_DENIED bounds the entries of each user.

The API calls `record` itself. `RecordDenials` and `csrf_failure` do so for all other pages.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin
from django.views import csrf

from fleet import audit, caller
from fleet.limits import counting
from fleet.limits.rates import RequestKind


def record(
    *, request: HttpRequest, user: User | None, subject: str, data: dict[str, Any] | None = None, kind: str = "denied"
) -> None:
    """Record a refusal, unless this user has had too many.

    If there is no user (the work of an attempt, a browser without its CSRF token, an invalid token), entries are
    counted by the client's address.
    """
    identity = str(user.pk) if user else ""
    if not counting.charge(request=request, kind=RequestKind.DENIED, identity=identity).refused:
        audit.record(kind=kind, outcome="denied", subject=subject, data=data or {})


class RecordDenials(MiddlewareMixin):
    """Must follow Django's AuthenticationMiddleware."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        if isinstance(exception, PermissionDenied):
            _record_request(request, str(exception))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Django's page for a form without a valid CSRF token."""
    _record_request(request, reason)
    return csrf.csrf_failure(request, reason=reason)


def _record_request(request: HttpRequest, why: str) -> None:
    user = request.user if request.user.is_authenticated else None
    if user:
        caller.identify(name=f"user:{user.get_username()}", user=user.pk)
    record(request=request, user=user, subject=request.path, data={"action": request.method, "why": why})
