"""Sign-ins, good and bad, as Django tells of them; and lockouts, as django-axes does."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.http import HttpRequest

from fleet import caller
from fleet.audit.recording import record

if TYPE_CHECKING:  # it is imported before there are models
    from django.contrib.auth.models import AbstractBaseUser


def connect() -> None:
    """Listen, once."""
    user_logged_in.connect(_signed_in, dispatch_uid="fleet.audit")
    user_logged_out.connect(_signed_out, dispatch_uid="fleet.audit")
    user_login_failed.connect(_refused, dispatch_uid="fleet.audit")
    if apps.is_installed("axes"):  # whose signals can be imported only then
        import_module("axes.signals").user_locked_out.connect(_locked_out, dispatch_uid="fleet.audit")


def _signed_in(*, request: HttpRequest | None = None, user: AbstractBaseUser, **_: Any) -> None:
    with caller.acting(_who(request, user)):
        record(kind="sign_in", subject=_subject(user.get_username()), data=_means(request))


def _signed_out(*, request: HttpRequest | None = None, user: AbstractBaseUser | None = None, **_: Any) -> None:
    if user is not None:  # a session that had nobody in it
        with caller.acting(_who(request, user)):
            record(kind="sign_out", subject=_subject(user.get_username()))


def _refused(*, credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    with caller.acting(_who(request)):
        subject = _subject(str(credentials.get("username", "")))
        record(kind="sign_in", outcome="failed", subject=subject, data=_means(request))


def _locked_out(*, request: HttpRequest | None = None, username: str = "", ip_address: str = "", **_: Any) -> None:
    with caller.acting(_who(request)):
        record(kind="lockout", outcome="denied", subject=_subject(username or ""), data={"address": ip_address or ""})


def _who(request: HttpRequest | None, user: AbstractBaseUser | None = None) -> caller.Caller:
    """The caller, with what the request and the sign-in tell beyond what was known before it."""
    known = caller.current()
    if not known.address and request is not None:
        known = replace(known, address=request.META.get("REMOTE_ADDR", ""))
    return known if user is None else replace(known, name=_subject(user.get_username()), user=user.pk)


def _subject(name: str) -> str:
    return f"user:{name}"


def _means(request: HttpRequest | None) -> dict[str, str]:
    return {} if request is None else {"path": request.path, "agent": request.headers.get("User-Agent", "")[:200]}
