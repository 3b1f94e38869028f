"""The sidebar of the admin: what there is, by subject, for those who may see it. Apps are reached by name alone."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.http import HttpRequest
from django.urls import reverse

PAGES: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "Work",
        (
            ("Missions", "missions.mission", "flag"),
            ("Sorties", "missions.sortie", "flight"),
            ("Attempts", "missions.attempt", "replay"),
            ("Artifacts", "missions.artifact", "draft"),
            ("Templates", "missions.template", "content_copy"),
        ),
    ),
    (
        "Agents",
        (
            ("Agents", "agents.agent", "smart_toy"),
            ("Agent types", "agents.agenttype", "category"),
            ("Nodes", "agents.node", "dns"),
        ),
    ),
    (
        "Watch",
        (
            ("Alerts", "missions.alert", "notifications"),
            ("Events", "fleet.event", "list_alt"),
            ("Audit trail", "fleet.entry", "policy"),
        ),
    ),
    (
        "Access",
        (
            ("Users", "auth.user", "person"),
            ("Teams", "auth.group", "group"),
            ("Machine keys", "fleet.key", "key"),
            ("Sign-in sessions", "fleet.session", "login"),
        ),
    ),
)


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """As https://unfoldadmin.com/docs/configuration/settings/ has it: only what the user may view."""
    groups: list[dict[str, Any]] = [
        {"items": [{"title": "Overview", "icon": "dashboard", "link": reverse("admin:index")}]}
    ]
    for title, pages in PAGES:
        items = [
            {"title": name, "icon": icon, "link": reverse(f"admin:{page.replace('.', '_')}_changelist")}
            for name, page, icon in pages
            if _may_view(request, page)
        ]
        groups += [{"title": title, "separator": True, "items": items}] if items else []
    elsewhere = [{"title": "API documentation", "icon": "api", "link": reverse("api-docs")}]
    if request.user.is_superuser:
        elsewhere.insert(0, {"title": "Flower", "icon": "monitoring", "link": reverse("flower")})
    return [*groups, {"title": "Elsewhere", "separator": True, "items": elsewhere}]


def _may_view(request: HttpRequest, page: str) -> bool:
    app, _, model = page.partition(".")
    allowed = (request.user.has_perm(f"{app}.{what}_{model}") for what in ("view", "change"))
    return app in apps.app_configs and any(allowed)
