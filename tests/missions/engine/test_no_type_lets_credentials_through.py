"""An agent type's allow-list cannot pass the fleet's own variables to a driver."""

from __future__ import annotations

from missions.engine import preparation


def test_the_fleets_own_variables_are_removed_from_every_allow_list() -> None:
    given = frozenset({"PATH", "OPENAI_API_KEY", "DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL", "FLEET_SECRET_KEY"})
    assert preparation.inheritable(given) == {"PATH", "OPENAI_API_KEY"}
