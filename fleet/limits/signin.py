"""Limits on sign-ins: a rate by address, checked before the password, and a lockout after failures.

After FLEET_LOCKOUT_FAILURES failures with one user name from one address, django-axes refuses further attempts from
there for FLEET_LOCKOUT_MINUTES, even with the right password. The user can still sign in from another address, and with
a browser in which they have signed in before (known_browsers.py).
"""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
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

from fleet import caller, errors, humanise
from fleet.console import invocation
from fleet.console.lines import counted
from fleet.limits import counting, known_browsers
from fleet.limits.counting import RemainingQuota
from fleet.limits.rates import RequestKind

MAX_NAME = 150  # characters of a user name in Django
STATUS = HTTPStatus.TOO_MANY_REQUESTS


class Lockout(AxesStandaloneBackend):  # type: ignore[misc]
    """The first authentication backend. It authenticates nobody, and refuses clients that are locked out."""

    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> None:
        if request is not None:  # None in commands and tests
            super().authenticate(request, **credentials)
            if "\0" in str(credentials.get("username")):
                raise PermissionDenied("User names cannot contain NUL.")


def username(request: HttpRequest, credentials: dict[str, Any] | None) -> str:
    """The submitted user name, made storable in Postgres."""
    name = (credentials or {}).get("username") or request.POST.get("username") or ""
    return str(name).replace("\0", "")[:MAX_NAME]


def lockout_message(seconds: int) -> str:
    """The message to a client that is locked out for these seconds."""
    return (
        f"{counted(settings.FLEET_LOCKOUT_FAILURES, 'sign-in')} with this name failed from your address. "
        f"Further attempts are refused for {humanise.duration(ceil(seconds / 60) * 60)}. "
        f"Try again then, or ask the fleet's operator to run: {invocation.command('axes_reset_username', 'NAME')}"
    )


def refusal(request: HttpRequest, response: HttpResponseBase | None, credentials: Any) -> HttpResponseBase:
    """The response to a client that is locked out. Its RateLimit headers describe the limit of failures."""
    seconds = remaining_s(request, credentials)
    quota = RemainingQuota(limit=settings.FLEET_LOCKOUT_FAILURES, remaining=0, reset_s=seconds, refused=True)
    return _too_many(request, code="locked_out", detail=lockout_message(seconds), headers=counting.headers(quota))


def remaining_s(request: HttpRequest, credentials: Any) -> int:
    """Seconds until the lockout ends, at least one.

    django-axes stores failures by user agent as well, each row with a count and the time of its last failure, and adds
    up the recent rows. The lockout ends when enough rows have expired.
    """
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
    """The admin's sign-in page, with a rate limit on attempts."""
    if request.method != "POST":
        return admin.site.login(request)
    number = known_browsers.number_of(request)
    quota = counting.charge(request=request, kind=RequestKind.AUTH, identity=f"browser:{number}" if number else "")
    headers = counting.headers(quota)
    if quota.refused:
        return _too_many(request, code="rate_limited", detail=str(counting.TooManyRequests(quota)), headers=headers)
    response = admin.site.login(request)
    if request.user.is_authenticated:
        known_browsers.remember(request, response)
    for name, value in headers.items():
        response.headers[name] = value
    return response


def _too_many(request: HttpRequest, *, code: str, detail: str, headers: dict[str, str]) -> HttpResponseBase:
    if request.path.startswith("/api/"):
        problem = errors.problem(status=STATUS, code=code, detail=detail, request=caller.current().request)
        return JsonResponse(problem, status=STATUS, headers=headers, content_type="application/problem+json")
    return HttpResponse(f"{detail}\n", status=STATUS, headers=headers, content_type="text/plain; charset=utf-8")
