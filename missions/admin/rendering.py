"""Helpers of the pages of missions, sorties and attempts: status sentences, links, tables, output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Model
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from fleet import errors, ids
from fleet.access.actor import EXECUTE
from fleet.admin.pages import between
from fleet.console import invocation, lines
from missions.models import Artifact, Attempt, Mission, Need, Sortie
from missions.operations import plan_reading
from missions.queries import mission_results, waiting
from missions.states import FINAL_SORTIE_STATES, SortieState

OUTPUT_PIECES, OUTPUT_CHARACTERS = 200, 50_000


def can_execute(request: HttpRequest) -> bool:
    """Whether the user has plan.execute. Admins have it, and staff to whom it was granted."""
    return request.user.has_perm(EXECUTE)


def action_reason(request: HttpRequest) -> str:
    """The reason recorded for an action on an admin page."""
    return f"By {request.user} in the admin."


def duration_of_sortie(sortie: Sortie) -> str:
    """How long it ran or has been running; a dash while it waits, even if it ran before."""
    if sortie.state not in (SortieState.RUNNING, *FINAL_SORTIE_STATES):
        return "–"
    return between(sortie.started_at, sortie.finished_at)


def status_texts(sorties: Sequence[Sortie], mission: Mission | None = None) -> dict[UUID, str]:
    """For each sortie, what it waits for, its progress or its error. Takes three queries, however many sorties.

    `mission`: the mission of all of them; if None, each sortie must have its own loaded (select_related).
    """
    pending = [sortie.id for sortie in sorties if sortie.state == SortieState.PENDING]
    unfinished: dict[UUID, list[str]] = {}
    needs = Need.objects.filter(sortie__in=pending).exclude(upstream__state__in=FINAL_SORTIE_STATES)
    for sortie, key in needs.values_list("sortie", "upstream__key"):
        unfinished.setdefault(sortie, []).append(key)
    attempts = Attempt.objects.filter(
        sortie__in=[sortie.id for sortie in sorties if sortie.started_at or sortie.finished_at]
    )
    last = {
        attempt.sortie_id: attempt
        for attempt in attempts.filter(number=Coalesce("sortie__accepted", "sortie__attempt")).defer("result", "resume")
    }
    lookups = waiting.WaitLookups(Mission.objects.all())
    return {
        sortie.id: waiting.waits_for(mission or sortie.mission, sortie, unfinished.get(sortie.id, []), lookups)
        or _attempt_text(sortie, last.get(sortie.id))
        for sortie in sorties
    }


def _attempt_text(sortie: Sortie, attempt: Attempt | None) -> str:
    if attempt is None:
        return ""
    if sortie.state == SortieState.RUNNING:
        percentage = f"{attempt.progress:.0%} " if attempt.progress is not None else ""
        return f"{percentage}{attempt.note}".strip() + (" (being stopped)" if sortie.cancel_requested else "")
    error = attempt.error.strip().partition("\n")[0][:200]
    return f"Tolerated: {error}" if sortie.state == SortieState.FAILED and sortie.allow_failure else error


def clamped(text: str) -> SafeString:
    """A text or link in a column of a list: long texts wrap instead of widening the column."""
    # `break-word`, because `anywhere` would make the column narrower than its words.
    return format_html(
        '<div style="max-width: 18rem; white-space: normal; overflow-wrap: break-word; min-width: 9rem">{}</div>', text
    )


def link(row: Model, text: str) -> SafeString:
    """A link to the page of a row."""
    url = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
    return format_html('<a href="{}" class="text-link" style="text-decoration: underline">{}</a>', url, text)


def list_link(page: str, text: str, **filters: object) -> SafeString:
    """A link to a filtered list."""
    url = reverse(f"admin:{page}_changelist") + "?" + urlencode(filters)
    return format_html('<a href="{}" class="text-link" style="text-decoration: underline">{}</a>', url, text)


def table(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> SafeString:
    """A table with plain styling, which suits unfold and Django's own admin; `–` if there are no rows."""
    body = [
        (
            format_html_join(
                "", '<td style="padding: .3em 1.5em .3em 0; vertical-align: top">{}</td>', [(c,) for c in row]
            ),
        )
        for row in rows
    ]
    if not body:
        return SafeString("–")
    head = format_html_join(
        "", '<th style="text-align: left; padding: .3em 1.5em .3em 0">{}</th>', [(t,) for t in titles]
    )
    return format_html("<table><tr>{}</tr>{}</table>", head, format_html_join("", "<tr>{}</tr>", body))


def output(sortie: Sortie, attempt: int) -> SafeString:
    """The end of an attempt's output."""
    pieces = list(mission_results.output(sortie=sortie, attempt=attempt).order_by("-id")[: OUTPUT_PIECES + 1])
    text = lines.terminal_safe("".join(piece.text for piece in reversed(pieces[:OUTPUT_PIECES])))
    if not text:
        return SafeString("–")
    truncated = len(pieces) > OUTPUT_PIECES or len(text) > OUTPUT_CHARACTERS
    note = (
        "… only the end is shown. Show all of it: "
        + invocation.command("fleet_mission", "logs", ids.encode(ids.MISSION, sortie.mission_id), sortie.key)
        + "\n"
        if truncated
        else ""
    )
    return format_html(
        '<pre style="white-space: pre-wrap; overflow-wrap: anywhere">{}{}</pre>', note, text[-OUTPUT_CHARACTERS:]
    )


def plan_text(text: str) -> SafeString:
    """A plan with its secrets masked."""
    try:
        masked_text = plan_reading.masked(text)
    except errors.Unavailable:
        masked_text = "The fleet is busy with other plans. Reload the page to see this one."
    return format_html('<pre style="white-space: pre-wrap">{}</pre>', masked_text[:100_000])


def download(artifact: Artifact) -> SafeString:
    return format_html(
        '<a href="{}" class="text-link" style="text-decoration: underline">{}</a>',
        reverse("artifact", args=[artifact.ref]),
        artifact.path,
    )
