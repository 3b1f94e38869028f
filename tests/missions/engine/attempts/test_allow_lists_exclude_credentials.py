"""An agent type's allow-list cannot pass the fleet's own variables to a driver."""

from __future__ import annotations

from missions.engine.attempts import preparation


def test_the_fleets_own_variables_are_removed_from_every_allow_list() -> None:
    urls = {"DATABASE_URL", "DATABASE_OWNER_URL", "DATABASE_DIRECT_URL", "REDIS_URL"}
    value = frozenset({"PATH", "OPENAI_API_KEY", "FLEET_SECRET_KEY", *urls, "POSTGRES_PASSWORD_FILE", "REDIS_PASSWORD"})
    assert preparation.inheritable(value) == {"PATH", "OPENAI_API_KEY"}
