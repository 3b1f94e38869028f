"""TLS to Postgres and Redis: all connections use it, and a certificate of another authority is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
import redis
from kombu import Connection

from fleet import errors
from fleet.config import credentials, datastores, redis_address
from fleet.config.datastores import Endpoints
from fleet.config.env import Environment
from fleet.config.home import Home
from fleet.redis import clients
from fleet.services.providers import probes
from tests.support.processes.supervised import checkout
from tests.support.services import certificates, secured
from tests.support.services.servers import Server

pytestmark = [pytest.mark.xdist_group("services"), pytest.mark.timeout(300)]


@dataclass(frozen=True)
class TlsServers:
    """Both servers, with certificates for `localhost` only."""

    folder: Path
    postgres: Server
    redis: Server

    @property
    def own_authority(self) -> Path:
        return self.folder / "ours.pem"

    @property
    def other_authority(self) -> Path:
        return self.folder / "another.pem"

    def urls(self, *, authority: Path, host: str = "localhost") -> dict[str, str]:
        user = f"fleet:{secured.PASSWORD}"
        return {
            "DATABASE_URL": f"postgresql://{user}@{host}:{self.postgres.port}/fleet"
            f"?sslmode=verify-full&sslrootcert={authority}",
            "REDIS_URL": f"rediss://:{secured.PASSWORD}@{host}:{self.redis.port}/0?ssl_ca_certs={authority}",
        }


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServers]:
    folder = tmp_path_factory.mktemp("secured")
    certificate = certificates.authority(folder, "ours").sign("server", hosts="DNS:localhost")
    certificates.authority(folder, "another")
    redis_server = secured.redis_server(folder, certificate)
    with redis_server, secured.postgres(folder, certificate) as postgres:
        yield TlsServers(folder, postgres, redis_server)


def endpoints(urls: dict[str, str], folder: Path) -> Endpoints:
    home = Home(folder)
    return datastores.resolve(Environment(urls), home, credentials.ensure(home))


def test_a_fleet_flies_a_mission_over_tls_to_both(servers: TlsServers, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    sorties = {
        "a": {"agent": "backend", "run": "true"},
        "b": {"agent": "testing", "needs": ["a"], "run": "true"},
    }
    plan.write_text(json.dumps({"mission": "A test", "sorties": sorties}))
    urls = servers.urls(authority=servers.own_authority)
    with checkout(env=urls) as home:
        home.manage("fleet_up", "--run", str(plan), timeout=120, cwd=tmp_path)
    with psycopg.connect(urls["DATABASE_URL"]) as session:
        states = session.execute("SELECT state FROM missions_sortie").fetchall()
        assert states == [("succeeded",), ("succeeded",)]
        assert session.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (True,)
    with clients.client(urls["REDIS_URL"], timeout_s=5) as client:
        calls = client.info("commandstats")
    assert calls["cmdstat_lpush"]["calls"] > 0, "hints were sent, although Redis has no port without TLS"
    assert calls["cmdstat_brpop"]["calls"] > 0, "agents received the hints"


def test_a_certificate_of_another_authority_is_refused_with_the_setting_and_the_remedy(servers: TlsServers) -> None:
    urls = servers.urls(authority=servers.other_authority)
    resolved = endpoints(urls, servers.folder / "home")
    with pytest.raises(errors.Invalid, match=r"certificate of Postgres at localhost:\d+ is not valid for DATABASE_URL"):
        asyncio.run(probes.postgres(resolved.postgres))
    with pytest.raises(errors.Invalid, match="certificate of Redis is not valid for REDIS_URL") as excinfo:
        asyncio.run(probes.redis_server(resolved.redis_url))
    assert "ssl_ca_certs=FILE" in str(excinfo.value)


def test_a_fleet_with_the_wrong_authority_does_not_start(servers: TlsServers) -> None:
    urls = {
        **servers.urls(authority=servers.own_authority),
        "REDIS_URL": servers.urls(authority=servers.other_authority)["REDIS_URL"],
    }
    with checkout(env=urls) as home:
        result = home.manage("fleet_up", check=False, timeout=60)
    assert result.returncode == 1
    assert "The certificate of Redis is not valid for REDIS_URL" in result.stderr
    assert "prepare: running" not in result.stderr


def test_a_host_that_the_certificate_does_not_name_is_refused(servers: TlsServers) -> None:
    urls = servers.urls(authority=servers.own_authority, host="127.0.0.1")
    resolved = endpoints(urls, servers.folder / "home")
    with pytest.raises(errors.Invalid, match="is not valid for DATABASE_URL"):
        asyncio.run(probes.postgres(resolved.postgres))
    with pytest.raises(errors.Invalid, match="is not valid for REDIS_URL"):
        asyncio.run(probes.redis_server(resolved.redis_url))


def test_a_missing_file_is_named(servers: TlsServers, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    resolved = endpoints(servers.urls(authority=servers.own_authority), servers.folder / "home")
    without_certificate = replace(resolved.postgres, options={**resolved.postgres.options, "sslrootcert": str(missing)})
    with pytest.raises(errors.Invalid, match=r"missing\.pem"):
        asyncio.run(probes.postgres(without_certificate))


def test_celery_verifies_the_certificate_of_the_broker(servers: TlsServers) -> None:
    def connect(authority: Path) -> None:
        address = redis_address.parse(servers.urls(authority=authority)["REDIS_URL"])
        assert address.tls is not None
        with Connection(
            address.broker_urls[0], ssl=dict(address.tls), transport="fleet.redis.transport:Transport"
        ) as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
            connection.SimpleQueue("x").put({})

    connect(servers.own_authority)
    with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
        connect(servers.other_authority)


def test_an_ordinary_connection_does_not_reach_the_redis(servers: TlsServers) -> None:
    with pytest.raises((redis.RedisError, OSError)):
        redis.Redis(host="localhost", port=servers.redis.port, password=secured.PASSWORD).ping()
