"""Signing in and out, and the caller."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

from django.contrib.auth import authenticate, user_logged_in
from django.contrib.auth.models import User
from django.db import transaction
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from fleet import caller, errors
from fleet.access import tokens
from fleet.access.models import Role
from fleet.access.rules import RULES
from fleet.api.endpoints import Validated, endpoint
from fleet.api.serializers import Strict, Text
from fleet.api.views import ApiView, actor_of
from fleet.limits.rates import RequestKind

MAX_TOKEN = 4_096
# Examples in the OpenAPI document.
ACCESS = "eyJhbGciOiJIUzI1NiJ9.eyJ0eXAiOiJhY2Nlc3MifQ.x2Vw"  # pragma: allowlist secret
REFRESH = "eyJhbGciOiJIUzI1NiJ9.eyJ0eXAiOiJyZWZyZXNoIn0.q83K"  # pragma: allowlist secret


class SignIn(Strict):
    username = Text(max_length=150, initial="ann")
    password = serializers.CharField(
        max_length=1_000,
        trim_whitespace=False,
        style={"input_type": "password"},
        initial="correct horse battery staple",
    )


class Renew(Strict):
    refresh = serializers.CharField(max_length=MAX_TOKEN, initial=REFRESH)


class SignOut(Strict):
    refresh = serializers.CharField(
        max_length=MAX_TOKEN,
        required=False,
        initial=REFRESH,
        help_text="ends the session of this token; by default that of the caller",
    )
    everywhere = serializers.BooleanField(default=False, help_text="end all of the user's sessions, also in browsers")


class TokenPairResponse(serializers.Serializer[Any]):
    """An access token (Authorization: Bearer …), its lifetime in seconds, and the refresh token for the next pair."""

    access = serializers.CharField(initial=ACCESS)
    refresh = serializers.CharField(initial=REFRESH)
    expires_in = serializers.IntegerField(initial=300, help_text="lifetime of the access token in seconds")


class MeResponse(serializers.Serializer[Any]):
    """The caller and its permissions."""

    name = serializers.CharField(initial="user:ann")
    role = serializers.ChoiceField(Role.choices, initial="user")
    user = serializers.CharField(allow_null=True, initial="ann", help_text="null for a lease token")
    teams = serializers.ListField(child=serializers.CharField(initial="payments"))
    can_execute = serializers.BooleanField(help_text="whether the caller may launch plans that run code (plan.execute)")
    scopes = serializers.ListField(
        child=serializers.CharField(),
        allow_null=True,
        help_text="the scopes of the machine key; null for other callers",
    )
    actions = serializers.ListField(child=serializers.CharField(), initial=["missions.create", "missions.read"])


class PublicView(ApiView):
    """A view for callers who have not signed in yet."""

    authentication_classes: ClassVar[list[Any]] = []  # type: ignore[misc]
    permission_classes: ClassVar[list[Any]] = []  # type: ignore[misc]
    rate_kind = RequestKind.AUTH
    max_body_bytes = 20_000  # anyone may send these: enough for the longest name and password, escaped as JSON allows


class Token(PublicView):
    @endpoint("public", body=SignIn, response=TokenPairResponse, secret=True)
    def post(self, request: Request, *, body: Validated) -> dict[str, Any]:
        """Sign in with a user name and a password."""
        user = authenticate(request._request, username=body["username"], password=body["password"])
        if not isinstance(user, User):
            raise tokens.NotSignedIn(
                "Invalid credentials, or too many attempts.",
                hint="Check the name and the password, or try again later.",
            )
        caller.identify(name=f"user:{user.username}", user=user.id)
        with transaction.atomic():  # the session and its entry in the audit trail: both or neither
            pair = tokens.begin(user=user, address=caller.current().address)
            user_logged_in.send(sender=User, request=request._request, user=user)
        return asdict(pair)


class Refresh(PublicView):
    @endpoint("public", body=Renew, response=TokenPairResponse, secret=True)
    def post(self, request: Request, *, body: Validated) -> dict[str, Any]:
        """Get the next pair of tokens. A refresh token works once; using it a second time ends its session."""
        try:
            return asdict(tokens.renew(refresh=body["refresh"]))
        except tokens.Reused:
            raise  # recorded already
        except tokens.NotSignedIn:
            self.record_invalid_token(request)
            raise


class Logout(ApiView):
    @endpoint("tokens.revoke", body=SignOut, response=None, status=204)
    def post(self, request: Request, *, body: Validated) -> Response:
        """End one session of the caller, or all of them. Their tokens stop working at once."""
        actor = actor_of(request)
        if actor.user is not None:
            session = tokens.session_of_refresh(refresh=body["refresh"]) if "refresh" in body else actor.session
            if session is None and not body["everywhere"]:
                raise errors.Invalid(
                    "This caller has no token session to end.",
                    hint="Send `refresh`, the refresh token of the session, or `everywhere: true`.",
                    pointer="/refresh",
                )
            tokens.end(user=actor.user, session=None if body["everywhere"] else session)
        return Response(status=204)


class Me(ApiView):
    @endpoint("me.read", response=MeResponse)
    def get(self, request: Request) -> dict[str, Any]:
        """Get the caller and its permissions."""
        actor = actor_of(request)
        return {
            "name": actor.name,
            "role": actor.role,
            "user": actor.user.username if actor.user else None,
            "teams": sorted(actor.user.groups.values_list("name", flat=True)) if actor.user else [],
            "can_execute": actor.can_execute,
            "scopes": None if actor.scopes is None else sorted(actor.scopes),
            "actions": sorted(action for action in RULES if actor.may(action)),
        }
