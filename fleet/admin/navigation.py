"""The sidebar of the admin, limited to the pages that the user may view. Models are named by strings."""

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
            ("Workspaces", "missions.workspace", "account_tree"),
            ("Changes", "missions.change", "difference"),
            ("Conflicts", "missions.conflict", "call_split"),
            ("Reservations", "missions.reservation", "lock"),
            ("Checkpoints", "checkpoints.checkpoint", "history"),
            ("Schedules", "missions.schedule", "schedule"),
            ("Templates", "missions.template", "content_copy"),
        ),
    ),
    (
        "Agents",
        (
            ("Agents", "agents.agent", "smart_toy"),
            ("Agent types", "agents.agenttype", "category"),
            ("Nodes", "agents.node", "dns"),
            ("Concurrency keys", "missions.concurrencykey", "traffic"),
        ),
    ),
    (
        "Monitoring",
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
    """Return the navigation in the format of https://unfoldadmin.com/docs/configuration/settings/."""
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
    other_pages = [{"title": "API documentation", "icon": "api", "link": reverse("api-docs")}]
    if request.user.is_superuser:
        other_pages.insert(0, {"title": "Flower", "icon": "monitoring", "link": reverse("flower")})
    return [*groups, {"title": "Other", "separator": True, "items": other_pages}]


def _may_view(request: HttpRequest, page: str) -> bool:
    app, _, model = page.partition(".")
    allowed = (request.user.has_perm(f"{app}.{permission}_{model}") for permission in ("view", "change"))
    return app in apps.app_configs and any(allowed)
