"""Signing in to the site: counted by address before any password is looked at, and locked for who guesses.

Who fails FLEET_LOCKOUT_FAILURES times under one name from one address may not try again there for FLEET_LOCKOUT_MINUTES, not
even with the right password (django-axes). The owner of the name can still sign in from elsewhere.
"""

from __future__ import annotations

from datetime import timedelta
from math import ceil
from typing import Any

from axes.backends import AxesStandaloneBackend
from axes.handlers.proxy import AxesProxyHandler
from axes.helpers import get_cool_off
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters

from fleet import caller, humanise, invocation
from fleet.console.lines import counted
from fleet.limits import counting
from fleet.limits.counting import Standing
from fleet.limits.rates import Kind

NAME = 150  # characters of a user name, as Django has them
TOO_MANY = 429


class Lockout(AxesStandaloneBackend):  # type: ignore[misc]
    """The first of the backends that `authenticate()` asks: it lets nobody in and keeps out who is locked out."""

    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> None:
        if request is not None:  # without one it is this very host that asks, in a command or a test
            super().authenticate(request, **credentials)
            if "\0" in str(credentials.get("username")):
                raise PermissionDenied("No user has such a name, and Postgres refuses to look.")


def username(request: HttpRequest, credentials: dict[str, Any] | None) -> str:
    """As Postgres can keep it, whatever the client sends."""
    given = (credentials or {}).get("username") or request.POST.get("username") or ""
    return str(given).replace("\0", "")[:NAME]


def locked(request: HttpRequest) -> bool:
    """Whether the sign-in that was just tried with this request was refused because of earlier ones."""
    return bool(getattr(request, "axes_locked_out", False))


def sentence(seconds: int) -> str:
    """With what is left of the lockout."""
    return (
        f"{counted(settings.FLEET_LOCKOUT_FAILURES, 'sign-in')} with this name failed from your address. "
        f"Further ones are refused for {humanise.duration(ceil(seconds / 60) * 60)}. "
        f"Try again then, or ask an administrator to run: {invocation.command('axes_reset_username', 'NAME')}"
    )


def refusal(request: HttpRequest, response: HttpResponseBase | None, credentials: Any) -> HttpResponseBase:
    """What somebody who is locked out gets instead of the answer. The limit that it tells of is that of failures."""
    seconds = left_s(request, credentials)
    standing = Standing(limit=settings.FLEET_LOCKOUT_FAILURES, remaining=0, reset_s=seconds, refused=True)
    return _too_many(request, code="locked_out", detail=sentence(seconds), headers=counting.headers(standing))


def left_s(request: HttpRequest, credentials: Any) -> int:
    """Seconds until so many failures are forgotten that the others are too few for a lockout; at least one. django-axes
    keeps them by client program too, each with the time of its last one, and adds up those that are young enough."""
    ends = now = timezone.now()
    for attempts in AxesProxyHandler.get_implementation().get_user_attempts(request, credentials):
        failures = 0
        for at, count in attempts.order_by("-attempt_time").values_list("attempt_time", "failures_since_start"):
            failures += count
            if failures >= settings.FLEET_LOCKOUT_FAILURES:
                ends = max(ends, at + (get_cool_off() or timedelta()))
                break
    return max(1, ceil((ends - now).total_seconds()))


@sensitive_post_parameters()
def page(request: HttpRequest) -> HttpResponseBase:
    """The admin's sign-in page, its tries counted."""
    if request.method != "POST":
        return admin.site.login(request)
    standing = counting.charge(request=request, kind=Kind.AUTH)
    told = counting.headers(standing)
    if standing.refused:
        return _too_many(request, code="rate_limited", detail=str(counting.Refused(standing)), headers=told)
    response = admin.site.login(request)
    for name, value in told.items():
        response.headers[name] = value
    return response


def _too_many(request: HttpRequest, *, code: str, detail: str, headers: dict[str, str]) -> HttpResponseBase:
    if request.path.startswith("/api/"):
        problem = {
            "type": "about:blank",
            "title": "Too Many Requests",
            "status": TOO_MANY,
            "detail": detail,
            "code": code,
            "request_id": caller.current().request,
        }
        return JsonResponse(problem, status=TOO_MANY, headers=headers, content_type="application/problem+json")
    return HttpResponse(f"{detail}\n", status=TOO_MANY, headers=headers, content_type="text/plain; charset=utf-8")
