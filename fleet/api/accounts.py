"""Signing in and out, who one is, and machine keys."""

from __future__ import annotations

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
from fleet.access.rules import RULES, Reach, Scope
from fleet.api.endpoints import Given, endpoint
from fleet.api.http.paging import Paged, of, page
from fleet.api.openapi.examples import MOMENT
from fleet.api.serializers import Id, Strict, Text
from fleet.api.views import ApiView, actor
from fleet.audit import queries
from fleet.limits import counting
from fleet.limits.rates import Kind

LONGEST_TOKEN = 4_096
OUTCOMES = ("ok", "denied", "failed")
# In the document's examples.
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
    refresh = serializers.CharField(max_length=LONGEST_TOKEN, initial=REFRESH)


class SignOut(Strict):
    refresh = serializers.CharField(
        max_length=LONGEST_TOKEN, required=False, initial=REFRESH, help_text="whose session ends; else this one's"
    )
    everywhere = serializers.BooleanField(default=False, help_text="end all of the user's sessions")


class PairAnswer(serializers.Serializer[Any]):
    """An access token (Authorization: Bearer …), its life in seconds, and the refresh token for the next pair."""

    access = serializers.CharField(initial=ACCESS)
    refresh = serializers.CharField(initial=REFRESH)
    expires_in = serializers.IntegerField(initial=300, help_text="seconds; of the access token")


class MeAnswer(serializers.Serializer[Any]):
    """Who one is, and the actions that one may."""

    name = serializers.CharField(initial="user:ann")
    role = serializers.ChoiceField(Role.choices, initial="user")
    user = serializers.CharField(allow_null=True, initial="ann", help_text="null for who shows a lease token")
    teams = serializers.ListField(child=serializers.CharField(initial="payments"))
    executes = serializers.BooleanField(help_text="may launch plans that run code (plan.execute)")
    scopes = serializers.ListField(
        child=serializers.CharField(), allow_null=True, help_text="of the machine key; null where none was shown"
    )
    actions = serializers.ListField(child=serializers.CharField(), initial=["missions.create", "missions.read"])


class KeyAnswer(serializers.Serializer[Any]):
    """A machine key, without its text."""

    id = Id(ids.KEY)
    name = serializers.CharField(initial="nightly builds")
    prefix = serializers.CharField(initial="flk_3f9a1c02", help_text="by which to know it again; no secret")
    user = serializers.CharField(initial="ann")
    scopes = serializers.ListField(child=serializers.CharField(initial="read"))
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    used_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)


class NewKeyAnswer(KeyAnswer):
    """A machine key and its text, which is never shown again."""

    key = serializers.CharField(initial="flk_3f9a1c02_Jq3vX0pYh8mR", help_text="`Authorization: Bearer <this>`")


class NewKey(Strict):
    name = Text(max_length=100, initial="nightly builds")
    scopes = serializers.ListField(
        child=serializers.ChoiceField([scope.value for scope in Scope]), min_length=1, max_length=10
    )
    expires_at = serializers.DateTimeField(required=False, allow_null=True, help_text="never, unless told")


class Public(ApiView):
    """Answers those who have not signed in yet."""

    authentication_classes: ClassVar[list[Any]] = []  # type: ignore[misc]
    permission_classes: ClassVar[list[Any]] = []  # type: ignore[misc]
    kind = Kind.AUTH
    most_bytes = 20_000  # as they are read for anybody: the longest name and password, however JSON writes them


class Token(Public):
    @endpoint("public", body=SignIn, answer=PairAnswer, secret=True)
    def post(self, request: Request, *, given: Given) -> dict[str, Any]:
        """Sign in with a name and a password."""
        found = authenticate(request._request, username=given["username"], password=given["password"])
        if not isinstance(found, User):
            raise tokens.NotSignedIn(
                "Name and password do not fit, or too many have been tried.", hint="Try again later."
            )
        caller.identify(name=f"user:{found.username}", user=found.id)
        user_logged_in.send(sender=User, request=request._request, user=found)
        return _pair(tokens.begin(user=found, address=caller.current().address))


class Refresh(Public):
    @endpoint("public", body=Renew, answer=PairAnswer, secret=True)
    def post(self, request: Request, *, given: Given) -> dict[str, Any]:
        """The next pair. A refresh token is good once; one that is shown twice ends its session."""
        try:
            return _pair(tokens.renew(refresh=given["refresh"]))
        except tokens.Reused:
            raise  # written down already
        except tokens.NotSignedIn:
            audit.record(kind="token", outcome="denied", subject=request.path)
            raise


class Logout(ApiView):
    @endpoint("tokens.revoke", body=SignOut, answer=None, status=204)
    def post(self, request: Request, *, given: Given) -> Response:
        """End a session, or all of them. Their tokens are good for nothing from then on."""
        who = actor(request)
        if who.user is not None:
            session = tokens.of_refresh(refresh=given["refresh"]) if "refresh" in given else who.session
            if session is None and not given["everywhere"]:
                raise errors.Invalid(
                    "Which session?", hint="Send its refresh token, or `everywhere`.", pointer="/refresh"
                )
            tokens.end(user=who.user, session=None if given["everywhere"] else session)
        return Response(status=204)


class Me(ApiView):
    @endpoint("me.read", answer=MeAnswer)
    def get(self, request: Request) -> dict[str, Any]:
        """Who one is, and what one may."""
        who = actor(request)
        return {
            "name": who.name,
            "role": who.role,
            "user": who.user.username if who.user else None,
            "teams": sorted(who.user.groups.values_list("name", flat=True)) if who.user else [],
            "executes": who.executes,
            "scopes": None if who.scopes is None else sorted(who.scopes),
            "actions": sorted(action for action in RULES if who.may(action)),
        }


class EntryAnswer(serializers.Serializer[Any]):
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


class AuditFilter(Paged):
    kind = Text(
        max_length=60, required=False, initial="role", help_text="takes in what lies below it: role finds role.changed"
    )
    actor = Text(max_length=200, required=False, initial="user:ann")
    subject = Text(
        max_length=200, required=False, initial="/api/v1/keys", help_text="a user, an id or a path, as entries have it"
    )
    outcome = serializers.ChoiceField(choices=OUTCOMES, required=False)
    since = serializers.DateTimeField(required=False, initial=MOMENT)


class Audit(ApiView):
    @endpoint("audit.list", query=AuditFilter, answer=of(EntryAnswer))
    def get(self, request: Request, *, asked: Given) -> Response:
        """The audit trail, the newest entries first."""
        chosen = {name: asked[name] for name in ("kind", "actor", "subject", "outcome", "since") if name in asked}
        found = queries.entries(**chosen)
        return page(request, found, asked=asked, shape=lambda entries: [queries.described(one) for one in entries])


class Keys(ApiView):
    @endpoint("keys.list", query=Paged, answer=of(KeyAnswer))
    def get(self, request: Request, *, asked: Given) -> Response:
        """One's machine keys; an admin sees everybody's."""
        return page(
            request, _keys(request, "keys.list"), asked=asked, shape=lambda keys: [key_shape(key) for key in keys]
        )

    @endpoint("keys.create", body=NewKey, answer=NewKeyAnswer, status=201, secret=True)
    def post(self, request: Request, *, given: Given) -> Response:
        """Make a machine key for oneself. A key makes no key with more scopes than its own, nor one that lives longer; what it
        made is revoked with it."""
        who = actor(request)
        if who.user is None or (who.scopes is not None and not set(given["scopes"]) <= who.scopes):
            raise errors.Forbidden("A key makes no key that may more than itself.", hint="Sign in.")
        expires_at = given.get("expires_at")
        if who.key is not None and (last := Key.objects.values_list("expires_at", flat=True).get(id=who.key)):
            expires_at = min(expires_at or last, last)
        self.standing = counting.charge(request=request._request, kind=Kind.NEW_KEY, who=str(who.user.pk))
        if self.standing.refused:
            raise counting.Refused(self.standing)
        made = operations.create_key(
            user=who.user, name=given["name"], scopes=given["scopes"], expires_at=expires_at, maker=who.key
        )
        made.key.refresh_from_db()
        return Response(
            {**key_shape(made.key), "key": made.text},
            status=201,
            headers={"Location": f"/api/v1/keys/{made.key.ref}", "Cache-Control": "private, no-store"},
        )


class OneKey(ApiView):
    @endpoint("keys.list", answer=KeyAnswer)
    def get(self, request: Request, ref: str) -> dict[str, Any]:
        """One machine key."""
        return key_shape(self._find(request, "keys.list", ref))

    @endpoint("keys.revoke", answer=None, status=204)
    def delete(self, request: Request, ref: str) -> Response:
        """Revoke it: it is refused from now on."""
        operations.revoke_key(key=self._find(request, "keys.revoke", ref))
        return Response(status=204)

    def _find(self, request: Request, action: str, ref: str) -> Key:
        found: Key | None = _keys(request, action).filter(id=ids.decode(ids.KEY, ref)).first()
        if found is None:
            raise errors.NotFound(f"There is no key {ref}.")
        return found


def key_shape(key: Key) -> dict[str, Any]:
    def time(value: Any) -> str | None:
        return value.isoformat() if value else None

    return {
        "id": key.ref, "name": key.name, "prefix": key.prefix, "user": key.user.username, "scopes": key.scopes,
        "created_at": time(key.created_at), "expires_at": time(key.expires_at), "used_at": time(key.used_at),
        "revoked_at": time(key.revoked_at),
    }  # fmt: skip


def _keys(request: Request, action: str) -> QuerySet[Key]:
    who = actor(request)
    keys = Key.objects.select_related("user")
    return keys if who.reach(action) is Reach.ALL else keys.filter(user=who.user)


def _pair(pair: tokens.Pair) -> dict[str, Any]:
    return {"access": pair.access, "refresh": pair.refresh, "expires_in": pair.expires_in}
