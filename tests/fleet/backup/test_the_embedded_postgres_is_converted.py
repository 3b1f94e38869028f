"""Data of an older major version of the embedded Postgres is reported, and `fleet_services upgrade` converts it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from fleet import errors
from fleet.backup import dumping, loading, postgres_clients, upgrading
from fleet.backup.manifest import DUMP
from fleet.config import credentials, programs
from fleet.config.credentials import Credentials
from fleet.config.datastores import Postgres
from fleet.config.home import Home
from fleet.services.providers import embedded
from tests.support.postgres import cluster
from tests.support.processes import killing, supervised
from tests.support.processes.supervised import Checkout

INSTALLED = programs.version(programs.postgres())
OLDER = [major for major in range(14, INSTALLED) if programs.find_postgres(major) is not None]

pytestmark = [
    pytest.mark.skipif(not OLDER, reason="this host has no older Postgres (on Debian: apt install postgresql-15)"),
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def old_programs() -> Path:
    folder = programs.find_postgres(OLDER[-1])
    assert folder is not None
    return folder


def names(server: Postgres) -> list[str]:
    with psycopg.connect(**postgres_clients.libpq(server)) as session:
        return [name for (name,) in session.execute("SELECT name FROM agents_agenttype ORDER BY name").fetchall()]


@pytest.fixture(scope="module")
def older() -> Iterator[Checkout]:
    """A home whose data was created and migrated by an older major version of Postgres."""
    with supervised.checkout(empty=True) as checkout:
        own = keys(checkout)
        data = upgrading.data_folder(home_of(checkout))
        embedded.create_cluster(data, old_programs(), own)
        with upgrading.run_server(data, old_programs(), own, home=home_of(checkout)) as server:
            owner = cluster.url(server, database="fleet") + "&options=-c%20role%3Dfleet_owner"
            application = owner.split("//")[0] + f"//fleet:{own.postgres_password}@127.0.0.1:{server.port}/fleet"
            addresses = {"DATABASE_URL": application, "DATABASE_OWNER_URL": owner, "REDIS_URL": "redis://127.0.0.1:1/0"}
            Checkout(checkout.root, addresses).manage("migrate", timeout=200)
            with psycopg.connect(**postgres_clients.libpq(server)) as session:
                session.execute("UPDATE agents_agenttype SET name = 'older' WHERE name = 'security'")
        yield checkout


@pytest.fixture
def home(older: Checkout) -> Iterator[Checkout]:
    """A copy of it for each test."""
    with supervised.checkout(empty=True) as checkout:
        subprocess.run(["cp", "-a", f"{older.root}/.", str(checkout.root)], check=True)
        yield checkout


def home_of(checkout: Checkout) -> Home:
    return Home(checkout.root)


def keys(checkout: Checkout) -> Credentials:
    return credentials.ensure(home_of(checkout))


def test_the_start_names_the_version_that_created_the_data_and_changes_nothing(home: Checkout) -> None:
    result = home.manage("fleet_services", "up", "--detach", check=False)
    assert result.returncode == 1
    assert f"was created by Postgres {OLDER[-1]}, but Postgres {INSTALLED} is installed" in result.stderr
    assert "fleet_services upgrade" in result.stderr
    assert embedded.version(upgrading.data_folder(home_of(home))) == OLDER[-1]


def test_the_data_is_converted_and_the_fleet_starts_on_it(home: Checkout) -> None:
    result = json.loads(home.manage("fleet_services", "upgrade", "--json", timeout=200).stdout)
    assert (result["before"], result["after"], result["left"]) == (OLDER[-1], INSTALLED, [])
    assert embedded.version(Path(result["kept"])) == OLDER[-1]
    assert home.json("fleet_services", "upgrade") is None, "a second conversion has nothing to do"
    try:
        home.manage("fleet_services", "up", "--detach", timeout=200)
        home.manage("fleet_prepare", timeout=200)
        assert {row["name"] for row in home.json("fleet_agents", "types")} >= {"older", "backend"}
        assert home.json("fleet_audit", "verify")["ok"]
        assert home.json("fleet_audit", "verify")["gaps"] == []
    finally:
        home.manage("fleet_services", "down", timeout=200)


@pytest.mark.drill  # four minutes
def test_a_conversion_that_is_killed_at_any_step_can_be_repeated(home: Checkout) -> None:
    place, own = home_of(home), keys(home)

    def upgrade() -> None:
        upgrading.upgrade(home=place, credentials=own, say=lambda _: None)

    kills = 0
    for _ in killing.at_each_step(upgrade, folder=place.private):
        kills += 1
        embedded.finish_upgrade(place)
        assert embedded.version(upgrading.data_folder(place)) in (OLDER[-1], INSTALLED)
    assert kills > 5
    data = upgrading.data_folder(place)
    assert embedded.version(data) == INSTALLED
    with upgrading.run_server(data, programs.postgres(), own, home=place) as server:
        assert "older" in names(server)
    assert [embedded.version(path) for path in place.private.glob(f"postgres.{OLDER[-1]}*")] == [OLDER[-1]]


def test_an_older_server_is_backed_up_and_restored_with_newer_programs(home: Checkout, tmp_path: Path) -> None:
    """Programs since Postgres 17 set a parameter that older servers refuse."""
    tools = postgres_clients.PostgresClients(programs.postgres(), INSTALLED)
    with upgrading.run_server(
        upgrading.data_folder(home_of(home)), old_programs(), keys(home), home=home_of(home)
    ) as server:
        with dumping.snapshot(server) as snapshot:
            dumping.dump(snapshot=snapshot, server=server, programs=tools, folder=tmp_path, progress=lambda _: None)
        loading.load(tmp_path / DUMP, server=server, programs=tools, version=snapshot.server, clear=True, after_load=[])
        with postgres_clients.session(server) as session:
            assert dumping.count_rows(session) == snapshot.rows
        assert "older" in names(server)


def test_without_the_old_version_it_says_what_to_install(home: Checkout, tmp_path: Path) -> None:
    result = home.manage("fleet_services", "upgrade", "--programs", str(tmp_path), check=False)
    assert result.returncode == 1
    assert f"is not the bin folder of Postgres {OLDER[-1]}. Install it" in result.stderr
    data = upgrading.data_folder(home_of(home))
    (data / "PG_VERSION").write_text("9\n")
    with pytest.raises(
        errors.Unavailable, match=r"Postgres 9 is not installed on this host\. Install it \(on Debian: postgresql-9\)"
    ):
        upgrading.upgrade(home=home_of(home), credentials=keys(home), say=lambda _: None)
    shutil.rmtree(data)
