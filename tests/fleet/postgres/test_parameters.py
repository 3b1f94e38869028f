"""Every connection to Postgres detects a dead route and uses the parameters of the URL."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from django.conf import settings
from django.db import connection, connections

from fleet.config.datastores import Postgres
from fleet.postgres import hot_path, parameters, roles
from fleet.services.providers import probes

SERVER = Postgres(host="db", port=5432, user="fleet", password="hush", name="fleet", options={"sslmode": "require"})


def libpq(server: Postgres = SERVER) -> dict[str, object]:
    return parameters.for_libpq(server, connect_timeout_s=5, application_name="fleet test")


def test_django_and_libpq_get_the_same_options() -> None:
    entry = parameters.for_django(SERVER, connect_timeout_s=5, application_name="fleet test", pool={"pool": {}})
    assert entry["OPTIONS"].pop("pool") == {}
    assert libpq() == {
        "host": "db", "port": 5432, "user": "fleet", "password": "hush", "dbname": "fleet", **entry["OPTIONS"],
    }  # fmt: skip
    assert entry["OPTIONS"]["sslmode"] == "require"


def test_parameters_in_the_url_override_the_defaults() -> None:
    chosen = libpq(replace(SERVER, options={"connect_timeout": "30", "tcp_user_timeout": "5000"}))
    assert (chosen["connect_timeout"], chosen["tcp_user_timeout"], chosen["keepalives_idle"]) == ("30", "5000", "5")


def test_libpq_handles_an_empty_password() -> None:
    assert "password" not in libpq(replace(SERVER, password=""))


def test_a_probe_accepts_a_timeout_in_the_url() -> None:
    server = settings.FLEET_ENDPOINTS.postgres
    asyncio.run(probes.postgres(replace(server, options={**server.options, "connect_timeout": "7"})))


@pytest.mark.django_db
def test_the_connections_of_django_and_of_the_engine_notice_a_dead_route() -> None:
    connection.ensure_connection()
    assert connection.connection.info.get_parameters()["tcp_user_timeout"] == "14000"
    with hot_path.connect(name="test") as engines:
        options = engines.info.get_parameters()
        assert (options["tcp_user_timeout"], options["application_name"]) == ("14000", "fleet test")
        assert engines.info.dbname == connection.settings_dict["NAME"]


@pytest.mark.django_db
def test_the_owner_connects_to_the_same_database_with_the_options_of_the_application() -> None:
    owner = settings.FLEET_ENDPOINTS.owner
    assert owner is not None
    entry = roles.owner_connection(connections["default"]).settings_dict
    assert (entry["NAME"], entry["USER"]) == (connection.settings_dict["NAME"], owner.user)
    assert "pool" not in entry["OPTIONS"]
    assert entry["OPTIONS"]["tcp_user_timeout"] == "14000"
