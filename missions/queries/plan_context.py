"""What a plan may refer to: the agent types in the database, the registered callables, and the drivers."""

from __future__ import annotations

from dataclasses import replace

from django.conf import settings

from agents import discovery
from agents.models import AgentType
from missions.plan import PlanContext, TypeFacts


def current() -> PlanContext:
    """The current context. Each call reads the database, because an operator may have just added a type."""
    types = {type.name: TypeFacts(takes_prompt=type.takes_prompts) for type in AgentType.objects.filter(enabled=True)}
    return replace(without_database(), types=types)


def without_database() -> PlanContext:
    """The context without the agent types, for use without a database."""
    return PlanContext(
        types=None,
        callables=discovery.names(),
        drivers={"command", "python"} | ({"scripted"} if settings.FLEET_SCRIPTED_DRIVER else set()),
        max_sorties=settings.FLEET_MAX_SORTIES,
        max_bytes=settings.FLEET_PLAN_BYTES,
        max_added=settings.FLEET_MAX_ADDED,
        max_s=settings.FLEET_PLAN_S,
    )
