"""Browsers in which a user has signed in before, so that failures of others at their address do not lock them out.

A sign-in leaves a signed cookie with a random number. Later attempts with the same name and this cookie are counted by
the number instead of the address (a device cookie: https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import timedelta
from ipaddress import IPv6Address

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

COOKIE = "fleet-browser"
PATH = "/admin/login/"
LIFETIME = timedelta(days=90)
_NUMBER = re.compile(r"[0-9a-f]{30}")


def number_of(request: HttpRequest) -> str:
    """The number of the browser, if the submitted user has signed in with it before; otherwise empty."""
    value = request.get_signed_cookie(COOKIE, default="", salt=COOKIE, max_age=LIFETIME)
    number, _, name = str(value).partition(".")
    authentic = _NUMBER.fullmatch(number) and secrets.compare_digest(name, _digest(request.POST.get("username", "")))
    return number if authentic else ""


def address_of(number: str) -> str:
    """An address (of fd00::/8, which is never routed) that stands for the browser where failures are counted."""
    return str(IPv6Address(int(f"fd{number}", 16)))


def remember(request: HttpRequest, response: HttpResponseBase) -> None:
    """Let the browser remember that the submitted user has signed in."""
    number = number_of(request) or secrets.token_hex(15)
    response.set_signed_cookie(
        COOKIE, f"{number}.{_digest(request.POST.get('username', ''))}", salt=COOKIE, max_age=LIFETIME, path=PATH,
        secure=settings.SESSION_COOKIE_SECURE, httponly=True, samesite="Strict",
    )  # fmt: skip


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
