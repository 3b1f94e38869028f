"""A container waits for what it needs, says what that is, and gives up after a while."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection

from fleet import errors
from fleet.config import ports
from fleet.config.datastores import Endpoints
from fleet.containers import roles, waiting
from tests.support.paths import CHECKOUT
from tests.support.services.proxy import Proxy
from tests.support.waiting import until


def endpoints() -> Endpoints:
    """The services of the test, with the database of this worker."""
    available: Endpoints = settings.FLEET_ENDPOINTS
    return replace(available, postgres=replace(available.postgres, name=connection.settings_dict["NAME"]))


def wait(*needs: waiting.Need, at: Endpoints, seconds: float = 10, base: Path = CHECKOUT) -> list[str]:
    messages: list[str] = []
    waiting.wait(needs, endpoints=at, base=base, seconds=seconds, say=messages.append)
    return messages


@pytest.mark.django_db(transaction=True)
def test_an_available_service_is_not_waited_for() -> None:
    assert wait("owner", "postgres", "redis", "migrations", at=endpoints()) == []


def test_a_missing_service_is_named_with_its_address_and_the_reason() -> None:
    available = endpoints()
    port = ports.find_free()
    unavailable = replace(
        available, postgres=replace(available.postgres, port=port), redis_url=f"redis://:x@127.0.0.1:{port}/0"
    )
    with pytest.raises(errors.Unavailable, match=f"Waited .* for Postgres at 127.0.0.1:{port}: .*refused"):
        wait("postgres", at=unavailable, seconds=0.2)
    with pytest.raises(errors.Unavailable, match=f"Waited .* for Redis at 127.0.0.1:{port}: "):
        wait("redis", at=unavailable, seconds=0.2)


@pytest.mark.django_db(transaction=True)
def test_a_migration_that_is_missing_in_the_database_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "fleet" / "migrations"
    folder.mkdir(parents=True)
    for name in ("0001_initial", "9999_of_a_newer_version"):
        (folder / f"{name}.py").touch()
    with pytest.raises(errors.Unavailable, match="for the migrations: 1 of 2 are not applied yet"):
        wait("migrations", at=endpoints(), base=tmp_path, seconds=0.2)
    (folder / "9999_of_a_newer_version.py").unlink()
    assert wait("migrations", at=endpoints(), base=tmp_path) == []


def test_a_wait_ends_as_soon_as_the_service_is_available_and_repeats_no_reason() -> None:
    available = endpoints()
    messages: list[str] = []
    with Proxy(available.postgres.port) as proxy:
        proxy.cut()
        at = replace(available, postgres=replace(available.postgres, port=proxy.port))
        thread = threading.Thread(
            target=lambda: waiting.wait(("postgres",), endpoints=at, base=CHECKOUT, seconds=30, say=messages.append)
        )
        thread.start()
        until(lambda: bool(messages))
        proxy.restore()
        thread.join(20)
        assert not thread.is_alive()
    assert all(line.startswith(f"waiting for Postgres at {at.postgres.host}:{proxy.port}: ") for line in messages)
    assert len(set(messages)) == len(messages)


def test_a_refused_password_is_waited_for_because_migrate_sets_it() -> None:
    available = endpoints()
    wrong_endpoints = replace(available, postgres=replace(available.postgres, password="not yet"))
    with pytest.raises(errors.Unavailable, match=r"Waited .* for Postgres .* refuses DATABASE_URL"):
        wait("postgres", at=wrong_endpoints, seconds=0.2)


def test_the_migrations_of_every_app_of_the_fleet_are_waited_for() -> None:
    own = {config.label for config in apps.get_app_configs() if Path(config.path).parent == CHECKOUT}
    assert set(waiting.APPS) == own


def test_migrating_needs_the_owner() -> None:
    with pytest.raises(errors.Invalid, match="DATABASE_OWNER_URL is not set"):
        wait("owner", at=replace(endpoints(), owner=None))
    assert roles.find("migrate").needs[0] == "owner"


def test_an_unknown_role_is_refused_with_the_known_ones() -> None:
    with pytest.raises(errors.NotFound, match=r"no role 'nodes'.*migrate, web, control, node, flower"):
        roles.find("nodes")
