"""Changing agent types. One piece of code for commands and API; the admin's form validates by the same rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from agents.models import AgentType
from agents.operations.ordering import MOST_SLOTS
from fleet import audit, errors, invocation

SETTINGS = (
    "description", "prompt_argv", "concurrency", "agents", "most_agents", "at_once", "autoscale", "memory_mb", "disk_mb",
    "longest_s", "alert_silence_s", "env_allow", "env_secret", "readable", "network", "outside", "enabled",
)  # fmt: skip
MOST_TEXTS = 1_000
# Of the settings that are lists of texts: what one of them may be, and an example.
TEXTS = {
    "prompt_argv": (re.compile(r"[^\0]+", re.DOTALL), '["claude", "-p"]'),
    "env_allow": (re.compile(r"[A-Za-z_][A-Za-z0-9_]*"), '["HTTPS_PROXY"]'),
    "env_secret": (re.compile(r"[A-Za-z_][A-Za-z0-9_]*"), '["OPENAI_API_KEY"]'),
    "readable": (re.compile(r"/[^\0]*", re.DOTALL), '["/srv/models"]'),
}


def find(name: str) -> AgentType:
    """NotFound where there is none of that name."""
    found = AgentType.objects.filter(name=name).first() if name.isprintable() else None
    if found is None:
        raise errors.NotFound(
            f"There is no agent type {name[:40]!r}.",
            hint=f"See: {invocation.command('fleet_agents', 'types')}",
            over_http="See GET /api/v1/agent-types.",
        )
    return found


def settings_of(kind: AgentType) -> dict[str, Any]:
    """All that can be changed of it."""
    return {setting: getattr(kind, setting) for setting in SETTINGS}


def texts(setting: str, value: Any) -> list[str]:
    """The value of one of TEXTS; Invalid if it is not a list of such texts."""
    allowed, example = TEXTS[setting]
    listed = value or []
    if not isinstance(listed, list) or len(listed) > MOST_TEXTS or not all(
        isinstance(text, str) and allowed.fullmatch(text) for text in listed
    ):  # fmt: skip
        raise errors.Invalid(
            f"{setting} is not valid.", hint=f"Give a JSON list of texts, as {example}.", pointer=f"/{setting}"
        )
    return listed


def change(*, name: str, changes: Mapping[str, Any]) -> AgentType:
    """Change some settings of a type: all of these, or none. The nodes see it within a second (docs/agents.md).

    NotFound for an unknown type, Invalid for a setting that there is not and for a value that it cannot have.
    """
    if unknown := sorted(changes.keys() - set(SETTINGS)):
        raise errors.Invalid(
            f"An agent type has no setting {unknown[0][:40]!r}.", hint=f"There are {', '.join(SETTINGS)}."
        )
    with transaction.atomic():
        AgentType.objects.select_for_update().filter(name=name).first()
        kind = find(name)
        before = settings_of(kind)
        if isinstance(slots := changes.get("concurrency"), int) and slots > MOST_SLOTS:
            raise errors.Invalid(
                f"concurrency: An agent flies at most {MOST_SLOTS} sorties at once.",
                hint="Have more agents instead of larger ones.",
                pointer="/concurrency",
            )
        for setting, value in changes.items():
            setattr(kind, setting, texts(setting, value) if setting in TEXTS else value)
        try:
            kind.full_clean(exclude=["name"], validate_unique=False)
        except ValidationError as fault:
            setting, faults = next(iter(fault.message_dict.items()))
            raise errors.Invalid(f"{setting}: {faults[0]}", pointer=f"/{setting}") from fault
        after = settings_of(kind)
        changed = [setting for setting in SETTINGS if before[setting] != after[setting]]
        if changed:
            kind.save(update_fields=changed)
            audit.record(
                kind="agenttype.changed",
                subject=name,
                before={setting: before[setting] for setting in changed},
                after={setting: after[setting] for setting in changed},
            )
    return kind
