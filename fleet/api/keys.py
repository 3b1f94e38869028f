"""Machine keys over HTTP."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from fleet import errors, ids
from fleet.access import operations
from fleet.access.models import Key
from fleet.access.rules import SCOPES, Scope, Visibility
from fleet.api.endpoints import Validated, endpoint
from fleet.api.http.paging import PageQuery, page_of, paginate
from fleet.api.serializers import Id, Strict, Text
from fleet.api.views import ApiView, actor_of
from fleet.limits import counting
from fleet.limits.rates import RequestKind


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


class Keys(ApiView):
    @endpoint("keys.list", query=PageQuery, response=page_of(KeyResponse))
    def get(self, request: Request, *, query: Validated) -> Response:
        """List the caller's machine keys; for an admin, those of all users."""
        return paginate(
            request,
            _keys(request, "keys.list"),
            query=query,
            serialize=lambda keys: [operations.serialize_key(key) for key in keys],
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
        self.quota = counting.charge(request=request._request, kind=RequestKind.NEW_KEY, identity=str(actor.user.pk))
        if self.quota.refused:
            raise counting.TooManyRequests(self.quota)
        created = operations.create_key(
            user=actor.user, name=body["name"], scopes=body["scopes"], expires_at=expires_at, maker=actor.key
        )
        created.key.refresh_from_db()
        return Response(
            {**operations.serialize_key(created.key), "key": created.text},
            status=201,
            headers={"Location": f"/api/v1/keys/{created.key.ref}", "Cache-Control": "private, no-store"},
        )


class KeyDetail(ApiView):
    @endpoint("keys.list", response=KeyResponse)
    def get(self, request: Request, ref: str) -> dict[str, Any]:
        """Get a machine key."""
        return operations.serialize_key(self._find(request, "keys.list", ref))

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


def _keys(request: Request, action: str) -> QuerySet[Key]:
    actor = actor_of(request)
    keys = Key.objects.select_related("user")
    return keys if actor.visibility(action) is Visibility.ALL else keys.filter(user=actor.user)
