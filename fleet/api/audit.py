"""The audit trail over HTTP."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from fleet import ids
from fleet.api.endpoints import Validated, endpoint
from fleet.api.http.paging import PageQuery, page_of, paginate
from fleet.api.openapi.examples import MOMENT
from fleet.api.serializers import Text
from fleet.api.views import ApiView
from fleet.audit import queries

OUTCOMES = ("ok", "denied", "failed")


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


class AuditTrailView(ApiView):
    @endpoint("audit.list", query=AuditFilter, response=page_of(EntryResponse))
    def get(self, request: Request, *, query: Validated) -> Response:
        """List entries of the audit trail, newest first."""
        filters = {name: query[name] for name in ("kind", "actor", "subject", "outcome", "since") if name in query}
        entries = queries.entries(**filters)
        return paginate(request, entries, query=query, serialize=lambda rows: [*map(queries.serialize_entry, rows)])
