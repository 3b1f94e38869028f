"""Signing in and out, the caller, the audit trail, and machine keys."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

from django.contrib.auth import authenticate, user_logged_in
from django.contrib.auth.models import User
from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from fleet import audit, caller, errors, ids
from fleet.access import operations, tokens
from fleet.access.models import Key, Role
from fleet.access.rules import RULES, SCOPES, Scope, Visibility
from fleet.api.endpoints import Validated, endpoint
from fleet.api.http.paging import PageQuery, page_of, paginate
from fleet.api.openapi.examples import MOMENT
from fleet.api.serializers import Id, Strict, Text
from fleet.api.views import ApiView, actor_of
from fleet.audit import queries
from fleet.limits import counting
from fleet.limits.rates import Kind

MAX_TOKEN = 4_096
OUTCOMES = ("ok", "denied", "failed")
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
    everywhere = serializers.BooleanField(default=False, help_text="end all of the user's sessions")


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


class KeyResponse(serializers.Serializer[Any]):
    """A machine key, without its secret text."""

    id = Id(ids.KEY)
    name = serializers.CharField(initial="nightly builds")
    prefix = serializers.CharField(initial="flk_3f9a1c02", help_text="identifies the key; not secret")
    user = serializers.CharField(initial="ann")
    scopes = serializers.ListField(child=serializers.CharField(initial="read"))
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    used_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)


class NewKeyResponse(KeyResponse):
    """A machine key and its secret text, which is shown only once."""

    key = serializers.CharField(initial="flk_3f9a1c02_Jq3vX0pYh8mR", help_text="`Authorization: Bearer <this>`")


class NewKey(Strict):
    name = Text(max_length=100, initial="nightly builds")
    scopes = serializers.ListField(
        child=serializers.ChoiceField([scope.value for scope in Scope]), min_length=1, max_length=10,
        help_text="; ".join(f"{scope}: {allows}" for scope, allows in SCOPES.items()),
    )  # fmt: skip
    expires_at = serializers.DateTimeField(
        required=False, allow_null=True, help_text="by default the key never expires"
    )


class PublicView(ApiView):
    """A view for callers who have not signed in yet."""

    authentication_classes: ClassVar[list[Any]] = []  # type: ignore[misc]
    permission_classes: ClassVar[list[Any]] = []  # type: ignore[misc]
    rate_kind = Kind.AUTH
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
        user_logged_in.send(sender=User, request=request._request, user=user)
        return asdict(tokens.begin(user=user, address=caller.current().address))


class Refresh(PublicView):
    @endpoint("public", body=Renew, response=TokenPairResponse, secret=True)
    def post(self, request: Request, *, body: Validated) -> dict[str, Any]:
        """Get the next pair of tokens. A refresh token works once; using it a second time ends its session."""
        try:
            return asdict(tokens.renew(refresh=body["refresh"]))
        except tokens.Reused:
            raise  # recorded already
        except tokens.NotSignedIn:
            audit.record(kind="token", outcome="denied", subject=request.path)
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
        """The caller and its permissions."""
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


class EntryResponse(serializers.Serializer[Any]):
    """An entry of the audit trail."""

    id = serializers.IntegerField(initial=512)
    at = serializers.DateTimeField()
    kind = serializers.CharField(initial="role.changed")
    outcome = serializers.ChoiceField(OUTCOMES)
    actor = serializers.CharField(initial="user:admin")
    user = serializers.IntegerField(allow_null=True, initial=1)
    address = serializers.CharField(allow_null=True, allow_blank=True, initial="198.51.100.1")
    request = serializers.CharField(allow_blank=True, initial=ids.encode("req", ids.EXAMPLE))
    subject = serializers.CharField(allow_blank=True, initial="user:ann")
    before = serializers.JSONField(allow_null=True, initial={"role": "user"})
    after = serializers.JSONField(allow_null=True, initial={"role": "admin"})
    data = serializers.JSONField(allow_null=True, initial={})  # type: ignore[assignment]


class AuditFilter(PageQuery):
    kind = Text(
        max_length=60,
        required=False,
        initial="role",
        help_text="also matches its subkinds: `role` matches `role.changed`",
    )
    actor = Text(max_length=200, required=False, initial="user:ann")
    subject = Text(
        max_length=200,
        required=False,
        initial="/api/v1/keys",
        help_text="a user, an id or a path, exactly as in the entries",
    )
    outcome = serializers.ChoiceField(choices=OUTCOMES, required=False)
    since = serializers.DateTimeField(required=False, initial=MOMENT)


class Audit(ApiView):
    @endpoint("audit.list", query=AuditFilter, response=page_of(EntryResponse))
    def get(self, request: Request, *, query: Validated) -> Response:
        """The audit trail, newest entries first."""
        filters = {name: query[name] for name in ("kind", "actor", "subject", "outcome", "since") if name in query}
        entries = queries.entries(**filters)
        return paginate(request, entries, query=query, serialize=lambda rows: [*map(queries.serialize_entry, rows)])


class Keys(ApiView):
    @endpoint("keys.list", query=PageQuery, response=page_of(KeyResponse))
    def get(self, request: Request, *, query: Validated) -> Response:
        """The caller's machine keys; for an admin, those of all users."""
        return paginate(
            request,
            _keys(request, "keys.list"),
            query=query,
            serialize=lambda keys: [serialize_key(key) for key in keys],
        )

    @endpoint("keys.create", body=NewKey, response=NewKeyResponse, status=201, secret=True)
    def post(self, request: Request, *, body: Validated) -> Response:
        """Create a machine key for the caller. A key that another key creates has at most its scopes and lifetime, and
        is revoked with it."""
        actor = actor_of(request)
        if actor.user is None or (actor.scopes is not None and not set(body["scopes"]) <= actor.scopes):
            raise errors.Forbidden(
                "A machine key cannot create a key with scopes that it does not have itself.",
                hint="Leave out those scopes, or sign in as its user.",
            )
        expires_at = body.get("expires_at")
        if actor.key is not None and (latest := Key.objects.values_list("expires_at", flat=True).get(id=actor.key)):
            expires_at = min(expires_at or latest, latest)
        self.quota = counting.charge(request=request._request, kind=Kind.NEW_KEY, identity=str(actor.user.pk))
        if self.quota.refused:
            raise counting.TooManyRequests(self.quota)
        created = operations.create_key(
            user=actor.user, name=body["name"], scopes=body["scopes"], expires_at=expires_at, maker=actor.key
        )
        created.key.refresh_from_db()
        return Response(
            {**serialize_key(created.key), "key": created.text},
            status=201,
            headers={"Location": f"/api/v1/keys/{created.key.ref}", "Cache-Control": "private, no-store"},
        )


class KeyDetail(ApiView):
    @endpoint("keys.list", response=KeyResponse)
    def get(self, request: Request, ref: str) -> dict[str, Any]:
        """One machine key."""
        return serialize_key(self._find(request, "keys.list", ref))

    @endpoint("keys.revoke", response=None, status=204)
    def delete(self, request: Request, ref: str) -> Response:
        """Revoke a machine key. It stops working at once."""
        operations.revoke_key(key=self._find(request, "keys.revoke", ref))
        return Response(status=204)

    def _find(self, request: Request, action: str, ref: str) -> Key:
        key: Key | None = _keys(request, action).filter(id=ids.decode(ids.KEY, ref)).first()
        if key is None:
            raise errors.NotFound(f"There is no key {ref}.")
        return key


def serialize_key(key: Key) -> dict[str, Any]:
    def iso(value: Any) -> str | None:
        return value.isoformat() if value else None

    return {
        "id": key.ref, "name": key.name, "prefix": key.prefix, "user": key.user.username, "scopes": key.scopes,
        "created_at": iso(key.created_at), "expires_at": iso(key.expires_at), "used_at": iso(key.used_at),
        "revoked_at": iso(key.revoked_at),
    }  # fmt: skip


def _keys(request: Request, action: str) -> QuerySet[Key]:
    actor = actor_of(request)
    keys = Key.objects.select_related("user")
    return keys if actor.visibility(action) is Visibility.ALL else keys.filter(user=actor.user)
