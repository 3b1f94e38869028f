"""A secret may come from a file instead of a variable, and a URL without a password gets one from a variable."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from fleet.config import credentials, datastores
from fleet.config.datastores import Endpoints
from fleet.config.env import Environment
from fleet.config.home import Home

AWKWARD = "a@b:/#%'\"\\ ü"
URLS = {
    "DATABASE_URL": "postgresql://fleet@db:5433/fleet",
    "DATABASE_OWNER_URL": "postgresql://postgres@db/fleet?options=-c%20role%3Dfleet_owner",
    "REDIS_URL": "redis://cache:6380/3",
}


def resolve(tmp_path: Path, **values: str) -> Endpoints:
    home = Home(tmp_path / "home")
    return datastores.resolve(Environment({**URLS, **values}), home, credentials.ensure(home))


def test_the_file_of_a_secret_takes_precedence_unless_it_is_empty(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from the file\n")
    environment = Environment({"NAME": "from the variable", "NAME_FILE": str(file)})
    assert environment.secret("NAME") == "from the file"
    file.write_text("")
    assert environment.secret("NAME") == "from the variable"
    assert Environment({"NAME": "from the variable"}).secret("NAME") == "from the variable"


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named_and_stops_the_start(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ImproperlyConfigured, match=f"NAME_FILE: {file} cannot be read"):
        Environment({"NAME": "x", "NAME_FILE": str(file)}).secret("NAME")


def test_urls_without_a_password_get_their_own_one_unescaped(tmp_path: Path) -> None:
    found = resolve(tmp_path, POSTGRES_PASSWORD=AWKWARD, POSTGRES_OWNER_PASSWORD="boss's", REDIS_PASSWORD=AWKWARD)
    assert (found.postgres.host, found.postgres.user, found.postgres.password) == ("db", "fleet", AWKWARD)
    assert found.owner is not None
    assert (found.owner.user, found.owner.password) == ("postgres", "boss's")
    assert found.owner.options == {"options": "-c role=fleet_owner"}
    assert found.redis_url == "redis://:a%40b%3A%2F%23%25%27%22%5C%20%C3%BC@cache:6380/3"


def test_a_password_in_a_url_takes_precedence(tmp_path: Path) -> None:
    found = resolve(
        tmp_path, POSTGRES_PASSWORD="other", REDIS_PASSWORD="other",
        DATABASE_URL="postgresql://fleet:own@db/fleet", REDIS_URL="redis://me:own@cache/0",
    )  # fmt: skip
    assert found.postgres.password == "own"
    assert found.redis_url == "redis://me:own@cache/0"


def test_configured_credentials_override_the_generated_ones_and_are_not_stored(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    generated = credentials.ensure(home)
    result = credentials.ensure(home, overrides={"flower_password": "x" * 20, "secret_key": ""})
    assert result.flower_password == "x" * 20
    assert result.secret_key == generated.secret_key
    assert credentials.ensure(home) == generated
