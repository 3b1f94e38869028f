"""What both providers of services, `external` and `embedded`, guarantee; with real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
import redis

from fleet import errors
from fleet.config import credentials, datastores
from fleet.config.env import Environment
from fleet.config.home import Home
from fleet.services.providers import base
from fleet.services.providers.base import Provider
from fleet.services.supervision.service import Limits, Service
from fleet.services.supervision.supervisor import Supervisor
from tests.support.cluster import Cluster, remove, temporary

pytestmark = pytest.mark.xdist_group("services")

LIMITS = Limits(response_s=1.5, memory_bytes=10, restarts=2)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A home with servers that run. They are the embedded ones, and somebody else's to a home that only has their URLs."""
    made = temporary(durable=False)
    try:
        made.start()
        yield made
    finally:
        remove(made)


@pytest.fixture(params=["external", "embedded"])
def provider(request: pytest.FixtureRequest, cluster: Cluster) -> Provider:
    urls = cluster.environment() if request.param == "external" else {}
    known = credentials.ensure(cluster.home)
    where = datastores.resolve(Environment(urls), cluster.home, known)
    return base.choose(home=cluster.home, credentials=known, endpoints=where)


def service(provider: Provider, name: str) -> Service:
    return next(one for one in provider.services(limits=LIMITS) if one.name == name)


def ask(one: Service) -> None:
    assert one.probe is not None
    asyncio.run(asyncio.wait_for(one.probe(), 20))


def test_the_settings_choose_the_provider(provider: Provider, request: pytest.FixtureRequest) -> None:
    assert provider.name == provider.endpoints().provider
    assert f"[{provider.name}]" in request.node.name


def test_a_provider_has_postgres_and_valkey_with_their_limits(provider: Provider) -> None:
    services = provider.services(limits=LIMITS)
    assert [one.name for one in services] == ["postgres", "valkey"]
    assert all(one.limits == LIMITS and one.needs == () and one.vital and not one.once for one in services)
    assert {one.command is None for one in services} == {provider.name == "external"}


def test_its_endpoints_connect_to_both_servers(provider: Provider) -> None:
    where = provider.endpoints()
    at = where.postgres
    with psycopg.connect(host=at.host, port=at.port, user=at.user, password=at.password, dbname=at.name) as session:
        session.execute("SELECT count(*) FROM pg_class")
    with redis.Redis.from_url(where.redis_url) as client:
        assert client.ping()


@pytest.mark.parametrize("name", ["postgres", "valkey"])
def test_a_probe_raises_unavailable_while_its_server_does_not_answer(
    provider: Provider, cluster: Cluster, name: str
) -> None:
    one = service(provider, name)
    ask(one)
    cluster.kill(name)
    with pytest.raises(errors.Unavailable, match="does not answer"):
        ask(one)
    cluster.restart(name)
    ask(one)


def test_its_repr_contains_no_password(provider: Provider) -> None:
    where = provider.endpoints()
    shown = repr(where) + repr(provider.services(limits=LIMITS))
    assert where.postgres.password not in shown
    assert where.redis_url not in shown


def test_a_supervisor_reports_it_healthy_and_does_not_stop_external_servers(
    provider: Provider, cluster: Cluster
) -> None:
    if provider.name == "embedded":
        cluster.stop()  # they are the supervisor's to start

    async def look() -> int:
        services = supervisor.status()["services"]
        assert [one["state"] for one in services] == ["healthy", "healthy"]
        assert all((one["pid"] is None) == (provider.name == "external") for one in services)
        return 0

    supervisor = Supervisor(
        home=Home(cluster.home.root), kind="services", provider=provider.name,
        services=provider.services(limits=Limits()), say=lambda line: None,
    )  # fmt: skip
    assert asyncio.run(asyncio.wait_for(supervisor.run(look), 60)) == 0
    if provider.name == "external":
        ask(service(provider, "postgres"))
        ask(service(provider, "valkey"))
