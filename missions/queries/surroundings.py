"""What a plan may name here and now: the agent types of the database, the registered callables, the drivers."""

from __future__ import annotations

from dataclasses import replace

from django.conf import settings

from agents import discovery
from agents.models import AgentType
from missions.plan import Surroundings, TypeFacts


def current() -> Surroundings:
    """Read from the database at each call: an operator may have added a type a moment ago."""
    types = {type.name: TypeFacts(takes_prompt=type.takes_prompts) for type in AgentType.objects.filter(enabled=True)}
    return replace(without_database(), types=types)


def without_database() -> Surroundings:
    """The same where no database answers yet: the agent types are not known."""
    return Surroundings(
        types=None,
        callables=discovery.names(),
        drivers={"command", "python"} | ({"scripted"} if settings.FLEET_SCRIPTED_DRIVER else set()),
        max_sorties=settings.FLEET_MAX_SORTIES,
        max_bytes=settings.FLEET_PLAN_BYTES,
        max_added=settings.FLEET_MAX_ADDED,
        max_s=settings.FLEET_PLAN_S,
    )
