"""Routes of the API that need neither agents nor missions."""

from __future__ import annotations

from django.urls import path

from fleet.api import accounts, audit, keys, views
from fleet.api.openapi import pages

urlpatterns = [
    path("api/v1/", views.Root.as_view(), name="api-root"),
    path("api/v1/schema", pages.Schema.as_view(), name="api-schema"),
    path("api/v1/docs", pages.Docs.as_view(), name="api-docs"),
    path("api/v1/auth/token", accounts.Token.as_view(), name="api-token"),
    path("api/v1/auth/refresh", accounts.Refresh.as_view(), name="api-refresh"),
    path("api/v1/auth/logout", accounts.Logout.as_view(), name="api-logout"),
    path("api/v1/me", accounts.Me.as_view(), name="api-me"),
    path("api/v1/audit", audit.AuditTrailView.as_view(), name="api-audit"),
    path("api/v1/keys", keys.Keys.as_view(), name="api-keys"),
    path("api/v1/keys/<str:ref>", keys.KeyDetail.as_view(), name="api-key"),
]
