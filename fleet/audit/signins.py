"""Records sign-ins, sign-outs and failed sign-ins from Django's signals, and lockouts from django-axes's signal."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.http import HttpRequest

from fleet import caller
from fleet.audit.recording import record

if TYPE_CHECKING:  # this module is imported before the models are loaded
    from django.contrib.auth.models import AbstractBaseUser


def connect() -> None:
    """Connect the receivers; repeated calls have no effect."""
    user_logged_in.connect(_signed_in, dispatch_uid="fleet.audit")
    user_logged_out.connect(_signed_out, dispatch_uid="fleet.audit")
    user_login_failed.connect(_failed, dispatch_uid="fleet.audit")
    if apps.is_installed("axes"):  # otherwise its signals cannot be imported
        import_module("axes.signals").user_locked_out.connect(_locked_out, dispatch_uid="fleet.audit")


def _signed_in(*, request: HttpRequest | None = None, user: AbstractBaseUser, **_: Any) -> None:
    with caller.acting_as(_caller(request, user)):
        record(kind="sign_in", subject=_subject(user.get_username()), data=_client(request))


def _signed_out(*, request: HttpRequest | None = None, user: AbstractBaseUser | None = None, **_: Any) -> None:
    if user is not None:  # None for a session without a user
        with caller.acting_as(_caller(request, user)):
            record(kind="sign_out", subject=_subject(user.get_username()))


def _failed(*, credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    with caller.acting_as(_caller(request)):
        subject = _subject(str(credentials.get("username", "")))
        record(kind="sign_in", outcome="failed", subject=subject, data=_client(request))


def _locked_out(*, request: HttpRequest | None = None, username: str = "", ip_address: str = "", **_: Any) -> None:
    with caller.acting_as(_caller(request)):
        record(kind="lockout", outcome="denied", subject=_subject(username or ""), data={"address": ip_address or ""})


def _caller(request: HttpRequest | None, user: AbstractBaseUser | None = None) -> caller.Caller:
    """Return the current caller, completed by the address of the request and by the user who signed in."""
    current = caller.current()
    if not current.address and request is not None:
        current = replace(current, address=request.META.get("REMOTE_ADDR", ""))
    return current if user is None else replace(current, name=_subject(user.get_username()), user=user.pk)


def _subject(name: str) -> str:
    return f"user:{name}"


def _client(request: HttpRequest | None) -> dict[str, str]:
    return {} if request is None else {"path": request.path, "agent": request.headers.get("User-Agent", "")[:200]}
