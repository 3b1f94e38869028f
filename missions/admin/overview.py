"""The admin's first page: raised alerts, running missions, and counts of missions, sorties, agents and nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.db.models import Count
from django.http import HttpRequest
from django.urls import reverse

from agents.models import Agent, Node
from fleet import checks
from fleet.admin.pages import ago, between
from fleet.postgres import clock
from missions.admin import rendering
from missions.admin.missions import progress_text, tolerated_by_mission
from missions.models import Alert, Mission, Sortie
from missions.queries import mission_json
from missions.states import FINAL_MISSION_STATES, FINAL_SORTIE_STATES

MAX_ROWS = 10  # of each table
DAY = timedelta(days=1)


def context(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """unfold's dashboard callback. All counts use indexes of live rows, or of the missions within retention."""
    cards, tables = [], []
    if request.user.has_perm("missions.view_alert"):
        alerts = Alert.objects.all()[:MAX_ROWS]
        rows = [(rendering.link(alert, alert.message), alert.subject, ago(alert.raised_at)) for alert in alerts]
        tables.append(_table("Raised alerts", ("alert", "about", "raised"), rows, empty="No alert is raised."))
    if request.user.has_perm("missions.view_mission"):
        tables.append(_running())
        cards.append({"title": "Missions", "lines": _missions()})
    if request.user.has_perm("missions.view_sortie"):
        live = (
            Sortie.objects.exclude(state__in=FINAL_SORTIE_STATES)
            .order_by()
            .values_list("state")
            .annotate(number=Count("id"))
        )
        lines = _lines("missions_sortie", dict(live), ("running", "queued", "waiting", "ready", "pending"))
        cards.append({"title": "Sorties now", "lines": lines})
    if request.user.has_perm("agents.view_agent"):
        counts = Counter(Agent.objects.filter(state__in=Agent.LIVE).values_list("state", flat=True))
        lines = _lines("agents_agent", counts, [state.value for state in Agent.LIVE])
        cards.append({"title": "Agents", "lines": lines})
    if request.user.has_perm("agents.view_node"):
        up = Node.objects.filter(up=True)
        lines = [_line("agents_node", up.count(), "up", up__exact=1)]
        lines.append(_line("agents_node", up.filter(cordoned=True).count(), "cordoned", up__exact=1, cordoned__exact=1))
        cards.append({"title": "Nodes", "lines": lines})
    warning = "" if settings.FLEET_SANDBOX else checks.NO_SANDBOX
    return {**context, "title": "Overview", "overview": {"warning": warning, "cards": cards, "tables": tables}}


def _missions() -> list[dict[str, Any]]:
    live = Counter(Mission.objects.exclude(state__in=FINAL_MISSION_STATES).order_by().values_list("state", flat=True))
    ended = Mission.objects.filter(state__in=FINAL_MISSION_STATES, finished_at__gte=clock.now() - DAY)
    counts = Counter(ended.order_by().values_list("state", flat=True))
    lines = [
        _line("missions_mission", live[state], state, state__exact=state)
        for state in ("running", "paused", "planned", "cancelling")
    ]
    lines += [
        _line("missions_mission", counts[state], f"{state} in the last 24\N{NO-BREAK SPACE}h", state__exact=state)
        for state in FINAL_MISSION_STATES
    ]
    return lines


def _running() -> dict[str, Any]:
    missions = list(
        Mission.objects.exclude(state__in=FINAL_MISSION_STATES).defer("plan", "defaults").order_by("-id")[:MAX_ROWS]
    )
    ids = [mission.id for mission in missions]
    counts, tolerated = mission_json.counts(ids), tolerated_by_mission(ids)
    rows = [
        (
            rendering.link(mission, mission.name),
            mission.get_state_display(),
            progress_text(counts.get(mission.id, {}), tolerated.get(mission.id, 0)),
            between(mission.created_at, None),
        )
        for mission in missions
    ]
    titles = ("mission", "state", "sorties ended", "for")
    return _table("Missions that have not ended", titles, rows, empty="Every mission has ended.")


def _lines(page: str, counts: dict[str, int], states: Sequence[str]) -> list[dict[str, Any]]:
    return [_line(page, counts.get(state, 0), state, state__exact=state) for state in states]


def _line(page: str, number: int, words: str, **filters: object) -> dict[str, Any]:
    link = reverse(f"admin:{page}_changelist") + "?" + urlencode(filters)
    return {"number": f"{number:,}", "words": words, "link": link}


def _table(title: str, headers: tuple[str, ...], rows: list[Any], *, empty: str) -> dict[str, Any]:
    return {"title": title, "headers": headers, "rows": rows, "empty": empty}
