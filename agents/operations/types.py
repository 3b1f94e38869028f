"""Operations on agent types, for commands and the API. The form of the admin validates by the same rules."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from agents.models import AgentType
from agents.operations.orders import MAX_SLOTS
from fleet import audit, errors
from fleet.console import invocation

SETTINGS = (
    "description", "prompt_argv", "concurrency", "agents", "max_agents", "max_running", "autoscale", "memory_mb", "disk_mb",
    "max_duration_s", "alert_silence_s", "env_allow", "env_secret", "readable", "network", "external",
    "accepts_external", "enabled",
)  # fmt: skip
MAX_STRINGS = 1_000
# Settings that are lists of strings: the pattern of an item, and an example.
STRING_LISTS = {
    "prompt_argv": (re.compile(r"[^\0]+", re.DOTALL), '["claude", "-p"]'),
    "env_allow": (re.compile(r"[A-Za-z_][A-Za-z0-9_]*"), '["HTTPS_PROXY"]'),
    "env_secret": (re.compile(r"[A-Za-z_][A-Za-z0-9_]*"), '["OPENAI_API_KEY"]'),
    "readable": (re.compile(r"[^\0]+", re.DOTALL), '["/srv/models"]'),
}


def find(name: str) -> AgentType:
    """Return the agent type with this name. Raises NotFound if there is none."""
    agent_type = AgentType.objects.filter(name=name).first() if name.isprintable() else None
    if agent_type is None:
        raise errors.NotFound(
            f"There is no agent type {name[:40]!r}.",
            hint=f"See: {invocation.command('fleet_agents', 'types')}",
            over_http="See GET /api/v1/agent-types.",
        )
    return agent_type


def settings_of(agent_type: AgentType) -> dict[str, Any]:
    """All settings that can be changed, with their values."""
    return {setting: getattr(agent_type, setting) for setting in SETTINGS}


def string_list(setting: str, value: Any, *, stored: Sequence[str] = ()) -> list[str]:
    """The valid form of a value of a setting in STRING_LISTS. `stored`: the value that it replaces.

    New paths of `readable` are resolved, because attempts do not follow links, which a workload could have put there.
    Stored ones are not resolved again, for the same reason. Raises Invalid unless it is a list of strings of its pattern,
    and for relative paths.
    """
    pattern, example = STRING_LISTS[setting]
    items = value or []
    if not isinstance(items, list) or len(items) > MAX_STRINGS or not all(
        isinstance(text, str) and pattern.fullmatch(text) for text in items
    ):  # fmt: skip
        raise errors.Invalid(
            f"{setting} is not valid.", hint=f"Pass a JSON list of strings, such as {example}.", pointer=f"/{setting}"
        )
    if setting == "readable":
        if relative := [path for path in items if not os.path.isabs(path)]:
            raise errors.Invalid(
                f"readable: {relative[0]!r} is a relative path.",
                hint="Write an absolute path, such as /srv/models.",
                pointer=f"/{setting}",
            )
        return [path if path in stored else os.path.realpath(path) for path in items]
    return items


def change(*, name: str, changes: Mapping[str, Any]) -> AgentType:
    """Change settings of a type: all of them, or none. Nodes notice it within a second (docs/agents.md).

    Raises NotFound for an unknown type, and Invalid for an unknown setting or an invalid value.
    """
    if unknown := sorted(changes.keys() - set(SETTINGS)):
        raise errors.Invalid(
            f"An agent type has no setting {unknown[0][:40]!r}.", hint=f"Its settings: {', '.join(SETTINGS)}."
        )
    with transaction.atomic():
        AgentType.objects.select_for_update().filter(name=name).first()
        agent_type = find(name)
        before = settings_of(agent_type)
        if isinstance(slots := changes.get("concurrency"), int) and slots > MAX_SLOTS:
            raise errors.Invalid(
                f"concurrency: An agent can run at most {MAX_SLOTS} sorties at once.",
                hint="Run more agents instead of larger ones.",
                pointer="/concurrency",
            )
        for setting, value in changes.items():
            if setting in STRING_LISTS:
                value = string_list(setting, value, stored=before[setting])
            setattr(agent_type, setting, value)
        try:
            agent_type.full_clean(exclude=["name"], validate_unique=False)
        except ValidationError as error:
            setting, messages = next(iter(error.message_dict.items()))
            raise errors.Invalid(f"{setting}: {messages[0]}", pointer=f"/{setting}") from error
        after = settings_of(agent_type)
        changed = [setting for setting in SETTINGS if before[setting] != after[setting]]
        if changed:
            agent_type.save(update_fields=changed)
            audit.record(
                kind="agenttype.changed",
                subject=name,
                before={setting: before[setting] for setting in changed},
                after={setting: after[setting] for setting in changed},
            )
    return agent_type
